/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A real lunkit-worker with a stand-in for the kernel: what it stores is what was written, whatever sizes, offsets and commands, and whatever
 * happens to the worker. Each lane of the disk has at most one command in flight, so that a model in memory knows what every byte has to be.
 */
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
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "standin/worker.h"

#define BLOCK 512u
#define LANES 32u
#define LANE_BLOCKS 1024u
#define DISK_BLOCKS (LANES * LANE_BLOCKS)
#define LARGEST 128u /* blocks a command */
#define PATIENCE_MS 60000

struct lane {
	struct standin_command command;
	uint32_t first, blocks; /* of the command, within the lane */
	bool writes;		/* expected is what the range holds once it has completed */
	bool again;		/* ended by a reset: to be sent again */
	unsigned done;
	char data[2 * LARGEST * BLOCK], expected[LARGEST * BLOCK];
};

static struct {
	char path[256];
	struct standin standin;
	struct standin_worker worker;
	struct lane lanes[LANES];
	char *model;
	unsigned seed;
} test;

static unsigned chance(unsigned range)
{
	return (unsigned)rand_r(&test.seed) % range;
}

static void start_worker(enum lunkit_cache cache, bool read_only)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct standin_image image = {
		.kind = "raw", .name = test.path, .cache = cache, .read_only = read_only, .write_cache = true, .block_size = BLOCK
	};
	int r;
	/* The I/O of a worker that was killed may still be on its way, and holds the image's lock until it is done. */
	for (unsigned i = 0; (r = standin_worker_start(&test.worker, &test.standin, &image, &err)) == -EAGAIN && i < 500; i++)
		usleep(10000);
	if (r < 0)
		fail_msg("%s", err.message);
	assert_int_equal(test.worker.size, (uint64_t)DISK_BLOCKS * BLOCK);
}

static int set_up(void **state)
{
	(void)state;
	const char *folder = getenv("TMPDIR");
	memset(&test, 0, sizeof(test));
	test.seed = 20;
	snprintf(test.path, sizeof(test.path), "%s/lunkit-worker-XXXXXX", folder ? folder : "/tmp");
	int fd = mkstemp(test.path);
	if (fd < 0 || ftruncate(fd, (off_t)DISK_BLOCKS * BLOCK) < 0)
		return -1;
	close(fd);
	test.model = calloc(DISK_BLOCKS, BLOCK);
	standin_new(&test.standin, &(struct standin_config){ .scattered = true });
	return test.model ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	if (test.worker.process.pid > 0 && test.worker.process.socket > 0)
		standin_worker_kill(&test.worker);
	standin_free(&test.standin);
	unlink(test.path);
	free(test.model);
	return 0;
}

static void stop_worker(void)
{
	assert_int_equal(standin_worker_stop(&test.worker), 0);
	memset(&test.worker, 0, sizeof(test.worker));
}

static void reap(void)
{
	if (!standin_wait(&test.standin, PATIENCE_MS))
		fail_msg("the worker does not answer: %u commands in flight", test.standin.in_flight);
	standin_reap(&test.standin);
}

static char *model_of(const struct lane *lane)
{
	return test.model + ((size_t)(lane - test.lanes) * LANE_BLOCKS + lane->first) * BLOCK;
}

static void lane_done(struct standin_command *command)
{
	struct lane *lane = command->user;
	size_t length = (size_t)lane->blocks * BLOCK;
	if (command->reset) {
		lane->again = true;
		return;
	}
	if (command->status)
		fail_msg("%#x ended with status %#x, sense %x/%02x/%02x", command->cdb[0], command->status, command->sense[2],
			 command->sense[12], command->sense[13]);
	lane->done++;
	if (command->direction == STANDIN_IN) {
		assert_int_equal(command->data_in_length, length);
		assert_memory_equal(lane->data, model_of(lane), length);
	} else if (lane->writes) {
		memcpy(model_of(lane), lane->expected, length);
	}
}

static void lane_send(struct lane *lane)
{
	lane->again = false;
	lane->command.user = lane;
	lane->command.done = lane_done;
	while (standin_submit(&test.standin, &lane->command) == -EBUSY)
		reap();
}

static void fill(char *to, size_t length)
{
	uint32_t word = (uint32_t)rand_r(&test.seed);
	for (size_t at = 0; at + 4 <= length; at += 4, word = word * 1664525 + 1013904223)
		memcpy(to + at, &word, 4);
}

/* Any command on a part of the lane. write_only: only those that change something. */
static void lane_start(struct lane *lane, bool write_only)
{
	struct standin_command *command = &lane->command;
	lane->blocks = 1 + chance(chance(4) ? 16 : LARGEST);
	lane->first = chance(LANE_BLOCKS - lane->blocks);
	uint64_t lba = (uint64_t)(lane - test.lanes) * LANE_BLOCKS + lane->first;
	size_t length = (size_t)lane->blocks * BLOCK;
	lane->writes = true;
	memset(command->cdb, 0, sizeof(command->cdb));
	unsigned what = write_only ? chance(5) : chance(16);
	switch (what) {
	default:
		standin_read16(command, lba, lane->blocks, BLOCK, lane->data);
		lane->writes = false;
		break;
	case 0:
	case 1:
	case 2:
		fill(lane->data, length);
		memcpy(lane->expected, lane->data, length);
		standin_write16(command, lba, lane->blocks, BLOCK, lane->data, what == 2);
		break;
	case 3: /* WRITE SAME(16), by chance with UNMAP, or NDOB */
		command->cdb[0] = 0x93;
		command->cdb[1] = (uint8_t[]){ 0, 8, 9, 1 }[chance(4)];
		put_be64(command->cdb + 2, lba);
		put_be32(command->cdb + 10, lane->blocks);
		command->cdb_length = 16;
		memset(lane->data, 0, BLOCK);
		if (!command->cdb[1])
			fill(lane->data, BLOCK);
		for (uint32_t i = 0; i < lane->blocks; i++)
			memcpy(lane->expected + (size_t)i * BLOCK, lane->data, BLOCK);
		command->direction = command->cdb[1] & 1 ? STANDIN_NONE : STANDIN_OUT;
		command->data = lane->data;
		command->length = command->cdb[1] & 1 ? 0 : BLOCK;
		break;
	case 4: /* COMPARE AND WRITE with what is there */
		command->cdb[0] = 0x89;
		put_be64(command->cdb + 2, lba);
		command->cdb[13] = (uint8_t)lane->blocks;
		command->cdb_length = 16;
		memcpy(lane->data, model_of(lane), length);
		fill(lane->data + length, length);
		memcpy(lane->expected, lane->data + length, length);
		command->direction = STANDIN_OUT;
		command->data = lane->data;
		command->length = 2 * length;
		break;
	case 5:
		standin_flush(command);
		lane->writes = false;
		break;
	}
	lane_send(lane);
}

static void settle(void)
{
	while (test.standin.in_flight)
		reap();
}

static void check_file(void)
{
	int fd = open(test.path, O_RDONLY | O_CLOEXEC);
	char *content = malloc((size_t)DISK_BLOCKS * BLOCK);
	assert_int_equal(pread(fd, content, (size_t)DISK_BLOCKS * BLOCK, 0), (ssize_t)DISK_BLOCKS * BLOCK);
	assert_memory_equal(content, test.model, (size_t)DISK_BLOCKS * BLOCK);
	free(content);
	close(fd);
}

static void mixed_commands(enum lunkit_cache cache)
{
	start_worker(cache, false);
	for (unsigned round = 0; round < 3000; round++) {
		struct lane *lane = &test.lanes[chance(LANES)];
		while (lane->command.in_flight)
			reap();
		lane_start(lane, false);
	}
	settle();
	stop_worker();
	check_file();
}

static void test_mixed_commands_direct(void **state)
{
	(void)state;
	mixed_commands(LUNKIT_CACHE_NONE);
}

static void test_mixed_commands_writeback(void **state)
{
	(void)state;
	mixed_commands(LUNKIT_CACHE_WRITEBACK);
}

static void test_mixed_commands_writethrough(void **state)
{
	(void)state;
	mixed_commands(LUNKIT_CACHE_WRITETHROUGH);
}

/* After the worker's death: what was acknowledged is there; of what was not, each block is either as before or as it would have become. */
static void check_after_death(void)
{
	int fd = open(test.path, O_RDONLY | O_CLOEXEC);
	static char content[LANE_BLOCKS * BLOCK];
	for (struct lane *lane = test.lanes; lane < test.lanes + LANES; lane++) {
		off_t at = (off_t)(lane - test.lanes) * (off_t)sizeof(content);
		const char *model = test.model + at;
		assert_int_equal(pread(fd, content, sizeof(content), at), sizeof(content));
		for (uint32_t i = 0; i < LANE_BLOCKS; i++) {
			const char *block = content + i * BLOCK;
			if (!memcmp(block, model + i * BLOCK, BLOCK))
				continue;
			if (!lane->again || !lane->writes || i < lane->first || i >= lane->first + lane->blocks ||
			    memcmp(block, lane->expected + (i - lane->first) * BLOCK, BLOCK) != 0)
				fail_msg("block %u of lane %u was acknowledged and is lost", i, (unsigned)(lane - test.lanes));
		}
	}
	close(fd);
}

/* What the last worker left, as initiators do that were told BUSY. A COMPARE AND WRITE may have happened: it is sent as a write. */
static void resend(void)
{
	for (struct lane *lane = test.lanes; lane < test.lanes + LANES; lane++) {
		struct standin_command *command = &lane->command;
		if (!lane->again)
			continue;
		if (command->cdb[0] == 0x89) {
			memcpy(lane->data, lane->expected, (size_t)lane->blocks * BLOCK);
			standin_write16(command, get_be64(command->cdb + 2), lane->blocks, BLOCK, lane->data, false);
		}
		lane_send(lane);
	}
}

static void test_killed_workers_lose_nothing(void **state)
{
	(void)state;
	unsigned interrupted = 0;
	for (unsigned life = 0; life < 12; life++) {
		start_worker(life % 2 ? LUNKIT_CACHE_WRITEBACK : LUNKIT_CACHE_NONE, false);
		resend();
		for (unsigned round = 0, rounds = 50 + chance(300); round < rounds; round++) {
			struct lane *lane = &test.lanes[chance(LANES)];
			while (lane->command.in_flight)
				reap();
			lane_start(lane, true);
		}
		interrupted += test.standin.in_flight;
		standin_worker_kill(&test.worker);
		memset(&test.worker, 0, sizeof(test.worker));
		standin_reset(&test.standin);
		assert_int_equal(test.standin.in_flight, 0);
		/* The lock is free once nothing of the dead worker's is on its way: start one and stop it before looking. */
		start_worker(LUNKIT_CACHE_NONE, false);
		stop_worker();
		check_after_death();
	}
	assert_true(interrupted > 0);
	start_worker(LUNKIT_CACHE_NONE, false);
	resend();
	settle();
	stop_worker();
	check_file();
}

/* Commands that no worker has seen wait in the ring. */
static void test_a_drained_worker_leaves_commands_for_the_next(void **state)
{
	(void)state;
	start_worker(LUNKIT_CACHE_NONE, false);
	for (unsigned i = 0; i < LANES; i++)
		lane_start(&test.lanes[i], true);
	stop_worker();
	for (unsigned i = 0; i < LANES; i++) {
		while (test.lanes[i].command.in_flight && standin_reap(&test.standin))
			;
		if (!test.lanes[i].command.in_flight)
			lane_start(&test.lanes[i], true);
	}
	start_worker(LUNKIT_CACHE_NONE, false);
	settle();
	stop_worker();
	check_file();
}

/* The image stays open under a resize that was begun, and its result is told. (stop_worker() says once more that it is to drain.) */
static void test_a_drain_waits_for_a_resize(void **state)
{
	(void)state;
	static struct protocol_packet packet;
	const uint64_t size = (uint64_t)DISK_BLOCKS * BLOCK;
	for (unsigned round = 0; round < 20; round++) {
		assert_int_equal(truncate(test.path, (off_t)size), 0);
		start_worker(LUNKIT_CACHE_NONE, false);
		packet = (struct protocol_packet){ .message = { .type = PROTOCOL_RESIZE, .id = 7 } };
		packet.message.resize.size = 2 * size;
		assert_int_equal(protocol_send(test.worker.process.socket, &packet), 0);
		packet = (struct protocol_packet){ .message = { .type = PROTOCOL_DRAIN } };
		assert_int_equal(protocol_send(test.worker.process.socket, &packet), 0);
		do
			assert_int_equal(protocol_receive(test.worker.process.socket, &packet), 1);
		while (packet.message.type != PROTOCOL_REPLY);
		assert_int_equal(packet.message.id, 7);
		assert_int_equal(packet.message.result.result, 0);
		assert_int_equal(packet.message.result.value, 2 * size);
		stop_worker();
		struct stat status;
		assert_int_equal(stat(test.path, &status), 0);
		assert_int_equal(status.st_size, 2 * size);
	}
}

/* The worker ends with a status, not by abort(), with its image's I/O done; the device is reset and the next worker serves what is sent again. */
static void test_a_damaged_ring_ends_the_worker_in_order(void **state)
{
	(void)state;
	static struct protocol_packet packet;
	for (unsigned life = 0; life < 5; life++) {
		start_worker(LUNKIT_CACHE_NONE, false);
		resend();
		settle();
		struct standin_command flush = { 0 };
		test.standin.quiet = true;
		for (unsigned i = 0; i < LANES; i++)
			lane_start(&test.lanes[i], true);
		standin_flush(&flush);
		uint32_t position = test.standin.head;
		assert_int_equal(standin_submit(&test.standin, &flush), 0);
		memset(test.standin.base + 128 + position, 0xff, 4); /* mailbox header, then the ring */
		test.standin.quiet = false;
		standin_kick(&test.standin);
		do
			assert_int_equal(protocol_receive(test.worker.process.socket, &packet), 1);
		while (packet.message.type != PROTOCOL_FAILED);
		int status;
		assert_int_equal(worker_wait(&test.worker.process, PATIENCE_MS, &status), 0);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 1);
		worker_release(&test.worker.process);
		memset(&test.worker, 0, sizeof(test.worker));
		standin_reset(&test.standin);
		check_after_death();
	}
	start_worker(LUNKIT_CACHE_NONE, false);
	resend();
	settle();
	stop_worker();
	check_file();
}

static struct standin_command mode_command(uint8_t cdb0, uint8_t cdb1, uint8_t page, void *data, uint8_t length, bool out)
{
	struct standin_command command = { .cdb = { cdb0, cdb1, page, 0, length },
					   .cdb_length = 6,
					   .direction = out ? STANDIN_OUT : STANDIN_IN,
					   .data = data,
					   .length = length };
	assert_int_equal(standin_submit(&test.standin, &command), 0);
	settle();
	return command;
}

/* What a guest has set by MODE SELECT holds for the next worker as well: the one before has told it, even if it dies at once. */
static void test_modes_outlive_a_worker(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct standin_image image = { .kind = "raw", .name = test.path, .write_cache = true, .block_size = BLOCK };
	static struct protocol_packet packet;
	uint8_t list[4 + 20] = { 0 };
	assert_int_equal(standin_worker_start(&test.worker, &test.standin, &image, &err), 0);
	assert_int_equal(mode_command(0x1a, 0x08, 0x08, list, sizeof(list), false).status, 0);
	assert_int_equal(list[4 + 2], 4);
	memset(list, 0, 4);
	list[4 + 2] = 0;
	assert_int_equal(mode_command(0x15, 0x10, 0, list, sizeof(list), true).status, 0);
	kill(test.worker.process.pid, SIGKILL);
	while (protocol_receive(test.worker.process.socket, &packet) == 1)
		if (packet.message.type == PROTOCOL_MODES)
			image.modes = packet.message.modes.modes;
	standin_worker_kill(&test.worker);
	standin_reset(&test.standin);
	assert_int_not_equal(image.modes, 0);

	int r;
	while ((r = standin_worker_start(&test.worker, &test.standin, &image, &err)) == -EAGAIN)
		usleep(10000);
	assert_int_equal(r, 0);
	assert_int_equal(mode_command(0x1a, 0x08, 0x08, list, sizeof(list), false).status, 0);
	assert_int_equal(list[4 + 2], 0);
	stop_worker();
}

static void test_read_only(void **state)
{
	(void)state;
	start_worker(LUNKIT_CACHE_NONE, true);
	char data[BLOCK] = "x";
	struct standin_command write = { 0 }, read = { 0 };
	standin_write16(&write, 0, 1, BLOCK, data, false);
	standin_read16(&read, 0, 1, BLOCK, data);
	assert_int_equal(standin_submit(&test.standin, &write), 0);
	assert_int_equal(standin_submit(&test.standin, &read), 0);
	settle();
	assert_int_equal(write.status, 2);
	assert_int_equal(write.sense[2] & 0xf, 7);
	assert_int_equal(write.sense[12], 0x27);
	assert_int_equal(read.status, 0);
	assert_int_equal(data[0], 0);
	stop_worker();
	check_file();
}

static void test_missing_file_is_an_error(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct standin_image image = { .kind = "raw", .name = "/nonexistent/disk.raw", .block_size = BLOCK };
	struct standin_worker worker;
	assert_int_equal(standin_worker_start(&worker, &test.standin, &image, &err), -ENOENT);
	assert_non_null(strstr(err.message, "/nonexistent/disk.raw"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_mixed_commands_direct),
		TEST(test_mixed_commands_writeback),
		TEST(test_mixed_commands_writethrough),
		TEST(test_killed_workers_lose_nothing),
		TEST(test_a_drained_worker_leaves_commands_for_the_next),
		TEST(test_a_drain_waits_for_a_resize),
		TEST(test_a_damaged_ring_ends_the_worker_in_order),
		TEST(test_modes_outlive_a_worker),
		TEST(test_read_only),
		TEST(test_missing_file_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
