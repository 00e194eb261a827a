/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Shrinking, with no request in flight.
 *
 *     the size in the header, durable ─► the rest of the last cluster becomes zeros ─► entries behind the end become 0 ─► whole L2 tables behind it are
 *     given up (walk.c) ─► freed, durably ─► what is free at the file's end is cut off
 *
 * The size comes first: a crash leaves the old disk whole, or the new one with clusters behind its end that nobody sees; growing drops those. What snapshots
 * share with the image stays theirs. Failing after the size is no error: the space is freed another time.
 */
#include <stdlib.h>
#include <string.h>

#include "walk.h"

struct shrink {
	struct waiter waiter; /* first */
	struct walk walk;
	struct qcow2 *q;
	struct lunkit_job *job;
	uint64_t size, old_size, ticket;
	void (*step)(struct shrink *shrink);
	uint64_t *l1, entries; /* the L2 tables that are given up */
	uint64_t end;	       /* cluster: behind it all is free */
	bool dropped;	       /* refblocks */
	struct lunkit_request request;
	struct qcow2_request *memory;
	struct lunkit_work work;
};

static void shrink_end(struct shrink *shrink, int result)
{
	struct qcow2 *q = shrink->q;
	struct lunkit_job *job = shrink->job;
	if (result < 0 && q->size != shrink->size)
		lunkit_error_set(lunkit_job_error(job), result, "%.300s: cannot change the size to %llu bytes: %s", q->name,
				 (unsigned long long)shrink->size, strerror(-result));
	else if (result < 0)
		lunkit_log(LUNKIT_LOG_WARNING, "%s: the image is smaller, but not all of what lay behind its end could be freed: %s",
			   q->name, strerror(-result));
	if (q->size == shrink->size)
		result = 0;
	free(shrink->l1);
	free(shrink->memory);
	free(shrink);
	qcow2_job_end(q, job, result);
}

static void next(struct shrink *shrink, void (*step)(struct shrink *shrink))
{
	shrink->step = step;
	step(shrink);
}

static void woken(struct waiter *waiter, int result)
{
	struct shrink *shrink = (struct shrink *)waiter;
	if (result < 0)
		shrink_end(shrink, result);
	else
		shrink->step(shrink);
}

/* ---- the file's end ---- */

static int work_truncate(void *argument)
{
	struct shrink *shrink = argument;
	return lunkit_file_truncate(shrink->q->host, shrink->q->fd, shrink->end << shrink->q->cluster_bits);
}

static void truncated(struct lunkit_io *io, int result)
{
	struct shrink *shrink = list_entry(io, struct shrink, work.io);
	struct qcow2 *q = shrink->q;
	if (result == 0) {
		q->alloc.high_water = shrink->end;
		q->alloc.cursor = MIN(q->alloc.cursor, shrink->end);
		q->alloc.file_end = q->geometry.size = shrink->end << q->cluster_bits;
	}
	shrink_end(shrink, result);
}

static void truncate_file(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	if (shrink->end << q->cluster_bits >= q->alloc.file_end) {
		shrink_end(shrink, 0);
		return;
	}
	shrink->work = (struct lunkit_work){ .io.done = truncated, .function = work_truncate, .argument = shrink };
	lunkit_work_start(q->host, &shrink->work);
}

/* A refblock that is the first of what it counts and counts nothing else is not needed any more. */
static bool drop_refblock(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	uint64_t last = shrink->end - 1, block = last >> q->refblock_bits, offset = last << q->cluster_bits;
	if (block == 0 || last != block << q->refblock_bits || (table_get(&q->reftable, block) & REFTABLE_OFFSET) != offset ||
	    table_set(q, &q->reftable, block, 0) < 0)
		return false;
	meta_remove(q, offset, q->cluster_size);
	cache_forget(q, offset, q->cluster_size);
	shrink->end--;
	shrink->dropped = true;
	return true;
}

/* Backwards over clusters that nobody uses. */
static void step_truncate(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	if (q->is_block || q->growth.active) {
		shrink_end(shrink, 0);
		return;
	}
	if (q->alloc.extending) {
		waiters_add(&q->alloc.extended, &shrink->waiter);
		return;
	}
	while (shrink->end > 1) {
		struct slice *slice;
		unsigned index;
		int r = refcount_get_slice(q, shrink->end - 1, &shrink->waiter, &slice, &index);
		if (r == -EAGAIN)
			return;
		if (r == -ENOENT) {
			shrink->end = align_down(shrink->end - 1, (uint64_t)1 << q->refblock_bits);
			continue;
		}
		if (r < 0) {
			shrink_end(shrink, r);
			return;
		}
		while (shrink->end > 1 && refcount_read(q, slice->data, index) == 0) {
			shrink->end--;
			if (index-- == 0)
				break;
		}
		if (index != UINT32_MAX && !drop_refblock(shrink))
			break;
	}
	shrink->step = truncate_file;
	if (!shrink->dropped || commit_flush(q, &shrink->waiter))
		truncate_file(shrink);
}

static void step_find_end(struct shrink *shrink)
{
	shrink->end = shrink->q->alloc.high_water;
	next(shrink, step_truncate);
}

/* Refcounts that became zero in memory are so on disk too, before the file ends there. */
static void step_flush(struct shrink *shrink)
{
	shrink->step = step_find_end;
	if (commit_flush(shrink->q, &shrink->waiter))
		step_find_end(shrink);
}

static void step_freed(struct shrink *shrink)
{
	if (free_passed(shrink->q, shrink->ticket, &shrink->waiter))
		next(shrink, step_flush);
}

/* ---- what lies behind the end ---- */

static void released(struct walk *walk, int result)
{
	struct shrink *shrink = list_entry(walk, struct shrink, walk);
	if (result < 0) {
		shrink_end(shrink, result);
		return;
	}
	shrink->ticket = free_ticket(shrink->q);
	next(shrink, step_freed);
}

static void step_tables(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	uint64_t first = header_l1_entries(shrink->size, q->cluster_bits);
	shrink->entries = q->l1.entries - first;
	shrink->l1 = calloc(MAX(shrink->entries, 1u), sizeof(uint64_t));
	int r = shrink->l1 ? 0 : -ENOMEM;
	for (uint64_t i = 0; i < shrink->entries && r == 0; i++) {
		uint64_t entry = table_get(&q->l1, first + i) & ENTRY_OFFSET;
		if (!entry)
			continue;
		r = table_set(q, &q->l1, first + i, 0);
		if (r < 0)
			continue;
		shrink->l1[i] = entry;
		meta_remove(q, entry, q->cluster_size);
	}
	if (r < 0)
		shrink_end(shrink, r);
	else
		walk_start(q, &shrink->walk, WALK_RELEASE, shrink->l1, shrink->entries, released);
}

static void dropped(struct qcow2_request *r, int result)
{
	struct shrink *shrink = list_entry(r->request, struct shrink, request);
	if (result < 0)
		shrink_end(shrink, result);
	else
		next(shrink, step_tables);
}

/* In the table in which the disk ends now. */
static void step_drop(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	uint64_t from = align_up(shrink->size, q->cluster_size), to = align_up(from, q->cluster_size << q->entry_bits);
	if (from == to) {
		next(shrink, step_tables);
		return;
	}
	shrink->request = (struct lunkit_request){
		.op = LUNKIT_DISCARD, .flags = REQUEST_DROP, .offset = from, .length = to - from, .memory = shrink->memory
	};
	request_submit_own(q, &shrink->request, dropped);
}

static void zeroed(struct qcow2_request *r, int result)
{
	struct shrink *shrink = list_entry(r->request, struct shrink, request);
	if (result < 0)
		shrink_end(shrink, result);
	else
		next(shrink, step_drop);
}

/* ---- the size ---- */

static void step_durable(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	uint64_t end = align_up(shrink->size, q->cluster_size);
	q->size = shrink->size;
	shrink->memory = malloc(sizeof(*shrink->memory));
	if (!shrink->memory) {
		shrink_end(shrink, -ENOMEM);
	} else if (end == shrink->size) {
		next(shrink, step_drop);
	} else {
		shrink->request = (struct lunkit_request){
			.op = LUNKIT_WRITE_ZEROES, .offset = shrink->size, .length = end - shrink->size, .memory = shrink->memory
		};
		request_submit_own(q, &shrink->request, zeroed);
	}
}

static void size_flushed(struct waiter *waiter, int result)
{
	struct shrink *shrink = (struct shrink *)waiter;
	struct qcow2 *q = shrink->q;
	waiter->wake = woken;
	if (result < 0) {
		header_set_be64(q, HEADER_SIZE, shrink->old_size);
		shrink_end(shrink, result);
		return;
	}
	step_durable(shrink);
}

static void step_size(struct shrink *shrink)
{
	struct qcow2 *q = shrink->q;
	int r = image_prepare_write(q, &shrink->waiter);
	if (r == -EAGAIN)
		return;
	if (r == 0)
		r = header_set_be64(q, HEADER_SIZE, shrink->size);
	if (r < 0) {
		shrink_end(shrink, r);
		return;
	}
	shrink->waiter.wake = size_flushed;
	commit_flush(q, &shrink->waiter);
}

void shrink_start(struct qcow2 *q, struct lunkit_job *job, uint64_t size)
{
	struct shrink *shrink = calloc(1, sizeof(*shrink));
	if (!shrink) {
		qcow2_job_end(q, job, lunkit_error_set(lunkit_job_error(job), ENOMEM, "%.300s: not enough memory", q->name));
		return;
	}
	shrink->waiter.wake = woken;
	shrink->q = q;
	shrink->job = job;
	shrink->size = size;
	shrink->old_size = q->size;
	next(shrink, step_size);
}
