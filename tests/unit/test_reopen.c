/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Paths of open descriptors, and no others. In a build without sanitizers also through the sandbox's trap, in a process of its own. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/reopen.h"
#include "worker/sandbox.h"

static void test_paths(void **state)
{
	(void)state;
	char path[40];
	int fd = memfd_create("test", 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = reopen_path(path);
	assert_true(again >= 0 && again != fd);
	assert_true(fcntl(again, F_GETFD) & FD_CLOEXEC);
	close(again);
	close(fd);
	assert_int_equal(reopen_path(path), -EBADF);
	static const char *const others[] = {
		"",
		"/",
		"/etc/passwd",
		"/proc/self/fd/",
		"/proc/self/fd/-1",
		"/proc/self/fd/1x",
		"/proc/self/fd/1/..",
		"/proc/self/fd/../environ",
		"/proc/self/mem",
		"/proc/self/fd/99999999999999999999",
	};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(reopen_path(others[i]), -EPERM);
}

#if !defined(__SANITIZE_ADDRESS__)
static int try_in_sandbox(void)
{
	char path[40], byte = 0;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int fd = memfd_create("test", 0);
	if (write(fd, "x", 1) != 1 || sandbox_enter((uint32_t)-1, (uint32_t)-1, false, &err) < 0)
		return 1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int again = open(path, O_RDWR | O_DIRECT);
	if (again < 0 || pread(again, &byte, 1, 0) != 1 || byte != 'x')
		return 2;
	errno = 0;
	if (open("/etc/hostname", O_RDONLY) >= 0 || errno != EPERM)
		return 3;
	return 0;
}

static void test_in_the_sandbox(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0)
		_exit(try_in_sandbox());
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_paths),
#if !defined(__SANITIZE_ADDRESS__)
		cmocka_unit_test(test_in_the_sandbox),
#endif
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
