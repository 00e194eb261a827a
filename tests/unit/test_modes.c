/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What initiators set by MODE SELECT, told to the control process and taken over by the next LUN in the same place. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lun_fixture.h"

static struct standin_command command;

static void run_cdb(const uint8_t cdb[6], enum standin_direction direction, void *data, size_t length)
{
	memset(&command, 0, sizeof(command));
	fixture_submit_cdb(&command, cdb, 6, direction, data, length);
	fixture_settle();
}

struct pages {
	uint8_t header[4], caching[20], control[12];
};

static struct pages mode_sense(void)
{
	struct pages pages = { 0 };
	run_cdb((uint8_t[6]){ 0x1a, 0x08, 0x3f, 0, sizeof(pages) }, STANDIN_IN, &pages, sizeof(pages));
	assert_int_equal(command.status, 0);
	return pages;
}

static void mode_select(bool write_cache, bool write_protect)
{
	struct pages pages = mode_sense();
	memset(pages.header, 0, sizeof(pages.header));
	pages.caching[2] = write_cache ? 4 : 0;
	pages.control[4] = write_protect ? 8 : 0;
	run_cdb((uint8_t[6]){ 0x15, 0x10, 0, 0, sizeof(pages) }, STANDIN_OUT, &pages, sizeof(pages));
	assert_int_equal(command.status, 0);
}

static void assert_modes(bool write_cache, bool write_protect)
{
	struct pages pages = mode_sense();
	assert_int_equal(pages.caching[2], write_cache ? 4 : 0);
	assert_int_equal(pages.control[4], write_protect ? 8 : 0);
}

/* Another worker in the place of this one, as the kernel sees it. */
static void succeed(bool write_cache_configured)
{
	fixture_stop_lun();
	fixture.config.modes = fixture.modes;
	fixture.config.write_cache = write_cache_configured;
	fixture_start_lun();
}

static void assert_attention(void)
{
	run_cdb((uint8_t[6]){ 0x00 }, STANDIN_NONE, NULL, 0);
	fixture_assert_sense(&command, 6, 0x2a, 0x01);
}

static void assert_no_attention(void)
{
	run_cdb((uint8_t[6]){ 0x00 }, STANDIN_NONE, NULL, 0);
	assert_int_equal(command.status, 0);
}

static void modes_are_told_before_the_answer(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	mode_sense();
	unsigned before = fixture.modes_count;
	uint64_t completed = fixture.standin.completed;
	mode_select(false, true); /* senses first */
	assert_int_equal(fixture.modes_count, before + 1);
	assert_int_equal(fixture.completed_at_modes, completed + 1);
	mode_select(false, true);
	assert_int_equal(fixture.modes_count, before + 1);
}

static void a_successor_takes_them_over(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	mode_select(false, true);
	succeed(true);
	assert_no_attention();
	assert_modes(false, true);
	char data[BLOCK] = "x";
	standin_write16(&command, 0, 1, BLOCK, data, false);
	fixture_submit(&command);
	fixture_settle();
	fixture_assert_sense(&command, 7, 0x27, 0x02);
	mode_select(true, false);
	succeed(true);
	assert_no_attention();
	assert_modes(true, false);
}

static void without_modes_it_starts_as_configured(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	mode_select(false, true);
	fixture.modes = 0;
	succeed(true);
	assert_no_attention();
	assert_modes(true, false);
	fixture.modes = ~SCSI_MODES_KNOWN; /* makes no sense */
	succeed(true);
	assert_no_attention();
	assert_modes(true, false);
}

static void a_new_configuration_wins_and_is_told(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	assert_modes(true, false);
	succeed(false);
	assert_attention();
	assert_no_attention();
	assert_modes(false, false);
	/* What an initiator set under the old one does not come back. */
	mode_select(true, false);
	succeed(true);
	assert_no_attention(); /* it is what they have seen */
	assert_modes(true, false);
	mode_select(false, true);
	succeed(false);
	assert_modes(false, true);
	succeed(true);
	assert_attention();
	assert_modes(true, true);
}

/* The one before died without having said the unit attention: it is said by the next. */
static void an_attention_is_not_lost_with_a_worker(void **state)
{
	(void)state;
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	assert_modes(true, false);
	succeed(false);
	succeed(false);
	assert_attention();
	assert_modes(false, false);
}

#define TMR_LUN_RESET 5

/* A LUN whose write cache is configured off and was switched on, with a write that is done and one that is under way. */
static void start_reset(struct standin_command *done, struct standin_command *under_way, char *data)
{
	fixture_start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	succeed(false);
	mode_select(true, false);
	standin_write16(done, 0, 1, BLOCK, data, false);
	fixture_submit(done);
	fixture_settle();
	disk.mode = DISK_HELD;
	standin_write16(under_way, 1, 1, BLOCK, data, false);
	fixture_submit(under_way);
	fixture_turn();
	assert_int_equal(disk.held_count, 1);
	assert_int_equal(standin_tmr(&fixture.standin, TMR_LUN_RESET, NULL, 0), 0);
}

static void a_reset_that_switches_the_cache_off_flushes(void **state)
{
	(void)state;
	struct standin_command done = { 0 }, under_way = { 0 }, sense = { 0 };
	struct pages pages;
	char data[BLOCK] = "x";
	start_reset(&done, &under_way, data);
	fixture_submit_cdb(&sense, (uint8_t[6]){ 0x1a, 0x08, 0x3f, 0, sizeof(pages) }, 6, STANDIN_IN, &pages, sizeof(pages));
	fixture_turns(3);
	/* the flush of what was done; nobody is told that the cache is off */
	assert_int_equal(disk.held_count, 2);
	assert_int_equal(disk.held[1]->op, LUNKIT_FLUSH);
	assert_true(sense.in_flight);
	fixture_release(0); /* the write: not answered without a flush of its own */
	fixture_turns(2);
	assert_true(under_way.in_flight);
	assert_int_equal(disk.held_count, 2);
	assert_int_equal(disk.held[1]->op, LUNKIT_FLUSH);
	fixture_release_all();
	fixture_turns(3);
	assert_false(under_way.in_flight);
	assert_false(sense.in_flight);
	assert_int_equal(pages.caching[2], 0);
	disk.mode = DISK_AT_ONCE;
	/* Nothing to flush when it is off already. */
	uint64_t before = fixture_statistics().flushes;
	assert_int_equal(standin_tmr(&fixture.standin, TMR_LUN_RESET, NULL, 0), 0);
	fixture_turns(2);
	assert_int_equal(fixture_statistics().flushes, before);
}

static void a_cache_that_cannot_be_flushed_stays_on(void **state)
{
	(void)state;
	struct standin_command done = { 0 }, under_way = { 0 };
	char data[BLOCK] = "x";
	start_reset(&done, &under_way, data);
	fixture_turns(2);
	disk.result = -EIO;
	fixture_release(1);
	disk.result = 0;
	disk.mode = DISK_AT_ONCE;
	fixture_release_all();
	fixture_settle();
	assert_modes(true, false);
}

static void a_lun_does_not_stop_under_the_flush_of_a_reset(void **state)
{
	(void)state;
	struct standin_command done = { 0 }, under_way = { 0 };
	char data[BLOCK] = "x";
	start_reset(&done, &under_way, data);
	fixture_turns(2);
	fixture_release(0);
	struct loop_op op = { .done = fixture_stopped };
	lun_stop(fixture.lun, &op);
	fixture_release(1); /* the write's own */
	fixture_turns(5);
	assert_false(under_way.in_flight);
	assert_non_null(op.done);
	fixture_release_all();
	fixture_turns(5);
	assert_null(op.done);
	lun_free(fixture.lun);
	fixture.lun = NULL;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, fixture_finish)
	const struct CMUnitTest tests[] = {
		TEST(modes_are_told_before_the_answer),	       TEST(a_successor_takes_them_over),
		TEST(without_modes_it_starts_as_configured),   TEST(a_new_configuration_wins_and_is_told),
		TEST(an_attention_is_not_lost_with_a_worker),  TEST(a_reset_that_switches_the_cache_off_flushes),
		TEST(a_cache_that_cannot_be_flushed_stays_on), TEST(a_lun_does_not_stop_under_the_flush_of_a_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
