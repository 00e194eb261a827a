/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "target/queue.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

int queue_init(struct queue *queue)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	*queue = (struct queue){ .fd = fd };
	queue->last = &queue->first;
	pthread_mutex_init(&queue->lock, NULL);
	return 0;
}

void queue_destroy(struct queue *queue)
{
	pthread_mutex_destroy(&queue->lock);
	close(queue->fd);
}

void queue_post(struct queue *queue, struct queue_item *item)
{
	item->next = NULL;
	pthread_mutex_lock(&queue->lock);
	*queue->last = item;
	queue->last = &item->next;
	pthread_mutex_unlock(&queue->lock);
	uint64_t one = 1;
	ssize_t ignored = write(queue->fd, &one, sizeof(one)); /* EAGAIN: the counter is full, so the main thread is told already */
	(void)ignored;
}

void queue_run(struct queue *queue)
{
	uint64_t count;
	ssize_t ignored = read(queue->fd, &count, sizeof(count));
	(void)ignored;
	pthread_mutex_lock(&queue->lock);
	struct queue_item *item = queue->first;
	queue->first = NULL;
	queue->last = &queue->first;
	pthread_mutex_unlock(&queue->lock);
	while (item) {
		struct queue_item *next = item->next;
		item->run(item);
		item = next;
	}
}
