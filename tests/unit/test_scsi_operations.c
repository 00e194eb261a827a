/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The operations' table as REPORT SUPPORTED OPERATION CODES and the log tell it. */
#include "scsi_test.h"

#define RSOC(options, opcode, action, length) 0xa3, 0x0c, options, opcode, BYTES16(action), BYTES32(length), 0, 0

static bool listed(uint8_t opcode, uint16_t action, unsigned step)
{
	uint32_t length = get_be32(buffer);
	for (uint32_t at = 4; at < 4 + length; at += step)
		if (buffer[at] == opcode && get_be16(buffer + at + 2) == action)
			return true;
	return false;
}

static void test_all(void **state)
{
	(void)state;
	GOOD(4096, RSOC(0, 0, 0, 4096));
	uint32_t length = get_be32(buffer);
	assert_int_equal(length % 8, 0);
	assert_int_equal(fake.command.data_in_length, length + 4);
	assert_true(listed(0x28, 0, 8) && listed(0x9e, 0x10, 8) && listed(0x42, 0, 8) && listed(0x84, 4, 8));
	assert_false(listed(0x9f, 0, 8));
	uint8_t copy[4096];
	memcpy(copy, buffer, sizeof(copy));
	for (uint32_t at = 4; at < 4 + length; at += 8) {
		bool actions = copy[at + 5] & 1;
		uint16_t action = get_be16(copy + at + 2), size = get_be16(copy + at + 6);
		assert_true(actions || !action);
		if (actions) {
			INVALID_CDB(2, 2, 100, RSOC(1, copy[at], action, 100));
			GOOD(100, RSOC(2, copy[at], action, 100));
		} else {
			INVALID_CDB(2, 2, 100, RSOC(2, copy[at], action, 100));
			GOOD(100, RSOC(1, copy[at], action, 100));
		}
		assert_int_equal(buffer[1], 3);
		assert_int_equal(get_be16(buffer + 2), size);
		assert_int_equal(fake.command.data_in_length, 4u + size);
		assert_int_equal(buffer[4], copy[at]);
		assert_int_equal(buffer[4 + size - 1], 4); /* NACA is looked at */
		if (actions)
			assert_int_equal(buffer[5] & 0x1f, action);
		GOOD(100, RSOC(0x83, copy[at], action, 100));
		assert_int_equal(buffer[1], 0x83);
		assert_int_equal(fake.command.data_in_length, 4u + size + 12);
		assert_int_equal(get_be16(buffer + 4 + size), 10);
	}
}

static void test_timeouts(void **state)
{
	(void)state;
	GOOD(4096, RSOC(0x80, 0, 0, 4096));
	assert_int_equal(get_be32(buffer) % 20, 0);
	assert_int_equal(buffer[4 + 5] & 2, 2);
	assert_int_equal(get_be16(buffer + 12), 10);
	assert_true(listed(0xaf, 0, 20));
}

static void test_without_discard(void **state)
{
	(void)state;
	fake.device.can_discard = false;
	GOOD(4096, RSOC(0, 0, 0, 4096));
	assert_false(listed(0x42, 0, 8));
	GOOD(100, RSOC(1, 0x42, 0, 100));
	assert_int_equal(buffer[1], 1);
	CHECK(0x052000, 0, TEN(0x42, 0, 0, 0));
}

static void test_one(void **state)
{
	(void)state;
	GOOD(100, RSOC(1, 0xff, 0, 100));
	assert_int_equal(buffer[1], 1);
	assert_int_equal(fake.command.data_in_length, 4);
	GOOD(100, RSOC(2, 0x9e, 0x1f, 100));
	assert_int_equal(buffer[1], 1);
	GOOD(100, RSOC(2, 0x9e, 0x110, 100)); /* not 10 */
	assert_int_equal(buffer[1], 1);
	GOOD(100, RSOC(3, 0x28, 1, 100));
	assert_int_equal(buffer[1], 1);
	GOOD(100, RSOC(1, 0x28, 0, 100));
	assert_int_equal(buffer[5] & 0x18, 0x18); /* DPO, FUA */
	INVALID_CDB(2, 2, 100, RSOC(4, 0x28, 0, 100));
	INVALID_CDB(2, 2, 100, RSOC(7, 0x28, 0, 100));
	/* truncated, and nothing beyond */
	memset(buffer, 0xcc, 100);
	GOOD(100, RSOC(1, 0x28, 0, 6));
	assert_int_equal(fake.command.data_in_length, 6);
	assert_int_equal(buffer[6], 0xcc);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(scsi_opcode_name((const uint8_t[]){ 0x28 }, 1), "READ(10)");
	assert_string_equal(scsi_opcode_name((const uint8_t[]){ 0x9e, 0x12 }, 2), "GET LBA STATUS");
	assert_string_equal(scsi_opcode_name((const uint8_t[]){ 0x9e, 0x1f }, 2), "unknown service action");
	assert_string_equal(scsi_opcode_name((const uint8_t[]){ 0xff }, 1), "unknown operation");
	assert_string_equal(scsi_opcode_name(NULL, 0), "unknown operation");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_all), TEST(test_timeouts), TEST(test_without_discard), TEST(test_one), TEST(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
