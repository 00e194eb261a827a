/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* REPORT and SET TARGET PORT GROUPS. */
#include "scsi_test.h"

#define REPORT(format, length) 0xa3, (uint8_t)((format) << 5 | 0x0a), 0, 0, 0, 0, BYTES32(length), 0, 0
#define SET(length) 0xa4, 0x0a, 0, 0, 0, 0, BYTES32(length), 0, 0

static void two_groups(void)
{
	fake.groups.count = 2;
	fake.groups.groups[0] = (struct scsi_port_group){
		.id = 1, .access_type = 3, .preferred = true, .supported_states = 0x4f, .port_count = 2, .ports = { 1, 2 }
	};
	fake.groups.groups[1] = (struct scsi_port_group){ .id = 0x102,
							  .access_type = 2,
							  .access_state = 2,
							  .access_status = 1,
							  .supported_states = 0x05,
							  .port_count = 1,
							  .ports = { 9 } };
}

static void test_report(void **state)
{
	(void)state;
	two_groups();
	static const uint8_t want[] = { 0, 0, 0, 28, 0x80, 0x4f, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1,
					0, 0, 0, 2,  0x02, 0x05, 1, 2, 0, 1, 0, 1, 0, 0, 0, 9 };
	GOOD(255, REPORT(0, 255));
	assert_int_equal(fake.command.data_in_length, sizeof(want));
	assert_memory_equal(buffer, want, sizeof(want));
	GOOD(255, REPORT(1, 255)); /* extended header */
	assert_int_equal(fake.command.data_in_length, sizeof(want) + 4);
	assert_int_equal(get_be32(buffer), 32);
	assert_int_equal(buffer[4], 0x10);
	assert_int_equal(buffer[5], 3);
	assert_memory_equal(buffer + 8, want + 4, sizeof(want) - 4);
	memset(buffer, 0xcc, 255);
	GOOD(255, REPORT(0, 5));
	assert_int_equal(fake.command.data_in_length, 5);
	assert_int_equal(buffer[5], 0xcc);
	INVALID_CDB(1, 7, 255, REPORT(2, 255));
	fake.ask_result = -EIO;
	CHECK(0x044400, 255, REPORT(0, 255));
	fake.ask_result = -EBUSY;
	assert_int_equal(RUN(255, REPORT(0, 255)), SCSI_BUSY);
}

static void test_report_most(void **state)
{
	(void)state;
	fake.groups.count = 999;
	for (unsigned at = 0; at < SCSI_PORT_GROUPS_MAX; at++)
		fake.groups.groups[at].port_count = 999;
	GOOD(10000, REPORT(1, 10000));
	assert_int_equal(fake.command.data_in_length, 8 + SCSI_PORT_GROUPS_MAX * (8 + 4 * SCSI_PORTS_MAX));
}

static unsigned list_length;

static void list_start(void)
{
	memset(buffer, 0, 4);
	list_length = 4;
}

static void list_add(uint8_t group_state, uint16_t id)
{
	buffer[list_length] = group_state;
	buffer[list_length + 1] = 0;
	put_be16(buffer + list_length + 2, id);
	list_length += 4;
}

static void test_set(void **state)
{
	(void)state;
	two_groups();
	list_start();
	list_add(0, 0x102);
	list_add(1, 1);
	GOOD(list_length, SET(list_length));
	assert_int_equal(fake.set.count, 2);
	assert_int_equal(fake.set.groups[0].id, 0x102);
	assert_int_equal(fake.set.groups[0].access_state, 0);
	assert_int_equal(fake.set.groups[1].id, 1);
	assert_int_equal(fake.set.groups[1].access_state, 1);
	GOOD(0, SET(0));
	fake.set_result = -EIO;
	CHECK(0x04670a, list_length, SET(list_length));
	fake.set_result = -EBUSY;
	assert_int_equal(RUN(list_length, SET(list_length)), SCSI_BUSY);
}

static void test_set_bad(void **state)
{
	(void)state;
	two_groups();
	list_start();
	list_add(0, 1);
	for (unsigned length = 1; length < 8; length++)
		CHECK(0x051a00, 8, SET(length));
	CHECK(0x051a00, 7, SET(8));
	CHECK(0x051a00, 255, SET(4 + 4 * SCSI_PORT_GROUPS_MAX + 4));
	CHECK(0x051a00, 255, SET(UINT32_MAX));
	list_start();
	list_add(0, 3); /* unknown */
	INVALID_LIST(6, -1, list_length, SET(list_length));
	list_start();
	list_add(0, 1);
	list_add(1, 1); /* twice */
	INVALID_LIST(10, -1, list_length, SET(list_length));
	list_start();
	list_add(1, 0x102); /* not supported there */
	INVALID_LIST(4, 3, list_length, SET(list_length));
	list_start();
	list_add(0x0e, 1); /* offline */
	INVALID_LIST(4, 3, list_length, SET(list_length));
	fake.groups.groups[1].access_type = 1; /* implicit only */
	list_start();
	list_add(0, 0x102);
	INVALID_LIST(4, 3, list_length, SET(list_length));
	fake.groups.groups[0].access_type = 1;
	INVALID_CDB(1, 4, list_length, SET(list_length));
	fake.ask_result = -ETIMEDOUT;
	CHECK(0x020401, list_length, SET(list_length));
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_report), TEST(test_report_most), TEST(test_set), TEST(test_set_bad) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
