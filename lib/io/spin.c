/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "io/spin.h"

#include <sched.h>

/* A moving average moves by 1/8 of the difference: about eight gaps decide. */
#define WEIGHT 8
/* Looks between two readings of the clock. */
#define LOOKS_PER_CLOCK 16
/* A gap that was slept through includes the wake-up, which looking would have saved. */
#define WAKE_UP_ALLOWANCE 2
/* No shorter than a few looks are worth. */
#define WINDOW_MIN_NS 2000

void spin_init(struct spin *spin, uint64_t max_ns, unsigned processors)
{
	*spin = (struct spin){
		.max_ns = max_ns,
		.gap_ns = max_ns / 2,
		.yield_every = processors <= 1	 ? 1
			       : processors == 2 ? 4
						 : 64,
	};
}

static void learn(struct spin *spin, bool is_short, uint64_t gap)
{
	if (is_short) {
		spin->pay += (SPIN_PAY_ONE - spin->pay + WEIGHT - 1) / WEIGHT;
		if (gap > spin->max_ns)
			gap = spin->max_ns;
		spin->gap_ns = (spin->gap_ns * (WEIGHT - 1) + gap) / WEIGHT;
	} else {
		spin->pay -= (spin->pay + WEIGHT - 1) / WEIGHT;
	}
	spin->dry_since = 0;
}

static uint64_t window(const struct spin *spin)
{
	uint64_t ns = spin->gap_ns * 4 + WINDOW_MIN_NS;
	return ns < spin->max_ns ? ns : spin->max_ns;
}

bool spin_start(struct spin *spin, uint64_t now)
{
	spin->dry_since = spin->last_look = now;
	spin->looks = 0;
	return spin->max_ns && spin->pay >= SPIN_PAY_ONE / 2;
}

bool spin_continue(struct spin *spin, uint64_t now)
{
	spin->last_look = now;
	return now - spin->dry_since < window(spin);
}

void spin_paid(struct spin *spin)
{
	learn(spin, true, spin->last_look - spin->dry_since);
}

void spin_slept(struct spin *spin, uint64_t now)
{
	uint64_t gap = now - spin->dry_since;
	learn(spin, gap <= spin->max_ns * WAKE_UP_ALLOWANCE, gap);
}

bool spin_relax(struct spin *spin)
{
	spin->looks++;
	if (spin->looks % spin->yield_every == 0) {
		sched_yield();
		return true;
	}
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
	return spin->looks % LOOKS_PER_CLOCK == 0;
}
