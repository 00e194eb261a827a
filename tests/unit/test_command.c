/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of commands that take more than one step, or an answer from elsewhere. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "lun_fixture.h"

/* ---- commands with more than one step ---- */

static void compare_and_write(struct standin_command *command, uint64_t lba, char *data)
{
	uint8_t cdb[16] = { 0x89, [9] = (uint8_t)lba, [13] = 1 };
	fixture_submit_cdb(command, cdb, 16, STANDIN_OUT, data, 2 * BLOCK);
}

static void test_compare_and_write_is_atomic(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_SOON);
	static struct standin_command commands[16];
	static char data[16][2 * BLOCK];
	for (unsigned round = 0; round < 20; round++) {
		uint64_t lba = round;
		for (unsigned i = 0; i < 16; i++) {
			memset(&commands[i], 0, sizeof(commands[i]));
			memset(data[i], 0, BLOCK);
			memset(data[i] + BLOCK, 'A' + (int)i, BLOCK);
			compare_and_write(&commands[i], lba, data[i]);
		}
		fixture_settle();
		unsigned winners = 0;
		for (unsigned i = 0; i < 16; i++) {
			if (commands[i].status == 0) {
				winners++;
				assert_memory_equal(disk.content + lba * BLOCK, data[i] + BLOCK, BLOCK);
			} else {
				fixture_assert_sense(&commands[i], 0xe, 0x1d, 0);
			}
		}
		assert_int_equal(winners, 1);
	}
}

/* Whatever the order, a plain write can only be the last, or make the comparison fail. */
static void test_compare_and_write_against_a_write(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_SOON);
	for (unsigned round = 0; round < 16; round++) {
		struct standin_command compare = { 0 }, write = { 0 };
		char both[2 * BLOCK] = { 0 }, plain[BLOCK];
		uint64_t lba = round;
		memset(both + BLOCK, 'A', BLOCK);
		memset(plain, 'B', BLOCK);
		standin_write16(&write, lba, 1, BLOCK, plain, false);
		if (round % 4 < 2)
			fixture_submit(&write);
		compare_and_write(&compare, lba, both);
		for (unsigned i = 0; i < round / 4; i++)
			fixture_turn();
		if (round % 4 >= 2)
			fixture_submit(&write);
		fixture_settle();
		assert_int_equal(write.status, 0);
		assert_memory_equal(disk.content + lba * BLOCK, plain, BLOCK);
	}
}

/* Commands that hold every scratch buffer run into the range of one that still needs a buffer. */
static void test_compare_and_write_among_holders_of_scratch(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command same[4], compare;
	static char pattern[BLOCK], both[2 * BLOCK];
	memset(pattern, 'S', sizeof(pattern));
	memset(both, 'S', BLOCK);
	memset(both + BLOCK, 'C', BLOCK);
	/* WRITE SAME of 512 KiB: two rounds through a scratch buffer of 256 KiB */
	const uint32_t blocks = 2 * SCSI_SCRATCH_SIZE / BLOCK;
	for (unsigned i = 0; i < 4; i++) {
		uint8_t cdb[16] = { 0x93, [12] = (uint8_t)(blocks >> 8), [13] = (uint8_t)blocks };
		memset(&same[i], 0, sizeof(same[i]));
		fixture_submit_cdb(&same[i], cdb, 16, STANDIN_OUT, pattern, BLOCK);
	}
	fixture_turns(2);
	assert_int_equal(disk.held_count, 4);
	memset(&compare, 0, sizeof(compare));
	uint8_t cdb[16] = { 0x89, [8] = (uint8_t)((blocks - 8) >> 8), [9] = (uint8_t)(blocks - 8), [13] = 1 };
	fixture_submit_cdb(&compare, cdb, 16, STANDIN_OUT, both, sizeof(both));
	fixture_turns(2);
	for (unsigned i = 0; i < 50 && fixture.standin.in_flight; i++) {
		fixture_release_all();
		fixture_turns(2);
	}
	assert_int_equal(fixture.standin.in_flight, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(same[i].status, 0);
}

static void verify_bytes(struct standin_command *command, uint64_t lba, void *data)
{
	uint8_t cdb[16] = { 0x8f, 0x02, [9] = (uint8_t)lba, [13] = 1 };
	fixture_submit_cdb(command, cdb, 16, STANDIN_OUT, data, BLOCK);
}

static void test_more_scratch_than_there_is(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command commands[12];
	static char data[12][BLOCK];
	for (unsigned i = 0; i < 12; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		memset(data[i], i == 5 ? 1 : 0, BLOCK);
		verify_bytes(&commands[i], i, data[i]);
	}
	fixture_turns(2);
	assert_int_equal(disk.held_count, 4);
	while (fixture.standin.in_flight) {
		fixture_release(0);
		fixture_turns(2);
		assert_in_range(disk.held_count, 0, 4);
	}
	for (unsigned i = 0; i < 12; i++) {
		if (i == 5)
			fixture_assert_sense(&commands[i], 0xe, 0x1d, 0);
		else
			assert_int_equal(commands[i].status, 0);
	}
}

/* ---- answers ---- */

static void ask_answered_at_once(void *argument, struct scsi_query *query)
{
	struct lun_fixture *the = argument;
	the->asked_count++;
	lun_query_done(the->lun, query, -ESHUTDOWN);
}

static void answer_queries_at_once(void)
{
	fixture_stop_lun();
	fixture.config.control.ask = ask_answered_at_once;
	fixture_start_lun();
}

static void test_short_data_in(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	answer_queries_at_once();
	struct standin_command command = { 0 };
	uint8_t data[256];
	memset(data, 0xee, sizeof(data));
	fixture_submit_cdb(&command, (uint8_t[6]){ 0x12, 0, 0, 0, 36 }, 6, STANDIN_IN, data, sizeof(data));
	fixture_settle();
	assert_int_equal(command.status, 0);
	assert_int_equal(command.data_in_length, 36);
	assert_memory_equal(data + 8, "LUNKIT", 6);
	assert_int_equal(data[36], 0xee);
}

/* The data area's pages keep what passed through them: none of it may reach an initiator whose command gives no data. */
static void test_nothing_stale_in_a_buffer_that_stays_empty(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	answer_queries_at_once();
	static const struct {
		uint8_t cdb[16], length;
	} cases[] = {
		{ { 0x00 }, 6 },		       /* TEST UNIT READY */
		{ { 0x12 }, 6 },		       /* INQUIRY, allocation length 0 */
		{ { 0x1a, 0, 0x3f }, 6 },	       /* MODE SENSE, the same */
		{ { 0x28 }, 10 },		       /* READ of no blocks */
		{ { 0x2a }, 10 },		       /* WRITE of no blocks */
		{ { 0x35 }, 10 },		       /* SYNCHRONIZE CACHE */
		{ { 0x2f, [8] = 1 }, 10 },	       /* VERIFY without a comparison */
		{ { 0x28, [2] = 0x7f, [8] = 1 }, 10 }, /* READ behind the end */
	};
	static char secret[8 * BLOCK];
	memset(secret, 'S', sizeof(secret));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct standin_command write = { 0 }, command = { 0 };
		uint8_t data[8 * BLOCK];
		memset(data, 0xee, sizeof(data));
		standin_write16(&write, 0, 8, BLOCK, secret, false);
		fixture_submit(&write);
		fixture_settle();
		assert_int_equal(write.status, 0);
		fixture_submit_cdb(&command, cases[i].cdb, cases[i].length, STANDIN_IN, data, sizeof(data));
		fixture_settle();
		assert_null(memchr(data, 'S', sizeof(data)));
		assert_true(command.data_in_length <= 1);
	}
}

static void test_io_error_becomes_sense(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	char data[BLOCK];
	disk.result = -ENOSPC;
	standin_write16(&command, 0, 1, BLOCK, data, false);
	fixture_submit(&command);
	fixture_settle();
	fixture_assert_sense(&command, 7, 0x27, 7);
}

static void test_queries(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command commands[2] = { 0 };
	uint8_t data[2][64] = { 0 };
	uint8_t cdb[12] = { 0xa3, 0x0a, [9] = 64 };
	for (unsigned i = 0; i < 2; i++)
		fixture_submit_cdb(&commands[i], cdb, 12, STANDIN_IN, data[i], 64);
	fixture_turns(3);
	assert_int_equal(fixture.asked_count, 2);
	assert_int_equal(fixture.standin.in_flight, 2);

	struct scsi_query stray = { 0 };
	lun_query_done(fixture.lun, &stray, 0);

	assert_int_equal(fixture.asked[1]->question, SCSI_ASK_PORT_GROUPS);
	fixture.asked[1]->port_groups = (struct scsi_port_groups){ .count = 1, .groups[0] = { .id = 0x1234, .port_count = 0 } };
	lun_query_done(fixture.lun, fixture.asked[1], 0);
	lun_query_done(fixture.lun, fixture.asked[1], 0); /* said twice: the second is no answer */
	fixture_turn();
	assert_true(commands[0].in_flight);
	assert_false(commands[1].in_flight);
	assert_int_equal(commands[1].status, 0);
	assert_int_equal(get_be16(data[1] + 4 + 2), 0x1234);

	lun_query_done(fixture.lun, fixture.asked[0], -EIO);
	fixture_settle();
	assert_int_not_equal(commands[0].status, 0);
}

static void test_query_answered_at_once(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	answer_queries_at_once();
	struct standin_command command = { 0 };
	uint8_t data[64], cdb[12] = { 0xa3, 0x0a, [9] = 64 };
	fixture_submit_cdb(&command, cdb, 12, STANDIN_IN, data, 64);
	fixture_settle();
	assert_int_equal(fixture.asked_count, 1);
	assert_int_not_equal(command.status, 0);
}

static void test_capacity_changes(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	uint8_t data[8];
	lun_set_capacity(fixture.lun, UINT64_MAX); /* as it is */
	fixture_submit_cdb(&command, (uint8_t[10]){ 0x25 }, 10, STANDIN_IN, data, 8);
	fixture_settle();
	assert_int_equal(command.status, 0);
	assert_int_equal(get_be32(data), DISK_SIZE / BLOCK - 1);
	lun_set_capacity(fixture.lun, 1 << 20);
	fixture_submit(&command);
	fixture_settle();
	fixture_assert_sense(&command, 6, 0x2a, 9);
	fixture_submit(&command);
	fixture_settle();
	assert_int_equal(get_be32(data), (1 << 20) / BLOCK - 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, fixture_finish)
	const struct CMUnitTest tests[] = {
		TEST(test_compare_and_write_is_atomic),
		TEST(test_compare_and_write_against_a_write),
		TEST(test_compare_and_write_among_holders_of_scratch),
		TEST(test_more_scratch_than_there_is),
		TEST(test_short_data_in),
		TEST(test_nothing_stale_in_a_buffer_that_stays_empty),
		TEST(test_io_error_becomes_sense),
		TEST(test_queries),
		TEST(test_query_answered_at_once),
		TEST(test_capacity_changes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
