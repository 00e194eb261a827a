/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

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

static void a_wake_up_takes_time(void **state)
{
	(void)state;
	/* A system call at the least; no bound above, which would be a matter of load. */
	assert_true(wakeup_measure_ns() > 100);
}

static void nothing_is_left(void **state)
{
	(void)state;
	unsigned files = count_in("/proc/self/fd"), threads = count_in("/proc/self/task");
	for (int i = 0; i < 3; i++)
		wakeup_measure_ns();
	assert_int_equal(count_in("/proc/self/fd"), files);
	assert_int_equal(count_in("/proc/self/task"), threads);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_wake_up_takes_time),
		cmocka_unit_test(nothing_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
