/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW, SYNCHRONIZE CACHE, PRE-FETCH. */
#include "scsi_test.h"

#define TUR 0, 0, 0, 0, 0, 0
#define REQUEST_SENSE(descriptor, length) 0x03, descriptor, 0, 0, length, 0
#define START_STOP(immediate, flags) 0x1b, immediate, 0, 0, flags, 0

static void test_request_sense(void **state)
{
	(void)state;
	GOOD(252, REQUEST_SENSE(0, 252));
	assert_int_equal(fake.command.data_in_length, 18);
	assert_int_equal(buffer[0], 0x70);
	assert_int_equal(buffer[2], 0);
	GOOD(252, REQUEST_SENSE(1, 252));
	assert_int_equal(fake.command.data_in_length, 8);
	assert_int_equal(buffer[0], 0x72);
	fake.device.unit_attentions = SCSI_UA_RESET | SCSI_UA_MODE_CHANGED | SCSI_UA_CAPACITY_CHANGED;
	GOOD(252, REQUEST_SENSE(0, 252));
	assert_int_equal(buffer[2], 6);
	assert_int_equal(get_be16(buffer + 12), 0x2900);
	GOOD(252, REQUEST_SENSE(0, 252));
	assert_int_equal(get_be16(buffer + 12), 0x2a01);
	GOOD(252, REQUEST_SENSE(1, 252));
	assert_int_equal(buffer[1], 6);
	assert_int_equal(get_be16(buffer + 2), 0x2a09);
	GOOD(0, TUR); /* they were told */
	fake.device.stopped = true;
	GOOD(252, REQUEST_SENSE(0, 252));
	assert_int_equal(buffer[2], 2);
	assert_int_equal(get_be16(buffer + 12), 0x0402);
	memset(buffer, 0xcc, 252);
	GOOD(252, REQUEST_SENSE(0, 3));
	assert_int_equal(fake.command.data_in_length, 3);
	assert_int_equal(buffer[3], 0xcc);
	GOOD(252, REQUEST_SENSE(0, 0));
	assert_int_equal(fake.command.data_in_length, 0);
}

static void test_start_stop(void **state)
{
	(void)state;
	GOOD(0, TUR);
	GOOD(0, START_STOP(0, 0));
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	CHECK(0x020402, 0, TUR);
	CHECK(0x020402, 512, TEN(0x28, 0, 0, 1));
	GOOD(0, START_STOP(1, 0)); /* stopped already */
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 0);
	GOOD(0, START_STOP(1, 1));
	GOOD(0, TUR);
	GOOD(0, START_STOP(0, 4)); /* NO_FLUSH */
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 0);
	CHECK(0x020402, 0, TUR);
	GOOD(0, START_STOP(0, 1));
	INVALID_CDB(4, 1, 0, START_STOP(0, 2)); /* eject */
	INVALID_CDB(4, 1, 0, START_STOP(0, 3));
	for (unsigned condition = 1; condition < 16; condition++)
		INVALID_CDB(4, 7, 0, START_STOP(0, (uint8_t)(condition << 4)));
	GOOD(0, TUR);
	fake.fail_op = LUNKIT_FLUSH;
	fake.fail_result = -EIO;
	CHECK(0x030c00, 0, START_STOP(0, 0));
	GOOD(0, TUR); /* still started */
}

static void test_prevent_allow(void **state)
{
	(void)state;
	GOOD(0, 0x1e, 0, 0, 0, 1, 0);
	GOOD(0, 0x1e, 0, 0, 0, 0, 0);
	INVALID_CDB(4, 1, 0, 0x1e, 0, 0, 0, 2, 0);
	INVALID_CDB(4, 1, 0, 0x1e, 0, 0, 0, 3, 0);
}

static void test_synchronize_cache(void **state)
{
	(void)state;
	GOOD(0, TEN(0x35, 0, 0, 0));
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	GOOD(0, TEN(0x35, 2, FAKE_BLOCKS - 1, 1)); /* IMMED */
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	GOOD(0, SIXTEEN(0x91, 0, 0, FAKE_BLOCKS));
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	CHECK(0x052100, 0, TEN(0x35, 0, FAKE_BLOCKS, 0));
	CHECK(0x052100, 0, TEN(0x35, 0, FAKE_BLOCKS - 1, 2));
	CHECK(0x052100, 0, SIXTEEN(0x91, 0, UINT64_MAX, 0));
	fake.fail_op = LUNKIT_FLUSH;
	fake.fail_result = -ENOSPC;
	CHECK(0x072707, 0, TEN(0x35, 0, 0, 0));
}

static void test_prefetch(void **state)
{
	(void)state;
	GOOD(0, TEN(0x34, 0, 0, 0));
	GOOD(0, 0x34, 2, 0, 0, 0, 1, 0x1f, 0, 9, 0);
	GOOD(0, SIXTEEN(0x90, 0, FAKE_BLOCKS - 2, 2));
	CHECK(0x052100, 0, TEN(0x34, 0, FAKE_BLOCKS + 1, 0));
	CHECK(0x052100, 0, SIXTEEN(0x90, 0, FAKE_BLOCKS - 1, 2));
	CHECK(0x052100, 0, SIXTEEN(0x90, 0, UINT64_MAX, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request_sense),     TEST(test_start_stop), TEST(test_prevent_allow),
		TEST(test_synchronize_cache), TEST(test_prefetch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
