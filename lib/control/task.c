/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A pool of threads. One thread is there from the start, so that a task can always be run some time; others are started when all are busy and stay, idle, since a
 * daemon that needed them once will need them again. A pool is never taken apart: its threads may hang in the kernel, and the process's end ends them.
 */
#include "control/task.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

#define STACK_SIZE (512 * 1024)

struct tasks {
	struct queue *queue;
	unsigned max_threads;
	unsigned pending; /* main thread's */
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct task *first, **last;
	unsigned threads, idle, waiting; /* waiting: tasks in the list */
};

static void task_finished(struct queue_item *item)
{
	struct task *task = (struct task *)((char *)item - offsetof(struct task, item));
	task->tasks->pending--;
	task->done(task);
}

static void *tasks_main(void *argument)
{
	struct tasks *tasks = argument;
	pthread_setname_np(pthread_self(), "task");
	pthread_mutex_lock(&tasks->lock);
	for (;;) {
		while (!tasks->first) {
			tasks->idle++;
			pthread_cond_wait(&tasks->more, &tasks->lock);
			tasks->idle--;
		}
		struct task *task = tasks->first;
		tasks->first = task->next;
		if (!tasks->first)
			tasks->last = &tasks->first;
		tasks->waiting--;
		pthread_mutex_unlock(&tasks->lock);
		task->work(task);
		queue_post(tasks->queue, &task->item);
		pthread_mutex_lock(&tasks->lock);
	}
	return NULL;
}

static int start_thread(struct tasks *tasks)
{
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	int code = pthread_create(&thread, &attributes, tasks_main, tasks);
	pthread_attr_destroy(&attributes);
	return -code;
}

int tasks_new(struct queue *queue, unsigned max_threads, struct tasks **ret)
{
	struct tasks *tasks = calloc(1, sizeof(*tasks));
	if (!tasks)
		return -ENOMEM;
	tasks->queue = queue;
	tasks->max_threads = max_threads;
	tasks->last = &tasks->first;
	pthread_mutex_init(&tasks->lock, NULL);
	pthread_cond_init(&tasks->more, NULL);
	int r = start_thread(tasks);
	if (r < 0) {
		free(tasks);
		return r;
	}
	tasks->threads = 1;
	*ret = tasks;
	return 0;
}

void tasks_start(struct tasks *tasks, struct task *task)
{
	task->tasks = tasks;
	task->next = NULL;
	task->item.run = task_finished;
	tasks->pending++;
	pthread_mutex_lock(&tasks->lock);
	*tasks->last = task;
	tasks->last = &task->next;
	tasks->waiting++;
	bool grow = tasks->waiting > tasks->idle && tasks->threads < tasks->max_threads;
	if (grow)
		tasks->threads++;
	pthread_cond_signal(&tasks->more);
	pthread_mutex_unlock(&tasks->lock);
	if (grow && start_thread(tasks) < 0) {
		/* no harm: the threads that are there take it when they can */
		pthread_mutex_lock(&tasks->lock);
		tasks->threads--;
		pthread_mutex_unlock(&tasks->lock);
	}
}

unsigned tasks_pending(const struct tasks *tasks)
{
	return tasks->pending;
}
