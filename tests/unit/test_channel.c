/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lunkitd's end of a worker against workers that behave and workers that do not: this program itself, started as one, told by --handlers what to play. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/channel.h"

#define SOCKET 3

/* ---- the workers */

static struct protocol_packet packet;

static void tell(enum protocol_type type, uint32_t id)
{
	memset(&packet.message, 0, sizeof(packet.message));
	packet.message.type = type;
	packet.message.id = id;
	packet.fd_count = 0;
	if (protocol_send(SOCKET, &packet) < 0)
		_exit(9);
}

static int hear(void)
{
	int r = protocol_receive(SOCKET, &packet);
	if (r <= 0)
		_exit(r < 0 ? 8 : 0);
	return (int)packet.message.type;
}

static void play_good(void)
{
	hear();
	tell(PROTOCOL_READY, 0);
	for (;;) {
		switch (hear()) {
		case PROTOCOL_INFO:
			tell(PROTOCOL_REPLY, packet.message.id);
			break;
		case PROTOCOL_DRAIN:
			_exit(0);
		}
	}
}

static void play_failing(void)
{
	hear();
	memset(&packet.message, 0, sizeof(packet.message));
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, EAGAIN, "it is locked");
	protocol_set_result(&packet.message, PROTOCOL_FAILED, 0, -EAGAIN, &err);
	protocol_send(SOCKET, &packet);
	_exit(1);
}

static void play_opening(const char *path)
{
	hear();
	memset(&packet.message, 0, sizeof(packet.message));
	packet.message.type = PROTOCOL_OPEN;
	snprintf(packet.message.open.path, sizeof(packet.message.open.path), "%s", path);
	protocol_send(SOCKET, &packet);
	if (hear() != PROTOCOL_ANSWER)
		_exit(7);
	_exit(packet.message.result.result == 0 && packet.fd_count == 1 ? 40 : packet.message.result.result == -EACCES ? 41 : 42);
}

/* Says what it has to say and leaves at once. */
static void play_brief(void)
{
	hear();
	tell(PROTOCOL_REPLY, packet.message.id);
	_exit(0);
}

/* A job that goes on until it is cancelled. */
static void play_job(void)
{
	hear();
	tell(PROTOCOL_READY, 0);
	if (hear() != PROTOCOL_JOB || packet.fd_count != 1)
		_exit(7);
	uint32_t id = packet.message.id;
	tell(PROTOCOL_PROGRESS, id + 1); /* nobody's */
	tell(PROTOCOL_PROGRESS, id);
	if (hear() != PROTOCOL_JOB_RATE || packet.message.id != id || packet.message.job.rate != 5)
		_exit(8);
	if (hear() != PROTOCOL_JOB_CANCEL || packet.message.id != id)
		_exit(9);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, ECANCELED, "cancelled");
	protocol_set_result(&packet.message, PROTOCOL_REPLY, id, -ECANCELED, &err);
	packet.fd_count = 0;
	protocol_send(SOCKET, &packet);
	hear();
	_exit(0);
}

static int play(const char *role)
{
	if (strcmp(role, "job") == 0)
		play_job();
	if (strcmp(role, "brief") == 0)
		play_brief();
	if (strcmp(role, "good") == 0)
		play_good();
	if (strcmp(role, "failing") == 0)
		play_failing();
	if (strcmp(role, "open-right") == 0)
		play_opening("/etc/passwd");
	if (strcmp(role, "open-wrong") == 0)
		play_opening("/usr/bin/env");
	if (strcmp(role, "open-sibling") == 0)
		play_opening("/etc/group");
	hear();
	if (strcmp(role, "modes") == 0) {
		memset(&packet.message, 0, sizeof(packet.message));
		packet.message.type = PROTOCOL_MODES;
		packet.message.modes.modes = 0x5a;
		protocol_send(SOCKET, &packet);
		memset(&packet.message, 0, sizeof(packet.message));
		packet.message.type = PROTOCOL_MEMO;
		strcpy(packet.message.memo.text, "mine");
		protocol_send(SOCKET, &packet);
		_exit(44);
	}
	if (strcmp(role, "dying") == 0)
		raise(SIGKILL);
	if (strcmp(role, "garbage") == 0) {
		ssize_t ignored = send(SOCKET, "nonsense, and rather long", 25, 0);
		(void)ignored;
	}
	if (strcmp(role, "forger") == 0)
		tell(PROTOCOL_ANSWER, 1);
	if (strcmp(role, "noisy") == 0)
		for (;;)
			tell(PROTOCOL_NOTICE, 0);
	if (strcmp(role, "asker") == 0) {
		for (unsigned i = 0; i < 1000 + 32; i++) { /* more at once than it gets answers for */
			if (i < 1000)
				tell(PROTOCOL_ASK, i);
			if (i >= 32)
				hear();
		}
		_exit(43);
	}
	if (strcmp(role, "two-files") == 0)
		for (;;)
			tell(PROTOCOL_OPEN, 0);
	if (strcmp(role, "closing") == 0)
		close(SOCKET);
	for (;;)
		pause();
}

/* ---- the tests */

static struct {
	sd_event *event;
	struct queue queue;
	struct tasks *tasks;
	struct channel *channel;
	unsigned count, readies, replies, asks, unanswered;
	bool drain_when_ready, call_when_ready, ended;
	int call_error;
	uint32_t modes;
	char memo[PROTOCOL_MEMO_MAX];
	struct lunkit_error failure;
} test;

static char folder[64];

static int on_queue(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source;
	(void)fd;
	(void)events;
	(void)userdata;
	queue_run(&test.queue);
	return 0;
}

static int group_setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_channel.XXXXXX");
	if (!mkdtemp(folder) || sd_event_new(&test.event) < 0 || queue_init(&test.queue) < 0 || tasks_new(&test.queue, 2, &test.tasks) < 0)
		return -1;
	return sd_event_add_io(test.event, NULL, test.queue.fd, EPOLLIN, on_queue, NULL) < 0 ? -1 : 0;
}

static int group_teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	sd_event_unref(test.event);
	return system(command);
}

static void on_reply(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	(void)argument;
	if (reply)
		test.replies++;
	else
		test.call_error = err->code;
	if (reply)
		channel_drain(test.channel, 60);
}

static void call_info(void)
{
	struct protocol_packet request = { .fds = { -1, -1, -1 } };
	request.message.type = PROTOCOL_INFO;
	channel_call(test.channel, &request, 60, on_reply, NULL);
}

static void on_ready(void *argument, const struct protocol_ready *ready)
{
	(void)argument;
	(void)ready;
	test.readies++;
	if (test.call_when_ready)
		call_info();
	if (test.drain_when_ready)
		channel_drain(test.channel, 60);
}

/* Answers come late, all at once, when as many are asked as may be. */
static void on_ask(void *argument, uint32_t id, const struct protocol_query *query)
{
	(void)argument;
	(void)query;
	test.asks++;
	if (++test.unanswered > 16)
		abort(); /* it read on although nothing was answered */
	if (test.unanswered < 8 && test.asks < 1000)
		return;
	for (; test.unanswered; test.unanswered--)
		channel_answer(test.channel, id, 0, NULL, 0);
}

static void on_memo(void *argument, const char *text)
{
	(void)argument;
	strcpy(test.memo, text);
}

static void on_modes(void *argument, uint32_t modes)
{
	(void)argument;
	test.modes = modes;
}

static void on_ended(void *argument, const struct lunkit_error *failure)
{
	(void)argument;
	test.failure = *failure;
	test.ended = true;
	channel_free(test.channel);
	test.channel = NULL;
}

static void start(const char *role)
{
	test.readies = test.replies = test.asks = test.unanswered = 0;
	test.ended = false;
	test.call_error = 0;
	struct worker_config worker = { .program = "/proc/self/exe", .handlers = role, .keep_fd = -1 };
	struct channel_config config = {
		.event = test.event,
		.tasks = test.tasks,
		.worker = &worker,
		.runtime_directory = folder,
		.label = role,
		.path = "/etc/passwd",
		.count = &test.count,
		.ready = on_ready,
		.ask = on_ask,
		.modes = on_modes,
		.memo = on_memo,
		.ended = on_ended,
	};
	assert_int_equal(channel_new(&config, &test.channel, NULL), 0);
	assert_int_equal(test.count, 1);
	struct protocol_packet request = { .fds = { -1, -1, -1 } };
	request.message.type = PROTOCOL_START_IMAGE;
	channel_start(test.channel, &request, strcmp(role, "silent") == 0 ? 0 : 60);
}

static void run(void)
{
	while (!test.ended)
		assert_true(sd_event_run(test.event, UINT64_MAX) >= 0);
	assert_int_equal(test.count, 0);
}

static void play_out(const char *role)
{
	start(role);
	run();
}

static void test_good(void **state)
{
	(void)state;
	test.drain_when_ready = true;
	play_out("good");
	test.drain_when_ready = false;
	assert_int_equal(test.readies, 1);
	assert_int_equal(test.failure.code, 0);
	test.call_when_ready = true;
	play_out("good");
	test.call_when_ready = false;
	assert_int_equal(test.replies, 1);
	assert_int_equal(test.failure.code, 0);
}

static void on_brief_reply(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	(void)argument;
	(void)err;
	assert_non_null(reply);
	test.replies++;
	channel_free(test.channel);
	test.channel = NULL;
}

/* The answer counts although its sender is gone when it is read: the process's end is looked at first here. */
static void test_brief(void **state)
{
	(void)state;
	struct worker_config worker = { .program = "/proc/self/exe", .handlers = "brief", .keep_fd = -1 };
	struct channel_config config = { .event = test.event,
					 .tasks = test.tasks,
					 .worker = &worker,
					 .runtime_directory = folder,
					 .label = "brief",
					 .count = &test.count,
					 .ended = on_ended };
	struct protocol_packet request = { .fds = { -1, -1, -1 } };
	test.replies = 0;
	test.ended = false;
	assert_int_equal(channel_new(&config, &test.channel, NULL), 0);
	request.message.type = PROTOCOL_DESCRIBE;
	channel_call(test.channel, &request, 60, on_brief_reply, NULL);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)channel_pid(test.channel), &info, WEXITED | WNOWAIT), 0);
	while (test.count)
		assert_true(sd_event_run(test.event, UINT64_MAX) >= 0);
	assert_int_equal(test.replies, 1);
	assert_false(test.ended);
}

static void test_failing(void **state)
{
	(void)state;
	play_out("failing");
	assert_int_equal(test.readies, 0);
	assert_int_equal(test.failure.code, EAGAIN);
	assert_string_equal(test.failure.message, "it is locked");
}

static void test_dying(void **state)
{
	(void)state;
	start("dying");
	call_info(); /* must not be forgotten */
	run();
	assert_int_not_equal(test.call_error, 0);
	assert_non_null(strstr(test.failure.message, "signal 9"));
}

static void test_silent(void **state)
{
	(void)state;
	play_out("silent");
	assert_non_null(strstr(test.failure.message, "ready in time"));
}

static void test_hostile(void **state)
{
	(void)state;
	play_out("garbage");
	assert_non_null(strstr(test.failure.message, "no sense"));
	play_out("forger");
	assert_non_null(strstr(test.failure.message, "not its to send"));
	play_out("noisy");
	assert_non_null(strstr(test.failure.message, "notices without end"));
	play_out("two-files");
	assert_int_not_equal(test.failure.code, 0);
}

static void test_asker(void **state)
{
	(void)state;
	play_out("asker");
	assert_int_equal(test.asks, 1000);
	assert_non_null(strstr(test.failure.message, "status 43"));
}

static void test_files(void **state)
{
	(void)state;
	play_out("open-right");
	assert_non_null(strstr(test.failure.message, "status 40"));
	play_out("open-wrong");
	assert_string_equal(test.failure.message, "the worker ended unexpectedly with status 41");
	play_out("open-sibling"); /* the image's neighbours are another tenant's */
	assert_string_equal(test.failure.message, "the worker ended unexpectedly with status 41");
}

static uint32_t job;

static void on_job_progress(void *argument, uint64_t done, uint64_t total)
{
	assert_ptr_equal(argument, &job);
	assert_int_equal(done, 0);
	assert_int_equal(total, 0);
	test.asks++;
	channel_job_rate(test.channel, job, 5);
	channel_job_cancel(test.channel, job);
}

static void on_job_done(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	assert_ptr_equal(argument, &job);
	if (reply)
		test.replies++;
	test.call_error = reply ? reply->error.code : err->code;
	if (reply)
		channel_drain(test.channel, 60);
}

static void start_job(const char *role)
{
	struct protocol_packet request = { .fds = { STDIN_FILENO, -1, -1 }, .fd_count = 1 };
	start(role);
	request.message.type = PROTOCOL_JOB;
	request.message.job.kind = PROTOCOL_JOB_FLATTEN;
	job = channel_job(test.channel, &request, on_job_progress, on_job_done, &job);
	run();
}

static void test_job(void **state)
{
	(void)state;
	start_job("job");
	assert_int_equal(test.asks, 1);
	assert_int_equal(test.replies, 1);
	assert_int_equal(test.call_error, ECANCELED);
	/* a worker that dies ends it */
	start_job("dying");
	assert_int_equal(test.replies, 0);
	assert_int_not_equal(test.call_error, 0);
}

static void test_modes(void **state)
{
	(void)state;
	play_out("modes");
	assert_int_equal(test.modes, 0x5a);
	assert_string_equal(test.memo, "mine");
}

/* Freed while it lives: its worker is killed and reaped, and nobody is told. */
static void test_freed(void **state)
{
	(void)state;
	start("good");
	channel_free(test.channel);
	test.channel = NULL;
	while (test.count)
		assert_true(sd_event_run(test.event, UINT64_MAX) >= 0);
	assert_false(test.ended);
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--handlers") == 0)
		return play(argv[2]);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),	cmocka_unit_test(test_failing), cmocka_unit_test(test_dying), cmocka_unit_test(test_silent),
		cmocka_unit_test(test_hostile), cmocka_unit_test(test_asker),	cmocka_unit_test(test_files), cmocka_unit_test(test_freed),
		cmocka_unit_test(test_brief),	cmocka_unit_test(test_modes),	cmocka_unit_test(test_job),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
