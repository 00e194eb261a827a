/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of this folder share: the loop's inside. Nobody else includes it. */

#include <liburing.h>
#include <pthread.h>

#include "io/loop.h"
#include "io/spin.h"

/* struct loop_op.kind: how its completion is delivered. IDLE: the loop doesn't know the operation. */
enum op_kind { OP_IDLE, OP_ONCE, OP_POLL, OP_POLL_STOPPING, OP_TIMER, OP_TIMER_STOPPING };

#define WORK_THREADS_MIN 2
#define WORK_THREADS_MAX 8

/* Helper threads. The lists and counters below the lock are shared with them and are touched under it only. */
struct work_pool {
	int event_fd; /* a helper announces finished work here */
	struct loop_op event;
	bool listening;
	unsigned threads, most;
	pthread_t thread[WORK_THREADS_MAX];

	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct loop_work *queue, **queue_end;
	struct loop_work *finished, **finished_end;
	unsigned unfinished; /* queued or being worked on */
	bool stop;
};

struct completion {
	struct loop_op *op;
	int result;
	unsigned flags;
};

struct alarms {
	struct list set; /* struct loop_alarm, the first due first */
	struct loop_timer timer;
	bool armed;
	uint64_t armed_for;
};

struct loop {
	struct io_uring ring;
	bool stop;
	int broken; /* the first error that the ring itself gave */
	struct loop_op *deferred, **deferred_end;
	struct loop_poller poller;
	struct spin spin;
	struct loop_statistics statistics;
	/* Completions taken out of the kernel's queue while an operation was started, when there was no room left. Delivered first. */
	struct completion *stash;
	size_t stash_head, stash_count, stash_size;
	struct work_pool work;
	struct alarms alarms;
};

/* Frees entries of the submission queue by submitting. Returns an entry, or NULL when the ring is broken. */
struct io_uring_sqe *ring_make_room(struct loop *loop);

/* A poll operation that the kernel has ended starts again. */
void ring_arm_poll(struct loop *loop, struct loop_op *op);

/* That this process may run on. */
unsigned work_processors(void);
int work_pool_init(struct work_pool *pool);
void work_pool_destroy(struct work_pool *pool);
