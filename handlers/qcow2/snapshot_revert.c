/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Going back to a snapshot, while requests go on.
 *
 *     its L1 read ─► all that it leads to counted once more (walk.c) ─► written as a new L1 ─► durable
 *     ─► HOLD: header and memory switched to it, and to the size that it has ─► requests go on, with the old content
 *     ─► durable ─► what the L1 before led to is freed
 *
 * The header's L1 and size lie in one sector: a crash leaves the one or the other. What the new tables lead to is shared with the snapshot, so no COPIED bit is set
 * in them, and none has to be afterwards. The part of its L1 behind the disk's end (the memory of a virtual machine) stays the snapshot's alone.
 */
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"

static void released(struct snapshot_job *job)
{
	if (job->old_l1_entries)
		free_later(job->q, job->old_l1_offset, job->old_l1_entries * 8, false);
	snapshot_wait_freed(job, snapshot_end);
}

static void durable(struct snapshot_job *job)
{
	job->failed = NULL; /* nothing is freed twice */
	snapshot_walk(job, WALK_RELEASE, job->old_l1, job->old_l1_entries, released);
}

static void failed_late(struct snapshot_job *job)
{
	/* The rest follows when the storage can write again: what is freed waits for that anyway. */
	snapshot_walk(job, WALK_RELEASE, job->old_l1, job->old_l1_entries, released);
}

/* ---- taking back ---- */

static void back_freed(struct snapshot_job *job)
{
	snapshot_wait_freed(job, snapshot_end);
}

static void failed_early(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	if (job->table.slices)
		table_destroy(q, &job->table);
	piece_free(q, &job->l1_piece);
	if (job->counted.table || job->counted.counted)
		snapshot_uncount(job, back_freed);
	else
		snapshot_end(job);
}

/* ---- going back ---- */

/* Which L2 tables are active, for meta.c; most are at the same place in both. */
static void exchange_meta(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	int r = meta_add(q, piece_offset(q, &job->l1_piece), piece_length(q, &job->l1_piece));
	if (job->old_l1_entries)
		meta_remove(q, job->old_l1_offset, job->old_l1_entries * 8);
	for (uint64_t i = 0; i < job->old_l1_entries; i++)
		if (job->old_l1[i] && (i >= job->l1_entries || job->l1[i] != job->old_l1[i]))
			meta_remove(q, job->old_l1[i], q->cluster_size);
	for (uint64_t i = 0; i < job->l1_entries && r == 0; i++)
		if (job->l1[i] && (i >= job->old_l1_entries || job->l1[i] != job->old_l1[i]))
			r = meta_add(q, job->l1[i], q->cluster_size);
	if (r == -EEXIST)
		corrupt(q, "the snapshot's tables lie on other metadata");
	else if (r < 0)
		lunkit_log(LUNKIT_LOG_WARNING, "%s: not enough memory to protect all L2 tables", q->name);
}

/* Requests are held. */
static void exchange(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	int r = header_set_be64(q, HEADER_L1_OFFSET, job->table.offset);
	if (r == 0)
		r = header_set_be32(q, HEADER_L1_SIZE, (uint32_t)job->l1_entries);
	if (r == 0)
		r = header_set_be64(q, HEADER_SIZE, job->snapshot.size);
	if (r == 0) {
		for (uint64_t i = 0; i < q->l1.entries; i++)
			job->old_l1[i] = table_get(&q->l1, i) & ENTRY_OFFSET;
		job->old_l1_offset = q->l1.offset;
		job->old_l1_entries = q->l1.entries;
		exchange_meta(job);
		table_destroy(q, &q->l1);
		q->l1 = job->table;
		q->size = job->snapshot.size;
		job->table = (struct table){ 0 };
		job->l1_piece = (struct piece){ 0 };
		job->failed = failed_late;
	}
	hold_end(q);
	if (snapshot_try(job, r))
		snapshot_flush(job, durable);
}

static void copy_durable(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	int r = table_init(q, &job->table, ORDER_MAP, piece_offset(q, &job->l1_piece), job->l1_entries);
	job->old_l1 = r == 0 ? calloc(MAX(q->l1.entries, 1u), sizeof(uint64_t)) : NULL;
	if (r == 0 && !job->old_l1)
		r = -ENOMEM;
	if (!snapshot_try(job, r))
		return;
	for (unsigned i = 0; i < job->table.slice_count; i++)
		memcpy(job->table.slices[i]->data, job->buffer + ((size_t)i << q->slice_bits), q->slice_size);
	job->step = exchange;
	hold_begin(q, &job->waiter);
}

static void copy_written(struct snapshot_job *job)
{
	snapshot_flush(job, copy_durable);
}

static void write_copy(struct snapshot_job *job)
{
	if (!snapshot_try(job, snapshot_buffer(job, &job->l1_piece)))
		return;
	for (uint64_t i = 0; i < job->l1_entries; i++)
		put_be64(job->buffer + i * 8, job->l1[i]);
	snapshot_write(job, &job->l1_piece, copy_written);
}

static void count(struct snapshot_job *job)
{
	snapshot_walk(job, WALK_REFERENCE, job->l1, job->l1_entries, write_copy);
}

static void get_piece(struct snapshot_job *job)
{
	job->failed = failed_early;
	if (snapshot_try(job, piece_get(job->q, &job->l1_piece, job->l1_entries * 8, &job->waiter)))
		snapshot_next(job, count);
}

static void look_at_limit(struct snapshot_job *job)
{
	if (snapshot_is_tight(job->q))
		snapshot_walk(job, WALK_LIMIT, job->l1, job->l1_entries, get_piece);
	else
		snapshot_next(job, get_piece);
}

void snapshot_revert_begin(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	if (!snapshot_is_usable(q, &job->snapshot)) {
		snapshot_fail(job, snapshot_say(job, -EINVAL, "the snapshot \"%s\" is damaged: its L1 table is too small for its size",
						job->name));
		return;
	}
	if (snapshot_try(job, image_prepare_write(q, &job->waiter)))
		snapshot_read_l1(job, header_l1_entries(job->snapshot.size, q->cluster_bits), look_at_limit);
}
