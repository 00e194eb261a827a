/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Unaligned big-endian (SCSI, qcow2) and little-endian (Parallels) access. */

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTEORDER_ACCESS(order, bits)                                                                                                      \
	static inline uint##bits##_t get_##order##bits(const void *from)                                                                   \
	{                                                                                                                                  \
		uint##bits##_t value;                                                                                                      \
		memcpy(&value, from, sizeof(value));                                                                                       \
		return order##bits##toh(value);                                                                                            \
	}                                                                                                                                  \
	static inline void put_##order##bits(void *to, uint##bits##_t value)                                                               \
	{                                                                                                                                  \
		value = hto##order##bits(value);                                                                                           \
		memcpy(to, &value, sizeof(value));                                                                                         \
	}

BYTEORDER_ACCESS(be, 16)
BYTEORDER_ACCESS(be, 32)
BYTEORDER_ACCESS(be, 64)
BYTEORDER_ACCESS(le, 16)
BYTEORDER_ACCESS(le, 32)
BYTEORDER_ACCESS(le, 64)

#undef BYTEORDER_ACCESS

static inline uint32_t get_be24(const void *from)
{
	const uint8_t *bytes = from;
	return (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
}

static inline void put_be24(void *to, uint32_t value)
{
	uint8_t *bytes = to;
	bytes[0] = (uint8_t)(value >> 16);
	bytes[1] = (uint8_t)(value >> 8);
	bytes[2] = (uint8_t)value;
}
