/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Whether a loop that has run dry should go on looking for work or sleep.
 *
 * A gap is the time from running dry to the next work. Looking costs processor time and saves a wake-up, so it pays when gaps are short.
 * pay is a moving average of how many of the recent gaps were short enough to be looked through; gap that of their length. The loop looks
 * while most were, for a few times the usual gap. A disk in steady use at depth 1 is looked at without a pause; one that gets a request now and
 * then is never spun on, because its gaps, measured asleep, are long.
 *
 * Between looks the processor is given away: with one or two processors what would bring the work may be waiting for this very one. Time
 * that others then took counts against the window, so that on a busy machine looking stops paying and the loop sleeps.
 *
 * Pure arithmetic on times that the caller passes in, apart from spin_relax().
 */

#include <stdbool.h>
#include <stdint.h>

#define SPIN_PAY_ONE 1024

struct spin {
	uint64_t max_ns;      /* 0: never look */
	uint64_t gap_ns;      /* moving average of short gaps */
	uint64_t dry_since;   /* 0: not dry */
	uint64_t last_look;   /* the latest time that spin_continue() was told */
	unsigned pay;	      /* 0 … SPIN_PAY_ONE */
	unsigned yield_every; /* looks between two yields */
	unsigned looks;	      /* since running dry */
};

void spin_init(struct spin *spin, uint64_t max_ns, unsigned processors);

/* The loop has run dry. True when it should look before it sleeps. */
bool spin_start(struct spin *spin, uint64_t now);
/* Another look found nothing. True when it should look again. */
bool spin_continue(struct spin *spin, uint64_t now);
/* Looking found work. */
void spin_paid(struct spin *spin);
/* The loop slept, woken at now. */
void spin_slept(struct spin *spin, uint64_t now);

/* Between two looks: true when the clock is to be read and spin_continue() asked. */
bool spin_relax(struct spin *spin);
