/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sense formats, and the one translation of errno. */
#include "scsi_test.h"

static void translate(enum lunkit_op op, int error, unsigned sense, unsigned status)
{
	fake.fail_op = (int)op;
	fake.fail_result = -error;
	switch (op) {
	case LUNKIT_READ:
		RUN(512, TEN(0x28, 0, 0, 1));
		break;
	case LUNKIT_WRITE:
		RUN(512, TEN(0x2a, 0, 0, 1));
		break;
	case LUNKIT_FLUSH:
		RUN(0, TEN(0x35, 0, 0, 0));
		break;
	case LUNKIT_WRITE_ZEROES:
		RUN(512, TEN(0x41, 0, 0, 1));
		break;
	case LUNKIT_EXTENTS:
		RUN(24, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0);
		break;
	case LUNKIT_DISCARD:
		memcpy(buffer, (const uint8_t[]){ 0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0 }, 24);
		RUN(24, TEN(0x42, 0, 0, 24));
		break;
	}
	memset(buffer, 0, 512);
	assert_int_equal(fake.command.status, status);
	assert_int_equal(fake_sense(&fake), sense);
}

static void test_translation(void **state)
{
	(void)state;
	for (unsigned op = 0; op < LUNKIT_OP_COUNT; op++) {
		bool reads = op == LUNKIT_READ || op == LUNKIT_EXTENTS;
		translate(op, ENOSPC, 0x072707, SCSI_CHECK_CONDITION);
		translate(op, EDQUOT, 0x072707, SCSI_CHECK_CONDITION);
		translate(op, EROFS, 0x072700, SCSI_CHECK_CONDITION);
		translate(op, EPERM, 0x072700, SCSI_CHECK_CONDITION);
		translate(op, ETIMEDOUT, 0x020401, SCSI_CHECK_CONDITION);
		translate(op, ENOTCONN, 0x020401, SCSI_CHECK_CONDITION);
		translate(op, ESHUTDOWN, 0x020401, SCSI_CHECK_CONDITION);
		translate(op, EAGAIN, 0, SCSI_BUSY);
		translate(op, EBUSY, 0, SCSI_BUSY);
		translate(op, ENOMEM, 0, SCSI_BUSY);
		translate(op, EIO, reads ? 0x031100 : 0x030c00, SCSI_CHECK_CONDITION);
		translate(op, ENODATA, reads ? 0x031100 : 0x030c00, SCSI_CHECK_CONDITION);
		translate(op, EILSEQ, reads ? 0x031100 : 0x030c00, SCSI_CHECK_CONDITION);
		translate(op, EOPNOTSUPP, 0x052000, SCSI_CHECK_CONDITION);
		translate(op, EINVAL, 0x044400, SCSI_CHECK_CONDITION);
		translate(op, ERANGE, 0x044400, SCSI_CHECK_CONDITION);
	}
}

static void test_fixed(void **state)
{
	(void)state;
	static const uint8_t want[18] = { 0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 1 };
	RUN(512, TEN(0x28, 0x20, 0, 1));
	assert_int_equal(fake.command.sense_length, 18);
	assert_memory_equal(fake.command.sense, want, 18);
}

static void test_descriptor(void **state)
{
	(void)state;
	static const uint8_t want[16] = { 0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xcf, 0, 1, 0 };
	fake.device.descriptor_sense = true;
	RUN(512, TEN(0x28, 0x20, 0, 1));
	assert_int_equal(fake.command.sense_length, 16);
	assert_memory_equal(fake.command.sense, want, 16);

	static const uint8_t miscompare[20] = { 0x72, 0x0e, 0x1d, 0, 0, 0, 0, 12, 0, 10, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 3 };
	buffer[3] = 1;
	RUN(512, TEN(0x2f, 2, 0, 1));
	assert_int_equal(fake.command.sense_length, 20);
	assert_memory_equal(fake.command.sense, miscompare, 20);

	CHECK(0x052100, 512, TEN(0x28, 0, FAKE_BLOCKS, 1));
	assert_int_equal(fake.command.sense_length, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = { TEST(test_translation), TEST(test_fixed), TEST(test_descriptor) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
