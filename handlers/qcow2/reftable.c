/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A larger refcount table, when the file outgrows the one that it has.
 *
 *     … used │ new table: T clusters │ refblocks for what lies beyond the old table's reach, each where it is first needed │
 *
 * The new table takes the place of the old in memory first, so that it can count itself; then its clusters are counted, which may wait for
 * slices; then the header points at it. On disk the old one stays valid until the header is written: entries made meanwhile go to
 * the new table only, and what they count is referred to only by maps that are written after the header (order.c).
 *
 * On a device there is no end to go to: all that the old table reaches is in use then, and nothing behind it is. The new one lies right there, its refblocks follow
 * it, and it is made as large as the device needs, once.
 */
#include <stdlib.h>

#include "qcow2.h"

static void go_on(struct qcow2 *q)
{
	struct reftable_growth *growth = &q->growth;
	int r = alloc_count(q, &growth->next, growth->end, &growth->waiter);
	if (r == -EAGAIN)
		return;
	if (r == 0)
		r = header_set_be64(q, HEADER_REFTABLE_OFFSET, q->reftable.offset);
	if (r == 0)
		r = header_set_be32(q, HEADER_REFTABLE_CLUSTERS, (uint32_t)(q->reftable.entries * 8 >> q->cluster_bits));
	if (r == 0) {
		growth->active = false;
		meta_remove(q, growth->old_offset, growth->old_length);
		free_later(q, growth->old_offset, growth->old_length, false);
	}
	/* After a failure whoever allocates next goes on with it. */
	growth->stalled = r < 0;
	waiters_wake(&growth->waiters, r);
}

static void woken(struct waiter *waiter, int result)
{
	struct qcow2 *q = list_entry(waiter, struct qcow2, growth.waiter);
	if (result == 0) {
		go_on(q);
		return;
	}
	q->growth.stalled = true;
	waiters_wake(&q->growth.waiters, result);
}

static void resume(struct lunkit_io *io, int result)
{
	(void)result;
	go_on(list_entry(io, struct qcow2, growth.deferred));
}

static int switch_tables(struct qcow2 *q, uint64_t entries)
{
	struct reftable_growth *growth = &q->growth;
	uint64_t clusters = entries * 8 >> q->cluster_bits, place = q->alloc.high_water;
	if (q->is_block)
		place = q->reftable.entries << q->refblock_bits;
	uint64_t offset = place << q->cluster_bits;
	struct table table;
	int r = table_init(q, &table, ORDER_REFTABLE, offset, entries);
	if (r < 0)
		return r;
	r = meta_add(q, offset, entries * 8);
	for (unsigned i = 0; i < table.slice_count && r == 0; i++)
		r = slice_modify(q, table.slices[i]);
	for (uint64_t i = 0; i < q->reftable.entries && r == 0; i++)
		put_be64(table.slices[i >> table.shift]->data + (i & ((1u << table.shift) - 1)) * 8, table_get(&q->reftable, i));
	if (r < 0) {
		if (r != -EEXIST)
			meta_remove(q, offset, entries * 8);
		table_destroy(q, &table);
		return r == -EEXIST ? corrupt(q, "the free cluster at %#llx holds metadata", (unsigned long long)offset) : r;
	}
	*growth = (struct reftable_growth){
		.active = true,
		.next = place,
		.end = place + clusters,
		.place = place + clusters,
		.old_offset = q->reftable.offset,
		.old_length = q->reftable.entries * 8,
		.waiter.wake = woken,
	};
	waiters_init(&growth->waiters);
	table_destroy(q, &q->reftable);
	q->reftable = table;
	if (!q->is_block)
		alloc_raise(q, clusters);
	return 0;
}

int reftable_growth_wait(struct qcow2 *q, struct waiter *waiter)
{
	struct reftable_growth *growth = &q->growth;
	waiters_add(&growth->waiters, waiter);
	if (growth->stalled) {
		growth->stalled = false;
		growth->deferred.done = resume;
		lunkit_io_defer(q->host, &growth->deferred, 0);
	}
	return -EAGAIN;
}

/* As many entries as the device can need. -ENOSPC: there is no room for them, and so for nothing. */
static int grown_for_device(const struct qcow2 *q, uint64_t *entries)
{
	uint64_t most = REFTABLE_BYTES_MAX / 8, place = q->reftable.entries << q->refblock_bits;
	*entries = MAX(*entries, MIN((q->alloc.high_water >> q->refblock_bits) + 1, most));
	uint64_t table = (align_up(*entries * 8, q->cluster_size)) >> q->cluster_bits, blocks = (table >> q->refblock_bits) + 2;
	return q->alloc.high_water > place && q->alloc.high_water - place > table + blocks ? 0 : -ENOSPC;
}

int reftable_grow(struct qcow2 *q, uint64_t entries_needed, struct waiter *waiter)
{
	uint64_t most = REFTABLE_BYTES_MAX / 8, per_cluster = q->cluster_size / 8;
	if (q->is_block && grown_for_device(q, &entries_needed) < 0)
		return -ENOSPC;
	if (entries_needed > most) {
		lunkit_log(LUNKIT_LOG_WARNING, "%s: the refcount table is full: the image can't grow any more", q->name);
		return -ENOSPC;
	}
	uint64_t entries = align_up(q->is_block ? entries_needed : MIN(entries_needed + entries_needed / 2 + 2, most), per_cluster);
	uint64_t end = (q->alloc.high_water + entries / per_cluster + 2) << q->cluster_bits;
	int r = q->is_block ? 0 : alloc_extend(q, end, waiter);
	if (r < 0)
		return r;
	r = switch_tables(q, entries);
	if (r < 0)
		return r;
	lunkit_log(LUNKIT_LOG_DEBUG, "%s: the refcount table grows to %llu entries", q->name, (unsigned long long)entries);
	waiters_add(&q->growth.waiters, waiter);
	q->growth.deferred.done = resume;
	lunkit_io_defer(q->host, &q->growth.deferred, 0);
	return -EAGAIN;
}
