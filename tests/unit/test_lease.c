/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/lease.h"

static char folder[64];
static int releases;

static void count_release(void *argument)
{
	++*(int *)argument;
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_lease.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static void test_one_daemon(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int first, second = -7;
	char self[32];
	snprintf(self, sizeof(self), "process %d", (int)getpid());
	assert_int_equal(lease_take(folder, count_release, &releases, &first, &err), 0);
	assert_int_equal(lease_take(folder, count_release, &releases, &second, &err), -EBUSY);
	assert_non_null(strstr(err.message, self));
	assert_int_equal(second, -7);
	close(first);
	assert_int_equal(lease_take(folder, count_release, &releases, &second, &err), 0);
	close(second);
}

/* The lock of a daemon that was killed is held on by what it left behind: here by a child, until release() ends that. */
static pid_t leftover;

static void end_leftover(void *argument)
{
	++*(int *)argument;
	kill(leftover, SIGKILL);
	waitpid(leftover, NULL, 0);
}

static void test_dead_daemon(void **state)
{
	(void)state;
	int fds[2];
	assert_int_equal(pipe(fds), 0);
	pid_t daemon = fork();
	if (daemon == 0) {
		int lock;
		if (lease_take(folder, count_release, &releases, &lock, NULL) < 0)
			_exit(1);
		leftover = fork();
		if (leftover == 0) {
			close(fds[1]);
			for (;;)
				pause();
		}
		ssize_t ignored = write(fds[1], &leftover, sizeof(leftover));
		(void)ignored;
		_exit(0); /* a zombie from here on */
	}
	close(fds[1]);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	assert_int_equal(read(fds[0], &leftover, sizeof(leftover)), sizeof(leftover));
	char byte;
	assert_int_equal(read(fds[0], &byte, 1), 0); /* the daemon is dead, and not waited for */
	releases = 0;
	int lock;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(lease_take(folder, end_leftover, &releases, &lock, &err), 0);
	assert_int_equal(releases, 1);
	close(lock);
	waitpid(daemon, NULL, 0);
	close(fds[0]);
}

/* A process that holds a lease and does nothing until its pipe ends (or for ever). */
static pid_t worker(int *ret_pipe, bool stubborn)
{
	int lease, fds[2];
	assert_int_equal(lease_for_worker(folder, &lease), 0);
	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char byte;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(fds[1]);
		ssize_t ignored = read(fds[0], &byte, 1);
		(void)ignored;
		while (stubborn)
			pause();
		_exit(0);
	}
	close(lease);
	close(fds[0]);
	*ret_pipe = fds[1];
	return pid;
}

static void test_workers_end(void **state)
{
	(void)state;
	int one, two, status;
	assert_int_equal(lease_await_workers(folder, 0, NULL), 0);
	pid_t first = worker(&one, false), second = worker(&two, false);
	close(one);
	close(two);
	assert_int_equal(lease_await_workers(folder, 60000, NULL), 0);
	assert_int_equal(waitpid(first, &status, 0), first);
	assert_true(WIFEXITED(status)); /* it was waited for, not killed */
	assert_int_equal(waitpid(second, &status, 0), second);
	assert_true(WIFEXITED(status));
}

static void test_workers_stay(void **state)
{
	(void)state;
	int one, status;
	pid_t pid = worker(&one, true);
	close(one);
	assert_int_equal(lease_await_workers(folder, 0, NULL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = { TEST(test_one_daemon), TEST(test_dead_daemon), TEST(test_workers_end),
					    TEST(test_workers_stay) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
