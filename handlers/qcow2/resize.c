/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Growing, while requests go on.
 *
 *     (L1 too small: held, a larger one written as BASE, header and memory switched, released) ─► what the growth would show of a longer backing
 *     file, and what is left in the last cluster, becomes zeros ─► durable ─► the size in the header ─► durable: done
 *
 * The new L1 is counted before the header leads to it, and the old one is freed after (order.c, free.c). Whatever fails in between leaves an image of
 * the old size, maybe with a larger L1 than it needs. Requests that would change L1 meanwhile wait; others don't notice.
 *
 * Clusters that lie behind the old end, left by somebody who was interrupted while he shrank it, are dropped before they can be seen.
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

struct resize {
	struct waiter waiter;
	struct qcow2 *q;
	struct lunkit_job *job;
	uint64_t size;
	void (*step)(struct resize *resize);
	/* the new L1 */
	uint64_t entries, offset, next, end;
	uint8_t *buffer;
	struct transfer transfer;
	/* the zeros */
	struct lunkit_request request;
	struct qcow2_request *memory;
};

static void resize_end(struct resize *resize, int result)
{
	struct qcow2 *q = resize->q;
	struct lunkit_job *job = resize->job;
	if (q->l1_held) {
		q->l1_held = false;
		waiters_wake(&q->l1_free, 0);
	}
	if (result < 0)
		lunkit_error_set(lunkit_job_error(job), result, "%.300s: cannot change the size to %llu bytes: %s", q->name,
				 (unsigned long long)resize->size, strerror(-result));
	free(resize->buffer);
	free(resize->memory);
	free(resize);
	qcow2_job_end(q, job, result);
}

static void woken(struct waiter *waiter, int result)
{
	struct resize *resize = (struct resize *)waiter;
	if (result < 0)
		resize_end(resize, result);
	else
		resize->step(resize);
}

/* ---- the size ---- */

static void step_durable(struct resize *resize)
{
	resize->q->size = resize->size;
	resize_end(resize, 0);
}

static void step_size(struct resize *resize)
{
	struct qcow2 *q = resize->q;
	int r = header_set_be64(q, HEADER_SIZE, resize->size);
	if (r < 0) {
		resize_end(resize, r);
		return;
	}
	resize->step = step_durable;
	commit_flush(q, &resize->waiter);
}

/* A round writes the header before maps: what the new size shows has to be durable before. */
static void step_zeros_durable(struct resize *resize)
{
	resize->step = step_size;
	if (commit_flush(resize->q, &resize->waiter))
		step_size(resize);
}

/* ---- the zeros ---- */

static void dropped(struct qcow2_request *r, int result)
{
	struct resize *resize = list_entry(r->request, struct resize, request);
	if (result < 0)
		resize_end(resize, result);
	else
		step_zeros_durable(resize);
}

static void step_drop(struct resize *resize, uint64_t from)
{
	struct qcow2 *q = resize->q;
	from = align_up(from, q->cluster_size);
	if (from >= resize->size) {
		step_zeros_durable(resize);
		return;
	}
	resize->request = (struct lunkit_request){
		.op = LUNKIT_DISCARD,
		.flags = REQUEST_DROP,
		.offset = from,
		.length = align_up(resize->size, q->cluster_size) - from,
		.memory = resize->memory,
	};
	request_submit_own(q, &resize->request, dropped);
}

static void zeroed(struct qcow2_request *r, int result)
{
	struct resize *resize = list_entry(r->request, struct resize, request);
	if (result < 0)
		resize_end(resize, result);
	else
		step_drop(resize, resize->request.offset + resize->request.length);
}

static void step_zeros(struct resize *resize)
{
	struct qcow2 *q = resize->q;
	uint64_t end = align_up(q->size, q->cluster_size);
	if (q->has_backing)
		end = MAX(end, q->backing_length);
	end = MIN(end, resize->size);
	resize->memory = malloc(sizeof(*resize->memory));
	if (!resize->memory) {
		resize_end(resize, -ENOMEM);
		return;
	}
	if (end <= q->size) {
		step_drop(resize, q->size);
		return;
	}
	resize->request = (struct lunkit_request){
		.op = LUNKIT_WRITE_ZEROES,
		.flags = LUNKIT_REQUEST_MAY_DISCARD,
		.offset = q->size,
		.length = end - q->size,
		.memory = resize->memory,
	};
	request_submit_own(q, &resize->request, zeroed);
}

/* ---- a larger L1 ---- */

static void l1_written(struct transfer *transfer, int result)
{
	struct resize *resize = list_entry(transfer, struct resize, transfer);
	struct qcow2 *q = resize->q;
	struct table table;
	uint64_t length = (resize->end << q->cluster_bits) - resize->offset;
	if (result == 0)
		result = table_init(q, &table, ORDER_MAP, resize->offset, resize->entries);
	if (result < 0) {
		free_later(q, resize->offset, length, false);
		resize_end(resize, result);
		return;
	}
	order_wrote(&q->order, ORDER_BASE);
	for (unsigned i = 0; i < table.slice_count; i++)
		memcpy(table.slices[i]->data, resize->buffer + ((size_t)i << q->slice_bits), q->slice_size);
	result = meta_add(q, resize->offset, length);
	if (result == 0)
		result = header_set_be64(q, HEADER_L1_OFFSET, resize->offset);
	if (result == 0)
		result = header_set_be32(q, HEADER_L1_SIZE, (uint32_t)resize->entries);
	if (result < 0) {
		table_destroy(q, &table);
		free_later(q, resize->offset, length, false);
		resize_end(resize, result == -EEXIST ? corrupt(q, "free clusters hold metadata") : result);
		return;
	}
	if (q->l1.entries) {
		meta_remove(q, q->l1.offset, q->l1.entries * 8);
		free_later(q, q->l1.offset, q->l1.entries * 8, false);
	}
	table_destroy(q, &q->l1);
	q->l1 = table;
	q->l1_held = false;
	waiters_wake(&q->l1_free, 0);
	step_zeros(resize);
}

static void step_count(struct resize *resize)
{
	struct qcow2 *q = resize->q;
	uint64_t length = (resize->end << q->cluster_bits) - resize->offset;
	int r = alloc_count(q, &resize->next, resize->end, &resize->waiter);
	if (r == -EAGAIN)
		return;
	if (r == 0) {
		resize->buffer = file_buffer(q, length);
		r = resize->buffer ? 0 : -ENOMEM;
	}
	if (r < 0) {
		uint64_t counted = (resize->next << q->cluster_bits) - resize->offset;
		if (counted)
			free_later(q, resize->offset, counted, false);
		resize_end(resize, r);
		return;
	}
	memset(resize->buffer, 0, length);
	for (unsigned i = 0; i < q->l1.slice_count; i++)
		memcpy(resize->buffer + ((size_t)i << q->slice_bits), q->l1.slices[i]->data, q->slice_size);
	/* The last slice of the old one may hold more than its entries. */
	memset(resize->buffer + q->l1.entries * 8, 0, length - q->l1.entries * 8);
	resize->transfer.done = l1_written;
	transfer_start_one(q, &resize->transfer, true, resize->buffer, length, resize->offset);
}

static void step_reserve(struct resize *resize)
{
	struct qcow2 *q = resize->q;
	uint64_t clusters = (resize->entries * 8 + q->cluster_mask) >> q->cluster_bits, place;
	if (!list_empty(&q->new_tables)) {
		/* These will still change the old one. */
		waiters_add(&list_entry(q->new_tables.next, struct new_table, node)->waiters, &resize->waiter);
		return;
	}
	int r = alloc_reserve(q, clusters, &resize->waiter, &place);
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		resize_end(resize, r);
		return;
	}
	resize->offset = place << q->cluster_bits;
	resize->next = place;
	resize->end = place + clusters;
	resize->step = step_count;
	step_count(resize);
}

static void step_begin(struct resize *resize)
{
	struct qcow2 *q = resize->q;
	int r = image_prepare_write(q, &resize->waiter);
	if (r == -EAGAIN)
		return;
	if (r < 0) {
		resize_end(resize, r);
		return;
	}
	if (header_l1_entries(resize->size, q->cluster_bits) <= q->l1.entries) {
		step_zeros(resize);
		return;
	}
	resize->entries = header_l1_entries(resize->size, q->cluster_bits);
	q->l1_held = true;
	resize->step = step_reserve;
	step_reserve(resize);
}

static int check_size(const struct qcow2 *q, uint64_t size, struct lunkit_error *err)
{
	if (header_l1_entries(size, q->cluster_bits) > L1_BYTES_MAX / 8) {
		lunkit_error_set(err, EFBIG, "%.300s: %llu bytes is more than an image with clusters of %llu bytes can have", q->name,
				 (unsigned long long)size, (unsigned long long)q->cluster_size);
		return lunkit_error_hint(err, "Convert it to one with larger clusters.");
	}
	if (q->header.version < 3 && q->header.snapshot_count) {
		lunkit_error_set(err, EOPNOTSUPP, "%.300s: an image of version 2 with snapshots keeps its size", q->name);
		return lunkit_error_hint(err, "Make it version 3: `qemu-img amend -o compat=1.1`.");
	}
	if (size > q->size && q->header.version < 3 && q->has_backing && q->backing_length > q->size) {
		lunkit_error_set(err, EOPNOTSUPP, "%.300s: its backing file is longer, and version 2 can't hide what would show", q->name);
		return lunkit_error_hint(err, "Make it version 3: `qemu-img amend -o compat=1.1`.");
	}
	return 0;
}

void qcow2_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags)
{
	struct qcow2 *q = state;
	(void)flags;
	if (size == 0 || size == q->size) {
		lunkit_job_done(job, 0);
		return;
	}
	if (!qcow2_job_begin(q, job))
		return;
	int r = check_size(q, size, lunkit_job_error(job));
	if (r == 0 && size < q->size) {
		shrink_start(q, job, size);
		return;
	}
	struct resize *resize = r == 0 ? calloc(1, sizeof(*resize)) : NULL;
	if (!resize) {
		if (r == 0)
			r = lunkit_error_set(lunkit_job_error(job), ENOMEM, "%.300s: not enough memory", q->name);
		qcow2_job_end(q, job, r);
		return;
	}
	resize->waiter.wake = woken;
	resize->q = q;
	resize->job = job;
	resize->size = size;
	resize->step = step_begin;
	step_begin(resize);
}
