/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Standard descriptors that are closed are not given to what is opened next, and stay as useless as they were. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/stdio.h"

/* Runs in a child, which has no other way to say what is wrong than its exit status. */
static int closed(unsigned which)
{
	char byte = 0;
	for (int fd = 0; fd < 3; fd++)
		if (which & 1u << fd)
			close(fd);
	stdio_fill();
	int next = open("/dev/null", O_RDWR);
	if (next < 3)
		return 1;
	for (int fd = 0; fd < 3; fd++) {
		if (!(which & 1u << fd))
			continue;
		ssize_t n = fd == 0 ? read(fd, &byte, 1) : write(fd, &byte, 1);
		if (n >= 0 || errno != EBADF)
			return 2;
	}
	return 0;
}

static void test_fill(void **state)
{
	(void)state;
	for (unsigned which = 0; which < 8; which++) {
		int status;
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(closed(which));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_fill) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
