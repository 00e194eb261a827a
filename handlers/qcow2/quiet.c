/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting until everything in memory is in the file: no round, nothing dirty, nothing to be freed. For operations that look at the file as a whole. */
#include "qcow2.h"

static void woken(struct waiter *waiter, int result)
{
	struct quiet *quiet = list_entry(waiter, struct quiet, waiter);
	if (result < 0)
		quiet->done(quiet, result);
	else
		quiet_wait(quiet);
}

/* Each pass waits for one thing, and looks again. */
void quiet_wait(struct quiet *quiet)
{
	struct qcow2 *q = quiet->q;
	quiet->waiter.wake = woken;
	int r = alloc_uncount(q, &quiet->waiter);
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		quiet->done(quiet, r);
		return;
	}
	if (!commit_flush(q, &quiet->waiter))
		return;
	if (!free_passed(q, UINT64_MAX, &quiet->waiter))
		return;
	quiet->done(quiet, 0);
}
