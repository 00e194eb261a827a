/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of this folder share: the loop's inside. Nobody else includes it. */

#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>

#include "io/loop.h"
#include "io/spin.h"

/* struct loop_op.kind: how its completion is delivered. IDLE: the loop doesn't know the operation. */
enum op_kind { OP_IDLE, OP_ONCE, OP_POLL, OP_POLL_STOPPING, OP_TIMER, OP_TIMER_STOPPING };

#define WORK_THREADS_MIN 2
#define WORK_THREADS_MAX 8

/* Operations that other threads have completed (post.c). top and asleep are shared with them. */
struct post_box {
	_Atomic(struct loop_op *) top; /* the last that was posted, linked to the one before */
	atomic_bool asleep;	       /* the owner waits, or is about to, and has to be woken */
	int event_fd;
	struct loop_op event;
	bool listening;
};

/* Helper threads. The list and counters below the lock are shared with them and are touched under it only. */
struct work_pool {
	unsigned threads, most;
	pthread_t thread[WORK_THREADS_MAX];

	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct loop_work *queue, **queue_end;
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
	struct post_box posts;
	struct work_pool work;
	struct alarms alarms;
};

/* Frees entries of the submission queue by submitting. Returns an entry, or NULL when the ring is broken. */
struct io_uring_sqe *ring_make_room(struct loop *loop);

/* A poll operation that the kernel has ended starts again. */
void ring_arm_poll(struct loop *loop, struct loop_op *op);

int post_box_init(struct post_box *box);
void post_box_destroy(struct post_box *box);
/* Calls done() of what was posted. */
bool post_box_run(struct post_box *box);
/* Before the owner sleeps: false when something was posted meanwhile, and it must not. */
bool post_box_doze(struct post_box *box);
static inline void post_box_wake(struct post_box *box)
{
	atomic_store_explicit(&box->asleep, false, memory_order_relaxed);
}
static inline bool post_box_has(const struct post_box *box)
{
	return atomic_load_explicit(&box->top, memory_order_relaxed) != NULL;
}

/* That this process may run on. */
unsigned work_processors(void);
void work_pool_init(struct work_pool *pool);
void work_pool_destroy(struct work_pool *pool);
