/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * L2 tables that an image gets: where there was none, and where it shares one with a snapshot.
 *
 *     none, and a fresh cluster:  the L1 entry, at once; the cluster reads as zeros
 *     else:                       (old table read) ─► new table written as a whole ─► L1 entry
 *
 * A table that is written as a whole is BASE for order.c: durable before any L1 or L2 slice of the round goes out, so an L1 entry never leads to what the
 * cluster held before. Requests that need the table meanwhile are parked on it.
 *
 * What the cache has of the old table may be newer than the file: it is kept there until the file has been read, and copied over that. While a snapshot is made
 * the old entries may still say COPIED, which is no longer so.
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

/* The L1 entry points at the new table from now on. */
static int show(struct qcow2 *q, uint64_t l1_index, uint64_t old_offset, uint64_t offset)
{
	int r = meta_add(q, offset, q->cluster_size);
	if (r == -EEXIST)
		return corrupt(q, "the free cluster at %#llx holds metadata", (unsigned long long)offset);
	if (r == 0)
		r = table_set(q, &q->l1, l1_index, offset | ENTRY_COPIED);
	if (r < 0) {
		meta_remove(q, offset, q->cluster_size);
		free_later(q, offset, q->cluster_size, false);
		return r;
	}
	if (old_offset) {
		meta_remove(q, old_offset, q->cluster_size);
		free_later(q, old_offset, q->cluster_size, true);
	}
	return 0;
}

static void end(struct new_table *new, int result)
{
	struct qcow2 *q = new->q;
	if (result == 0) {
		order_wrote(&q->order, ORDER_BASE);
		result = show(q, new->l1_index, new->old_offset, new->offset);
	} else {
		free_later(q, new->offset, q->cluster_size, false);
	}
	list_remove(&new->node);
	for (unsigned i = 0; i < new->cached_count; i++)
		slice_unpin(q, new->cached[i]);
	struct waiters waiters = new->waiters;
	free(new->cached);
	free(new->buffer);
	free(new);
	waiters_wake(&waiters, result);
}

static void written(struct transfer *transfer, int result)
{
	end(list_entry(transfer, struct new_table, transfer), result);
}

static void was_read(struct transfer *transfer, int result)
{
	struct new_table *new = list_entry(transfer, struct new_table, transfer);
	struct qcow2 *q = new->q;
	if (result < 0) {
		end(new, result);
		return;
	}
	uint8_t *buffer = new->buffer;
	for (unsigned i = 0; i < new->cached_count; i++)
		memcpy(buffer + (new->cached[i]->offset - new->old_offset), new->cached[i]->data, q->slice_size);
	for (size_t at = 0; at < q->cluster_size && new->shared; at += 8)
		if (!(get_be64(buffer + at) & L2_COMPRESSED))
			put_be64(buffer + at, get_be64(buffer + at) & ~ENTRY_COPIED);
	transfer->done = written;
	transfer_start_one(q, transfer, true, new->buffer, q->cluster_size, new->offset);
}

static int keep_cached(struct new_table *new)
{
	struct qcow2 *q = new->q;
	unsigned count = (unsigned)(q->cluster_size >> q->slice_bits);
	new->cached = calloc(count, sizeof(struct slice *));
	if (!new->cached)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++) {
		struct slice *slice = cache_find(q, new->old_offset + ((uint64_t)i << q->slice_bits));
		if (!slice)
			continue;
		slice_pin(slice);
		new->cached[new->cached_count++] = slice;
	}
	return 0;
}

static struct new_table *find(struct qcow2 *q, uint64_t l1_index)
{
	list_for_each (node, &q->new_tables) {
		struct new_table *new = list_entry(node, struct new_table, node);
		if (new->l1_index == l1_index)
			return new;
	}
	return NULL;
}

static int start(struct qcow2 *q, uint64_t l1_index, uint64_t old_offset, uint64_t offset, struct waiter *waiter)
{
	struct new_table *new = calloc(1, sizeof(*new));
	if (new)
		new->buffer = file_buffer(q, q->cluster_size);
	if (new &&new->buffer) {
		new->q = q;
		new->shared = q->snapshotting;
		new->old_offset = old_offset;
	}
	if (!new || !new->buffer || (old_offset && keep_cached(new) < 0)) {
		if (new)
			free(new->buffer);
		free(new);
		free_later(q, offset, q->cluster_size, false);
		return -ENOMEM;
	}
	new->l1_index = l1_index;
	new->offset = offset;
	waiters_init(&new->waiters);
	waiters_add(&new->waiters, waiter);
	list_add_tail(&q->new_tables, &new->node);
	if (old_offset) {
		new->transfer.done = was_read;
		transfer_start_one(q, &new->transfer, false, new->buffer, q->cluster_size, old_offset);
	} else {
		memset(new->buffer, 0, q->cluster_size);
		new->transfer.done = written;
		transfer_start_one(q, &new->transfer, true, new->buffer, q->cluster_size, offset);
	}
	return -EAGAIN;
}

bool new_table_wait(struct qcow2 *q, uint64_t l1_index, struct waiter *waiter)
{
	struct new_table *new = list_empty(&q->new_tables) ? NULL : find(q, l1_index);
	if (new)
		waiters_add(&new->waiters, waiter);
	return new;
}

int new_table_get(struct qcow2 *q, uint64_t l1_index, uint64_t l1_entry, struct waiter *waiter)
{
	uint64_t old_offset = l1_entry & ENTRY_OFFSET;
	struct new_table *new = find(q, l1_index);
	if (new || q->l1_held) {
		waiters_add(new ? &new->waiters : &q->l1_free, waiter);
		return -EAGAIN;
	}
	if (old_offset & q->cluster_mask)
		return corrupt(q, "L1 entry %llu lies between two clusters", (unsigned long long)l1_index);
	struct run run;
	int r = alloc_run(q, 1, waiter, &run);
	if (r < 0)
		return r;
	if (run.fresh && !old_offset)
		return show(q, l1_index, 0, run.offset);
	return start(q, l1_index, old_offset, run.offset, waiter);
}
