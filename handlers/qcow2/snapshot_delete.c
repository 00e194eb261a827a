/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Deleting a snapshot, while requests go on.
 *
 *     its L1 read ─► a table without it written ─► header: that table, the dirty bit ─► durable: it is gone
 *     ─► all that its L1 led to is freed (walk.c, free.c) ─► COPIED set where the image is the only user left ─► durable ─► the dirty bit off
 *
 * A crash before the header leaves it as it was, one after that leaks what it held; the dirty bit makes whoever opens the image next put that right, and the
 * COPIED bits. Nothing is held.
 *
 * Who has opened the snapshot beside us claims it: then it stays.
 */
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"

static void durable(struct snapshot_job *job)
{
	if (job->marked && !snapshot_try(job, snapshot_mark(job, false)))
		return;
	snapshot_flush(job, snapshot_end);
}

static void copied(struct snapshot_job *job)
{
	snapshot_flush(job, durable);
}

static void freed(struct snapshot_job *job)
{
	snapshot_walk(job, WALK_COPIED, job->l1, MIN(job->l1_entries, job->q->l1.entries), copied);
}

static void released(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	if (job->snapshot.l1_size)
		free_later(q, job->snapshot.l1_offset, (uint64_t)job->snapshot.l1_size * 8, true);
	snapshot_wait_freed(job, freed);
}

static void failed_late(struct snapshot_job *job)
{
	snapshot_say(job, job->result,
		     "the snapshot \"%s\" is deleted, but what it held could not be freed: %s; `lunkit check --repair` can", job->name,
		     strerror(-job->result));
	snapshot_end(job);
}

static void gone(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	job->failed = failed_late;
	if (job->snapshot.l1_size)
		meta_remove(q, job->snapshot.l1_offset, (uint64_t)job->snapshot.l1_size * 8);
	free(job->snapshot.raw);
	snapshot_adopt(job);
	snapshot_walk(job, WALK_RELEASE, job->l1, job->l1_entries, released);
}

static void back_end(struct snapshot_job *job)
{
	piece_free(job->q, &job->table_piece);
	snapshot_end(job);
}

static void failed_early(struct snapshot_job *job)
{
	snapshot_point_back(job);
	if (job->marked)
		snapshot_mark(job, false);
	snapshot_flush(job, back_end);
}

static void table_written(struct snapshot_job *job)
{
	int r = snapshot_mark(job, true);
	if (r == 0)
		r = snapshot_point(job);
	if (snapshot_try(job, r))
		snapshot_flush(job, gone);
}

static void write_table(struct snapshot_job *job)
{
	if (!snapshot_try(job, snapshot_buffer(job, &job->table_piece)))
		return;
	snapshot_table_fill(job->new_list, job->new_count, job->buffer);
	snapshot_write(job, &job->table_piece, table_written);
}

static void get_table_piece(struct snapshot_job *job)
{
	job->failed = failed_early;
	uint64_t length = snapshot_table_length(job->new_list, job->new_count);
	if (snapshot_try(job, piece_get(job->q, &job->table_piece, length, &job->waiter)))
		snapshot_next(job, write_table);
}

static void make_list(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	unsigned count = q->header.snapshot_count;
	job->new_list = calloc(count, sizeof(*job->new_list));
	if (!job->new_list) {
		snapshot_fail(job, -ENOMEM);
		return;
	}
	for (unsigned i = 0; i < count; i++)
		if (i != job->index)
			job->new_list[job->new_count++] = q->snapshots[i];
	snapshot_next(job, job->new_count ? get_table_piece : table_written);
}

void snapshot_delete_begin(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	int r = image_prepare_write(q, &job->waiter);
	if (r == 0 && (r = lunkit_file_claim(q->host, q->fd, snapshot_number(&job->snapshot), LUNKIT_CLAIM_ALONE)) == -EBUSY) {
		snapshot_say(job, r, "the snapshot \"%s\" is in use: another process reads it", job->name);
		lunkit_error_hint(lunkit_job_error(job->job),
				  "Wait until that is done (an export, a LUN with ;snapshot=): `fuser -v` names it.");
	}
	if (!snapshot_try(job, r))
		return;
	job->claimed = true;
	snapshot_read_l1(job, job->snapshot.l1_size, make_list);
}
