/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* COMPARE AND WRITE. */
#include "scsi_test.h"

#define CAW(flags, lba, n) 0x89, flags, BYTES64(lba), 0, 0, 0, n, 0, 0

static void test_match(void **state)
{
	(void)state;
	static const enum lunkit_op order[] = { LUNKIT_READ, LUNKIT_WRITE };
	fill(fake.disk, 8 * 512, 1);
	for (unsigned n = 1; n <= 255; n++) {
		size_t half = (size_t)n * 512;
		memcpy(buffer, fake.disk + 3 * 512, half);
		fill(buffer + half, half, n);
		GOOD(2 * half, CAW(0, 3, (uint8_t)n));
		assert_memory_equal(fake.disk + 3 * 512, buffer + half, half);
		assert_memory_equal(fake.order, order, sizeof(order));
		assert_int_equal(fake.locks, 1);
		assert_int_equal(fake.lock_offset, 3 * 512);
		assert_int_equal(fake.lock_length, half);
		assert_int_equal(fake.op_flags[LUNKIT_WRITE], 0);
	}
}

static void test_flags(void **state)
{
	(void)state;
	GOOD(1024, CAW(0x08, 0, 1));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
	fake.device.write_cache = false;
	GOOD(1024, CAW(0x10, 0, 1));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
}

static void test_miscompare(void **state)
{
	(void)state;
	static const unsigned offsets[] = { 0, 1, 511, 512, 700, 1023 };
	for (unsigned at = 0; at < ARRAY_SIZE(offsets); at++)
		for (unsigned descriptor = 0; descriptor < 2; descriptor++) {
			fake.device.descriptor_sense = descriptor;
			memset(buffer, 0, 2048);
			buffer[offsets[at]] = 1;
			buffer[2047] = 1;
			uint64_t information;
			CHECK(0x0e1d00, 2048, CAW(0, 9, 2));
			assert_true(fake_information(&fake, &information));
			assert_int_equal(information, offsets[at]);
			assert_int_equal(fake.ops[LUNKIT_WRITE], 0);
			assert_true(all_bytes(fake.disk, 20 * 512, 0));
		}
}

static void test_refused(void **state)
{
	(void)state;
	GOOD(0, CAW(0, 0, 0));
	CHECK(0x052100, 0, CAW(0, FAKE_BLOCKS, 0));
	CHECK(0x052100, 2048, CAW(0, FAKE_BLOCKS - 1, 2));
	CHECK(0x052100, 1024, CAW(0, UINT64_MAX, 1));
	CHECK(0x050e03, 1023, CAW(0, 0, 1));
	CHECK(0x050e03, 2048, CAW(0, 0, 1)); /* too much */
	CHECK(0x050e03, 512, CAW(0, 0, 1));
	CHECK(0x050e03, 0, CAW(0, 0, 1));
	fake.device.max_transfer_blocks = 8;
	INVALID_CDB(13, -1, 9 * 1024, CAW(0, 0, 9));
	GOOD(8 * 1024, CAW(0, 0, 8));
	fake_free(&fake);
	fake_init(&fake, 4096);
	INVALID_CDB(13, -1, 65 * 8192, CAW(0, 0, 65)); /* more than scratch holds */
	GOOD(64 * 8192, CAW(0, 0, 64));
}

static void test_errors(void **state)
{
	(void)state;
	fake.fail_op = LUNKIT_READ;
	fake.fail_result = -EIO;
	CHECK(0x031100, 1024, CAW(0, 0, 1));
	fake.fail_op = LUNKIT_WRITE;
	fake.fail_result = -ENOSPC;
	CHECK(0x072707, 1024, CAW(0, 0, 1));
	fake.fail_op = -1;
	fake.scratch_result = -ENOMEM;
	assert_int_equal(RUN(1024, CAW(0, 0, 1)), SCSI_BUSY);
	fake.lock_result = -EBUSY;
	assert_int_equal(RUN(1024, CAW(0, 0, 1)), SCSI_BUSY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_match), TEST(test_flags), TEST(test_miscompare), TEST(test_refused), TEST(test_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
