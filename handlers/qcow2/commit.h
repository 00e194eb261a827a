/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Rounds of writing metadata: commit.c. Owner: the worker's thread. */

#include "base/list.h"
#include "file.h"
#include "order.h"

struct slice;

#define WRITERS 16
#define WRITER_SLICES 16
struct writer {
	struct transfer transfer; /* first */
	struct writer *next_free;
	struct slice *slices[WRITER_SLICES];
	struct iovec iov[WRITER_SLICES];
	unsigned count;
};

struct commit {
	struct list dirty[ORDER_KINDS], round[ORDER_KINDS], written;
	size_t dirty_count;
	struct waiters next, current;		  /* flushes: for the next round, and those that the running one answers */
	struct waiters store_next, store_current; /* the same, for those who want metadata in the file, not durable */
	struct waiters ended;			  /* those who wait for the end of the running round, however it ends */
	bool running, starting;
	bool wanted, store_wanted; /* another round, with a sync and without */
	bool syncs;		   /* the running round ends with everything durable */
	struct lunkit_io start;
	unsigned kind; /* enum order_kind that is being written */
	unsigned writes;
	int error; /* of the running round; of the last one when none runs */
	struct lunkit_io sync;
	struct writer writers[WRITERS], *free_writers;
	struct lunkit_alarm alarm;
	bool armed;
	unsigned idle_ticks;
	uint64_t uses_seen;
};

void commit_init(struct qcow2 *q);
/* Cancels the alarm. Nothing may be running. */
void commit_destroy(struct qcow2 *q);
/*
 * Makes durable all that was written and all metadata that was changed before: true when it is already, else waiter->wake(0 or -errno), never
 * from inside.
 */
bool commit_flush(struct qcow2 *q, struct waiter *waiter);
/* The same for metadata only, and the waiter is woken when it is written, before it is durable. */
void commit_store(struct qcow2 *q, struct waiter *waiter);
/* Starts a round soon, without anybody waiting; and one that writes metadata only. */
void commit_want(struct qcow2 *q);
void commit_store_soon(struct qcow2 *q);
/* A slice has become dirty, or there is something to give back later. */
void commit_arm(struct qcow2 *q);

/* done() when everything in memory is in the file, maybe from inside. No request may be in flight. */
struct quiet {
	struct waiter waiter;
	struct qcow2 *q;
	void (*done)(struct quiet *quiet, int result);
};
void quiet_wait(struct quiet *quiet);
