/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* UNMAP and WRITE SAME. */
#include "scsi_test.h"

#define UNMAP(flags, length) 0x42, flags, 0, 0, 0, 0, 0, BYTES16(length), 0
#define SAME_UNMAP 8
#define SAME_ANCHOR 16
#define SAME_NDOB 1

static unsigned list_length;

static void list_start(void)
{
	memset(buffer, 0, 8);
	list_length = 8;
}

static void list_add(uint64_t lba, uint32_t blocks)
{
	uint8_t *to = buffer + list_length;
	memset(to, 0, 16);
	put_be64(to, lba);
	put_be32(to + 8, blocks);
	list_length += 16;
	put_be16(buffer, (uint16_t)(list_length - 2));
	put_be16(buffer + 2, (uint16_t)(list_length - 8));
}

static void dirty(void)
{
	memset(fake.disk, 0xdd, FAKE_BLOCKS * 512);
	memset(fake.allocated, 1, FAKE_BLOCKS);
}

static bool range_is(uint64_t lba, uint64_t blocks, uint8_t value, bool allocated)
{
	return all_bytes(fake.disk + lba * 512, blocks * 512, value) && all_bytes(fake.allocated + lba, blocks, allocated);
}

static void test_unmap(void **state)
{
	(void)state;
	dirty();
	list_start();
	list_add(4, 3);
	list_add(9, 0);
	list_add(FAKE_BLOCKS - 1, 1);
	GOOD(list_length, UNMAP(0, list_length));
	assert_int_equal(fake.ops[LUNKIT_DISCARD], 2);
	assert_true(range_is(0, 4, 0xdd, true) && range_is(4, 3, 0, false) && range_is(7, FAKE_BLOCKS - 8, 0xdd, true));
	assert_true(range_is(FAKE_BLOCKS - 1, 1, 0, false));
	GOOD(0, UNMAP(0, 0));
	list_start();
	list_add(FAKE_BLOCKS, 0);
	GOOD(list_length, UNMAP(0, list_length));
	list_start();
	list_add(FAKE_BLOCKS + 1, 0);
	CHECK(0x052100, list_length, UNMAP(0, list_length));
	list_start();
	put_be16(buffer, 6);
	GOOD(8, UNMAP(0, 8)); /* no descriptor */
}

static void test_unmap_bad(void **state)
{
	(void)state;
	dirty();
	list_start();
	list_add(4, 3);
	INVALID_CDB(1, 0, list_length, UNMAP(1, list_length)); /* ANCHOR */
	for (unsigned length = 1; length < list_length; length++)
		CHECK(0x051a00, list_length, UNMAP(0, length));
	CHECK(0x051a00, list_length - 1, UNMAP(0, list_length)); /* less data than the CDB says */
	put_be16(buffer + 2, 32);
	CHECK(0x051a00, list_length, UNMAP(0, list_length));
	put_be16(buffer + 2, 16);
	put_be16(buffer, 200);
	CHECK(0x051a00, list_length, UNMAP(0, list_length));
	list_start();
	list_add(0, 1);
	list_add(FAKE_BLOCKS - 1, 2); /* all are checked first */
	CHECK(0x052100, list_length, UNMAP(0, list_length));
	list_start();
	list_add(UINT64_MAX, 1);
	CHECK(0x052100, list_length, UNMAP(0, list_length));
	list_start();
	list_add(UINT64_MAX - 3, UINT32_MAX);
	CHECK(0x052100, list_length, UNMAP(0, list_length));
	assert_true(range_is(0, FAKE_BLOCKS, 0xdd, true));
	list_start();
	list_add(0, 1);
	list_add(2, 1);
	put_be16(buffer + 2, 16 + 7); /* the second is incomplete: ignored */
	GOOD(list_length, UNMAP(0, list_length));
	assert_int_equal(fake.ops[LUNKIT_DISCARD], 1);
	fake.fail_op = LUNKIT_DISCARD;
	fake.fail_result = -EIO;
	CHECK(0x030c00, list_length, UNMAP(0, list_length));
}

static void test_unmap_limits(void **state)
{
	(void)state;
	fake.device.max_unmap_descriptors = 2;
	fake.device.max_unmap_blocks = 10;
	list_start();
	list_add(0, 1);
	list_add(10, 9);
	GOOD(list_length, UNMAP(0, list_length));
	list_add(20, 0);
	INVALID_LIST(2, -1, list_length, UNMAP(0, list_length));
	list_start();
	list_add(0, 5);
	list_add(10, 6);
	INVALID_LIST(32, -1, list_length, UNMAP(0, list_length));
	assert_int_equal(fake.ops[LUNKIT_DISCARD], 0);
}

/* The guest changes the list while the first descriptor is worked on. */
static void change_list(struct fake *owner, struct lunkit_request *request)
{
	(void)request;
	uint8_t evil[16] = { 0 };
	put_be64(evil, FAKE_BLOCKS - 1);
	put_be32(evil + 8, 1000);
	for (unsigned at = 0; at < 16; at++) { /* byte by byte: the buffer is in pieces */
		size_t offset = 24 + at;
		unsigned piece = 0;
		while (offset >= owner->piece_length[piece])
			offset -= owner->piece_length[piece++];
		owner->pieces[piece][offset] = evil[at];
	}
}

static void test_unmap_changed(void **state)
{
	(void)state;
	list_start();
	list_add(0, 1);
	list_add(2, 1);
	fake.before = change_list;
	CHECK(0x052100, list_length, UNMAP(0, list_length));
	assert_int_equal(fake.ops[LUNKIT_DISCARD], 1);
}

static void test_same_pattern(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 256; n += 15) {
		dirty();
		memset(buffer, (int)n | 1, 512);
		GOOD(512, TEN(0x41, 0, 3, n));
		assert_true(range_is(3, n, (uint8_t)(n | 1), true));
		assert_true(range_is(0, 3, 0xdd, true) && range_is(3 + n, 10, 0xdd, true));
		GOOD(512, SIXTEEN(0x93, SAME_UNMAP, FAKE_BLOCKS - n, n)); /* not zeros: written */
		assert_true(range_is(FAKE_BLOCKS - n, n, (uint8_t)(n | 1), true));
	}
	fill(buffer, 512, 3);
	GOOD(512, SIXTEEN(0x93, 0, 0, 0)); /* up to the end */
	for (unsigned lba = 0; lba < FAKE_BLOCKS; lba++)
		assert_memory_equal(fake.disk + lba * 512, buffer, 512);
	assert_int_equal(fake.ops[LUNKIT_WRITE], FAKE_BLOCKS * 512 / SCSI_SCRATCH_SIZE);
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], 0);
	fake.device.write_cache = false;
	GOOD(512, SIXTEEN(0x93, 0, 0, 2));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
	memset(buffer, 0, 512);
	buffer[511] = 1; /* almost zeros */
	GOOD(512, TEN(0x41, 0, 0, 1));
	assert_int_equal(fake.disk[511], 1);
}

static void test_same_zeros(void **state)
{
	(void)state;
	memset(buffer, 0, 512);
	dirty();
	GOOD(512, TEN(0x41, 0, 3, 9));
	assert_int_equal(fake.ops[LUNKIT_WRITE_ZEROES], 1);
	assert_int_equal(fake.op_flags[LUNKIT_WRITE_ZEROES], 0);
	assert_true(range_is(3, 9, 0, true));
	GOOD(512, TEN(0x41, SAME_UNMAP, 20, 9));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE_ZEROES], LUNKIT_REQUEST_MAY_DISCARD);
	assert_true(range_is(20, 9, 0, false) && range_is(29, 1, 0xdd, true));
	GOOD(0, SIXTEEN(0x93, SAME_NDOB, 40, 9));
	assert_true(range_is(40, 9, 0, true));
	GOOD(0, SIXTEEN(0x93, SAME_NDOB | SAME_UNMAP, 50, 9));
	assert_true(range_is(50, 9, 0, false));
	GOOD(0, SIXTEEN(0x93, SAME_UNMAP, 60, 9)); /* no block sent */
	assert_true(range_is(60, 9, 0, false));
	fake.device.write_cache = false;
	GOOD(512, TEN(0x41, SAME_UNMAP, 0, 0));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE_ZEROES], LUNKIT_REQUEST_MAY_DISCARD | LUNKIT_REQUEST_FUA);
	assert_true(range_is(0, FAKE_BLOCKS, 0, false));
	fake.fail_op = LUNKIT_WRITE_ZEROES;
	fake.fail_result = -ENOSPC;
	CHECK(0x072707, 512, TEN(0x41, 0, 0, 1));
}

static void test_same_bad(void **state)
{
	(void)state;
	memset(buffer, 0, 1024);
	INVALID_CDB(1, 4, 512, TEN(0x41, SAME_ANCHOR, 0, 1));
	INVALID_CDB(1, 4, 512, TEN(0x41, SAME_ANCHOR | SAME_UNMAP, 0, 1));
	INVALID_CDB(1, 4, 512, SIXTEEN(0x93, SAME_ANCHOR, 0, 1));
	INVALID_CDB(1, 2, 512, TEN(0x41, 2, 0, 1));
	INVALID_CDB(1, 2, 512, SIXTEEN(0x93, 4, 0, 1));
	INVALID_CDB(1, 0, 512, TEN(0x41, SAME_NDOB, 0, 1));
	CHECK(0x050e03, 511, TEN(0x41, 0, 0, 1));
	CHECK(0x050e03, 1024, TEN(0x41, SAME_UNMAP, 0, 1));
	CHECK(0x050e03, 256, SIXTEEN(0x93, SAME_UNMAP, 0, 1));
	CHECK(0x050e03, 0, TEN(0x41, 0, 0, 1));
	CHECK(0x052100, 512, TEN(0x41, 0, FAKE_BLOCKS, 0));
	CHECK(0x052100, 512, TEN(0x41, 0, FAKE_BLOCKS - 1, 2));
	CHECK(0x052100, 512, SIXTEEN(0x93, 0, UINT64_MAX, 0));
	CHECK(0x052100, 512, SIXTEEN(0x93, 0, UINT64_MAX, UINT32_MAX));
	fake.device.max_write_same_blocks = 16;
	GOOD(512, TEN(0x41, 0, 0, 16));
	INVALID_CDB(7, -1, 512, TEN(0x41, 0, 0, 17));
	INVALID_CDB(10, -1, 512, SIXTEEN(0x93, 0, 0, 17));
	INVALID_CDB(10, -1, 512, SIXTEEN(0x93, 0, 0, 0)); /* the whole medium */
	GOOD(512, SIXTEEN(0x93, 0, FAKE_BLOCKS - 16, 0));
	fake.device.can_discard = false;
	INVALID_CDB(1, 3, 512, TEN(0x41, SAME_UNMAP, 0, 1));
	GOOD(512, TEN(0x41, 0, 0, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_unmap),	 TEST(test_unmap_bad),	TEST(test_unmap_limits), TEST(test_unmap_changed),
		TEST(test_same_pattern), TEST(test_same_zeros), TEST(test_same_bad),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
