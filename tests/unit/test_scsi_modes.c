/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MODE SENSE and MODE SELECT. */
#include "scsi_test.h"

#define SENSE6(flags, page, subpage, length) 0x1a, flags, page, subpage, length, 0
#define SENSE10(flags, page, subpage, length) 0x5a, flags, page, subpage, 0, 0, 0, BYTES16(length), 0
#define SELECT6(flags, length) 0x15, flags, 0, 0, length, 0
#define SELECT10(flags, length) 0x55, flags, 0, 0, 0, 0, 0, BYTES16(length), 0
#define DBD 0x08
#define PF 0x10

static void test_sense_6(void **state)
{
	(void)state;
	GOOD(255, SENSE6(0, 0x3f, 0, 255));
	assert_int_equal(fake.command.data_in_length, 4 + 8 + 20 + 12);
	assert_int_equal(buffer[0], 43);
	assert_int_equal(buffer[2], 0x10);
	assert_int_equal(buffer[3], 8);
	assert_int_equal(get_be32(buffer + 4), FAKE_BLOCKS);
	assert_int_equal(get_be24(buffer + 9), 512);
	assert_int_equal(buffer[12], 0x08);
	assert_int_equal(buffer[13], 18);
	assert_int_equal(buffer[14], 4);
	assert_int_equal(buffer[32], 0x0a);
	assert_int_equal(buffer[33], 10);
	memset(buffer, 0xcc, 255);
	GOOD(255, SENSE6(DBD, 0x0a, 0xff, 4));
	assert_int_equal(fake.command.data_in_length, 4);
	assert_int_equal(buffer[0], 15);
	assert_int_equal(buffer[3], 0);
	assert_int_equal(buffer[4], 0xcc);
	INVALID_CDB(2, 5, 255, SENSE6(0, 0x01, 0, 255));
	INVALID_CDB(3, -1, 255, SENSE6(0, 0x0a, 1, 255));
	CHECK(0x053900, 255, SENSE6(0, 0xff, 0, 255)); /* saved */
	fake.device.read_only = true;
	GOOD(255, SENSE6(0, 0x3f, 0, 255));
	assert_int_equal(buffer[2], 0x90);
}

static void test_sense_10(void **state)
{
	(void)state;
	GOOD(255, SENSE10(0, 0x3f, 0xff, 255));
	assert_int_equal(get_be16(buffer), 8 + 8 + 32 - 2);
	assert_int_equal(buffer[3], 0x10);
	assert_int_equal(buffer[4], 0);
	assert_int_equal(get_be16(buffer + 6), 8);
	fake.device.blocks = 0x200000000;
	GOOD(255, SENSE10(0, 0x08, 0, 255));
	assert_int_equal(get_be32(buffer + 8), UINT32_MAX);
	GOOD(255, SENSE10(0x10, 0x08, 0, 255)); /* LLBAA */
	assert_int_equal(buffer[4], 1);
	assert_int_equal(get_be16(buffer + 6), 16);
	assert_int_equal(get_be64(buffer + 8), 0x200000000);
	assert_int_equal(get_be32(buffer + 20), 512);
	assert_int_equal(buffer[24], 0x08);
}

static void test_page_control(void **state)
{
	(void)state;
	fake.device.write_cache = false;
	fake.device.software_write_protect = true;
	GOOD(255, SENSE6(DBD, 0x3f, 0, 255)); /* current */
	assert_int_equal(buffer[4 + 2], 0);
	assert_int_equal(buffer[24 + 4], 8);
	GOOD(255, SENSE6(DBD, 0x40 | 0x3f, 0, 255)); /* changeable */
	assert_int_equal(buffer[4 + 2], 4);
	assert_true(all_bytes(buffer + 4 + 3, 17, 0));
	assert_int_equal(buffer[24 + 2], 4);
	assert_int_equal(buffer[24 + 3], 0);
	assert_int_equal(buffer[24 + 4], 8);
	assert_true(all_bytes(buffer + 24 + 5, 7, 0));
	GOOD(255, SENSE6(DBD, 0x80 | 0x3f, 0, 255)); /* default */
	assert_int_equal(buffer[4 + 2], 4);
	assert_int_equal(buffer[24 + 4], 0);
	fake.device.write_cache_default = false;
	GOOD(255, SENSE6(DBD, 0x40 | 0x08, 0, 255));
	assert_int_equal(buffer[4 + 2], 0);
}

/* A list for MODE SELECT(6) without a block descriptor, from what MODE SENSE says now. */
static unsigned list_make(uint8_t page)
{
	assert_int_equal(RUN(255, SENSE6(DBD, page, 0, 255)), SCSI_GOOD);
	unsigned length = (unsigned)fake.command.data_in_length;
	memset(buffer, 0, 4);
	return length;
}

static void test_select_cache(void **state)
{
	(void)state;
	unsigned length = list_make(0x08);
	buffer[4 + 2] = 0;
	GOOD(length, SELECT6(PF, (uint8_t)length));
	assert_false(fake.device.write_cache);
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	GOOD(length, SELECT6(PF, (uint8_t)length)); /* off already */
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 0);
	buffer[4 + 2] = 4;
	GOOD(length, SELECT6(PF, (uint8_t)length));
	assert_true(fake.device.write_cache);
	buffer[4 + 2] = 0;
	fake.fail_op = LUNKIT_FLUSH;
	fake.fail_result = -EIO;
	CHECK(0x030c00, length, SELECT6(PF, (uint8_t)length));
	fake.device.write_cache = fake.device.write_cache_default = false;
	buffer[4 + 2] = 4; /* there is no cache to switch on */
	INVALID_LIST(6, 2, length, SELECT6(PF, (uint8_t)length));
}

static void test_select_control(void **state)
{
	(void)state;
	unsigned length = list_make(0x0a);
	buffer[4 + 2] |= 4;
	buffer[4 + 4] |= 8;
	GOOD(length, SELECT6(PF, (uint8_t)length));
	assert_true(fake.device.descriptor_sense && fake.device.software_write_protect);
	CHECK(0x072702, 512, TEN(0x2a, 0, 0, 1));
	assert_int_equal(fake.command.sense[0], 0x72);
	length = list_make(0x0a);
	buffer[4 + 2] &= (uint8_t)~4;
	buffer[4 + 4] &= (uint8_t)~8;
	GOOD(length, SELECT6(PF, (uint8_t)length));
	GOOD(512, TEN(0x2a, 0, 0, 1));
}

static void test_select_both(void **state)
{
	(void)state;
	unsigned length = list_make(0x3f);
	buffer[4 + 2] = 0;
	buffer[24 + 4] |= 8;
	GOOD(length, SELECT6(PF, (uint8_t)length));
	assert_true(!fake.device.write_cache && fake.device.software_write_protect);
	/* An error in the second page leaves the first alone. */
	buffer[4 + 2] = 4;
	buffer[24 + 3] ^= 0x80;
	INVALID_LIST(27, 7, length, SELECT6(PF, (uint8_t)length));
	assert_false(fake.device.write_cache);
}

static void test_select_10(void **state)
{
	(void)state;
	assert_int_equal(RUN(255, SENSE10(0, 0x3f, 0, 255)), SCSI_GOOD);
	unsigned length = (unsigned)fake.command.data_in_length;
	memset(buffer, 0, 4);
	buffer[8 + 8 + 2] = 0;
	GOOD(length, SELECT10(PF, length));
	assert_false(fake.device.write_cache);
	put_be32(buffer + 8, 0); /* number of blocks: the same */
	GOOD(length, SELECT10(PF, length));
	put_be32(buffer + 8, 99);
	INVALID_LIST(8, -1, length, SELECT10(PF, length));
	put_be32(buffer + 8, UINT32_MAX);
	GOOD(length, SELECT10(PF, length));
	put_be24(buffer + 13, 4096);
	INVALID_LIST(13, -1, length, SELECT10(PF, length));
	put_be24(buffer + 13, 512);
	put_be16(buffer + 6, 7);
	INVALID_LIST(6, -1, length, SELECT10(PF, length));
	put_be16(buffer + 6, 16); /* without LONGLBA */
	INVALID_LIST(6, -1, length, SELECT10(PF, length));
	assert_int_equal(RUN(255, SENSE10(0x10, 0x3f, 0, 255)), SCSI_GOOD);
	length = (unsigned)fake.command.data_in_length;
	memset(buffer, 0, 4);
	GOOD(length, SELECT10(PF, length));
}

static void test_select_bad(void **state)
{
	(void)state;
	GOOD(0, SELECT6(PF, 0));
	GOOD(0, SELECT10(PF, 0));
	INVALID_CDB(1, 4, 24, SELECT6(0, 24));
	INVALID_CDB(1, 0, 24, SELECT6(PF | 1, 24));
	for (unsigned short_length = 1; short_length < 4; short_length++)
		CHECK(0x051a00, 24, SELECT6(PF, (uint8_t)short_length));
	GOOD(24, SELECT6(PF, 4));	     /* a header alone */
	CHECK(0x051a00, 4, SELECT6(PF, 24)); /* less data than the CDB says */
	CHECK(0x051a00, 1000, SELECT10(PF, 1000));
	unsigned length = list_make(0x08);
	for (unsigned cut = 5; cut < length; cut++)
		CHECK(0x051a00, length, SELECT6(PF, (uint8_t)cut));
	buffer[1] = 1;
	INVALID_LIST(1, -1, length, SELECT6(PF, (uint8_t)length));
	buffer[1] = 0;
	buffer[3] = 8;
	CHECK(0x051a00, length, SELECT6(PF, 8)); /* the block descriptor does not fit */
	buffer[3] = 0;
	buffer[4] = 0x48;
	INVALID_LIST(4, 6, length, SELECT6(PF, (uint8_t)length));
	buffer[4] = 0x1c;
	INVALID_LIST(4, 5, length, SELECT6(PF, (uint8_t)length));
	buffer[4] = 0x08;
	buffer[5] = 10;
	INVALID_LIST(5, -1, length, SELECT6(PF, (uint8_t)length));
	buffer[5] = 18;
	buffer[4 + 2] |= 1; /* RCD */
	INVALID_LIST(6, 0, length, SELECT6(PF, (uint8_t)length));
	buffer[4 + 2] = 4;
	buffer[4 + 19] = 0x80;
	INVALID_LIST(23, 7, length, SELECT6(PF, (uint8_t)length));
	buffer[4 + 19] = 0;
	GOOD(length, SELECT6(PF, (uint8_t)length));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sense_6),	   TEST(test_sense_10),	   TEST(test_page_control), TEST(test_select_cache),
		TEST(test_select_control), TEST(test_select_both), TEST(test_select_10),    TEST(test_select_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
