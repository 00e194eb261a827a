/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fetching, publishing, starting and stopping. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "lun_fixture.h"

/* struct tcmu_mailbox and entries, at the offsets that linux/target_core_user.h gives them */
#define RING_OFFSET 128
#define ENTRY_IOV 48

/* ---- reads and writes ---- */

#define DEPTH 64
#define LARGEST 64u /* blocks */

/* Random writes and reads that don't overlap while in flight, checked against a model. */
static void round_trips(const struct standin_config *config, enum disk_mode mode, unsigned rounds)
{
	fixture_start(config, 0, mode);
	char *model = calloc(1, DISK_SIZE);
	static struct standin_command commands[DEPTH];
	char(*data)[LARGEST * BLOCK] = calloc(DEPTH, sizeof(*data));
	uint64_t lbas[DEPTH];
	unsigned seed = 1;
	uint32_t lane = DISK_SIZE / BLOCK / DEPTH;
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			uint32_t blocks = 1 + (uint32_t)rand_r(&seed) % LARGEST;
			lbas[i] = i * lane + (uint32_t)rand_r(&seed) % (lane - blocks);
			if (rand_r(&seed) % 2) {
				memset(data[i], 0x5a, sizeof(data[i]));
				standin_read16(&commands[i], lbas[i], blocks, BLOCK, data[i]);
			} else {
				for (size_t at = 0; at < blocks * BLOCK; at++)
					data[i][at] = (char)rand_r(&seed);
				memcpy(model + lbas[i] * BLOCK, data[i], blocks * BLOCK);
				standin_write16(&commands[i], lbas[i], blocks, BLOCK, data[i], rand_r(&seed) % 4 == 0);
			}
			while (standin_submit(&fixture.standin, &commands[i]) == -EBUSY)
				fixture_turn();
			if (rand_r(&seed) % 8 == 0)
				fixture_turn();
		}
		fixture_settle();
		for (unsigned i = 0; i < DEPTH; i++) {
			assert_int_equal(commands[i].status, 0);
			if (commands[i].direction == STANDIN_IN) {
				assert_int_equal(commands[i].data_in_length, commands[i].length);
				assert_memory_equal(data[i], model + lbas[i] * BLOCK, commands[i].length);
			}
		}
	}
	assert_memory_equal(disk.content, model, DISK_SIZE);
	assert_int_equal(fixture_statistics().commands, rounds * DEPTH);
	assert_int_equal(fixture_statistics().in_flight, 0);
	assert_int_equal(fixture_statistics().errors, 0);
	free(model);
	free(data);
}

static void test_round_trips_at_once(void **state)
{
	(void)state;
	round_trips(&(struct standin_config){ 0 }, DISK_AT_ONCE, 20);
}

static void test_round_trips_later(void **state)
{
	(void)state;
	round_trips(&(struct standin_config){ 0 }, DISK_SOON, 20);
}

static void test_round_trips_scattered_in_a_small_ring(void **state)
{
	(void)state;
	round_trips(&(struct standin_config){ .ring_bytes = 8192, .data_bytes = 1 << 20, .scattered = true }, DISK_SOON, 20);
	assert_true(fixture.standin.completed > 1000);
}

static void test_largest_transfer(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ .scattered = true }, 0, DISK_AT_ONCE);
	size_t length = 8u << 20;
	char *data = malloc(length), *back = malloc(length);
	for (size_t i = 0; i < length; i++)
		data[i] = (char)(i * 7 + i / 4096);
	struct standin_command command = { 0 };
	standin_write16(&command, 16, (uint32_t)(length / BLOCK), BLOCK, data, false);
	fixture_submit(&command);
	fixture_settle();
	assert_int_equal(command.status, 0);
	assert_memory_equal(disk.content + 16 * BLOCK, data, length);
	standin_read16(&command, 16, (uint32_t)(length / BLOCK), BLOCK, back);
	fixture_submit(&command);
	fixture_settle();
	assert_int_equal(command.status, 0);
	assert_memory_equal(back, data, length);
	free(data);
	free(back);
}

static void test_out_of_order(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command commands[4] = { 0 };
	char data[4][BLOCK];
	for (unsigned i = 0; i < 4; i++) {
		memset(disk.content + i * BLOCK, 'a' + (int)i, BLOCK);
		standin_read16(&commands[i], i, 1, BLOCK, data[i]);
		fixture_submit(&commands[i]);
	}
	fixture_turn();
	assert_int_equal(disk.held_count, 4);
	for (unsigned left = 4; left-- > 0;) {
		fixture_release(left);
		fixture_turn();
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(commands[i].in_flight, i < left);
		assert_int_equal(data[left][BLOCK - 1], 'a' + (int)left);
	}
}

static void test_more_commands_than_slots(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 8, DISK_HELD);
	static struct standin_command commands[256];
	static char data[256][BLOCK];
	for (unsigned i = 0; i < 256; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		standin_read16(&commands[i], i, 1, BLOCK, data[i]);
		disk.content[i * BLOCK] = (char)i;
		fixture_submit(&commands[i]);
	}
	unsigned seed = 7;
	for (unsigned done = 0; done < 256; done++) {
		fixture_turns(2);
		assert_int_equal(fixture_statistics().in_flight, done <= 248 ? 8 : 256 - done);
		fixture_release((unsigned)rand_r(&seed) % disk.held_count);
	}
	fixture_settle();
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(commands[i].status, 0);
		assert_int_equal((uint8_t)data[i][0], i);
	}
}

static void test_depth_256(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command commands[256];
	static char data[256][BLOCK];
	for (unsigned i = 0; i < 256; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		memset(data[i], (int)i, BLOCK);
		standin_write16(&commands[i], i, 1, BLOCK, data[i], false);
		fixture_submit(&commands[i]);
	}
	fixture_turns(8);
	assert_int_equal(disk.held_count, 256);
	fixture_release_all();
	fixture_settle();
	for (unsigned i = 0; i < 256; i++)
		assert_memory_equal(disk.content + i * BLOCK, data[i], BLOCK);
}

static void test_one_doorbell_a_batch(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	fixture_turn();
	static struct standin_command commands[16];
	for (unsigned i = 0; i < 16; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		standin_flush(&commands[i]);
		fixture_submit(&commands[i]);
	}
	uint64_t before = fixture_statistics().doorbells;
	fixture_turn();
	assert_int_equal(fixture.standin.in_flight, 0);
	assert_int_equal(fixture_statistics().doorbells, before + 1);
}

/* ---- the end and the beginning ---- */

static void test_drain_finishes_and_leaves_the_rest(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command first = { 0 }, second = { 0 };
	char data[2][BLOCK];
	standin_read16(&first, 0, 1, BLOCK, data[0]);
	standin_read16(&second, 1, 1, BLOCK, data[1]);
	disk.content[BLOCK] = 'x';
	fixture_submit(&first);
	fixture_turn();
	struct loop_op op = { .done = fixture_stopped };
	lun_stop(fixture.lun, &op);
	fixture_submit(&second);
	fixture_turns(5);
	assert_non_null(op.done);
	assert_int_equal(disk.held_count, 1);
	fixture_release(0);
	fixture_turns(5);
	assert_null(op.done);
	assert_false(first.in_flight);
	assert_true(second.in_flight);
	lun_free(fixture.lun);

	/* the next one finds it in the ring */
	fixture_start_lun();
	fixture_turn();
	assert_int_equal(disk.held_count, 1);
	fixture_release(0);
	fixture_turn();
	assert_false(second.in_flight);
	assert_int_equal(data[1][0], 'x');
}

static void test_stop_without_start(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	fixture_stop_lun();
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(lun_new(&fixture.config, &fixture.lun, &err), 0);
	fixture_stop_lun();
	lun_free(NULL);
}

static void test_new_refuses(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct lun *untouched = NULL;
	struct lun_config config = fixture.config;
	config.block_size = 1024;
	assert_int_equal(lun_new(&config, &untouched, &err), -EINVAL);
	assert_non_null(strstr(err.message, "1024"));
	config = fixture.config;
	config.ring.length = 64;
	assert_int_equal(lun_new(&config, &untouched, &err), -EPROTO);
	config = fixture.config;
	config.ring.word = 2;
	assert_int_equal(lun_new(&config, &untouched, &err), -EINVAL);
	assert_null(untouched);
}

/* ---- bad rings ---- */

static void test_damaged_ring_is_a_failure(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	standin_flush(&command);
	uint32_t position = fixture.standin.head;
	fixture_submit(&command);
	memset(fixture.standin.base + RING_OFFSET + position, 0xff, 4);
	assert_int_equal(loop_turn(fixture.loop, false), 0);
	assert_int_equal(fixture.failure, -EPROTO);
	assert_int_equal(loop_turn(fixture.loop, false), 0);
	assert_int_equal(fixture_statistics().commands, 0);
}

/* What is in flight then ends, but is not told to a ring that makes no sense; then the LUN can be stopped and the image closed. */
static void test_failure_with_commands_in_flight(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command read = { 0 }, verify = { 0 }, inquiry = { 0 }, bad = { 0 };
	char data[BLOCK], expected[BLOCK] = { 0 };
	uint8_t answer[64];
	standin_read16(&read, 0, 1, BLOCK, data);
	fixture_submit(&read);
	fixture_submit_cdb(&verify, (uint8_t[16]){ 0x8f, 0x02, [13] = 1 }, 16, STANDIN_OUT, expected, BLOCK);
	fixture_submit_cdb(&inquiry, (uint8_t[12]){ 0xa3, 0x0a, [9] = 64 }, 12, STANDIN_IN, answer, sizeof(answer));
	fixture_turns(2);
	assert_int_equal(disk.held_count, 2);
	assert_int_equal(fixture.asked_count, 1);
	standin_flush(&bad);
	uint32_t position = fixture.standin.head;
	fixture_submit(&bad);
	memset(fixture.standin.base + RING_OFFSET + position, 0xff, 4);
	fixture_turn();
	assert_int_equal(fixture.failure, -EPROTO);

	struct loop_op op = { .done = fixture_stopped };
	lun_stop(fixture.lun, &op);
	lun_query_done(fixture.lun, fixture.asked[0], -ESHUTDOWN);
	fixture_turns(3);
	assert_non_null(op.done);
	uint64_t doorbells = fixture_statistics().doorbells;
	fixture_release_all();
	fixture_turns(3);
	assert_null(op.done);
	assert_int_equal(fixture_statistics().in_flight, 0);
	assert_int_equal(fixture_statistics().doorbells, doorbells);
	assert_int_equal(fixture.standin.in_flight, 4);
	lun_free(fixture.lun);
	fixture.lun = NULL;
}

static void test_unreadable_command_is_answered(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command bad = { 0 }, good = { 0 };
	char data[2][BLOCK];
	standin_read16(&bad, 0, 1, BLOCK, data[0]);
	standin_read16(&good, 0, 1, BLOCK, data[1]);
	uint32_t position = fixture.standin.head;
	fixture_submit(&bad);
	fixture_submit(&good);
	uint64_t outside = fixture.standin.length;
	memcpy(fixture.standin.base + RING_OFFSET + position + ENTRY_IOV, &outside, sizeof(outside));
	fixture_settle();
	fixture_assert_sense(&bad, 4, 0x44, 0);
	assert_int_equal(good.status, 0);
	assert_int_equal(fixture.failure, 0);
	assert_int_equal(fixture_statistics().errors, 1);
}

static void test_unknown_opcode(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	fixture_submit_cdb(&command, (uint8_t[10]){ 0xc1 }, 10, STANDIN_NONE, NULL, 0);
	fixture_settle();
	fixture_assert_sense(&command, 5, 0x20, 0);
	assert_int_equal(fixture_statistics().errors, 0);
	assert_int_equal(fixture_statistics().refused, 1);
}

/* A single command must not outlast its initiator's patience, whatever the image says that it can. */
static void test_write_same_has_a_limit(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	uint8_t limits[64] = { 0 };
	fixture_submit_cdb(&command, (uint8_t[6]){ 0x12, 1, 0xb0, 0, sizeof(limits) }, 6, STANDIN_IN, limits, sizeof(limits));
	fixture_settle();
	assert_int_equal(command.status, 0);
	assert_true(get_be64(limits + 36) == (32 << 20) / BLOCK);
	assert_int_equal(limits[4] & 1, 0); /* WSNZ: 0 blocks are all that follow, within the same limit */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, fixture_finish)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trips_at_once),
		TEST(test_round_trips_later),
		TEST(test_round_trips_scattered_in_a_small_ring),
		TEST(test_largest_transfer),
		TEST(test_out_of_order),
		TEST(test_more_commands_than_slots),
		TEST(test_depth_256),
		TEST(test_one_doorbell_a_batch),
		TEST(test_drain_finishes_and_leaves_the_rest),
		TEST(test_stop_without_start),
		TEST(test_new_refuses),
		TEST(test_damaged_ring_is_a_failure),
		TEST(test_failure_with_commands_in_flight),
		TEST(test_unreadable_command_is_answered),
		TEST(test_unknown_opcode),
		TEST(test_write_same_has_a_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
