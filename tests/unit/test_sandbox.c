/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each test enters the sandbox in a process of its own and says with its exit status what it could still do there. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/sandbox.h"

#if defined(__SANITIZE_ADDRESS__)
#define FILTERED 0
#else
#define FILTERED 1
#endif

#define NOBODY 65534u

static bool is_root(void)
{
	return geteuid() == 0;
}

/* Runs try() in the sandbox and returns what it did. */
static int in_profile(bool network, int (*try)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		uint32_t user = is_root() ? NOBODY : (uint32_t)-1;
		if (sandbox_enter(user, user, network, &err) < 0) {
			fprintf(stderr, "%s\n", err.message);
			_exit(99);
		}
		_exit(try());
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int in_sandbox(int (*try)(void))
{
	return in_profile(false, try);
}

/* 0 when a call failed with EPERM or EACCES, as it should */
static int refused(long result)
{
	return result < 0 && (errno == EPERM || errno == EACCES) ? 0 : 1;
}

static int try_open(void)
{
	return refused(open("/etc/hostname", O_RDONLY));
}
static int try_socket(void)
{
	return refused(socket(AF_INET, SOCK_STREAM, 0));
}
static int try_exec(void)
{
	execl("/bin/true", "true", (char *)NULL);
	return refused(-1);
}
static int try_fork(void)
{
	return refused(fork());
}
static int try_kill(void)
{
	return refused(kill(getppid(), 0));
}
static int try_signal_another(void)
{
	return refused(syscall(SYS_tgkill, getppid(), getppid(), 0));
}
static int try_signal_by_descriptor(void)
{
	return refused(fcntl(2, F_SETOWN, getppid()));
}
static int try_ptrace(void)
{
	return refused(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
}
static int try_executable_memory(void)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return refused(map == MAP_FAILED ? -1 : 0);
}
static int try_io_uring_setup(void)
{
	char params[256] = { 0 };
	return refused(syscall(SYS_io_uring_setup, 1, params));
}
static int try_terminal_ioctl(void)
{
	return refused(ioctl(2, 0x5412 /* TIOCSTI: types into the terminal */, "x"));
}

/* What a handler's network library does. */
static int try_connect(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), pipes[2];
	if (fd < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 || epoll_create1(0) < 0 || pipe2(pipes, O_CLOEXEC) < 0)
		return 1;
	connect(fd, (struct sockaddr *)&address, sizeof(address));
	return errno == ECONNREFUSED || errno == EINPROGRESS ? 0 : 1;
}
static int try_bind(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	return refused(bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof(address)));
}
static int try_unix_socket(void)
{
	return refused(socket(AF_UNIX, SOCK_STREAM, 0));
}
static int try_datagrams(void)
{
	return refused(socket(AF_INET, SOCK_DGRAM, 0));
}
static int try_append_flag(void)
{
	return refused(fcntl(2, F_SETFL, O_APPEND));
}

static void test_the_network_profile(void **state)
{
	(void)state;
	if (!FILTERED)
		skip();
	assert_int_equal(in_profile(true, try_connect), 0);
	assert_int_equal(in_profile(true, try_bind), 0);
	assert_int_equal(in_profile(true, try_unix_socket), 0);
	assert_int_equal(in_profile(true, try_datagrams), 0);
	assert_int_equal(in_profile(true, try_append_flag), 0);
	assert_int_equal(in_profile(true, try_open), 0);
	assert_int_equal(in_profile(true, try_exec), 0);
	assert_int_equal(in_profile(true, try_fork), 0);
	assert_int_equal(in_profile(true, try_kill), 0);
	assert_int_equal(in_profile(true, try_executable_memory), 0);
	assert_int_equal(in_profile(true, try_io_uring_setup), 0);
}

static void test_what_is_forbidden(void **state)
{
	(void)state;
	if (!FILTERED)
		skip();
	assert_int_equal(in_sandbox(try_open), 0);
	assert_int_equal(in_sandbox(try_socket), 0);
	assert_int_equal(in_sandbox(try_exec), 0);
	assert_int_equal(in_sandbox(try_fork), 0);
	assert_int_equal(in_sandbox(try_kill), 0);
	assert_int_equal(in_sandbox(try_signal_another), 0);
	assert_int_equal(in_sandbox(try_signal_by_descriptor), 0);
	assert_int_equal(in_sandbox(try_ptrace), 0);
	assert_int_equal(in_sandbox(try_executable_memory), 0);
	assert_int_equal(in_sandbox(try_io_uring_setup), 0);
	assert_int_equal(in_sandbox(try_terminal_ioctl), 0);
}

static void *thread_main(void *argument)
{
	*(int *)argument = 1;
	return NULL;
}

static int try_thread(void)
{
	pthread_t thread;
	int ran = 0;
	if (pthread_create(&thread, NULL, thread_main, &ran) != 0)
		return 1;
	pthread_join(thread, NULL);
	char *memory = malloc(64 << 20);
	if (!memory)
		return 2;
	memset(memory, 1, 64 << 20);
	free(memory);
	return ran ? 0 : 3;
}

static int try_own_signal(void)
{
	return syscall(SYS_tgkill, getpid(), gettid(), 0) < 0;
}

static int try_lock(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
	return fcntl(3, F_OFD_GETLK, &lock) < 0 && errno == EPERM;
}

static int try_rights(void)
{
	return is_root() ? 1 : 0;
}

static void test_what_is_left(void **state)
{
	(void)state;
	assert_int_equal(in_sandbox(try_thread), 0);
	assert_int_equal(in_sandbox(try_own_signal), 0);
	assert_int_equal(in_sandbox(try_lock), 0);
	if (is_root())
		assert_int_equal(in_sandbox(try_rights), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_forbidden),
		cmocka_unit_test(test_the_network_profile),
		cmocka_unit_test(test_what_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
