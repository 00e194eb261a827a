/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Alarms: a list in order of time and one timeout of the ring, for the first of them. Setting and cancelling are immediate and cost no system
 * call in most cases: a timeout that is too early finds nothing due and is armed again for what is first then; one that is too late is
 * stopped and armed anew.
 */
#include "base/clock.h"
#include "io/ring.h"
#include <errno.h>

static void timer_done(struct loop_op *op, int result);

static void arm(struct loop *loop, uint64_t now)
{
	struct alarms *alarms = &loop->alarms;
	if (list_empty(&alarms->set))
		return;
	uint64_t due = list_entry(alarms->set.next, struct loop_alarm, node)->due;
	if (alarms->armed) {
		if (due < alarms->armed_for)
			loop_timer_stop(loop, &alarms->timer); /* its end arms the new one */
		return;
	}
	alarms->armed = true;
	alarms->armed_for = due;
	alarms->timer.op.done = timer_done;
	loop_timer_start(loop, &alarms->timer, due > now ? due - now : 1);
}

static void timer_done(struct loop_op *op, int result)
{
	struct loop *loop = (struct loop *)((char *)op - offsetof(struct loop, alarms.timer.op));
	struct alarms *alarms = &loop->alarms;
	alarms->armed = false;
	if (result < 0 && result != -ETIME && result != -ECANCELED)
		return; /* the ring is broken, and loop_turn() will say so */
	uint64_t now = clock_now_ns();
	/* ring() may set and cancel any alarm: the list is looked at anew each time. What it sets for now waits for the next round. */
	while (!list_empty(&alarms->set)) {
		struct loop_alarm *alarm = list_entry(alarms->set.next, struct loop_alarm, node);
		if (alarm->due > now)
			break;
		list_remove(&alarm->node);
		alarm->due = 0;
		alarm->ring(alarm);
	}
	arm(loop, clock_now_ns());
}

void loop_alarm_set(struct loop *loop, struct loop_alarm *alarm, uint64_t ns)
{
	loop_alarm_cancel(loop, alarm);
	uint64_t now = clock_now_ns();
	alarm->due = now + ns + 1;
	struct list *before = &loop->alarms.set;
	list_for_each (node, &loop->alarms.set)
		if (list_entry(node, struct loop_alarm, node)->due > alarm->due) {
			before = node;
			break;
		}
	list_add_tail(before, &alarm->node);
	arm(loop, now);
}

void loop_alarm_cancel(struct loop *loop, struct loop_alarm *alarm)
{
	(void)loop;
	if (!alarm->due)
		return;
	list_remove(&alarm->node);
	alarm->due = 0;
}
