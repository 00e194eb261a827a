/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* INQUIRY and its vital product data. */
#include "scsi_test.h"

#include "base/iov.h"
#include "scsi/command.h"

#define STANDARD(length) 0x12, 0, 0, BYTES16(length), 0
#define PAGE(page, length) 0x12, 1, page, BYTES16(length), 0

static void test_standard(void **state)
{
	(void)state;
	GOOD(300, STANDARD(260));
	assert_int_equal(fake.command.data_in_length, 96);
	assert_int_equal(fake.asks, 2);
	assert_int_equal(buffer[0], 0);
	assert_int_equal(buffer[1], 0);
	assert_int_equal(buffer[2], 6);
	assert_int_equal(buffer[3] & 0xcf, 2);
	assert_int_equal(buffer[4], 91);
	assert_int_equal(buffer[5], 0x38); /* TPGS 3, 3PC */
	assert_memory_equal(buffer + 8, "LUNKIT  disk            1   ", 28);
	assert_int_equal(get_be16(buffer + 60), 0x0460);
	assert_int_equal(get_be16(buffer + 62), 0x04c0);
	for (unsigned length = 0; length < 256; length++) {
		memset(buffer, 0xcc, 300);
		GOOD(300, STANDARD(length));
		assert_int_equal(fake.command.data_in_length, MIN(length, 96u));
		assert_int_equal(buffer[MIN(length, 96u)], 0xcc);
	}
	INVALID_CDB(2, -1, 96, 0x12, 0, 0x80, 0, 96, 0);
	INVALID_CDB(1, 1, 96, 0x12, 2, 0, 0, 96, 0);
}

static void test_last_known(void **state)
{
	(void)state;
	GOOD(96, STANDARD(96));
	strcpy(fake.identity.product, "other");
	fake.ask_result = -EIO;
	GOOD(96, STANDARD(96));
	assert_memory_equal(buffer + 16, "disk  ", 6);
	assert_int_equal(buffer[5] & 0x30, 0); /* no groups known */
	fake.ask_result = 0;
	GOOD(96, STANDARD(96));
	assert_memory_equal(buffer + 16, "other ", 6);
}

static void test_pages(void **state)
{
	(void)state;
	uint8_t pages[256];
	GOOD(300, PAGE(0, 255));
	unsigned count = get_be16(buffer + 2);
	assert_int_equal(fake.command.data_in_length, 4 + count);
	memcpy(pages, buffer + 4, count);
	assert_int_equal(count, 6);
	for (unsigned at = 0; at < count; at++) {
		assert_true(!at || pages[at] > pages[at - 1]);
		GOOD(300, PAGE(pages[at], 255));
		assert_int_equal(buffer[1], pages[at]);
		assert_int_equal(get_be16(buffer + 2) + 4u, fake.command.data_in_length);
		GOOD(300, PAGE(pages[at], 3));
		assert_int_equal(fake.command.data_in_length, 3);
		GOOD(2, PAGE(pages[at], 255)); /* less room than allowed */
		assert_int_equal(fake.command.data_in_length, 2);
	}
	INVALID_CDB(2, -1, 255, PAGE(0x81, 255));
	INVALID_CDB(2, -1, 255, PAGE(0xff, 255));
}

static void test_serial(void **state)
{
	(void)state;
	GOOD(255, PAGE(0x80, 255));
	assert_int_equal(buffer[3], 36);
	assert_memory_equal(buffer + 4, "9f8e7d6c-5b4a-3928-1706-f5e4d3c2b1a0", 36);
	memset(&fake.identity, 0xff, sizeof(fake.identity)); /* neither ends nor is printable */
	GOOD(255, PAGE(0x80, 255));
	assert_int_equal(buffer[3], SCSI_SERIAL_MAX);
	assert_true(all_bytes(buffer + 4, SCSI_SERIAL_MAX, ' '));
}

static void test_identification(void **state)
{
	(void)state;
	GOOD(255, PAGE(0x83, 255));
	const uint8_t *at = buffer + 4;
	static const uint8_t naa[20] = { 1,    3,    0,	   16,	 0x60, 0x01, 0x40, 0x59, 0xf8, 0xe7,
					 0xd6, 0xc5, 0xb4, 0xa3, 0x92, 0x81, 0x70, 0x6f, 0x5e, 0x4d };
	assert_memory_equal(at, naa, 20);
	at += 20;
	assert_int_equal(at[0], 2);
	assert_int_equal(at[1], 1);
	assert_int_equal(at[3], 44);
	assert_memory_equal(at + 4, "LUNKIT  9f8e7d6c-5b4a-3928-1706-f5e4d3c2b1a0", 44);
	at += 48;
	static const uint8_t port[16] = { 1, 0x14, 0, 4, 0, 0, 0, 7, 1, 0x15, 0, 4, 0, 0, 0, 0 };
	assert_memory_equal(at, port, 16);
	assert_int_equal(get_be16(buffer + 2), 20 + 48 + 16);

	fake.groups.groups[0].port_count = 2; /* which of them is it? */
	GOOD(255, PAGE(0x83, 255));
	assert_int_equal(get_be16(buffer + 2), 20 + 48);
	strcpy(fake.identity.serial, "");
	GOOD(255, PAGE(0x83, 255)); /* no serial number: no name that others would share */
	assert_int_equal(buffer[4], 2);
}

static void test_naa(void **state)
{
	(void)state;
	struct scsi_identity identity = { .serial = "xyz" };
	uint8_t naa[SCSI_NAA_LENGTH];
	assert_false(scsi_identity_naa(&identity, naa));
	strcpy(identity.serial, "A-b");
	assert_true(scsi_identity_naa(&identity, naa));
	static const uint8_t two[SCSI_NAA_LENGTH] = { 0x60, 0x01, 0x40, 0x5a, 0xb0 };
	assert_memory_equal(naa, two, sizeof(two));
	memset(identity.serial, 'f', sizeof(identity.serial) - 1);
	assert_true(scsi_identity_naa(&identity, naa));
	assert_int_equal(naa[3], 0x5f);
	assert_true(all_bytes(naa + 4, 12, 0xff));
}

static void test_limits(void **state)
{
	(void)state;
	GOOD(64, PAGE(0xb0, 64));
	assert_int_equal(fake.command.data_in_length, 64);
	assert_int_equal(buffer[4], 0);
	assert_int_equal(buffer[5], 255);
	assert_int_equal(get_be16(buffer + 6), 1);
	assert_int_equal(get_be32(buffer + 8), 0);
	assert_int_equal(get_be32(buffer + 20), UINT32_MAX);
	assert_int_equal(get_be32(buffer + 24), 4095);
	assert_int_equal(get_be32(buffer + 32), 0);
	fake.device.max_transfer_blocks = 100;
	fake.device.optimal_transfer_blocks = 50;
	fake.device.max_unmap_blocks = 1000;
	fake.device.max_unmap_descriptors = 8;
	fake.device.unmap_granularity_blocks = 16;
	fake.device.max_write_same_blocks = 0x123456789;
	fake.device.physical_block_exponent = 3;
	GOOD(64, PAGE(0xb0, 64));
	assert_int_equal(buffer[5], 100);
	assert_int_equal(get_be16(buffer + 6), 8);
	assert_int_equal(get_be32(buffer + 8), 100);
	assert_int_equal(get_be32(buffer + 12), 50);
	assert_int_equal(get_be32(buffer + 20), 1000);
	assert_int_equal(get_be32(buffer + 24), 8);
	assert_int_equal(get_be32(buffer + 28), 16);
	assert_int_equal(get_be32(buffer + 32), 0x80000000);
	assert_int_equal(get_be64(buffer + 36), 0x123456789);
	fake.device.can_discard = false;
	GOOD(64, PAGE(0xb0, 64));
	assert_true(all_bytes(buffer + 20, 16, 0));
}

static void test_characteristics(void **state)
{
	(void)state;
	GOOD(64, PAGE(0xb1, 64));
	assert_int_equal(get_be16(buffer + 4), 1);
	fake.device.rotational = true;
	GOOD(64, PAGE(0xb1, 64));
	assert_int_equal(get_be16(buffer + 4), 0);
}

static void test_provisioning(void **state)
{
	(void)state;
	GOOD(64, PAGE(0xb2, 64));
	assert_int_equal(buffer[5], 0xe4);
	assert_int_equal(buffer[6], 2);
	fake.device.discard_zeroes = false;
	GOOD(64, PAGE(0xb2, 64));
	assert_int_equal(buffer[5], 0xe0);
	fake.device.can_discard = false;
	GOOD(64, PAGE(0xb2, 64));
	assert_int_equal(buffer[5], 0);
	assert_int_equal(buffer[6], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_standard), TEST(test_last_known), TEST(test_pages),		TEST(test_serial),	 TEST(test_identification),
		TEST(test_naa),	     TEST(test_limits),	    TEST(test_characteristics), TEST(test_provisioning),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
