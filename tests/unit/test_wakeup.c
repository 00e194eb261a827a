/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "io/wakeup.h"

static unsigned count_in(const char *path)
{
	DIR *directory = opendir(path);
	unsigned count = 0;
	assert_non_null(directory);
	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* A joined thread leaves the list of tasks a moment after the join returns. */
static void assert_settles_at(const char *path, unsigned expected)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	for (unsigned tries = 0; tries < 10000 && count_in(path) != expected; tries++)
		nanosleep(&pause, NULL);
	assert_int_equal(count_in(path), expected);
}

static void a_wake_up_takes_time(void **state)
{
	(void)state;
	/* A system call at the least; no bound above, which would be a matter of load. */
	assert_true(wakeup_measure_ns() > 100);
}

static void nothing_is_left(void **state)
{
	(void)state;
	/* This program has one thread; the test before may have left one on its way out. */
	const unsigned threads = 3;
	assert_settles_at("/proc/self/task", threads);
	unsigned files = count_in("/proc/self/fd");
	for (int i = 0; i < 3; i++)
		wakeup_measure_ns();
	assert_int_equal(count_in("/proc/self/fd"), files);
	assert_settles_at("/proc/self/task", threads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wake_up_takes_time),
		cmocka_unit_test(nothing_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
