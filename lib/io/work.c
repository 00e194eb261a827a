/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Blocking work on helper threads. Most workers never need one, so the first is started with the first work, others when work waits
 * and none is idle: as many as there are processors, since what takes long is compression. They end with the loop.
 *
 *     owner: loop_offload() ─► queue ─► helper: function() ─► finished ─► eventfd, polled by the ring ─► owner: done()
 *
 * Invariants: a struct loop_work is in one list at a time; the helper writes the eventfd only when finished was empty, and the owner resets
 * it before it takes the list, so that no announcement is lost.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "io/ring.h"

#define STACK_SIZE (256u << 10)

unsigned work_processors(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

int work_pool_init(struct work_pool *pool)
{
	unsigned processors = work_processors();
	pool->most = MIN(MAX(processors, (unsigned)WORK_THREADS_MIN), (unsigned)WORK_THREADS_MAX);
	pool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pool->event_fd < 0)
		return -errno;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	pool->queue_end = &pool->queue;
	pool->finished_end = &pool->finished;
	return 0;
}

void work_pool_destroy(struct work_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stop = true;
	pthread_cond_broadcast(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->thread[i], NULL);
	pthread_cond_destroy(&pool->wanted);
	pthread_mutex_destroy(&pool->lock);
	close(pool->event_fd);
}

static void announce(struct work_pool *pool)
{
	uint64_t one = 1;
	while (write(pool->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void *helper(void *argument)
{
	struct work_pool *pool = argument;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (!pool->queue && !pool->stop)
			pthread_cond_wait(&pool->wanted, &pool->lock);
		if (!pool->queue)
			break;
		struct loop_work *work = pool->queue;
		pool->queue = work->next_work;
		if (!pool->queue)
			pool->queue_end = &pool->queue;
		pthread_mutex_unlock(&pool->lock);

		work->op.result = work->function(work->argument);

		pthread_mutex_lock(&pool->lock);
		bool first = !pool->finished;
		work->next_work = NULL;
		*pool->finished_end = work;
		pool->finished_end = &work->next_work;
		pool->unfinished--;
		if (first)
			announce(pool);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* Signals are for the owner: helpers take none. Without another helper work waits; without a first the caller does it itself. */
static void start_helper(struct work_pool *pool)
{
	sigset_t all, before;
	pthread_attr_t attributes;
	if (pthread_attr_init(&attributes) != 0)
		return;
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&pool->thread[pool->threads], &attributes, helper, pool);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (r != 0) {
		log_warning("cannot start a helper thread: error %d", r);
		return;
	}
	pool->threads++;
}

static void finished(struct loop_op *op, int result)
{
	struct work_pool *pool = (struct work_pool *)((char *)op - offsetof(struct work_pool, event));
	if (result < 0) {
		pool->listening = false;
		log_error("helper threads cannot be heard: error %d", -result);
		return;
	}
	uint64_t count;
	while (read(pool->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	pthread_mutex_lock(&pool->lock);
	struct loop_work *work = pool->finished;
	pool->finished = NULL;
	pool->finished_end = &pool->finished;
	pthread_mutex_unlock(&pool->lock);
	while (work) {
		struct loop_work *next = work->next_work;
		work->op.kind = OP_IDLE;
		work->op.done(&work->op, work->op.result);
		work = next;
	}
}

void loop_offload(struct loop *loop, struct loop_work *work)
{
	struct work_pool *pool = &loop->work;
	if (!pool->listening) {
		pool->listening = true;
		pool->event.done = finished;
		loop_poll_start(loop, &pool->event, pool->event_fd, POLLIN);
	}
	pthread_mutex_lock(&pool->lock);
	if (pool->unfinished >= pool->threads && pool->threads < pool->most)
		start_helper(pool);
	if (pool->threads == 0) {
		pthread_mutex_unlock(&pool->lock);
		loop_defer(loop, &work->op, work->function(work->argument));
		return;
	}
	work->op.kind = OP_ONCE;
	work->next_work = NULL;
	*pool->queue_end = work;
	pool->queue_end = &work->next_work;
	pool->unfinished++;
	pthread_cond_signal(&pool->wanted);
	pthread_mutex_unlock(&pool->lock);
}
