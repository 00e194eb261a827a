/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/task.h"

#define TASKS 100
#define THREADS 3

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned running, most, finished;
static pthread_t main_thread;
static struct task tasks_memory[TASKS];

static void work(struct task *task)
{
	(void)task;
	assert_false(pthread_equal(pthread_self(), main_thread));
	pthread_mutex_lock(&lock);
	if (++running > most)
		most = running;
	pthread_mutex_unlock(&lock);
	sched_yield();
	pthread_mutex_lock(&lock);
	running--;
	pthread_mutex_unlock(&lock);
}

static void done(struct task *task)
{
	(void)task;
	assert_true(pthread_equal(pthread_self(), main_thread));
	finished++;
}

static void test_pool(void **state)
{
	(void)state;
	struct queue queue;
	struct tasks *tasks;
	main_thread = pthread_self();
	assert_int_equal(queue_init(&queue), 0);
	assert_int_equal(tasks_new(&queue, THREADS, &tasks), 0);
	for (unsigned i = 0; i < TASKS; i++) {
		tasks_memory[i] = (struct task){ .work = work, .done = done };
		tasks_start(tasks, &tasks_memory[i]);
	}
	assert_int_equal(tasks_pending(tasks), TASKS);
	while (finished < TASKS) {
		struct pollfd readable = { .fd = queue.fd, .events = POLLIN };
		assert_int_equal(poll(&readable, 1, -1), 1);
		queue_run(&queue);
		assert_int_equal(tasks_pending(tasks), TASKS - finished);
	}
	assert_true(most >= 1 && most <= THREADS);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pool) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
