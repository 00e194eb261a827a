/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* READ CAPACITY and GET LBA STATUS. */
#include "scsi_test.h"

#define RC16(length) 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, BYTES32(length), 0, 0
#define STATUS(lba, length) 0x9e, 0x12, BYTES64(lba), BYTES32(length), 0, 0

static void test_read_capacity_10(void **state)
{
	(void)state;
	GOOD(8, TEN(0x25, 0, 0, 0));
	assert_int_equal(get_be32(buffer), FAKE_BLOCKS - 1);
	assert_int_equal(get_be32(buffer + 4), 512);
	assert_int_equal(fake.command.data_in_length, 8);
	INVALID_CDB(2, -1, 8, TEN(0x25, 0, 1, 0));
	GOOD(8, 0x25, 0, 0, 0, 0, 9, 0, 0, 1, 0); /* PMI */
	fake.device.blocks = 0x100000000;
	GOOD(8, TEN(0x25, 0, 0, 0));
	assert_int_equal(get_be32(buffer), UINT32_MAX);
	fake.device.blocks = 0xffffffff;
	GOOD(8, TEN(0x25, 0, 0, 0));
	assert_int_equal(get_be32(buffer), 0xfffffffe);
}

static void test_read_capacity_16(void **state)
{
	(void)state;
	fake.device.blocks = 0x123456789a;
	fake.device.physical_block_exponent = 3;
	GOOD(64, RC16(64));
	assert_int_equal(fake.command.data_in_length, 32);
	assert_int_equal(get_be64(buffer), 0x1234567899);
	assert_int_equal(get_be32(buffer + 8), 512);
	assert_int_equal(buffer[12], 0);
	assert_int_equal(buffer[13], 3);
	assert_int_equal(buffer[14], 0xc0);
	fake.device.discard_zeroes = false;
	GOOD(64, RC16(64));
	assert_int_equal(buffer[14], 0x80);
	fake.device.can_discard = false;
	GOOD(64, RC16(64));
	assert_int_equal(buffer[14], 0);
	for (unsigned length = 0; length < 32; length++) {
		memset(buffer, 0xcc, 64);
		GOOD(64, RC16(length));
		assert_int_equal(fake.command.data_in_length, length);
		assert_int_equal(buffer[length], 0xcc);
	}
}

static void descriptor(unsigned index, uint64_t lba, uint32_t blocks, uint8_t status)
{
	const uint8_t *from = buffer + 8 + 16 * index;
	assert_int_equal(get_be64(from), lba);
	assert_int_equal(get_be32(from + 8), blocks);
	assert_int_equal(from[12], status);
}

static void test_lba_status(void **state)
{
	(void)state;
	memset(fake.allocated + 10, 1, 5); /* data */
	memset(fake.allocated + 15, 2, 5); /* a hole that a backing file fills */
	memset(fake.allocated + 20, 3, 5); /* allocated zeros */
	GOOD(256, STATUS(0, 256));
	assert_int_equal(get_be32(buffer), 4 + 3 * 16);
	assert_int_equal(fake.command.data_in_length, 8 + 3 * 16);
	descriptor(0, 0, 10, 1);
	descriptor(1, 10, 15, 0);
	descriptor(2, 25, FAKE_BLOCKS - 25, 1);
	GOOD(256, STATUS(12, 256));
	descriptor(0, 12, 13, 0);
	GOOD(24, STATUS(FAKE_BLOCKS - 1, 24));
	descriptor(0, FAKE_BLOCKS - 1, 1, 1);
	memset(buffer, 0xcc, 256);
	GOOD(256, STATUS(0, 24));
	assert_int_equal(fake.command.data_in_length, 24);
	assert_int_equal(get_be32(buffer), 4 + 3 * 16); /* the whole length, though it is truncated */
	assert_int_equal(buffer[24], 0xcc);
	CHECK(0x052100, 24, STATUS(FAKE_BLOCKS, 24));
	CHECK(0x052100, 24, STATUS(UINT64_MAX, 24));
}

static void test_many_extents(void **state)
{
	(void)state;
	for (unsigned at = 0; at < FAKE_BLOCKS; at += 2)
		fake.allocated[at] = 1;
	GOOD(4096, STATUS(0, 4096));
	assert_int_equal(get_be32(buffer), 4 + SCSI_EXTENTS_MAX * 16);
	for (unsigned at = 0; at < SCSI_EXTENTS_MAX; at++)
		descriptor(at, at, 1, at % 2);
}

static struct lunkit_extent given[4];
static unsigned given_count;

static void give(struct fake *owner, struct lunkit_request *request)
{
	(void)owner;
	memcpy(request->extents, given, given_count * sizeof(given[0]));
	request->extent_count = given_count;
}

static void test_ragged(void **state)
{
	(void)state;
	/* Zeros from the middle of block 1 to the middle of block 5: blocks 2 to 4 are deallocated. */
	fake.before = give;
	given_count = 3;
	given[0] = (struct lunkit_extent){ 0, 700, LUNKIT_EXTENT_ALLOCATED };
	given[1] = (struct lunkit_extent){ 700, 2000, LUNKIT_EXTENT_ZERO };
	given[2] = (struct lunkit_extent){ 2700, 1000, LUNKIT_EXTENT_ALLOCATED };
	GOOD(256, STATUS(0, 256));
	assert_int_equal(get_be32(buffer), 4 + 3 * 16);
	descriptor(0, 0, 2, 0);
	descriptor(1, 2, 3, 1);
	descriptor(2, 5, 3, 0);
	/* A run of zeros within one block is none. */
	given[1] = (struct lunkit_extent){ 700, 100, LUNKIT_EXTENT_ZERO };
	given[2] = (struct lunkit_extent){ 800, 1248, LUNKIT_EXTENT_ALLOCATED };
	GOOD(256, STATUS(0, 256));
	assert_int_equal(get_be32(buffer), 4 + 16);
	descriptor(0, 0, 4, 0);
	/* What does not touch, or lies about its length, is not believed. */
	given[1] = (struct lunkit_extent){ 0, UINT64_MAX, LUNKIT_EXTENT_ZERO };
	GOOD(256, STATUS(0, 256));
	assert_int_equal(get_be32(buffer), 4 + 16);
	descriptor(0, 0, 2, 0);
	given_count = 1;
	given[0] = (struct lunkit_extent){ 0, UINT64_MAX, LUNKIT_EXTENT_ZERO };
	GOOD(256, STATUS(0, 256));
	descriptor(0, 0, FAKE_BLOCKS, 1);
	given[0] = (struct lunkit_extent){ 0, 0, LUNKIT_EXTENT_ZERO };
	GOOD(256, STATUS(3, 256));
	descriptor(0, 3, 1, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_read_capacity_10), TEST(test_read_capacity_16), TEST(test_lba_status), TEST(test_many_extents), TEST(test_ragged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
