/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What making, deleting and going back to snapshots share. Owner: the worker's thread.
 *
 *     snapshot_job.c: begin, common steps, end ─► snapshot_create.c, snapshot_delete.c, snapshot_revert.c ─► walk.c, hold.c
 */

#include <stdio.h>

#include "walk.h"

/* snapshot.c: the table's bytes, padded; what is written at the L1 offset is the struct's. */
uint64_t snapshot_table_length(const struct snapshot *snapshots, unsigned count);
void snapshot_table_fill(const struct snapshot *snapshots, unsigned count, uint8_t *to);
/* A new entry, for the disk as it is now; without a place for its L1. -ENOMEM. */
int snapshot_new(const struct qcow2 *q, const char *name, unsigned l1_size, struct snapshot *ret);

/* A piece of the file for a table. */
struct piece {
	uint64_t start, next, end; /* clusters */
	bool reserved;
};
/* 0, -EAGAIN (call it again), -errno. */
int piece_get(struct qcow2 *q, struct piece *piece, uint64_t bytes, struct waiter *waiter);
/* Nothing refers to it. */
void piece_free(struct qcow2 *q, struct piece *piece);
static inline uint64_t piece_offset(const struct qcow2 *q, const struct piece *piece)
{
	return piece->start << q->cluster_bits;
}
static inline uint64_t piece_length(const struct qcow2 *q, const struct piece *piece)
{
	return (piece->end - piece->start) << q->cluster_bits;
}

struct snapshot_job {
	struct waiter waiter; /* first */
	struct walk walk;
	struct transfer transfer;
	struct qcow2 *q;
	struct lunkit_job *job;
	enum lunkit_snapshot_op op;
	char name[LUNKIT_SNAPSHOT_NAME_MAX];
	void (*step)(struct snapshot_job *job);	 /* what comes next, and again when it was parked */
	void (*after)(struct snapshot_job *job); /* … when what goes on has ended */
	void (*failed)(struct snapshot_job *job);
	int result;
	unsigned retries;
	struct snapshot snapshot; /* the one that it is about; raw is the new one's own */
	unsigned index;		  /* in the table */
	struct piece l1_piece, table_piece;
	uint64_t *l1; /* the snapshot's, the host's byte order */
	uint64_t l1_entries;
	uint8_t *buffer;
	struct walk_position counted; /* what REFERENCE has done */
	uint64_t *old_l1;	      /* revert: what was active */
	uint64_t old_l1_offset, old_l1_entries;
	struct table table; /* revert: what will be */
	uint64_t ticket;
	struct snapshot *new_list; /* raw is shared with the list that it replaces */
	unsigned new_count;
	bool marked, pointed, said;
	bool claimed; /* delete: nobody else reads it */
};

/* Sets the job's error, once. Returns r. */
__attribute__((format(printf, 3, 4))) int snapshot_say(struct snapshot_job *job, int r, const char *format, ...);
/* Goes on with step, now. */
void snapshot_next(struct snapshot_job *job, void (*step)(struct snapshot_job *job));
/* True: goes on. False: parked (-EAGAIN), or failed (-errno), which job->failed() or the end takes care of. */
bool snapshot_try(struct snapshot_job *job, int r);
void snapshot_fail(struct snapshot_job *job, int r);
void snapshot_end(struct snapshot_job *job);
/* Everything so far durable, then step. A failure is tried once more. */
void snapshot_flush(struct snapshot_job *job, void (*step)(struct snapshot_job *job));
/* Everything freed so far counted down, then step. */
void snapshot_wait_freed(struct snapshot_job *job, void (*step)(struct snapshot_job *job));
void snapshot_walk(struct snapshot_job *job, enum walk_kind kind, const uint64_t *l1, uint64_t entries,
		   void (*step)(struct snapshot_job *job));
/* buffer to the piece, whole; step when it is there. */
void snapshot_write(struct snapshot_job *job, const struct piece *piece, void (*step)(struct snapshot_job *job));
/* The snapshot's L1 into job->l1; step then. entries: how many of them. */
void snapshot_read_l1(struct snapshot_job *job, uint64_t entries, void (*step)(struct snapshot_job *job));
/* The buffer, of a piece's length, zeroed. */
int snapshot_buffer(struct snapshot_job *job, const struct piece *piece);
/* The dirty bit in memory, where the format has it: refcounts and COPIED bits are about to contradict each other. */
int snapshot_mark(struct snapshot_job *job, bool dirty);
/* The header leads to the new list in the table piece, in memory; and takes it back. */
int snapshot_point(struct snapshot_job *job);
void snapshot_point_back(struct snapshot_job *job);
/* The new list takes the old one's place, which is freed. Cannot fail. */
void snapshot_adopt(struct snapshot_job *job);
/* RELEASE of what REFERENCE has counted, then step. */
void snapshot_uncount(struct snapshot_job *job, void (*step)(struct snapshot_job *job));
/* Are refcounts so narrow that one more reference may not fit? */
bool snapshot_is_tight(const struct qcow2 *q);

void snapshot_create_begin(struct snapshot_job *job);
void snapshot_delete_begin(struct snapshot_job *job);
void snapshot_revert_begin(struct snapshot_job *job);
