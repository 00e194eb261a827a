/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Jobs of a real lunkit-worker that serves a disk at the same time, with a stand-in for the kernel: an export shows one moment of what is written meanwhile, jobs keep out of
 * each other's way, and end in order when they are cancelled or the worker has to leave.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "standin/worker.h"

#define BLOCK 512u
#define PIECE (64u << 10) /* bytes a write */
#define PIECES 256u
#define SIZE ((uint64_t)PIECE * PIECES)
#define PATIENCE_MS 60000

static struct {
	char path[256], target[300];
	struct standin standin;
	struct standin_worker worker;
	struct standin_command command;
	char data[PIECE];
	bool done;
	struct protocol_packet packet, reply;
	uint32_t progress_id;
	uint64_t progress_done;
} test;

static void create_image(void)
{
	struct worker_config config;
	struct worker_process process;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	bool created = false;
	struct opener_policy policy = { .path = test.path, .may_write = true, .may_create = true, .ret_created = &created };
	worker_config_default(&config);
	config.keep_fd = -1;
	if (worker_spawn(&config, &process, &err) < 0)
		fail_msg("%s", err.message);
	memset(&test.packet, 0, sizeof(test.packet));
	struct protocol_start *start = &test.packet.message.start;
	test.packet.message.type = PROTOCOL_CREATE;
	strcpy(start->kind, "qcow2");
	strcpy(start->name, test.path);
	start->size = SIZE;
	start->uid = start->gid = (uint32_t)-1;
	if (worker_call(&process, &policy, &test.packet, &test.reply, NULL, NULL, &err) < 0)
		fail_msg("%s", err.message);
	int status;
	worker_wait(&process, PATIENCE_MS, &status);
	worker_release(&process);
	assert_int_equal(status, 0);
}

static int set_up(void **state)
{
	(void)state;
	const char *folder = getenv("TMPDIR");
	memset(&test, 0, sizeof(test));
	snprintf(test.path, sizeof(test.path), "%s/lunkit-jobs-%d.qcow2", folder ? folder : "/tmp", (int)getpid());
	snprintf(test.target, sizeof(test.target), "%s.export", test.path);
	create_image();
	standin_new(&test.standin, &(struct standin_config){ 0 });
	struct standin_image image = { .kind = "qcow2", .name = test.path, .write_cache = true, .block_size = BLOCK };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (standin_worker_start(&test.worker, &test.standin, &image, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(test.worker.size, SIZE);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (test.worker.process.pid > 0 && test.worker.process.socket > 0)
		standin_worker_kill(&test.worker);
	standin_free(&test.standin);
	unlink(test.path);
	unlink(test.target);
	return 0;
}

/* ---- the disk: one command at a time ---- */

static void command_done(struct standin_command *command)
{
	assert_int_equal(command->status, 0);
	test.done = true;
}

static void start_write(unsigned piece, int byte)
{
	memset(test.data, byte, PIECE);
	standin_write16(&test.command, (uint64_t)piece * (PIECE / BLOCK), PIECE / BLOCK, BLOCK, test.data, false);
	test.command.done = command_done;
	test.done = false;
	assert_int_equal(standin_submit(&test.standin, &test.command), 0);
}

/* ---- messages ---- */

/* What the worker says while nothing else is waited for: true when test.reply is the REPLY to id. */
static bool hear(uint32_t id, int timeout_ms)
{
	struct pollfd ready = { .fd = test.worker.process.socket, .events = POLLIN };
	if (poll(&ready, 1, timeout_ms) <= 0)
		return false;
	int r = protocol_receive(test.worker.process.socket, &test.reply);
	assert_int_equal(r, 1);
	switch ((enum protocol_type)test.reply.message.type) {
	case PROTOCOL_OPEN:
		opener_answer(&test.worker.policy, test.worker.process.socket, &test.reply);
		return false;
	case PROTOCOL_PROGRESS:
		test.progress_id = test.reply.message.id;
		test.progress_done = test.reply.message.progress.done;
		return false;
	case PROTOCOL_REPLY:
		return test.reply.message.id == id;
	default:
		return false;
	}
}

static int wait_reply(uint32_t id)
{
	for (int waited = 0; !hear(id, 10); waited += 10)
		if (waited > PATIENCE_MS)
			fail_msg("no answer to %u", id);
	return test.reply.message.result.result;
}

static struct protocol_job *new_job(uint32_t id, enum protocol_job_kind kind)
{
	memset(&test.packet, 0, sizeof(test.packet));
	for (unsigned i = 0; i < PROTOCOL_FDS_MAX; i++)
		test.packet.fds[i] = -1;
	test.packet.message.type = PROTOCOL_JOB;
	test.packet.message.id = id;
	test.packet.message.job.kind = kind;
	return &test.packet.message.job;
}

static void send_job(int fd)
{
	if (fd >= 0) {
		test.packet.fds[0] = fd;
		test.packet.fd_count = 1;
	}
	assert_int_equal(protocol_send(test.worker.process.socket, &test.packet), 0);
}

/* An export to test.target; returns its descriptor. */
static int send_export(uint32_t id, uint64_t rate)
{
	struct protocol_job *job = new_job(id, PROTOCOL_JOB_EXPORT);
	strcpy(job->format, "raw");
	snprintf(job->target, sizeof(job->target), "%s", test.target);
	job->rate = rate;
	int fd = open(test.target, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	send_job(fd);
	return fd;
}

static void assert_no_snapshots(uint32_t id)
{
	char text[256] = "";
	int fd = memfd_create("list", MFD_CLOEXEC);
	new_job(id, PROTOCOL_JOB_SNAPSHOT_LIST);
	send_job(fd);
	assert_int_equal(wait_reply(id), 0);
	assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
	assert_string_equal(text, "[]\n");
	close(fd);
}

static void write_all(int byte)
{
	for (unsigned i = 0; i < PIECES; i++) {
		start_write(i, byte);
		while (!test.done) {
			assert_true(standin_wait(&test.standin, PATIENCE_MS));
			standin_reap(&test.standin);
		}
	}
}

/* ---- tests ---- */

/* Pieces are overwritten in order, each once the one before was answered: at any moment the disk is new up to some piece, and old from there. */
static void an_export_shows_one_moment(void **state)
{
	(void)state;
	unsigned next = 0, rounds = 0;
	write_all(1);
	for (int byte = 2; rounds < 3; rounds++) {
		uint32_t id = 10 + rounds;
		bool replied = false;
		int fd = send_export(id, 0);
		test.done = true;
		for (int waited = 0; !replied || !test.done; waited++) {
			assert_true(waited < PATIENCE_MS);
			replied = replied || hear(id, 1);
			standin_reap(&test.standin);
			if (!test.done || replied)
				continue;
			start_write(next++, byte);
			if (next == PIECES) {
				next = 0;
				byte++;
			}
		}
		assert_int_equal(test.reply.message.result.result, 0);
		unsigned char *content = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
		assert_true(content != MAP_FAILED);
		unsigned steps = 0;
		for (unsigned i = 0; i < PIECES; i++) {
			for (unsigned at = 1; at < PIECE; at++)
				assert_int_equal(content[(size_t)i * PIECE + at], content[(size_t)i * PIECE]);
			if (i && content[(size_t)i * PIECE] != content[(size_t)(i - 1) * PIECE]) {
				assert_int_equal(content[(size_t)i * PIECE] + 1, content[(size_t)(i - 1) * PIECE]);
				steps++;
			}
		}
		assert_true(steps <= 1);
		munmap(content, SIZE);
		close(fd);
	}
	assert_no_snapshots(50);
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	memset(&test.worker, 0, sizeof(test.worker));
}

static int snapshot(uint32_t id, enum lunkit_snapshot_op op, const char *name, uint64_t limit)
{
	struct protocol_job *job = new_job(id, PROTOCOL_JOB_SNAPSHOT);
	job->flags = op;
	job->limit = limit;
	snprintf(job->name, sizeof(job->name), "%s", name);
	send_job(-1);
	return wait_reply(id);
}

/* Whether the snapshot is named or numbered. */
static void a_revert_keeps_to_the_largest_size(void **state)
{
	(void)state;
	assert_int_equal(snapshot(70, LUNKIT_SNAPSHOT_CREATE, "old", 0), 0);
	assert_int_equal(snapshot(71, LUNKIT_SNAPSHOT_REVERT, "old", SIZE - 1), -EFBIG);
	assert_int_equal(snapshot(72, LUNKIT_SNAPSHOT_REVERT, "1", SIZE - 1), -EFBIG);
	assert_int_equal(snapshot(73, LUNKIT_SNAPSHOT_REVERT, "1", SIZE), 0);
	assert_int_equal(snapshot(74, LUNKIT_SNAPSHOT_DELETE, "1", 0), 0);
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	memset(&test.worker, 0, sizeof(test.worker));
}

static void one_at_a_time_and_cancelled(void **state)
{
	(void)state;
	write_all(1);
	int fd = send_export(1, 1 << 20);
	while (!test.progress_id || !test.progress_done)
		assert_false(hear(1, 100));
	assert_int_equal(test.progress_id, 1);

	struct protocol_job *job = new_job(2, PROTOCOL_JOB_SNAPSHOT);
	strcpy(job->name, "x");
	send_job(-1);
	assert_int_equal(wait_reply(2), -EBUSY);
	memset(&test.packet, 0, sizeof(test.packet));
	test.packet.message.type = PROTOCOL_RESIZE;
	test.packet.message.id = 3;
	test.packet.message.resize.size = SIZE * 2;
	send_job(-1);
	assert_int_equal(wait_reply(3), -EBUSY);

	char text[4096] = "";
	int map = memfd_create("map", MFD_CLOEXEC);
	new_job(4, PROTOCOL_JOB_MAP);
	send_job(map);
	assert_int_equal(wait_reply(4), 0);
	assert_true(pread(map, text, sizeof(text) - 1, 0) > 0);
	assert_non_null(strstr(text, "\"data\":true"));
	close(map);

	memset(&test.packet, 0, sizeof(test.packet));
	test.packet.message.type = PROTOCOL_JOB_CANCEL;
	test.packet.message.id = 1;
	send_job(-1);
	assert_int_equal(wait_reply(1), -ECANCELED);
	close(fd);
	assert_no_snapshots(5);

	/* a higher rate lets a slow one end */
	fd = send_export(6, 1);
	new_job(6, PROTOCOL_JOB_EXPORT)->rate = 0;
	test.packet.message.type = PROTOCOL_JOB_RATE;
	send_job(-1);
	assert_int_equal(wait_reply(6), 0);
	close(fd);
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	memset(&test.worker, 0, sizeof(test.worker));
}

static void a_worker_that_leaves_ends_its_jobs(void **state)
{
	(void)state;
	write_all(1);
	int fd = send_export(1, 1 << 20);
	while (!test.progress_id || !test.progress_done)
		assert_false(hear(1, 100));
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	close(fd);
	/* the next one finds nothing half done */
	struct standin_image image = { .kind = "qcow2", .name = test.path, .write_cache = true, .block_size = BLOCK };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	standin_free(&test.standin);
	standin_new(&test.standin, &(struct standin_config){ 0 });
	if (standin_worker_start(&test.worker, &test.standin, &image, &err) < 0)
		fail_msg("%s", err.message);
	assert_no_snapshots(2);
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	memset(&test.worker, 0, sizeof(test.worker));
}

static void what_makes_no_sense_is_refused(void **state)
{
	(void)state;
	int pipes[2];
	new_job(1, (enum protocol_job_kind)99);
	send_job(-1);
	assert_int_equal(wait_reply(1), -EINVAL);
	new_job(2, PROTOCOL_JOB_MAP);
	send_job(-1);
	assert_true(wait_reply(2) < 0);
	assert_int_equal(pipe(pipes), 0);
	new_job(3, PROTOCOL_JOB_MAP); /* would make it wait */
	send_job(pipes[1]);
	assert_true(wait_reply(3) < 0);
	new_job(4, PROTOCOL_JOB_SNAPSHOT)->flags = 7;
	send_job(-1);
	assert_true(wait_reply(4) < 0);
	strcpy(new_job(10, PROTOCOL_JOB_SNAPSHOT)->name, "lunkit-export"); /* the next export would remove it */
	send_job(-1);
	assert_int_equal(wait_reply(10), -EINVAL);
	strcpy(new_job(5, PROTOCOL_JOB_EXPORT)->format, "raw");
	send_job(-1);
	assert_true(wait_reply(5) < 0);
	struct protocol_job *job = new_job(6, PROTOCOL_JOB_EXPORT);
	strcpy(job->format, "nope");
	strcpy(job->target, test.target);
	send_job(pipes[1]);
	assert_true(wait_reply(6) < 0);
	new_job(7, PROTOCOL_JOB_IMPORT);
	send_job(-1);
	assert_true(wait_reply(7) < 0);
	close(pipes[0]);
	close(pipes[1]);
	assert_no_snapshots(8);
	new_job(9, PROTOCOL_JOB_CHECK);
	send_job(-1);
	assert_int_equal(wait_reply(9), 0);
	assert_non_null(strstr(test.reply.message.result.text, "\"corruptions\":0"));
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	memset(&test.worker, 0, sizeof(test.worker));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(an_export_shows_one_moment),	  TEST(a_revert_keeps_to_the_largest_size), TEST(one_at_a_time_and_cancelled),
		TEST(a_worker_that_leaves_ends_its_jobs), TEST(what_makes_no_sense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
