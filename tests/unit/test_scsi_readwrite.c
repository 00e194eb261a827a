/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* READ, WRITE, WRITE AND VERIFY, VERIFY. */
#include "scsi_test.h"

static void disk_fill(uint64_t lba, unsigned blocks, unsigned seed)
{
	fill(fake.disk + lba * 512, (size_t)blocks * 512, seed);
}

static void test_read(void **state)
{
	(void)state;
	disk_fill(0, FAKE_BLOCKS, 1);
	GOOD(1536, READ6(5, 3));
	assert_memory_equal(buffer, fake.disk + 5 * 512, 1536);
	assert_int_equal(fake.command.data_in_length, 1536);
	assert_int_equal(fake.steps, 1);
	GOOD(256 * 512, READ6(9, 0)); /* 256 blocks */
	assert_memory_equal(buffer, fake.disk + 9 * 512, 256 * 512);
	assert_int_equal(fake.command.data_in_length, 256 * 512);
	GOOD(1024, TEN(0x28, 0x10, FAKE_BLOCKS - 2, 2)); /* DPO */
	assert_memory_equal(buffer, fake.disk + (FAKE_BLOCKS - 2) * 512, 1024);
	GOOD(1024, TWELVE(0xa8, 0, 7, 2));
	assert_memory_equal(buffer, fake.disk + 7 * 512, 1024);
	GOOD(1024, SIXTEEN(0x88, 0, 8, 2));
	assert_memory_equal(buffer, fake.disk + 8 * 512, 1024);
}

static void test_read_fua(void **state)
{
	(void)state;
	static const enum lunkit_op order[] = { LUNKIT_FLUSH, LUNKIT_READ };
	GOOD(512, TEN(0x28, 8, 0, 1));
	assert_int_equal(fake.order_count, 2);
	assert_memory_equal(fake.order, order, sizeof(order));
	fake.device.write_cache_default = false; /* nothing is volatile */
	GOOD(512, SIXTEEN(0x88, 8, 0, 1));
	assert_int_equal(fake.order_count, 1);
	fake.device.write_cache_default = true;
	fake.fail_op = LUNKIT_FLUSH;
	fake.fail_result = -EIO;
	CHECK(0x030c00, 512, TWELVE(0xa8, 8, 0, 1));
	CHECK(0x052100, 512, 0x08, 8, 0, 0, 1, 0); /* READ(6): a bit of the LBA, not FUA */
}

static void switch_cache_off(struct fake *the, struct lunkit_request *request)
{
	(void)request;
	the->device.write_cache = false;
}

/* MODE SELECT's own flush does not cover what is under way when it comes. */
static void test_write_while_the_cache_is_switched_off(void **state)
{
	(void)state;
	fake.before = switch_cache_off;
	GOOD(512, TEN(0x2a, 0, 10, 1));
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	GOOD(512, TEN(0x2a, 0, 10, 1)); /* off all the time: durable by itself */
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 0);
	fake.device.write_cache = true;
	fill(buffer, 512, 3);
	GOOD(512, SIXTEEN(0x93, 0, 0, 1024)); /* WRITE SAME: the first of two writes was volatile, the second is not */
	assert_int_equal(fake.ops[LUNKIT_WRITE], 2);
	assert_int_equal(fake.ops[LUNKIT_FLUSH], 1);
	fake.device.write_cache = true;
	fake.fail_op = LUNKIT_FLUSH;
	fake.fail_result = -EIO;
	CHECK(0x030c00, 512, TEN(0x2a, 0, 10, 1));
}

static void test_write(void **state)
{
	(void)state;
	fill(buffer, 4096, 2);
	GOOD(1024, WRITE6(3, 2));
	assert_memory_equal(fake.disk + 3 * 512, buffer, 1024);
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], 0);
	assert_int_equal(fake.command.data_in_length, 0);
	GOOD(1024, TEN(0x2a, 0x08, 10, 2));
	assert_memory_equal(fake.disk + 10 * 512, buffer, 1024);
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
	GOOD(1024, TWELVE(0xaa, 0x10, 20, 2));
	assert_memory_equal(fake.disk + 20 * 512, buffer, 1024);
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], 0);
	GOOD(1024, SIXTEEN(0x8a, 0, FAKE_BLOCKS - 2, 2));
	assert_memory_equal(fake.disk + (FAKE_BLOCKS - 2) * 512, buffer, 1024);
	fake.device.write_cache = false; /* every write is durable */
	GOOD(512, WRITE6(3, 1));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
}

static void test_range(void **state)
{
	(void)state;
	static const uint8_t tens[] = { 0x28, 0x2a, 0x2e, 0x2f }, twelves[] = { 0xa8, 0xaa, 0xae, 0xaf },
			     sixteens[] = { 0x88, 0x8a, 0x8e, 0x8f };
	for (unsigned at = 0; at < 4; at++) {
		GOOD(0, TEN(tens[at], 0, 0, 0));
		CHECK(0x052100, 0, TEN(tens[at], 0, FAKE_BLOCKS, 0));
		CHECK(0x052100, 0, TEN(tens[at], 0, UINT32_MAX, 0));
		CHECK(0x052100, 1024, TEN(tens[at], 0, FAKE_BLOCKS - 1, 2));
		CHECK(0x052100, 0, TWELVE(twelves[at], 0, 0x80000000, 0));
		CHECK(0x052100, 1024, TWELVE(twelves[at], 0, 1, UINT32_MAX));
		CHECK(0x052100, 0, SIXTEEN(sixteens[at], 0, UINT64_MAX, 0));
		CHECK(0x052100, 512, SIXTEEN(sixteens[at], 0, UINT64_MAX, 1));
		CHECK(0x052100, 512, SIXTEEN(sixteens[at], 0, UINT64_MAX - 1, UINT32_MAX));
	}
	fake.device.blocks = 100;
	CHECK(0x052100, 512, READ6(100, 1));
	CHECK(0x052100, 512, READ6(0, 0));
	CHECK(0x052100, 512, WRITE6(99, 2));
	fake.device.blocks = 0;
	CHECK(0x052100, 512, READ6(0, 1));
}

static void test_transfer_limit(void **state)
{
	(void)state;
	fake.device.max_transfer_blocks = 4;
	GOOD(2048, TEN(0x28, 0, 0, 4));
	INVALID_CDB(7, -1, 2560, TEN(0x28, 0, 0, 5));
	INVALID_CDB(4, -1, 2560, READ6(0, 5));
	INVALID_CDB(6, -1, 2560, TWELVE(0xaa, 0, 0, 5));
	INVALID_CDB(10, -1, 2560, SIXTEEN(0x8a, 0, 0, 5));
	INVALID_CDB(7, -1, 2560, TEN(0x2f, 2, 0, 5));
	GOOD(0, TEN(0x2f, 0, 0, 5)); /* transfers nothing */
}

static void test_data_lengths(void **state)
{
	(void)state;
	disk_fill(0, 16, 3);
	memset(buffer, 0xcc, 2048);
	GOOD(200, TEN(0x28, 0, 1, 1)); /* a part of a block */
	assert_int_equal(fake.command.data_in_length, 200);
	assert_memory_equal(buffer, fake.disk + 512, 200);
	assert_int_equal(buffer[200], 0xcc);
	GOOD(2048, TEN(0x28, 0, 1, 1)); /* more room than data */
	assert_int_equal(fake.command.data_in_length, 512);
	assert_memory_equal(buffer, fake.disk + 512, 512);
	assert_int_equal(buffer[512], 0xcc);
	GOOD(0, TEN(0x28, 0, 1, 1));
	assert_int_equal(fake.command.data_in_length, 0);
	GOOD(512, TEN(0x28, 0, 0, FAKE_BLOCKS)); /* a long command, a short buffer */
	assert_int_equal(fake.command.data_in_length, 512);

	uint8_t before[1024];
	memcpy(before, fake.disk, sizeof(before));
	CHECK(0x050e03, 511, TEN(0x2a, 0, 0, 1));
	CHECK(0x050e03, 0, TEN(0x2a, 0, 0, 1));
	CHECK(0x050e03, 512, TEN(0x2a, 0, 0, 2));
	assert_memory_equal(fake.disk, before, sizeof(before));
	GOOD(2048, TEN(0x2a, 0, 0, 1)); /* the rest is not written */
	assert_memory_equal(fake.disk, buffer, 512);
	assert_memory_equal(fake.disk + 512, before + 512, 512);
}

static void miscompare_at(uint64_t offset)
{
	uint64_t information;
	assert_true(fake_information(&fake, &information));
	assert_int_equal(information, offset);
}

static void test_verify(void **state)
{
	(void)state;
	disk_fill(0, FAKE_BLOCKS, 4);
	GOOD(0, TEN(0x2f, 0, 0, 9)); /* reads the medium */
	assert_int_equal(fake.ops[LUNKIT_READ], 1);
	GOOD(0, SIXTEEN(0x8f, 0, 0, FAKE_BLOCKS));
	assert_int_equal(fake.ops[LUNKIT_READ], FAKE_BLOCKS * 512 / SCSI_SCRATCH_SIZE);
	memcpy(buffer, fake.disk + 2 * 512, 1200 * 512);
	GOOD(1200 * 512, TEN(0x2f, 2, 2, 1200)); /* several chunks */
	GOOD(512, TWELVE(0xaf, 2, 2, 1));
	assert_int_equal(fake.command.data_in_length, 0);
	buffer[1100 * 512 + 77] ^= 1;
	CHECK(0x0e1d00, 1200 * 512, SIXTEEN(0x8f, 2, 2, 1200));
	miscompare_at(1100 * 512 + 77);
	GOOD(1100 * 512, SIXTEEN(0x8f, 2, 2, 1100));
	CHECK(0x050e03, 511, TEN(0x2f, 2, 2, 1));
	INVALID_CDB(1, 2, 512, TEN(0x2f, 4, 2, 1)); /* BYTCHK 10b */
	fake.fail_op = LUNKIT_READ;
	fake.fail_result = -EIO;
	CHECK(0x031100, 0, TEN(0x2f, 0, 0, 9));
	fake.fail_op = -1;
	fake.scratch_result = -ENOMEM;
	assert_int_equal(RUN(0, TEN(0x2f, 0, 0, 9)), SCSI_BUSY);
}

static void test_verify_one_block(void **state)
{
	(void)state;
	memset(fake.disk, 0x5a, 600 * 512);
	memset(buffer, 0x5a, 512);
	GOOD(512, TEN(0x2f, 6, 0, 600));
	fake.disk[599 * 512 + 9] = 0;
	CHECK(0x0e1d00, 512, TEN(0x2f, 6, 0, 600));
	miscompare_at(9);
	CHECK(0x050e03, 511, TEN(0x2f, 6, 0, 600));
	GOOD(0, TEN(0x2f, 6, 0, 0));
}

static void corrupt(struct fake *owner, struct lunkit_request *request)
{
	if (request->op == LUNKIT_READ)
		owner->disk[513] ^= 1;
}

static void test_write_verify(void **state)
{
	(void)state;
	static const enum lunkit_op order[] = { LUNKIT_WRITE, LUNKIT_READ };
	fill(buffer, 1024, 5);
	for (uint8_t check = 0; check <= 2; check += 2) {
		GOOD(1024, TEN(0x2e, check, 0, 2));
		assert_memory_equal(fake.order, order, sizeof(order));
		assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
		assert_memory_equal(fake.disk, buffer, 1024);
		GOOD(1024, TWELVE(0xae, check, 3, 2));
		GOOD(1024, SIXTEEN(0x8e, check, 5, 2));
		assert_memory_equal(fake.disk + 5 * 512, buffer, 1024);
	}
	INVALID_CDB(1, 2, 1024, TEN(0x2e, 4, 0, 2));
	INVALID_CDB(1, 2, 1024, TEN(0x2e, 6, 0, 2));
	CHECK(0x050e03, 1023, TEN(0x2e, 2, 0, 2));
	fake.before = corrupt;
	CHECK(0x0e1d00, 1024, TEN(0x2e, 2, 0, 2));
	miscompare_at(513);
	fake.fail_op = LUNKIT_WRITE;
	fake.fail_result = -ENOSPC;
	CHECK(0x072707, 1024, TEN(0x2e, 2, 0, 2));
	assert_int_equal(fake.ops[LUNKIT_READ], 0);
}

static void test_blocks_of_4096(void **state)
{
	(void)state;
	fake_free(&fake);
	fake_init(&fake, 4096);
	fill(buffer, 8192, 6);
	GOOD(8192, TEN(0x2a, 0, FAKE_BLOCKS - 2, 2));
	assert_memory_equal(fake.disk + (FAKE_BLOCKS - 2) * 4096, buffer, 8192);
	GOOD(8192, TEN(0x2f, 2, FAKE_BLOCKS - 2, 2));
	memset(buffer, 0, 8192);
	GOOD(8192, SIXTEEN(0x88, 0, FAKE_BLOCKS - 2, 2));
	assert_memory_equal(fake.disk + (FAKE_BLOCKS - 2) * 4096, buffer, 8192);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_read),
		TEST(test_read_fua),
		TEST(test_write),
		TEST(test_write_while_the_cache_is_switched_off),
		TEST(test_range),
		TEST(test_transfer_limit),
		TEST(test_data_lengths),
		TEST(test_verify),
		TEST(test_verify_one_block),
		TEST(test_write_verify),
		TEST(test_blocks_of_4096),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
