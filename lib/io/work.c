/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Blocking work on helper threads. Most workers never need one, so the first is started with the first work, others when work waits
 * and none is idle: as many as there are processors, since what takes long is compression. They end with the loop.
 *
 *     owner: loop_offload() ─► queue ─► helper: function(), loop_post() ─► owner: done()
 */
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "io/ring.h"

#define STACK_SIZE (1u << 20) /* libraries of handlers run here too */

unsigned work_processors(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

void work_pool_init(struct work_pool *pool)
{
	unsigned processors = work_processors();
	pool->most = MIN(MAX(processors, (unsigned)WORK_THREADS_MIN), (unsigned)WORK_THREADS_MAX);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wanted, NULL);
	pool->queue_end = &pool->queue;
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

		int result = work->function(work->argument);

		pthread_mutex_lock(&pool->lock);
		pool->unfinished--;
		pthread_mutex_unlock(&pool->lock);
		loop_post((struct loop *)((char *)pool - offsetof(struct loop, work)), &work->op, result);
		pthread_mutex_lock(&pool->lock);
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
	sigdelset(&all,
		  SIGSYS); /* the sandbox answers a forbidden call through it; where it is blocked the kernel ends the process instead */
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

void loop_offload(struct loop *loop, struct loop_work *work)
{
	struct work_pool *pool = &loop->work;
	loop_listen(loop);
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
