/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Write ordering. The disk may keep any subset of what was written since the last fdatasync, so "before" always means: written, then
 * fdatasync, then the other. What has to come before what follows from the kinds alone, without a cycle:
 *
 *     BASE ──────┐            data that a new mapping shows, tables written as a whole, the file's new end
 *     REFBLOCK ──┼─► REFTABLE ─► HEADER ─► MAP        MAP: L1 and L2
 *     DATA                                            what a guest wrote into clusters that it had: before nothing, part of a flush
 *
 *  - REFBLOCK before MAP: a crash in between leaves a cluster counted that nothing refers to (a leak), never one that is referred to and free.
 *  - BASE before MAP: a mapping that survives shows the data that was written, not what lay there before. A mapping of a fresh cluster needs no
 *    BASE for its data: the cluster reads as zeros, and so did what was mapped before; only the file's end must lie behind it.
 *  - REFBLOCK before REFTABLE before HEADER: a pointer to a table follows the table.
 *  - Freed clusters are not counted down until the round that wrote the changed mapping is durable (free.c): so a refblock never has to
 *    wait for a mapping, which would be the cycle.
 *
 * A round is one pass through the kinds. It writes what was dirty when it began, in the content of that moment (cache.c keeps a copy of what
 * changes meanwhile), and all that this content depends on was complete then: so what is written by others while it runs concerns the next round
 * only. Guest writes that were acknowledged but never flushed may be lost, so metadata stays in memory until a flush, a timer or a full cache
 * asks for a round. The usual rounds: nothing dirty: one fdatasync. New clusters: refblocks, fdatasync, maps, fdatasync, for any number of
 * writes.
 */
#include "order.h"

static const unsigned before[ORDER_KINDS] = {
	[ORDER_REFBLOCK] = 0,
	[ORDER_REFTABLE] = ORDER_BASE | 1u << ORDER_REFBLOCK,
	[ORDER_HEADER] = ORDER_BASE | 1u << ORDER_REFBLOCK | 1u << ORDER_REFTABLE,
	[ORDER_MAP] = ORDER_BASE | 1u << ORDER_REFBLOCK | 1u << ORDER_REFTABLE | 1u << ORDER_HEADER,
};

void order_begin(struct order *order)
{
	order->round |= order->open;
	order->open = 0;
}

bool order_may_write(const struct order *order, enum order_kind kind)
{
	return !(order->round & before[kind]);
}

void order_round_wrote(struct order *order, enum order_kind kind)
{
	order->round |= order_bit(kind);
}

/* The round waits for its fdatasync, so it writes nothing while that runs. */
void order_sync_begin(struct order *order)
{
	order->syncing = order->round;
}

void order_sync_end(struct order *order, bool success)
{
	if (success)
		order->round &= ~order->syncing;
	order->syncing = 0;
}

bool order_round_is_durable(const struct order *order)
{
	return !order->round;
}
