/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Task management. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lun_fixture.h"

#define TMR_ABORT_TASK 1
#define TMR_LUN_RESET 5

static void compare_and_write(struct standin_command *command, uint64_t lba, char *data)
{
	uint8_t cdb[16] = { 0x89, [9] = (uint8_t)lba, [13] = 1 };
	fixture_submit_cdb(command, cdb, 16, STANDIN_OUT, data, 2 * BLOCK);
}

static void verify_bytes(struct standin_command *command, uint64_t lba, void *data)
{
	uint8_t cdb[16] = { 0x8f, 0x02, [9] = (uint8_t)lba, [13] = 1 };
	fixture_submit_cdb(command, cdb, 16, STANDIN_OUT, data, BLOCK);
}

static void test_abort_waits_for_io(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command read = { 0 }, other = { 0 };
	char data[2][BLOCK];
	standin_read16(&read, 0, 1, BLOCK, data[0]);
	standin_read16(&other, 1, 1, BLOCK, data[1]);
	fixture_submit(&read);
	fixture_submit(&other);
	fixture_turn();
	uint16_t ids[2] = { read.id, 4000 };
	assert_int_equal(standin_tmr(&fixture.standin, TMR_ABORT_TASK, ids, 2), 0);
	fixture_turns(2);
	assert_true(read.in_flight);
	fixture_release(1);
	fixture_turn();
	assert_false(other.in_flight);
	assert_int_equal(other.status, 0);
	assert_int_equal(fixture_statistics().aborted, 0);
	fixture_release(0);
	fixture_turn();
	assert_false(read.in_flight);
	assert_int_equal(fixture_statistics().aborted, 1);
	assert_int_equal(fixture.standin.cleaned, fixture.standin.head);
}

static void test_abort_takes_back_what_waits(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command commands[6];
	static char data[6][BLOCK];
	uint16_t ids[6];
	for (unsigned i = 0; i < 6; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		verify_bytes(&commands[i], i, data[i]);
	}
	fixture_turns(2);
	for (unsigned i = 0; i < 6; i++)
		ids[i] = commands[i].id;
	assert_int_equal(standin_tmr(&fixture.standin, TMR_LUN_RESET, ids, 6), 0);
	fixture_turn();
	/* the two that waited for a buffer */
	assert_int_equal(fixture.standin.in_flight, 4);
	assert_int_equal(commands[4].status, SCSI_TASK_ABORTED);
	assert_int_equal(commands[5].status, SCSI_TASK_ABORTED);
	fixture_release_all();
	fixture_settle();
	assert_int_equal(fixture_statistics().aborted, 6);
	/* the buffers are there again */
	for (unsigned i = 0; i < 6; i++)
		verify_bytes(&commands[i], i, data[i]);
	fixture_turns(2);
	assert_int_equal(disk.held_count, 4);
	while (fixture.standin.in_flight) {
		fixture_release_all();
		fixture_turns(2);
	}
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(commands[i].status, 0);
}

/* Between its read and its write: the write never happens, the lock is given back. */
static void test_abort_between_steps(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command compare = { 0 }, write = { 0 };
	char both[2 * BLOCK] = { 0 }, plain[BLOCK];
	memset(both + BLOCK, 'A', BLOCK);
	memset(plain, 'B', BLOCK);
	compare_and_write(&compare, 3, both);
	fixture_turn();
	assert_int_equal(disk.held_count, 1);
	standin_write16(&write, 3, 1, BLOCK, plain, false);
	fixture_submit(&write);
	assert_int_equal(standin_tmr(&fixture.standin, TMR_ABORT_TASK, &compare.id, 1), 0);
	fixture_turn();
	assert_int_equal(disk.held_count, 1);
	fixture_release(0);
	fixture_turn();
	assert_false(compare.in_flight);
	assert_int_equal(compare.status, SCSI_TASK_ABORTED);
	assert_int_equal(disk.content[3 * BLOCK], 0);
	assert_int_equal(disk.held_count, 1);
	fixture_release_all();
	fixture_settle();
	assert_int_equal(disk.content[3 * BLOCK], 'B');
}

static void test_reset_puts_modes_back(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	char data[BLOCK];
	fixture_submit_cdb(&command, (uint8_t[6]){ 0x1b }, 6, STANDIN_NONE, NULL, 0);
	fixture_settle();
	assert_int_equal(command.status, 0);
	standin_read16(&command, 0, 1, BLOCK, data);
	fixture_submit(&command);
	fixture_settle();
	fixture_assert_sense(&command, 2, 4, 2);
	assert_int_equal(standin_tmr(&fixture.standin, TMR_LUN_RESET, NULL, 0), 0);
	fixture_turn();
	assert_int_equal(fixture.standin.cleaned, fixture.standin.head);
	fixture_submit(&command);
	fixture_settle();
	assert_int_equal(command.status, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, fixture_finish)
	const struct CMUnitTest tests[] = {
		TEST(test_abort_waits_for_io),
		TEST(test_abort_takes_back_what_waits),
		TEST(test_abort_between_steps),
		TEST(test_reset_puts_modes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
