/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writing.
 *
 *     a cluster of its own (COPIED)      ─► WRITEV of the guest's memory in its place
 *     reads as zeros, fresh one for it   ─► mapped at once, then written in its place (cow.c says why that is safe)
 *     else                               ─► cow.c: written with what surrounds it, then mapped
 *
 * A cluster that an allocating write is under way for is left alone: who wants to write there waits, and finds it mapped.
 */
#include "pack.h"
#include "qcow2.h"

static void prepared(struct waiter *waiter, int result)
{
	struct qcow2 *q = list_entry(waiter, struct qcow2, prepare.waiter);
	q->prepare.running = false;
	if (result == 0)
		q->hidden_changes = false;
	waiters_wake(&q->prepare.waiters, result);
}

/* Whoever left something in the image that has to follow every write (bitmaps) must see that one came: durably, and before it. */
static int clear_autoclear(struct qcow2 *q, struct waiter *waiter)
{
	if (!q->prepare.running) {
		int r = header_set_be64(q, HEADER_AUTOCLEAR, 0);
		if (r < 0)
			return r;
		q->prepare.running = true;
		q->prepare.waiter.wake = prepared;
		commit_flush(q, &q->prepare.waiter);
	}
	waiters_add(&q->prepare.waiters, waiter);
	return -EAGAIN;
}

int image_prepare_write(struct qcow2 *q, struct waiter *waiter)
{
	if (q->is_corrupt || q->read_only)
		return -EROFS;
	return q->hidden_changes ? clear_autoclear(q, waiter) : 0;
}

static void data_written(struct transfer *transfer, int result)
{
	if (result == 0)
		order_wrote(&transfer->q->order, ORDER_DATA);
	part_done((struct part *)transfer, result);
}

static int write_in_place(struct qcow2_request *r, uint64_t host, uint64_t length)
{
	struct qcow2 *q = r->q;
	uint64_t first = host >> q->cluster_bits, last = (host + length - 1) >> q->cluster_bits;
	if (last >= q->alloc.high_water)
		return corrupt(q, "the cluster for guest offset %#llx lies behind the file's end", (unsigned long long)r->position);
	for (uint64_t cluster = first; cluster <= last; cluster++)
		if (meta_has(q, cluster))
			return corrupt(q, "the cluster for guest offset %#llx is one with metadata, at %#llx",
				       (unsigned long long)r->position, (unsigned long long)cluster << q->cluster_bits);
	struct part *part = part_take(r, length);
	if (!part)
		return -ENOMEM;
	part->transfer.done = data_written;
	data_start(q, &part->transfer, &part->scrambling, true, part->iov, part->iov_count, host, length);
	return 0;
}

int write_step_until(struct qcow2_request *r, uint64_t end)
{
	struct qcow2 *q = r->q;
	uint64_t length = end - r->position;
	int s = image_prepare_write(q, &r->waiter);
	if (s < 0)
		return s;
	if (!list_empty(&q->cows.active)) {
		uint64_t cluster = r->position >> q->cluster_bits;
		struct cow *cow = cow_overlapping(q, cluster, ((end - 1) >> q->cluster_bits) - cluster + 1);
		if (cow && cow->cluster <= cluster)
			return request_park(r, &cow->waiters);
		if (cow)
			length = (cow->cluster << q->cluster_bits) - r->position;
	}
	struct mapping mapping;
	s = map_lookup(q, r->position, length, &r->waiter, &mapping);
	if (s < 0)
		return s;
	if (mapping.kind == MAP_NORMAL && mapping.copied)
		return write_in_place(r, mapping.host, mapping.length);
	return cow_write(r, &mapping, mapping.length);
}

int write_step(struct qcow2_request *r)
{
	const struct qcow2 *q = r->q;
	if (__builtin_expect(r->request->flags & LUNKIT_REQUEST_COMPRESS, 0) && !(r->position & q->cluster_mask) &&
	    (r->end - r->position >= q->cluster_size || r->end == q->size))
		return compress_step(r);
	return write_step_until(r, r->end);
}
