/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/process.h"

/* A script in the worker's place. */
static void make_program(char *path, const char *text)
{
	strcpy(path, "/tmp/lunkit-process-XXXXXX");
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	assert_int_equal(fchmod(fd, 0700), 0);
	close(fd);
}

static void test_missing_program(void **state)
{
	(void)state;
	struct worker_config config = { .program = "/nonexistent/worker", .handlers = "/", .keep_fd = -1 };
	struct worker_process process;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(worker_spawn(&config, &process, &err), -ENOENT);
	assert_non_null(strstr(err.message, "/nonexistent/worker"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left */
}

static void test_what_the_worker_inherits(void **state)
{
	(void)state;
	char program[64], result[] = "/tmp/lunkit-result-XXXXXX", text[512];
	int result_fd = mkstemp(result);
	/* the environment, the arguments and the open descriptors as the worker sees them; 255 is the shell's own script. No pipeline: its
	 * pipes would be seen too. */
	snprintf(text, sizeof(text),
		 "#!/bin/bash\nexec > %s\necho args \"$@\"\nenv | grep -c SECRET\n"
		 "for fd in /proc/$$/fd/*; do [[ -e $fd && $fd != */255 ]] && printf '%%s ' ${fd##*/}; done; true\n",
		 result);
	make_program(program, text);
	int leaked = open("/dev/null", O_RDONLY); /* without close-on-exec */
	int keep = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	setenv("LUNKIT_SECRET", "x", 1);
	struct worker_config config = { .program = program, .handlers = "/handlers", .keep_fd = keep };
	struct worker_process process;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(worker_spawn(&config, &process, &err), 0);
	int status;
	assert_int_equal(worker_wait(&process, 20000, &status), 0);
	assert_int_equal(status, 0);
	worker_release(&process);
	ssize_t length = read(result_fd, text, sizeof(text) - 1);
	text[length > 0 ? length : 0] = '\0';
	assert_string_equal(text, "args --handlers /handlers\n0\n0 1 2 3 4 ");
	close(leaked);
	close(keep);
	close(result_fd);
	unlink(result);
	unlink(program);
}

static void test_a_worker_that_hangs_is_killed(void **state)
{
	(void)state;
	char program[64];
	make_program(program, "#!/bin/sh\nexec sleep 1000\n");
	struct worker_config config = { .program = program, .handlers = "/", .keep_fd = -1 };
	struct worker_process process;
	assert_int_equal(worker_spawn(&config, &process, NULL), 0);
	int status;
	assert_int_equal(worker_wait(&process, 50, &status), 0);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	worker_release(&process);
	unlink(program);
}

static void test_a_call_to_a_worker_that_dies(void **state)
{
	(void)state;
	char program[64];
	make_program(program, "#!/bin/sh\nexit 3\n");
	struct worker_config config = { .program = program, .handlers = "/", .keep_fd = -1 };
	struct worker_process process;
	assert_int_equal(worker_spawn(&config, &process, NULL), 0);
	static struct protocol_packet request, reply;
	request.message.type = PROTOCOL_DESCRIBE;
	struct opener_policy policy = { 0 };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(worker_call(&process, &policy, &request, &reply, NULL, NULL, &err), -EPIPE);
	assert_string_not_equal(err.message, "");
	int status;
	assert_int_equal(worker_wait(&process, 20000, &status), 0);
	assert_int_equal(WEXITSTATUS(status), 3);
	worker_release(&process);
	unlink(program);
}

/* What a worker says that has nothing to do with what it was asked. */
static int call_with_answer(uint32_t asked, const struct protocol_packet *answer)
{
	int sockets[2];
	static struct protocol_packet request, reply;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
	struct worker_process process = { .socket = sockets[0], .pidfd = -1 };
	struct opener_policy policy = { 0 };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	request.message.type = asked;
	request.message.id = 7;
	assert_int_equal(protocol_send(sockets[1], answer), 0);
	shutdown(sockets[1], SHUT_WR);
	int r = worker_call(&process, &policy, &request, &reply, NULL, NULL, &err);
	assert_true(r >= 0 || err.message[0]);
	close(sockets[0]);
	close(sockets[1]);
	return r;
}

static void test_answers_that_make_no_sense(void **state)
{
	(void)state;
	static struct protocol_packet ready, failed;
	ready.message.type = PROTOCOL_READY;
	assert_int_equal(call_with_answer(PROTOCOL_START_IMAGE, &ready), 0);
	assert_int_equal(call_with_answer(PROTOCOL_CREATE, &ready), 0);
	assert_int_equal(call_with_answer(PROTOCOL_INFO, &ready), -EPIPE); /* not taken for the reply */
	failed.message.type = PROTOCOL_FAILED;
	assert_int_equal(call_with_answer(PROTOCOL_CREATE, &failed), -EPROTO); /* failed with success */
	failed.message.result.result = 1;
	assert_int_equal(call_with_answer(PROTOCOL_CREATE, &failed), -EPROTO);
	failed.message.result.result = -ENOSPC;
	snprintf(failed.message.result.error.message, sizeof(failed.message.result.error.message), "full");
	assert_int_equal(call_with_answer(PROTOCOL_CREATE, &failed), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_program),
		cmocka_unit_test(test_what_the_worker_inherits),
		cmocka_unit_test(test_a_worker_that_hangs_is_killed),
		cmocka_unit_test(test_a_call_to_a_worker_that_dies),
		cmocka_unit_test(test_answers_that_make_no_sense),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
