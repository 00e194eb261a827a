/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* EXTENDED COPY and the RECEIVE COPY commands. */
#include "scsi_test.h"

#include "base/iov.h"
#include "scsi/command.h"

#define COPY(length) 0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, BYTES32(length), 0, 0
#define RECEIVE(action, id, length) 0x84, action, id, 0, 0, 0, 0, 0, 0, 0, BYTES32(length), 0, 0

static unsigned length;

static void list_start(uint8_t id, unsigned usage)
{
	memset(buffer, 0, 1024);
	buffer[0] = id;
	buffer[1] = (uint8_t)(usage << 3);
	length = 16;
}

static uint8_t *add_target(void)
{
	uint8_t *to = buffer + length;
	to[0] = 0xe4;
	to[4] = 1;
	to[5] = 3;
	to[7] = 16;
	scsi_identity_naa(&fake.identity, to + 8);
	put_be24(to + 29, fake.device.block_size);
	length += 32;
	put_be16(buffer + 2, (uint16_t)(get_be16(buffer + 2) + 32));
	return to;
}

static uint8_t *add_segment(unsigned source, unsigned destination, unsigned blocks, uint64_t from, uint64_t to_lba)
{
	uint8_t *to = buffer + length;
	to[0] = 0x02;
	put_be16(to + 2, 24);
	put_be16(to + 4, (uint16_t)source);
	put_be16(to + 6, (uint16_t)destination);
	put_be16(to + 10, (uint16_t)blocks);
	put_be64(to + 12, from);
	put_be64(to + 20, to_lba);
	length += 28;
	put_be32(buffer + 8, get_be32(buffer + 8) + 28);
	return to;
}

static void simple(unsigned blocks, uint64_t from, uint64_t to)
{
	list_start(1, 0);
	add_target();
	add_segment(0, 0, blocks, from, to);
}

static void test_copy(void **state)
{
	(void)state;
	fill(fake.disk, 2048 * 512, 1);
	simple(2048, 0, FAKE_BLOCKS - 2048);
	GOOD(length, COPY(length));
	assert_memory_equal(fake.disk, fake.disk + (FAKE_BLOCKS - 2048) * 512, 2048 * 512);
	assert_int_equal(fake.ops[LUNKIT_READ], 4);
	GOOD(0, COPY(0));
	simple(0, 0, 9);
	GOOD(length, COPY(length));
	list_start(1, 2);
	add_target();
	GOOD(length, COPY(length)); /* no segment */
	fake.device.write_cache = false;
	simple(1, 0, 9);
	GOOD(length, COPY(length));
	assert_int_equal(fake.op_flags[LUNKIT_WRITE], LUNKIT_REQUEST_FUA);
}

static void overlap(unsigned blocks, uint64_t from, uint64_t to)
{
	static uint8_t want[FAKE_BLOCKS * 512];
	fill(fake.disk, FAKE_BLOCKS * 512, 7);
	memcpy(want, fake.disk, sizeof(want));
	memcpy(want + to * 512, fake.disk + from * 512, (size_t)blocks * 512);
	simple(blocks, from, to);
	GOOD(length, COPY(length));
	assert_memory_equal(fake.disk, want, sizeof(want));
}

static void test_overlap(void **state)
{
	(void)state;
	overlap(2000, 0, 1);
	overlap(2000, 0, 700);
	overlap(2000, 1, 0);
	overlap(2000, 700, 0);
	overlap(2000, 5, 5);
	overlap(1999, 0, 1999);
	overlap(3, 4, 5);
}

static void test_segments(void **state)
{
	(void)state;
	fill(fake.disk, 16 * 512, 2);
	list_start(4, 0);
	add_target();
	add_target();
	for (unsigned at = 0; at < SCSI_COPY_SEGMENTS_MAX; at++)
		add_segment(at % 2, (at + 1) % 2, at, at, 100 + 10 * at);
	GOOD(length, COPY(length));
	for (unsigned at = 1; at < SCSI_COPY_SEGMENTS_MAX; at++)
		assert_memory_equal(fake.disk + (100 + 10 * at) * 512, fake.disk + at * 512, at * 512);
	GOOD(64, RECEIVE(0, 4, 64));
	static const uint8_t want[12] = { 0, 0, 0, 8, 1, 0, SCSI_COPY_SEGMENTS_MAX, 0, BYTES32(28 * 512) };
	assert_int_equal(fake.command.data_in_length, 12);
	assert_memory_equal(buffer, want, 12);
	INVALID_CDB(2, -1, 64, RECEIVE(0, 4, 64)); /* fetched once */
}

static void test_list_bad(void **state)
{
	(void)state;
	simple(1, 0, 9);
	for (unsigned cut = 1; cut < length; cut++)
		CHECK(0x051a00, length, COPY(cut));
	CHECK(0x051a00, length - 1, COPY(length));
	CHECK(0x051a00, length, COPY(UINT32_MAX));
	put_be32(buffer + 12, 1);
	CHECK(0x051a00, length + 1, COPY(length)); /* inline data that is not there */
	CHECK(0x05260b, length + 1, COPY(length + 1));
	simple(1, 0, 9);
	put_be32(buffer + 8, UINT32_MAX);
	CHECK(0x051a00, length, COPY(length));
	simple(1, 0, 9);
	buffer[1] = 1 << 3;
	INVALID_LIST(1, 4, length, COPY(length));
	buffer[1] = 3 << 3;
	INVALID_LIST(0, -1, length, COPY(length)); /* an identifier where none is used */
	buffer[0] = 0;
	GOOD(length, COPY(length));
	INVALID_CDB(2, -1, 64, RECEIVE(0, 0, 64));
	INVALID_CDB(1, 4, length, 0x83, 1, 0, 0, 0, 0, 0, 0, 0, 0, BYTES32(16), 0, 0); /* LID4 */
}

static void test_targets_bad(void **state)
{
	(void)state;
	simple(1, 0, 9);
	put_be16(buffer + 2, 31);
	put_be32(buffer + 8, 29);
	INVALID_LIST(2, -1, length, COPY(length));
	list_start(1, 0);
	for (unsigned at = 0; at < 9; at++)
		add_target();
	add_segment(0, 0, 1, 0, 9);
	CHECK(0x052606, length, COPY(length));
	simple(1, 0, 9);
	buffer[16] = 0xe0;
	CHECK(0x052607, length, COPY(length));
	simple(1, 0, 9);
	buffer[17] = 0x40;
	INVALID_LIST(17, 7, length, COPY(length));
	buffer[17] = 0x20; /* NUL */
	CHECK(0x0a0804, length, COPY(length));
	buffer[17] = 0x01; /* a tape? */
	CHECK(0x0a0d03, length, COPY(length));
	simple(1, 0, 9);
	put_be24(buffer + 16 + 29, 4096);
	INVALID_LIST(45, -1, length, COPY(length));
	static const unsigned name[] = { 4, 5, 7, 8, 23 }; /* another unit's */
	for (unsigned at = 0; at < ARRAY_SIZE(name); at++) {
		simple(1, 0, 9);
		buffer[16 + name[at]] ^= 5;
		CHECK(0x0a0d02, length, COPY(length));
		assert_int_equal(fake.ops[LUNKIT_WRITE], 0);
	}
	list_start(1, 0); /* named, but not used */
	add_target();
	add_target()[9] ^= 1;
	add_segment(0, 0, 1, 0, 9);
	GOOD(length, COPY(length));
	add_segment(0, 1, 1, 0, 9);
	CHECK(0x0a0d02, length, COPY(length));
	strcpy(fake.identity.serial, ""); /* nobody can name this unit */
	simple(1, 0, 9);
	CHECK(0x0a0d02, length, COPY(length));
}

static void test_segments_bad(void **state)
{
	(void)state;
	list_start(1, 0);
	add_target();
	for (unsigned at = 0; at < SCSI_COPY_SEGMENTS_MAX + 1; at++)
		add_segment(0, 0, 1, 0, 9);
	CHECK(0x052608, length, COPY(length));
	simple(1, 0, 9);
	buffer[48] = 0x03;
	CHECK(0x052609, length, COPY(length));
	simple(1, 0, 9);
	put_be16(buffer + 50, 23);
	INVALID_LIST(50, -1, length, COPY(length));
	simple(1, 0, 9);
	put_be32(buffer + 8, 27);
	CHECK(0x051a00, length, COPY(length));
	list_start(1, 0);
	add_target();
	add_segment(0, 1, 1, 0, 9);
	CHECK(0x0a0804, length, COPY(length));
	list_start(1, 0);
	add_target();
	add_segment(0, 0, 1, 0, 9); /* the second is wrong: nothing is copied */
	add_segment(0, 0, 2048, 0, FAKE_BLOCKS - 1);
	CHECK(0x0a0000, length, COPY(length));
	assert_int_equal(fake.ops[LUNKIT_WRITE], 0);
	simple(2, UINT64_MAX, 0);
	CHECK(0x0a0000, length, COPY(length));
	INVALID_CDB(2, -1, 64, RECEIVE(0, 1, 64)); /* none of them started */
}

static void test_failure(void **state)
{
	(void)state;
	fake.fail_op = LUNKIT_WRITE;
	fake.fail_result = -ENOSPC;
	fake.fail_after = 1;
	list_start(9, 0);
	add_target();
	add_segment(0, 0, 1, 0, 9);
	add_segment(0, 0, 1, 0, 10);
	fake.device.descriptor_sense = true;
	CHECK(0x072707, length, COPY(length));
	GOOD(64, RECEIVE(0, 9, 64));
	assert_int_equal(buffer[4], 2);
	assert_int_equal(get_be16(buffer + 5), 1);
	assert_int_equal(get_be32(buffer + 8), 512);
	GOOD(255, RECEIVE(4, 8, 255)); /* another's */
	assert_int_equal(fake.command.data_in_length, 4);
	GOOD(255, RECEIVE(4, 9, 255));
	assert_int_equal(fake.command.data_in_length, 78);
	assert_int_equal(get_be32(buffer), 74);
	assert_int_equal(buffer[56], SCSI_CHECK_CONDITION);
	assert_int_equal(get_be16(buffer + 58), 18);
	assert_int_equal(buffer[60], 0x70);
	assert_int_equal(buffer[62], 7);
	assert_int_equal(get_be16(buffer + 72), 0x2707);
	GOOD(255, RECEIVE(4, 9, 255));
	assert_int_equal(fake.command.data_in_length, 4);
	simple(1, 0, 9);
	fake.fail_op = LUNKIT_READ;
	fake.fail_after = 0;
	fake.fail_result = -EBUSY;
	assert_int_equal(RUN(length, COPY(length)), SCSI_BUSY);
	GOOD(255, RECEIVE(4, 1, 255));
	assert_int_equal(buffer[56], SCSI_BUSY);
	assert_int_equal(get_be16(buffer + 58), 0);
	fake.fail_op = -1;
	fake.scratch_result = -ENOMEM;
	simple(1, 0, 9);
	assert_int_equal(RUN(length, COPY(length)), SCSI_BUSY);
}

static struct scsi_command other;

/* Asks for the copy's status while it copies. */
static void ask_status(struct fake *owner, struct lunkit_request *request)
{
	if (request->op != LUNKIT_WRITE)
		return;
	uint8_t answer[64] = { 0 };
	struct iovec iov = { answer, sizeof(answer) };
	other = (struct scsi_command){ .cdb = { RECEIVE(0, 1, 64) }, .cdb_length = 16, .iov = &iov, .iov_count = 1 };
	assert_int_equal(scsi_command_start(&owner->device, &other), SCSI_DONE);
	assert_int_equal(other.status, SCSI_GOOD);
	assert_int_equal(answer[4], 0);
}

static void test_in_progress(void **state)
{
	(void)state;
	simple(1, 0, 9);
	fake.before = ask_status;
	GOOD(length, COPY(length));
	GOOD(64, RECEIVE(0, 1, 64));
	assert_int_equal(buffer[4], 1);
}

/* A copy that the owner ends is forgotten. Driven by hand, since no step may follow. */
static void test_abandoned(void **state)
{
	(void)state;
	simple(1, 0, 9);
	uint8_t scratch[512];
	struct iovec iov = { buffer, length };
	struct lunkit_request request = { .op = LUNKIT_READ };
	struct scsi_command command = { .cdb = { COPY(length) }, .cdb_length = 16, .iov = &iov, .iov_count = 1, .request = &request };
	assert_int_equal(scsi_command_start(&fake.device, &command), SCSI_ASK);
	command.query.identity = fake.identity;
	assert_int_equal(scsi_command_step(&command, 0), SCSI_SCRATCH);
	command.scratch = scratch;
	assert_int_equal(scsi_command_step(&command, 0), SCSI_SUBMIT);
	assert_true(fake.device.copy_known);
	scsi_command_fail(&command, SCSI_TASK_ABORTED, 0, 0);
	assert_false(fake.device.copy_known);
	INVALID_CDB(2, -1, 64, RECEIVE(0, 1, 64));
}

static void test_parameters(void **state)
{
	(void)state;
	GOOD(255, RECEIVE(3, 0, 255));
	assert_int_equal(fake.command.data_in_length, 46);
	assert_int_equal(get_be32(buffer), 42);
	assert_int_equal(buffer[4], 1);
	assert_int_equal(get_be16(buffer + 8), 8);
	assert_int_equal(get_be16(buffer + 10), 8);
	assert_int_equal(get_be32(buffer + 12), 8 * 32 + 8 * 28);
	assert_int_equal(get_be32(buffer + 16), 65535 * 512);
	assert_int_equal(buffer[37], 9);
	assert_int_equal(buffer[43], 2);
	assert_int_equal(buffer[44], 0x02);
	assert_int_equal(buffer[45], 0xe4);
	memset(buffer, 0xcc, 255);
	GOOD(255, RECEIVE(3, 0, 4));
	assert_int_equal(fake.command.data_in_length, 4);
	assert_int_equal(buffer[4], 0xcc);
	INVALID_CDB(1, 4, 255, RECEIVE(1, 0, 255)); /* RECEIVE DATA */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_copy),	 TEST(test_overlap), TEST(test_segments),    TEST(test_list_bad),  TEST(test_targets_bad),
		TEST(test_segments_bad), TEST(test_failure), TEST(test_in_progress), TEST(test_abandoned), TEST(test_parameters),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
