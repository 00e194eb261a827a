/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A worker that stands still: it lives, so nobody takes its place, and its disk hangs. Now and then each ring is looked at. One that holds commands has its worker asked for its
 * counters, which takes it no time; one that does not answer is killed, and the next one serves before initiators give a command up (30 seconds). A disk that nobody uses costs its worker
 * nothing. Main thread.
 *
 * The mailbox is shared with the worker, which may write what it likes: the two words are compared, not believed.
 */
/* Before sys/uio.h: both define struct iovec. */
#define __LINUX_UIO_H
#include <sys/uio.h>

#include <errno.h>
#include <linux/target_core_user.h>
#include <stdlib.h>
#include <sys/mman.h>

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

/* True also when it can't be seen. */
static bool ring_has_commands(struct lun *lun)
{
	if (!lun->ring) {
		/* TCM-User lets nobody map less than all of it. */
		void *ring = lun->uio_fd < 0 ? MAP_FAILED : mmap(NULL, lun->ring_length, PROT_READ, MAP_SHARED, lun->uio_fd, 0);
		if (ring == MAP_FAILED)
			return true;
		lun->ring = ring;
	}
	const struct tcmu_mailbox *mailbox = lun->ring;
	return __atomic_load_n(&mailbox->cmd_head, __ATOMIC_RELAXED) != __atomic_load_n(&mailbox->cmd_tail, __ATOMIC_RELAXED);
}

void lun_watch_end(struct lun *lun)
{
	lun->watch_timer = sd_event_source_disable_unref(lun->watch_timer);
	if (lun->ring)
		munmap((void *)lun->ring, lun->ring_length);
	lun->ring = NULL;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct lun *lun = userdata;
	(void)source;
	(void)usec;
	if (lun->state != LUN_SERVING || !lun->channel)
		return 0;
	if (!ring_has_commands(lun)) {
		lun_watch(lun);
		return 0;
	}
	struct watch *watch = control_alloc(sizeof(*watch));
	*watch = (struct watch){ lun->control, lun->id, lun->generation };
	lun_call(lun, PROTOCOL_STATUS, 0, 0, ANSWER_SECONDS, answered, watch);
	return 0;
}

void lun_watch(struct lun *lun)
{
	control_timer(lun->control, &lun->watch_timer, INTERVAL, on_time, lun);
}
