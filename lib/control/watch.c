/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A worker that stands still: it lives, so nobody takes its place, and its disk hangs. Each serving worker is asked for its counters now and then, which takes it no
 * time; one that does not answer is killed, and the next one serves before initiators give a command up (30 seconds). Main thread.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "control/lun.h"
#include "control/state.h"

#define INTERVAL (15 * SECOND)
#define ANSWER_SECONDS 10

struct watch {
	struct control *control;
	uint64_t lun, generation;
};

static void answered(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct watch *watch = argument;
	struct lun *lun = lun_by_id(watch->control, watch->lun);
	if (lun && lun->generation == watch->generation && lun->state == LUN_SERVING && lun->channel) {
		if (!reply && err->code == ETIMEDOUT) {
			struct lunkit_error stuck = LUNKIT_ERROR_INIT;
			lunkit_error_set(&stuck, EIO, "the worker does not answer: another takes its place");
			channel_fail(lun->channel, &stuck);
		} else {
			lun_watch(lun);
		}
	}
	free(watch);
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct lun *lun = userdata;
	(void)source;
	(void)usec;
	if (lun->state != LUN_SERVING || !lun->channel)
		return 0;
	struct watch *watch = control_alloc(sizeof(*watch));
	*watch = (struct watch){ lun->control, lun->id, lun->generation };
	lun_call(lun, PROTOCOL_STATUS, 0, 0, ANSWER_SECONDS, answered, watch);
	return 0;
}

void lun_watch(struct lun *lun)
{
	control_timer(lun->control, &lun->watch_timer, INTERVAL, on_time, lun);
}
