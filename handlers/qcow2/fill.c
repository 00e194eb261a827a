/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Flattening, the second part: what snapshots read from the backing file.
 *
 *     what the image gave up is counted down ─► each snapshot: each hole of its L2 tables ─► zeros below? skipped
 *         : read below ─► clusters, counted once for each user of the table ─► written ─► (a table, where there is none) ─► L2 entries, in their place
 *
 * A table that several snapshots share is filled once, for all of them. Tables of their own get copies of their own, even where these are alike.
 *
 * Why a snapshot's tables may be changed: nothing that can be read of it changes, and nobody else changes them. Requests copy a table that the image shares with a snapshot,
 * and where the image itself has been filled, no table that it shares has a hole left to be filled. Behind the image's end it may have: what a request copies at
 * the same moment can leak there.
 *
 * A crash leaves leaks: data before refcounts, these before the entry (order.c). No entry is COPIED: that is for the image's own tables.
 */
#include <stdlib.h>
#include <string.h>

#include "flatten.h"

#define CHUNK ((uint64_t)1 << 20)
/* Looks at the rate, and at whether it is cancelled, as often as that. */
#define PAUSE_NS ((uint64_t)50 * 1000000u)

static void step_look(struct fill *fill);
static void step_cluster(struct fill *fill);

static void next(struct fill *fill, void (*step)(struct fill *fill))
{
	fill->step = step;
	step(fill);
}

static uint64_t slice_span(const struct qcow2 *q)
{
	return (uint64_t)q->slice_size / 8 << q->cluster_bits;
}

static uint64_t seen_below(const struct qcow2 *q, const struct snapshot *snapshot)
{
	return snapshot_is_usable(q, snapshot) ? MIN(snapshot->size, q->backing_length) : 0;
}

uint64_t fill_total(const struct qcow2 *q)
{
	uint64_t total = 0;
	for (unsigned i = 0; i < q->header.snapshot_count; i++)
		total += seen_below(q, &q->snapshots[i]);
	return total;
}

/* ---- the end ---- */

static void ended(struct lunkit_io *io, int result)
{
	struct fill *fill = list_entry(io, struct fill, deferred);
	(void)result;
	fill->done(fill, fill->result);
}

static void flushed(struct waiter *waiter, int result)
{
	struct fill *fill = (struct fill *)waiter;
	if (result < 0 && !fill->result)
		fill->result = result;
	fill->deferred.done = ended;
	lunkit_io_defer(fill->q->host, &fill->deferred, 0);
}

/* Also after a failure: who deletes a snapshot reads its tables from the file. */
static void finish(struct fill *fill, int result)
{
	struct qcow2 *q = fill->q;
	fill->result = result;
	for (uint64_t i = 0; i < fill->run.clusters; i++)
		for (uint64_t user = i < fill->counted ? fill->users : 1; user; user--)
			free_later(q, fill->run.offset + (i << q->cluster_bits), q->cluster_size, false);
	if (fill->new_table.clusters)
		free_later(q, fill->new_table.offset, q->cluster_size, false);
	lunkit_child_request_free(fill->child);
	free(fill->buffer);
	fill->waiter.wake = flushed;
	if (commit_flush(q, &fill->waiter))
		flushed(&fill->waiter, 0);
}

static void woken(struct waiter *waiter, int result)
{
	struct fill *fill = (struct fill *)waiter;
	if (result < 0)
		finish(fill, result);
	else
		fill->step(fill);
}

static void resumed(struct lunkit_io *io, int result)
{
	struct fill *fill = list_entry(io, struct fill, deferred);
	(void)result;
	fill->step(fill);
}

/* The step comes from the loop, so that others get their turn. */
static void later(struct fill *fill, void (*step)(struct fill *fill))
{
	fill->step = step;
	fill->deferred.done = resumed;
	lunkit_io_defer(fill->q->host, &fill->deferred, 0);
}

/* True: goes on. False: parked, or ended. */
static bool try(struct fill *fill, int r)
{
	if (r < 0 && r != -EAGAIN)
		finish(fill, r);
	return r >= 0;
}

/* ---- tables ---- */

static uint64_t l1_index(const struct fill *fill, uint64_t guest_offset)
{
	return guest_offset >> (fill->q->cluster_bits + fill->q->entry_bits);
}

/* The slice of the snapshot's L1 table with the entry for the position. */
static int get_l1(struct fill *fill, struct slice **ret, unsigned *ret_index)
{
	struct qcow2 *q = fill->q;
	uint64_t place = l1_index(fill, fill->position) * 8;
	*ret_index = (unsigned)(place & (q->slice_size - 1)) / 8;
	return cache_get(q, ORDER_MAP, q->snapshots[fill->index].l1_offset + align_down(place, q->slice_size), &fill->waiter, ret);
}

/* The slice of the L2 table with the entry for the guest offset. */
static int get_l2(struct fill *fill, uint64_t guest_offset, struct slice **ret, unsigned *ret_index)
{
	struct qcow2 *q = fill->q;
	uint64_t place = (guest_offset >> q->cluster_bits & (((uint64_t)1 << q->entry_bits) - 1)) * 8;
	*ret_index = (unsigned)(place & (q->slice_size - 1)) / 8;
	return cache_get(q, ORDER_MAP, fill->table + align_down(place, q->slice_size), &fill->waiter, ret);
}

/* ---- a run of clusters: counted, written, shown ---- */

static void step_show(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	struct slice *slice;
	unsigned index;
	int r = get_l2(fill, fill->position + fill->from, &slice, &index);
	if (r == 0)
		r = slice_modify(q, slice);
	if (!try(fill, r))
		return;
	for (uint64_t i = 0; i < fill->run.clusters; i++)
		put_be64(slice->data + (index + i) * 8, fill->run.offset + (i << q->cluster_bits));
	fill->from += (uint64_t)fill->run.clusters << q->cluster_bits;
	fill->run.clusters = 0;
	next(fill, step_cluster);
}

/* The snapshot's L1 leads to the new table. */
static void step_table_shown(struct fill *fill)
{
	struct slice *slice;
	unsigned index;
	int r = get_l1(fill, &slice, &index);
	if (r == 0)
		r = slice_modify(fill->q, slice);
	if (!try(fill, r))
		return;
	put_be64(slice->data + (size_t)index * 8, fill->new_table.offset);
	fill->table = fill->new_table.offset;
	fill->new_table.clusters = 0;
	next(fill, step_show);
}

static void table_written(struct transfer *transfer, int result)
{
	struct fill *fill = list_entry(transfer, struct fill, transfer);
	if (result == 0)
		order_wrote(&fill->q->order, ORDER_BASE);
	if (try(fill, result))
		next(fill, step_table_shown);
}

static void step_table(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	if (fill->table) {
		next(fill, step_show);
		return;
	}
	if (!try(fill, alloc_run(q, 1, &fill->waiter, &fill->new_table)))
		return;
	if (fill->new_table.fresh) {
		next(fill, step_table_shown);
		return;
	}
	/* What is not in the buffer yet is read again after this. */
	fill->transfer.done = table_written;
	fill->length = fill->from + ((uint64_t)fill->run.clusters << q->cluster_bits);
	memset(fill->buffer, 0, q->cluster_size);
	transfer_start_one(q, &fill->transfer, true, fill->buffer, q->cluster_size, fill->new_table.offset);
}

static void data_written(struct transfer *transfer, int result)
{
	struct fill *fill = list_entry(transfer, struct fill, transfer);
	if (result == 0)
		order_wrote(&fill->q->order, ORDER_BASE);
	if (try(fill, result))
		next(fill, step_table);
}

static void step_write(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	uint64_t length = (uint64_t)fill->run.clusters << q->cluster_bits;
	fill->iov = (struct iovec){ fill->buffer + fill->from, length };
	fill->transfer.done = data_written;
	data_start(q, &fill->transfer, &fill->scrambling, true, &fill->iov, 1, fill->run.offset, length);
}

/* The clusters are counted once: as often as the table is from now on. */
static void step_count(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	for (; fill->counted < fill->run.clusters; fill->counted++) {
		struct slice *slice;
		unsigned index;
		int r = refcount_get_slice(q, (fill->run.offset >> q->cluster_bits) + fill->counted, &fill->waiter, &slice, &index);
		if (r == 0)
			r = slice_modify(q, slice);
		if (!try(fill, r))
			return;
		refcount_write(q, slice->data, index, fill->users);
	}
	next(fill, step_write);
}

static void step_users(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	struct slice *slice;
	unsigned index;
	fill->users = 1;
	if (fill->table) {
		int r = refcount_get_slice(q, fill->table >> q->cluster_bits, &fill->waiter, &slice, &index);
		if (!try(fill, r == -ENOENT ? -EIO : r))
			return;
		fill->users = refcount_read(q, slice->data, index);
	}
	if (fill->users == 0)
		finish(fill, corrupt(q, "the refcount of a snapshot's table at %#llx is zero", (unsigned long long)fill->table));
	else
		next(fill, step_count);
}

/* The next clusters of the buffer that are not zeros. */
static void step_cluster(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	while (fill->from < fill->length && flatten_is_zero(fill->buffer + fill->from, q->cluster_size))
		fill->from += q->cluster_size;
	if (fill->from >= fill->length) {
		fill->position += fill->length;
		later(fill, step_look);
		return;
	}
	uint64_t end = fill->from + q->cluster_size;
	while (end < fill->length && !flatten_is_zero(fill->buffer + end, q->cluster_size))
		end += q->cluster_size;
	if (!try(fill, alloc_run(q, (unsigned)((end - fill->from) >> q->cluster_bits), &fill->waiter, &fill->run)))
		return;
	fill->counted = 0;
	next(fill, step_users);
}

/* ---- what is below ---- */

static void below_read(struct lunkit_child_request *child, int result)
{
	struct fill *fill = child->user;
	fill->from = 0;
	if (try(fill, result))
		next(fill, step_cluster);
}

static void step_read(struct fill *fill);

static void rung(struct lunkit_alarm *alarm)
{
	struct fill *fill = list_entry(alarm, struct fill, pause);
	next(fill, step_read);
}

static void step_read(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	uint64_t there = MIN(fill->length, q->backing_length - fill->position);
	if (lunkit_job_cancelled(fill->job)) {
		finish(fill, -ECANCELED);
		return;
	}
	uint64_t wait = flatten_wait_ns(fill->job, &fill->paid_ns, fill->length);
	if (wait) {
		fill->pause.ring = rung;
		lunkit_alarm_set(q->host, &fill->pause, MIN(wait, PAUSE_NS));
		return;
	}
	memset(fill->buffer + there, 0, fill->length - there);
	fill->iov = (struct iovec){ fill->buffer, there };
	fill->child->request = (struct lunkit_request){ .op = LUNKIT_READ,
							.offset = fill->position,
							.length = there,
							.iov = &fill->iov,
							.iov_count = 1,
							.memory = fill->child->request.memory };
	fill->child->done = below_read;
	fill->child->user = fill;
	lunkit_child_submit(q->backing, fill->child);
}

static void below_told(struct lunkit_child_request *child, int result)
{
	struct fill *fill = child->user;
	struct qcow2 *q = fill->q;
	if (!try(fill, result == 0 && !child->request.extent_count ? -EIO : result))
		return;
	uint64_t until = MIN(fill->extent.offset + fill->extent.length, fill->hole_end);
	bool zero = fill->extent.flags & LUNKIT_EXTENT_ZERO;
	/* A cluster is skipped only when all of it is zeros; the last one may be short. */
	if (zero && until < fill->end)
		until = align_down(until, q->cluster_size);
	if (zero && until > fill->position) {
		fill->position = until;
		later(fill, step_look);
		return;
	}
	until = align_up(MAX(until, fill->position + 1), q->cluster_size);
	fill->length = MIN(until - fill->position, MAX(CHUNK, q->cluster_size));
	next(fill, step_read);
}

static void ask_below(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	fill->child->request = (struct lunkit_request){ .op = LUNKIT_EXTENTS,
							.offset = fill->position,
							.length = fill->hole_end - fill->position,
							.extents = &fill->extent,
							.extent_capacity = 1,
							.memory = fill->child->request.memory };
	fill->child->done = below_told;
	fill->child->user = fill;
	lunkit_child_submit(q->backing, fill->child);
}

/* ---- holes ---- */

static void step_snapshot(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	if (fill->index == q->header.snapshot_count) {
		finish(fill, 0);
		return;
	}
	fill->position = 0;
	fill->end = seen_below(q, &q->snapshots[fill->index]);
	next(fill, step_look);
}

/* The next hole within one slice; position is at a cluster. */
static int find_hole(struct fill *fill)
{
	struct qcow2 *q = fill->q;
	uint64_t limit = MIN(align_down(fill->position, slice_span(q)) + slice_span(q), fill->end);
	struct slice *slice;
	unsigned index;
	int r = get_l1(fill, &slice, &index);
	if (r < 0)
		return r;
	fill->table = get_be64(slice->data + (size_t)index * 8) & ENTRY_OFFSET;
	fill->hole_end = limit;
	if (!fill->table)
		return 0;
	if (fill->table & q->cluster_mask)
		return corrupt(q, "a snapshot's L2 table lies at %#llx, between two clusters", (unsigned long long)fill->table);
	r = get_l2(fill, fill->position, &slice, &index);
	if (r < 0)
		return r;
	while (fill->position < limit && map_classify(get_be64(slice->data + (size_t)index * 8)) != MAP_UNALLOCATED) {
		fill->position += q->cluster_size;
		index++;
	}
	uint64_t at = fill->position;
	while (at < limit && map_classify(get_be64(slice->data + (size_t)index * 8)) == MAP_UNALLOCATED) {
		at += q->cluster_size;
		index++;
	}
	fill->hole_end = MIN(at, limit);
	return 0;
}

static void step_look(struct fill *fill)
{
	if (lunkit_job_cancelled(fill->job)) {
		finish(fill, -ECANCELED);
		return;
	}
	lunkit_job_progress(fill->job, MIN(fill->before + MIN(fill->position, fill->end), fill->total), fill->total);
	if (fill->position >= fill->end) {
		fill->before += fill->end;
		fill->index++;
		next(fill, step_snapshot);
		return;
	}
	if (!try(fill, find_hole(fill)))
		return;
	if (fill->position < fill->hole_end)
		ask_below(fill);
	else
		later(fill, step_look);
}

/* ---- the beginning ---- */

/* Tables that the image has given up are counted down: what is left of their refcounts are snapshots. */
static void step_freed(struct fill *fill)
{
	if (free_passed(fill->q, fill->ticket, &fill->waiter))
		next(fill, step_snapshot);
}

void fill_start(struct qcow2 *q, struct fill *fill, struct lunkit_job *job, uint64_t base, uint64_t total,
		void (*done)(struct fill *fill, int result))
{
	*fill = (struct fill){ .waiter.wake = woken, .q = q, .job = job, .done = done, .before = base, .total = total };
	fill->buffer = file_buffer(q, MAX(CHUNK, q->cluster_size));
	fill->child = lunkit_child_request_new(q->backing);
	if (!fill->buffer || !fill->child) {
		finish(fill, -ENOMEM);
		return;
	}
	fill->ticket = free_ticket(q);
	later(fill, step_freed);
}
