/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the snapshot operations share: their beginning, the steps that they are made of, their end.
 *
 * An operation is a chain of steps on the event loop. Each either goes on at once, is parked and called again, or starts something whose end calls the next. A step
 * that fails goes to job->failed, which takes back what can be, once; a failure there ends the operation: what is left then are leaks, and the
 * dirty bit, so that the next who opens the image puts them right.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot.h"

#define RETRIES 3

/* ---- one job at a time ---- */

bool qcow2_job_begin(struct qcow2 *q, struct lunkit_job *job)
{
	if (q->has_job) {
		lunkit_error_set(lunkit_job_error(job), EBUSY, "%.300s: another operation on the image is under way", q->name);
		lunkit_job_done(job, lunkit_error_hint(lunkit_job_error(job), "Try again when it has ended."));
		return false;
	}
	q->has_job = true;
	return true;
}

void qcow2_job_end(struct qcow2 *q, struct lunkit_job *job, int result)
{
	q->has_job = false;
	lunkit_job_done(job, result);
}

/* ---- steps ---- */

int snapshot_say(struct snapshot_job *job, int r, const char *format, ...)
{
	char text[500];
	va_list args;
	if (job->said)
		return r;
	job->said = true;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return lunkit_error_set(lunkit_job_error(job->job), r, "%.300s: %s", job->q->name, text);
}

void snapshot_next(struct snapshot_job *job, void (*step)(struct snapshot_job *job))
{
	job->step = step;
	step(job);
}

void snapshot_fail(struct snapshot_job *job, int r)
{
	void (*failed)(struct snapshot_job *) = job->failed;
	job->failed = NULL;
	if (!job->result)
		job->result = r;
	if (failed)
		snapshot_next(job, failed);
	else
		snapshot_end(job);
}

bool snapshot_try(struct snapshot_job *job, int r)
{
	if (r < 0 && r != -EAGAIN)
		snapshot_fail(job, r);
	return r >= 0;
}

static void woken(struct waiter *waiter, int result)
{
	struct snapshot_job *job = (struct snapshot_job *)waiter;
	if (result < 0)
		snapshot_fail(job, result);
	else
		job->step(job);
}

static void proceed(struct snapshot_job *job)
{
	job->waiter.wake = woken;
	snapshot_next(job, job->after);
}

static bool tries_again(struct snapshot_job *job, int result)
{
	if (result >= 0 || (!job->q->broken && job->retries++ < RETRIES))
		return true;
	job->waiter.wake = woken;
	snapshot_fail(job, result);
	return false;
}

static void flushed(struct waiter *waiter, int result)
{
	struct snapshot_job *job = (struct snapshot_job *)waiter;
	if (!tries_again(job, result))
		return;
	if (result == 0 || commit_flush(job->q, &job->waiter))
		proceed(job);
}

void snapshot_flush(struct snapshot_job *job, void (*step)(struct snapshot_job *job))
{
	job->after = step;
	job->waiter.wake = flushed;
	if (commit_flush(job->q, &job->waiter))
		proceed(job);
}

static void pass_ended(struct waiter *waiter, int result)
{
	struct snapshot_job *job = (struct snapshot_job *)waiter;
	if (tries_again(job, result) && free_passed(job->q, job->ticket, &job->waiter))
		proceed(job);
}

void snapshot_wait_freed(struct snapshot_job *job, void (*step)(struct snapshot_job *job))
{
	job->after = step;
	job->ticket = free_ticket(job->q);
	job->waiter.wake = pass_ended;
	if (free_passed(job->q, job->ticket, &job->waiter))
		proceed(job);
}

static void walked(struct walk *walk, int result)
{
	struct snapshot_job *job = list_entry(walk, struct snapshot_job, walk);
	if (walk->kind == WALK_REFERENCE)
		job->counted = walk->position;
	if (result < 0)
		snapshot_fail(job, result);
	else
		proceed(job);
}

void snapshot_walk(struct snapshot_job *job, enum walk_kind kind, const uint64_t *l1, uint64_t entries,
		   void (*step)(struct snapshot_job *job))
{
	job->after = step;
	walk_start(job->q, &job->walk, kind, l1, entries, walked);
}

void snapshot_uncount(struct snapshot_job *job, void (*step)(struct snapshot_job *job))
{
	job->after = step;
	walk_start(job->q, &job->walk, WALK_RELEASE, job->l1, job->l1_entries, walked);
	job->walk.end = job->counted;
}

static void written(struct transfer *transfer, int result)
{
	struct snapshot_job *job = list_entry(transfer, struct snapshot_job, transfer);
	if (result < 0) {
		snapshot_fail(job, result);
		return;
	}
	order_wrote(&job->q->order, ORDER_BASE);
	proceed(job);
}

void snapshot_write(struct snapshot_job *job, const struct piece *piece, void (*step)(struct snapshot_job *job))
{
	job->after = step;
	job->transfer.done = written;
	transfer_start_one(job->q, &job->transfer, true, job->buffer, piece_length(job->q, piece), piece_offset(job->q, piece));
}

static void l1_read(struct transfer *transfer, int result)
{
	struct snapshot_job *job = list_entry(transfer, struct snapshot_job, transfer);
	struct qcow2 *q = job->q;
	for (uint64_t i = 0; i < job->l1_entries && result == 0; i++) {
		uint64_t offset = get_be64(job->buffer + i * 8) & ENTRY_OFFSET;
		job->l1[i] = offset;
		if (offset & q->cluster_mask || offset >= HOST_OFFSET_MAX)
			result =
				snapshot_say(job, -EIO, "the snapshot's tables are damaged: one lies at %#llx", (unsigned long long)offset);
	}
	if (result < 0)
		snapshot_fail(job, result);
	else
		proceed(job);
}

void snapshot_read_l1(struct snapshot_job *job, uint64_t entries, void (*step)(struct snapshot_job *job))
{
	struct qcow2 *q = job->q;
	uint64_t length = align_up(MAX(entries, 1u) * 8, q->cluster_size);
	job->after = step;
	job->l1_entries = entries;
	job->l1 = calloc(MAX(entries, 1u), sizeof(uint64_t));
	free(job->buffer);
	job->buffer = file_buffer(q, length);
	if (!job->l1 || !job->buffer) {
		snapshot_fail(job, -ENOMEM);
	} else if (entries == 0) {
		proceed(job);
	} else {
		job->transfer.done = l1_read;
		transfer_start_one(q, &job->transfer, false, job->buffer, length, job->snapshot.l1_offset);
	}
}

int snapshot_buffer(struct snapshot_job *job, const struct piece *piece)
{
	uint64_t length = piece_length(job->q, piece);
	free(job->buffer);
	job->buffer = file_buffer(job->q, length);
	if (!job->buffer)
		return -ENOMEM;
	memset(job->buffer, 0, length);
	return 0;
}

/* ---- places ---- */

int piece_get(struct qcow2 *q, struct piece *piece, uint64_t bytes, struct waiter *waiter)
{
	uint64_t clusters = MAX((bytes + q->cluster_mask) >> q->cluster_bits, 1u);
	if (!piece->reserved) {
		int r = alloc_reserve(q, clusters, waiter, &piece->start);
		if (r < 0)
			return r;
		piece->reserved = true;
		piece->next = piece->start;
		piece->end = piece->start + clusters;
	}
	return alloc_count(q, &piece->next, piece->end, waiter);
}

void piece_free(struct qcow2 *q, struct piece *piece)
{
	/* On a device all of it was counted at once. */
	uint64_t end = q->is_block ? piece->end : piece->next;
	if (piece->reserved && end > piece->start)
		free_later(q, piece_offset(q, piece), (end - piece->start) << q->cluster_bits, false);
	*piece = (struct piece){ 0 };
}

/* ---- the header ---- */

int snapshot_mark(struct snapshot_job *job, bool dirty)
{
	struct qcow2 *q = job->q;
	if (q->header.version < 3)
		return 0;
	if (!dirty && q->stays_dirty) {
		job->marked = false;
		return 0;
	}
	uint64_t bits = get_be64(q->header_slice->data + HEADER_INCOMPATIBLE);
	int r = header_set_be64(q, HEADER_INCOMPATIBLE, dirty ? bits | INCOMPATIBLE_DIRTY : bits & ~(uint64_t)INCOMPATIBLE_DIRTY);
	if (r == 0)
		job->marked = dirty;
	return r;
}

static int point(struct snapshot_job *job, uint64_t offset, unsigned count)
{
	int r = header_set_be64(job->q, HEADER_SNAPSHOT_OFFSET, count ? offset : 0);
	return r == 0 ? header_set_be32(job->q, HEADER_SNAPSHOT_COUNT, count) : r;
}

int snapshot_point(struct snapshot_job *job)
{
	job->pointed = true;
	return point(job, piece_offset(job->q, &job->table_piece), job->new_count);
}

void snapshot_point_back(struct snapshot_job *job)
{
	if (job->pointed)
		point(job, job->q->header.snapshot_offset, job->q->header.snapshot_count);
}

void snapshot_adopt(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	struct header *header = &q->header;
	if (header->snapshot_count) {
		meta_remove(q, header->snapshot_offset, q->snapshot_table_length);
		free_later(q, header->snapshot_offset, q->snapshot_table_length, false);
	}
	free(q->snapshots);
	q->snapshots = job->new_list;
	job->new_list = NULL;
	header->snapshot_count = job->new_count;
	header->snapshot_offset = job->new_count ? piece_offset(q, &job->table_piece) : 0;
	q->snapshot_table_length = snapshot_table_length(q->snapshots, job->new_count);
	if (job->new_count && meta_add(q, header->snapshot_offset, q->snapshot_table_length) < 0)
		lunkit_log(LUNKIT_LOG_WARNING, "%s: not enough memory to protect the snapshot table", q->name);
	job->table_piece = (struct piece){ 0 };
}

bool snapshot_is_tight(const struct qcow2 *q)
{
	/* Compressed clusters share the file's: some thousands may be counted in one place, for each snapshot. */
	return q->refcount_order <= 3 || (q->refcount_order == 4 && q->header.snapshot_count > 12);
}

/* ---- beginning and end ---- */

static const char *op_name(enum lunkit_snapshot_op op)
{
	switch (op) {
	case LUNKIT_SNAPSHOT_CREATE:
		return "create the snapshot";
	case LUNKIT_SNAPSHOT_DELETE:
		return "delete the snapshot";
	case LUNKIT_SNAPSHOT_REVERT:
	case LUNKIT_SNAPSHOT_PROTECT: /* the core asks for these only where they are known */
	case LUNKIT_SNAPSHOT_UNPROTECT:
		break;
	}
	return "revert to the snapshot";
}

void snapshot_end(struct snapshot_job *job)
{
	struct qcow2 *q = job->q;
	int result = job->result;
	if (result == -EOVERFLOW && !job->said) {
		snapshot_say(job, -EOVERFLOW,
			     "cannot %s \"%s\": its refcounts of %u bits are too narrow to count one more user of each cluster",
			     op_name(job->op), job->name, 1u << q->refcount_order);
		lunkit_error_hint(
			lunkit_job_error(job->job),
			"Delete a snapshot, or make the refcounts wider while it is detached: qemu-img amend -o refcount_bits=16.");
	}
	if (result < 0)
		snapshot_say(job, result, "cannot %s \"%s\": %s", op_name(job->op), job->name, strerror(-result));
	/* It could not take back what it had begun: whoever opens the image next does. */
	q->stays_dirty |= job->marked;
	if (job->claimed)
		lunkit_file_claim(q->host, q->fd, snapshot_number(&job->snapshot), LUNKIT_CLAIM_NONE);
	lunkit_log(LUNKIT_LOG_DEBUG, "%s: %s \"%s\": %d", q->name, op_name(job->op), job->name, result);
	if (job->op == LUNKIT_SNAPSHOT_CREATE)
		free(job->snapshot.raw);
	free(job->new_list);
	free(job->l1);
	free(job->old_l1);
	free(job->buffer);
	struct lunkit_job *ended = job->job;
	free(job);
	qcow2_job_end(q, ended, result);
}

void qcow2_snapshot(void *state, struct lunkit_job *lunkit_job, enum lunkit_snapshot_op op, const char *name)
{
	struct qcow2 *q = state;
	struct snapshot_job *job = calloc(1, sizeof(*job));
	if (!job) {
		lunkit_job_done(lunkit_job, lunkit_error_set(lunkit_job_error(lunkit_job), ENOMEM, "%.300s: not enough memory", q->name));
		return;
	}
	if (!qcow2_job_begin(q, lunkit_job)) {
		free(job);
		return;
	}
	job->waiter.wake = woken;
	job->q = q;
	job->job = lunkit_job;
	job->op = op;
	snprintf(job->name, sizeof(job->name), "%s", name);
	if (op != LUNKIT_SNAPSHOT_CREATE) {
		int index = snapshot_find(q, name);
		if (index < 0) {
			int r = snapshot_say(job, -ENOENT, "there is no snapshot \"%s\"", name);
			lunkit_error_hint(lunkit_job_error(lunkit_job), "`lunkit snapshot list` shows those that there are.");
			snapshot_fail(job, r);
			return;
		}
		job->index = (unsigned)index;
		job->snapshot = q->snapshots[index];
	}
	switch (op) {
	case LUNKIT_SNAPSHOT_CREATE:
		snapshot_next(job, snapshot_create_begin);
		return;
	case LUNKIT_SNAPSHOT_DELETE:
		snapshot_next(job, snapshot_delete_begin);
		return;
	case LUNKIT_SNAPSHOT_REVERT:
		snapshot_next(job, snapshot_revert_begin);
		return;
	case LUNKIT_SNAPSHOT_PROTECT:
	case LUNKIT_SNAPSHOT_UNPROTECT:
		snapshot_fail(job, -EOPNOTSUPP);
		return;
	}
}
