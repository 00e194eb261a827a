/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Holding requests back, so that the L1 table can be exchanged under them.
 *
 *     hold_begin ─► steps wait ─► parts and L2 copies that are under way end ─► owner: the exchange, in memory only ─► hold_end ─► steps go on
 *
 * A write that found its place before has to arrive before somebody copies what is there: that is all that is waited for, so the hold is as long as the
 * slowest request that the storage has at that moment. Flushes and the round go on.
 */

#include "base/clock.h"
#include "qcow2.h"

static void look(struct qcow2 *q)
{
	struct hold *hold = &q->hold;
	if (q->in_flight[0] + q->in_flight[1])
		return;
	if (!list_empty(&q->new_tables)) {
		waiters_add(&list_entry(q->new_tables.next, struct new_table, node)->waiters, &hold->table);
		return;
	}
	hold->settling = false;
	hold->owner->wake(hold->owner, 0);
}

static void deferred(struct lunkit_io *io, int result)
{
	struct qcow2 *q = list_entry(io, struct qcow2, hold.deferred);
	(void)result;
	q->hold.pending = false;
	if (q->hold.settling)
		look(q);
}

void hold_settle(struct qcow2 *q)
{
	struct hold *hold = &q->hold;
	if (!hold->settling || hold->pending)
		return;
	hold->pending = true;
	hold->deferred.done = deferred;
	lunkit_io_defer(q->host, &hold->deferred, 0);
}

static void table_made(struct waiter *waiter, int result)
{
	(void)result; /* a table that could not be made is not there */
	hold_settle(list_entry(waiter, struct qcow2, hold.table));
}

void hold_begin(struct qcow2 *q, struct waiter *owner)
{
	struct hold *hold = &q->hold;
	hold->active = hold->settling = true;
	hold->owner = owner;
	hold->since_ns = clock_now_ns();
	hold_settle(q);
}

void hold_end(struct qcow2 *q)
{
	struct hold *hold = &q->hold;
	uint64_t held = clock_now_ns() - hold->since_ns;
	hold->active = false;
	waiters_wake(&hold->waiters, 0);
	lunkit_log(LUNKIT_LOG_DEBUG, "%s: requests were held for %llu microseconds", q->name, (unsigned long long)(held / 1000));
}

void hold_init(struct qcow2 *q)
{
	waiters_init(&q->hold.waiters);
	q->hold.table.wake = table_made;
}
