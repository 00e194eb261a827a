/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the SCSI tests share: cmocka, the fake owner, and short ways to run a command and to look at its end. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "scsi_fake.h"

static struct fake fake;
static uint8_t buffer[1 << 20]; /* the guest's */

static int setup(void **state)
{
	(void)state;
	fake_init(&fake, 512);
	memset(buffer, 0, sizeof(buffer));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_free(&fake);
	return 0;
}

/* RUN(buffer length, CDB bytes…) */
#define RUN(size, ...) fake_run(&fake, FAKE_CDB(__VA_ARGS__), buffer, size)
#define GOOD(size, ...) assert_int_equal(RUN(size, __VA_ARGS__), SCSI_GOOD)
/* CHECK(key, ASC and ASCQ as 0x052400, buffer length, CDB bytes…) */
#define CHECK(sense, size, ...)                                                                                                            \
	do {                                                                                                                               \
		assert_int_equal(RUN(size, __VA_ARGS__), SCSI_CHECK_CONDITION);                                                            \
		assert_int_equal(fake_sense(&fake), sense);                                                                                \
	} while (0)
/* The same for an invalid field in the CDB: its byte, and its bit or -1. */
#define INVALID_CDB(byte, bit, size, ...)                                                                                                  \
	do {                                                                                                                               \
		CHECK(0x052400, size, __VA_ARGS__);                                                                                        \
		assert_int_equal(fake_field(&fake), ((bit) < 0 ? 0xc0 : 0xc8 | ((bit)&7)) << 16 | (byte));                                 \
	} while (0)
#define INVALID_LIST(byte, bit, size, ...)                                                                                                 \
	do {                                                                                                                               \
		CHECK(0x052600, size, __VA_ARGS__);                                                                                        \
		assert_int_equal(fake_field(&fake), ((bit) < 0 ? 0x80 : 0x88 | ((bit)&7)) << 16 | (byte));                                 \
	} while (0)
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#define BYTES16(n) (uint8_t)((n) >> 8), (uint8_t)(n)
#define BYTES32(n) BYTES16((uint32_t)(n) >> 16), BYTES16((uint32_t)(n))
#define BYTES64(n) BYTES32((uint64_t)(n) >> 32), BYTES32((uint64_t)(n))

#define READ6(lba, n) 0x08, 0, BYTES16(lba), n, 0
#define WRITE6(lba, n) 0x0a, 0, BYTES16(lba), n, 0
#define TEN(opcode, flags, lba, n) opcode, flags, BYTES32(lba), 0, BYTES16(n), 0
#define TWELVE(opcode, flags, lba, n) opcode, flags, BYTES32(lba), BYTES32(n), 0, 0
#define SIXTEEN(opcode, flags, lba, n) opcode, flags, BYTES64(lba), BYTES32(n), 0, 0

/* Fills n bytes with something that depends on seed. */
static inline void fill(uint8_t *to, size_t n, unsigned seed)
{
	for (size_t at = 0; at < n; at++)
		to[at] = (uint8_t)(at * 31 + seed * 17 + (at >> 9) + 1);
}

static inline bool all_bytes(const uint8_t *from, size_t n, uint8_t value)
{
	for (size_t at = 0; at < n; at++)
		if (from[at] != value)
			return false;
	return true;
}
