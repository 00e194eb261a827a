/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "target/queue.h"

#define ITEMS 1000
#define THREADS 4

static struct queue queue;
struct numbered {
	struct queue_item item;
	unsigned thread, number;
};
static unsigned next_number[THREADS], total;

static void take(struct queue_item *item)
{
	struct numbered *numbered = (struct numbered *)item;
	assert_int_equal(numbered->number, next_number[numbered->thread]++); /* each thread's in its order */
	total++;
	free(numbered);
}

static void *post_all(void *argument)
{
	for (unsigned i = 0; i < ITEMS; i++) {
		struct numbered *numbered = calloc(1, sizeof(*numbered));
		*numbered = (struct numbered){ .item.run = take, .thread = *(unsigned *)argument, .number = i };
		queue_post(&queue, &numbered->item);
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	pthread_t threads[THREADS];
	unsigned numbers[THREADS];
	assert_int_equal(queue_init(&queue), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, post_all, &numbers[i]), 0);
	}
	while (total < ITEMS * THREADS) {
		struct pollfd readable = { .fd = queue.fd, .events = POLLIN };
		assert_int_equal(poll(&readable, 1, -1), 1);
		queue_run(&queue);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	queue_run(&queue); /* nothing left to announce */
	struct pollfd readable = { .fd = queue.fd, .events = POLLIN };
	assert_int_equal(poll(&readable, 1, 0), 0);
	queue_destroy(&queue);
}

static void post_again(struct queue_item *item)
{
	if (total++ == 0)
		queue_post(&queue, item);
}

/* What is posted meanwhile waits for the next call: a queue that feeds itself does not keep the event loop from its other work. */
static void test_repost(void **state)
{
	(void)state;
	struct queue_item item = { .run = post_again };
	total = 0;
	assert_int_equal(queue_init(&queue), 0);
	queue_post(&queue, &item);
	queue_run(&queue);
	assert_int_equal(total, 1);
	queue_run(&queue);
	assert_int_equal(total, 2);
	queue_destroy(&queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_threads), cmocka_unit_test(test_repost) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
