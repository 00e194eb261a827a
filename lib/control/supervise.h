/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * When a worker that has died is started again: a rule over times, without any clock or process of its own. The first death is answered at once, the next ones after growing
 * pauses; more than SUPERVISE_DEATHS_MAX within SUPERVISE_WINDOW hold the LUN. An image whose lock is still held by the last I/O of the worker that died
 * is no death: it is tried again for SUPERVISE_BUSY_LIMIT.
 */

#include <stdint.h>

#define SUPERVISE_DEATHS_MAX 5
#define SUPERVISE_WINDOW UINT64_C(60000000)    /* microseconds, as all times here */
#define SUPERVISE_FIRST_PAUSE UINT64_C(100000) /* before the second restart; doubles */
#define SUPERVISE_BUSY_PAUSE UINT64_C(250000)
#define SUPERVISE_BUSY_LIMIT UINT64_C(30000000)

struct supervise {
	uint64_t deaths[SUPERVISE_DEATHS_MAX + 1]; /* the last ones, oldest first */
	unsigned count;
	uint64_t busy_since; /* 0: not */
	unsigned restarts;   /* in all */
};

enum supervise_verdict { SUPERVISE_RESTART, SUPERVISE_HOLD };

/* now: any clock that does not go back. *ret_pause is set for RESTART. */
enum supervise_verdict supervise_died(struct supervise *supervise, uint64_t now, uint64_t *ret_pause);
enum supervise_verdict supervise_busy(struct supervise *supervise, uint64_t now, uint64_t *ret_pause);
/* The worker serves: the image is not busy. Deaths stay counted until the window has passed. */
void supervise_serving(struct supervise *supervise);
/* A person asked for another try: deaths are forgotten. */
void supervise_forgive(struct supervise *supervise);
