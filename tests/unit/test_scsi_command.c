/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The checks that all commands share. */
#include "scsi_test.h"

static void test_unknown(void **state)
{
	(void)state;
	CHECK(0x052000, 0, 0xff, 0, 0, 0, 0, 0);
	CHECK(0x052000, 0, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0);
	INVALID_CDB(1, 4, 0, 0x9e, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	INVALID_CDB(1, 4, 0, 0xa3, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
	assert_int_equal(fake_run(&fake, "", 0, buffer, 0), SCSI_CHECK_CONDITION);
	assert_int_equal(fake_sense(&fake), 0x052000);
}

static void test_short_cdb(void **state)
{
	(void)state;
	CHECK(0x052400, 512, 0x28, 0, 0, 0, 0, 0);
	assert_int_equal(fake.steps, 0);
}

static void test_naca(void **state)
{
	(void)state;
	INVALID_CDB(5, 2, 0, 0, 0, 0, 0, 0, 4);
	INVALID_CDB(9, 2, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 4);
	INVALID_CDB(15, 2, 512, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 4);
}

static void test_protection(void **state)
{
	(void)state;
	for (unsigned protect = 1; protect < 8; protect++) {
		uint8_t flags = (uint8_t)(protect << 5);
		static const uint8_t opcodes[] = {
			0x28, 0x2a, 0x2e, 0x2f, 0x41, 0x88, 0x89, 0x8a, 0x8e, 0x8f, 0x93, 0xa8, 0xaa, 0xae, 0xaf
		};
		for (unsigned at = 0; at < sizeof(opcodes); at++)
			INVALID_CDB(1, 7, 1024, opcodes[at], flags, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0);
	}
}

static void write_protect(unsigned sense)
{
	static const uint8_t opcodes[] = { 0x0a, 0x2a, 0x2e, 0x41, 0x42, 0x83, 0x89, 0x8a, 0x8e, 0x93, 0xaa, 0xae };
	for (unsigned at = 0; at < sizeof(opcodes); at++)
		CHECK(sense, 1024, opcodes[at], 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0);
	GOOD(512, READ6(0, 1));
	GOOD(0, TEN(0x35, 0, 0, 0));
	GOOD(0, TEN(0x2f, 0, 0, 1));
}

static void test_write_protect(void **state)
{
	(void)state;
	fake.device.software_write_protect = true;
	write_protect(0x072702);
	fake.device.read_only = true;
	write_protect(0x072700);
}

static void test_stopped(void **state)
{
	(void)state;
	fake.device.stopped = true;
	static const uint8_t opcodes[] = { 0x00, 0x08, 0x0a, 0x25, 0x28, 0x2a, 0x2e, 0x2f, 0x34, 0x35, 0x41, 0x42, 0x83,
					   0x88, 0x89, 0x8a, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0xa8, 0xaa, 0xae, 0xaf };
	for (unsigned at = 0; at < sizeof(opcodes); at++)
		CHECK(0x020402, 1024, opcodes[at], 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0);
	CHECK(0x020402, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
	GOOD(96, 0x12, 0, 0, 0, 96, 0);
	GOOD(96, 0x1a, 0, 0x3f, 0, 96, 0);
}

static void test_unit_attention(void **state)
{
	(void)state;
	fake.device.unit_attentions = SCSI_UA_CAPACITY_CHANGED | SCSI_UA_RESET | SCSI_UA_MODE_CHANGED;
	GOOD(96, 0x12, 0, 0, 0, 96, 0); /* tells nothing and clears nothing */
	CHECK(0x062900, 0, 0, 0, 0, 0, 0, 0);
	CHECK(0x062a01, 512, READ6(0, 1));
	CHECK(0x062a09, 0, 0xff, 0, 0, 0, 0, 0); /* before what is unknown */
	GOOD(512, READ6(0, 1));

	scsi_device_resize(&fake.device, FAKE_BLOCKS);
	GOOD(0, 0, 0, 0, 0, 0, 0);
	scsi_device_resize(&fake.device, FAKE_BLOCKS / 2);
	CHECK(0x062a09, 512, READ6(0, 1));
	GOOD(8, TEN(0x25, 0, 0, 0));
	assert_int_equal(get_be32(buffer), FAKE_BLOCKS / 2 - 1);
	CHECK(0x052100, 512, READ6(FAKE_BLOCKS / 2, 1));
}

static void test_fail_from_outside(void **state)
{
	(void)state;
	GOOD(512, READ6(0, 1));
	scsi_command_fail(&fake.command, SCSI_TASK_ABORTED, 0, 0);
	assert_int_equal(fake.command.status, SCSI_TASK_ABORTED);
	assert_int_equal(fake.command.sense_length, 0);
	assert_int_equal(fake.command.data_in_length, 0);
	scsi_command_fail(&fake.command, SCSI_CHECK_CONDITION, 0x0b, 0x0800);
	assert_int_equal(fake.command.sense_length, 18);
	assert_int_equal(fake_sense(&fake), 0x0b0800);
	struct scsi_command unstarted = { .cdb = { 0 } };
	scsi_command_fail(&unstarted, SCSI_CHECK_CONDITION, 0x05, 0x2400);
	assert_int_equal(unstarted.sense_length, 18);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unknown),	  TEST(test_short_cdb), TEST(test_naca),	   TEST(test_protection),
		TEST(test_write_protect), TEST(test_stopped),	TEST(test_unit_attention), TEST(test_fail_from_outside),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
