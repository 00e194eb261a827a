/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Blocking work off the main thread: writes to configfs that wait for the kernel, files on storage that may hang. work() runs on a thread of the pool and sees only the
 * task's own memory; done() runs on the main thread afterwards and owns the task.
 */

#include "target/queue.h"

struct task {
	void (*work)(struct task *task);
	void (*done)(struct task *task);
	struct queue_item item; /* the pool's */
	struct task *next;
	struct tasks *tasks;
};

struct tasks;

/* max_threads at once; further tasks wait their turn. -errno when not even one thread can be started. */
int tasks_new(struct queue *queue, unsigned max_threads, struct tasks **ret);
/* Main thread. Never fails and never blocks. */
void tasks_start(struct tasks *tasks, struct task *task);
/* Main thread: tasks whose done() has not run. */
unsigned tasks_pending(const struct tasks *tasks);
