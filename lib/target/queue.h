/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Work that other threads hand to the main thread: a list and an eventfd that the main thread polls. First come, first served. */

#include <pthread.h>

struct queue_item {
	void (*run)(struct queue_item *item); /* on the main thread; the item is its own from then on */
	struct queue_item *next;
};

struct queue {
	pthread_mutex_t lock;
	struct queue_item *first, **last;
	int fd; /* readable while there are items */
};

int queue_init(struct queue *queue);
void queue_destroy(struct queue *queue);
/* Any thread. Never blocks, never fails. */
void queue_post(struct queue *queue, struct queue_item *item);
/* Main thread: runs what is there now; items that are posted meanwhile wait for the next call. */
void queue_run(struct queue *queue);
