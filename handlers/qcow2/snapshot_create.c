/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Making a snapshot, while requests go on.
 *
 *     places for its L1 and the new snapshot table ─► dirty bit, durable ─► HOLD: L1 copied, COPIED cleared in it, in memory ─► requests go on
 *     ─► L1 written ─► all that it leads to is counted once more, COPIED cleared in the L2 tables (walk.c) ─► durable
 *     ─► new table written ─► header: the new table, the dirty bit off ─► durable: done
 *
 * The moment of the snapshot is the hold. From then on each write finds an L1 entry without COPIED and copies the table, with no entry COPIED, and then the cluster: what
 * the snapshot shares is not changed any more. What the copies leave is freed only after it was counted (q->snapshotting): so its refcount is right.
 *
 * On disk refcounts rise in one place and COPIED bits go in another: in between they contradict each other, and a clean image never does: hence the dirty
 * bit, with which whoever opens the image after a crash puts them right. Version 2 has no such bit; there a crash in that moment leaves clusters counted
 * too high, which is a leak.
 */
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"

/* ---- taking back ---- */

static void back_end(struct snapshot_job *job)
{
	piece_free(job->q, &job->l1_piece);
	piece_free(job->q, &job->table_piece);
	snapshot_end(job);
}

static void back_unmark(struct snapshot_job *job)
{
	if (job->marked && !snapshot_try(job, snapshot_mark(job, false)))
		return;
	snapshot_flush(job, back_end);
}

static void back_durable(struct snapshot_job *job)
{
	snapshot_flush(job, back_unmark);
}

static void back_copied(struct snapshot_job *job)
{
	snapshot_walk(job, WALK_COPIED, job->l1, MIN(job->l1_entries, job->q->l1.entries), back_durable);
}

static void back_freed(struct snapshot_job *job)
{
	snapshot_wait_freed(job, back_copied);
}

static void back_uncount(struct snapshot_job *job)
{
	snapshot_uncount(job, back_freed);
}

/* The header must not lead there any more before anything is taken back. */
static void failed_late(struct snapshot_job *job)
{
	job->q->snapshotting = false;
	snapshot_point_back(job);
	if (job->marked || !job->pointed || snapshot_try(job, snapshot_mark(job, true)))
		snapshot_flush(job, back_uncount);
}

static void failed_early(struct snapshot_job *job)
{
	if (job->marked)
		snapshot_next(job, back_unmark);
	else
		back_end(job);
}

/* ---- making ---- */

static void durable(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	if (meta_add(q, piece_offset(q, &job->l1_piece), piece_length(q, &job->l1_piece)) < 0)
		lunkit_log(LUNKIT_LOG_WARNING, "%s: not enough memory to protect the snapshot's L1 table", q->name);
	job->snapshot.raw = NULL; /* the list's now */
	snapshot_adopt(job);
	snapshot_end(job);
}

static void table_written(struct snapshot_job *job)
{
	int r = snapshot_point(job);
	if (r == 0 && job->marked)
		r = snapshot_mark(job, false);
	if (snapshot_try(job, r))
		snapshot_flush(job, durable);
}

static void counted_durably(struct snapshot_job *job)
{
	if (!snapshot_try(job, snapshot_buffer(job, &job->table_piece)))
		return;
	snapshot_table_fill(job->new_list, job->new_count, job->buffer);
	snapshot_write(job, &job->table_piece, table_written);
}

static void counted(struct snapshot_job *job)
{
	job->q->snapshotting = false;
	if (job->q->freeing.open.count)
		commit_want(job->q);
	snapshot_flush(job, counted_durably);
}

static void l1_written(struct snapshot_job *job)
{
	snapshot_walk(job, WALK_REFERENCE, job->l1, job->l1_entries, counted);
}

/* Requests are held. */
static void share(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	int r = 0;
	job->failed = failed_late;
	for (uint64_t i = 0; i < job->l1_entries && r == 0; i++) {
		uint64_t entry = table_get(&q->l1, i);
		job->l1[i] = entry & ~ENTRY_COPIED;
		put_be64(job->buffer + i * 8, job->l1[i]);
		if (entry & ENTRY_COPIED)
			r = table_set(q, &q->l1, i, job->l1[i]);
	}
	q->snapshotting = r == 0;
	hold_end(q);
	if (snapshot_try(job, r))
		snapshot_write(job, &job->l1_piece, l1_written);
}

static void marked(struct snapshot_job *job)
{
	job->step = share;
	hold_begin(job->q, &job->waiter);
}

static void make_list(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	unsigned count = q->header.snapshot_count;
	job->snapshot.l1_offset = piece_offset(q, &job->l1_piece);
	job->l1 = calloc(MAX(job->l1_entries, 1u), sizeof(uint64_t));
	if (!job->l1 || snapshot_buffer(job, &job->l1_piece) < 0) {
		snapshot_fail(job, -ENOMEM);
		return;
	}
	job->new_list[count] = job->snapshot;
	if (snapshot_try(job, snapshot_mark(job, true)))
		snapshot_flush(job, marked);
}

static void get_table_piece(struct snapshot_job *job)
{
	uint64_t length = snapshot_table_length(job->new_list, job->new_count);
	if (snapshot_try(job, piece_get(job->q, &job->table_piece, length, &job->waiter)))
		snapshot_next(job, make_list);
}

static void get_l1_piece(struct snapshot_job *job)
{
	job->failed = failed_early;
	if (snapshot_try(job, piece_get(job->q, &job->l1_piece, job->l1_entries * 8, &job->waiter)))
		snapshot_next(job, get_table_piece);
}

static void describe(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	unsigned count = q->header.snapshot_count;
	job->l1_entries = header_l1_entries(q->size, q->cluster_bits);
	job->new_count = count + 1;
	job->new_list = calloc(job->new_count, sizeof(*job->new_list));
	int r = job->new_list ? snapshot_new(q, job->name, (unsigned)job->l1_entries, &job->snapshot) : -ENOMEM;
	if (!snapshot_try(job, r))
		return;
	if (count)
		memcpy(job->new_list, q->snapshots, count * sizeof(*job->new_list));
	job->new_list[count] = job->snapshot;
	if (snapshot_table_length(job->new_list, job->new_count) > SNAPSHOT_TABLE_BYTES_MAX)
		snapshot_fail(job, snapshot_say(job, -ENOSPC, "the snapshot table is full"));
	else
		snapshot_next(job, get_l1_piece);
}

void snapshot_create_begin(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	if (snapshot_find_name(q, job->name) >= 0) {
		int r = snapshot_say(job, -EEXIST, "there is a snapshot \"%s\" already", job->name);
		lunkit_error_hint(lunkit_job_error(job->job), "Choose another name, or delete that one first.");
		snapshot_fail(job, r);
		return;
	}
	if (q->refcount_order == 0) {
		snapshot_fail(job, -EOVERFLOW);
		return;
	}
	if (q->header.snapshot_count >= SNAPSHOTS_MAX) {
		snapshot_fail(job, snapshot_say(job, -ENOSPC, "it has %u snapshots, and can't have more", SNAPSHOTS_MAX));
		return;
	}
	if (!snapshot_try(job, image_prepare_write(q, &job->waiter)))
		return;
	if (snapshot_is_tight(q))
		snapshot_walk(job, WALK_LIMIT, NULL, header_l1_entries(q->size, q->cluster_bits), describe);
	else
		snapshot_next(job, describe);
}
