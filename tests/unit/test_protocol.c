/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/protocol.h"

static int sockets[2];
static struct protocol_packet out, in;

static int setup(void **state)
{
	(void)state;
	memset(&out, 0, sizeof(out));
	memset(&in, 0xee, sizeof(in));
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets);
}

static int teardown(void **state)
{
	(void)state;
	close(sockets[0]);
	close(sockets[1]);
	return 0;
}

static void test_start_arrives_with_its_descriptors(void **state)
{
	(void)state;
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	out.message.type = PROTOCOL_START_LUN;
	out.message.id = 7;
	strcpy(out.message.start.kind, "raw");
	strcpy(out.message.start.name, "/a/b");
	out.message.start.ring_length = 1 << 20;
	out.fds[0] = pipes[0];
	out.fds[1] = pipes[1];
	out.fd_count = 2;
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
	assert_int_equal(in.message.id, 7);
	assert_string_equal(in.message.start.name, "/a/b");
	assert_int_equal(in.message.start.ring_length, 1 << 20);
	assert_int_equal(in.fd_count, 2);
	assert_true(fcntl(in.fds[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(in.fds[1], "x", 1), 1);
	char byte;
	assert_int_equal(read(pipes[0], &byte, 1), 1);
	protocol_close_fds(&in);
	assert_int_equal(in.fds[0], -1);
	close(pipes[0]);
	close(pipes[1]);
}

static void test_result_carries_error_and_text(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, ENOENT, "no such thing");
	lunkit_error_hint(&err, "make one");
	protocol_set_result(&out.message, PROTOCOL_REPLY, 3, -ENOENT, &err);
	strcpy(out.message.result.text, "{}");
	out.message.result.text_length = 3;
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
	assert_int_equal(in.message.result.result, -ENOENT);
	assert_string_equal(in.message.result.error.hint, "make one");
	assert_string_equal(in.message.result.text, "{}");
	protocol_set_result(&out.message, PROTOCOL_REPLY, 3, -EIO, NULL); /* never a failure without a reason */
	assert_string_not_equal(out.message.result.error.message, "");
}

static void test_modes_pass(void **state)
{
	(void)state;
	out.message.type = PROTOCOL_MODES;
	out.message.modes.modes = 0x12345678;
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
	assert_int_equal(in.message.modes.modes, 0x12345678);
}

static void test_memos_pass(void **state)
{
	(void)state;
	out.message.type = PROTOCOL_MEMO;
	strcpy(out.message.memo.text, "192.0.2.1:0/17");
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
	assert_string_equal(in.message.memo.text, "192.0.2.1:0/17");
	memset(out.message.memo.text, 'x', sizeof(out.message.memo.text));
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), -EPROTO);
	out.message.type = PROTOCOL_SIZE_CHANGED;
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
}

static void test_jobs_pass(void **state)
{
	(void)state;
	out.message.type = PROTOCOL_JOB;
	out.message.id = 7;
	out.message.job.kind = PROTOCOL_JOB_EXPORT;
	out.message.job.rate = UINT64_MAX;
	strcpy(out.message.job.target, "/target");
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
	assert_int_equal(in.message.id, 7);
	assert_true(in.message.job.rate == UINT64_MAX);
	assert_string_equal(in.message.job.target, "/target");
	/* strings that don't end */
	memset(out.message.job.name, 'x', sizeof(out.message.job.name));
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), -EPROTO);
}

static void test_end_and_empty(void **state)
{
	(void)state;
	assert_int_equal(protocol_receive(sockets[1], &in), -EAGAIN);
	close(sockets[0]);
	assert_int_equal(protocol_receive(sockets[1], &in), 0);
	out.message.type = PROTOCOL_DRAIN;
	assert_int_equal(protocol_send(sockets[1], &out), -EPIPE);
	sockets[0] = -1;
}

static void assert_refused(const void *bytes, size_t size)
{
	assert_int_equal(send(sockets[0], bytes, size, 0), (ssize_t)size);
	assert_int_equal(protocol_receive(sockets[1], &in), -EPROTO);
	assert_int_equal(in.fd_count, 0);
}

static void test_hostile_packets(void **state)
{
	(void)state;
	struct protocol_message message;
	memset(&message, 'x', sizeof(message));
	assert_refused(&message, 1);
	message.type = 9999;
	assert_refused(&message, sizeof(message));
	message.type = PROTOCOL_OPEN; /* a path without an end */
	assert_refused(&message, offsetof(struct protocol_message, open) + sizeof(message.open));
	message.type = PROTOCOL_START_LUN; /* strings without an end */
	assert_refused(&message, offsetof(struct protocol_message, start) + sizeof(message.start));
	message.type = PROTOCOL_READY;
	assert_refused(&message, offsetof(struct protocol_message, ready) + sizeof(message.ready));
	assert_refused(&message, offsetof(struct protocol_message, ready) + sizeof(message.ready) - 1);
	memset(&message.result, 0, sizeof(message.result));
	message.type = PROTOCOL_REPLY; /* the text is longer than the packet, and than a message */
	message.result.text_length = UINT32_MAX;
	assert_refused(&message, sizeof(message));
	message.result.text_length = 4; /* the text does not end */
	memcpy(message.result.text, "abcd", 4);
	assert_refused(&message, offsetof(struct protocol_message, result) + offsetof(struct protocol_result, text) + 4);
	message.type = PROTOCOL_ASK;
	message.query.length = PROTOCOL_QUERY_MAX + 1;
	assert_refused(&message, offsetof(struct protocol_message, query) + sizeof(message.query));
}

static void test_a_short_packet_is_not_taken_for_the_one_before(void **state)
{
	(void)state;
	out.message.type = PROTOCOL_DRAIN;
	assert_int_equal(protocol_send(sockets[0], &out), 0);
	assert_int_equal(protocol_receive(sockets[1], &in), 1);
	uint32_t half = PROTOCOL_DRAIN;
	assert_refused(&half, sizeof(half));
}

static void test_surplus_descriptors_are_closed(void **state)
{
	(void)state;
	int fds[PROTOCOL_FDS_MAX + 2];
	for (size_t i = 0; i < PROTOCOL_FDS_MAX + 2; i++)
		fds[i] = open("/dev/null", O_RDONLY);
	struct protocol_message message = { .type = PROTOCOL_DRAIN };
	struct iovec iov = { &message, offsetof(struct protocol_message, start) };
	char control[CMSG_SPACE(sizeof(fds))] = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(rights), fds, sizeof(fds));
	assert_true(sendmsg(sockets[0], &header, 0) > 0);
	int before = dup(0);
	close(before);
	assert_int_equal(protocol_receive(sockets[1], &in), -EPROTO);
	int after = dup(0);
	close(after);
	assert_int_equal(before, after);
	for (size_t i = 0; i < PROTOCOL_FDS_MAX + 2; i++)
		close(fds[i]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_start_arrives_with_its_descriptors),
		TEST(test_result_carries_error_and_text),
		TEST(test_modes_pass),
		TEST(test_memos_pass),
		TEST(test_jobs_pass),
		TEST(test_end_and_empty),
		TEST(test_hostile_packets),
		TEST(test_a_short_packet_is_not_taken_for_the_one_before),
		TEST(test_surplus_descriptors_are_closed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
