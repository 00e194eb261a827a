/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The bytes on disk: docs/interop/qcow2 of QEMU. Everything is big-endian; offsets are bytes of the file. */

#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu

/* Header: where its fields are. */
#define HEADER_MAGIC 0
#define HEADER_VERSION 4
#define HEADER_BACKING_OFFSET 8
#define HEADER_BACKING_SIZE 16
#define HEADER_CLUSTER_BITS 20
#define HEADER_SIZE 24
#define HEADER_CRYPT_METHOD 32
#define HEADER_L1_SIZE 36
#define HEADER_L1_OFFSET 40
#define HEADER_REFTABLE_OFFSET 48
#define HEADER_REFTABLE_CLUSTERS 56
#define HEADER_SNAPSHOT_COUNT 60
#define HEADER_SNAPSHOT_OFFSET 64
#define HEADER_V2_LENGTH 72
#define HEADER_INCOMPATIBLE 72
#define HEADER_COMPATIBLE 80
#define HEADER_AUTOCLEAR 88
#define HEADER_REFCOUNT_ORDER 96
#define HEADER_LENGTH 100
#define HEADER_V3_LENGTH 104
#define HEADER_COMPRESSION_TYPE 104
#define HEADER_NEW_LENGTH 112 /* what is written today */

#define INCOMPATIBLE_DIRTY 1u
#define INCOMPATIBLE_CORRUPT 2u
#define INCOMPATIBLE_DATA_FILE 4u
#define INCOMPATIBLE_COMPRESSION 8u
#define INCOMPATIBLE_EXTENDED_L2 16u
#define INCOMPATIBLE_KNOWN 31u
#define COMPATIBLE_LAZY_REFCOUNTS 1u
#define AUTOCLEAR_BITMAPS 1u

#define CRYPT_LUKS 2
#define CRYPT_HEADER_BYTES_MAX ((uint64_t)160 << 20)

#define COMPRESSION_ZLIB 0
#define COMPRESSION_ZSTD 1

/* Header extensions: type, length, data padded to 8 bytes. */
#define EXTENSION_END 0u
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_ENCRYPTION 0x0537be77u /* offset, length of the LUKS header */
#define EXTENSION_FEATURE_NAMES 0x6803f857u
#define EXTENSION_BITMAPS 0x23852875u
#define FEATURE_NAME_LENGTH 48 /* type (0: incompatible), bit, 46 bytes of name */
#define FEATURE_NAME_TEXT 46

/* Limits: block/qcow2.h. */
#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define REFCOUNT_ORDER_MAX 6
#define L1_BYTES_MAX (32u << 20)
#define REFTABLE_BYTES_MAX (8u << 20)
#define SNAPSHOT_TABLE_BYTES_MAX (64u << 20)
#define SNAPSHOTS_MAX 65536u
#define BACKING_NAME_MAX 1023u
#define HOST_OFFSET_MAX ((uint64_t)1 << 56)

/* L1 and L2 entries. */
#define ENTRY_OFFSET 0x00fffffffffffe00u
#define ENTRY_COPIED (1ull << 63) /* the refcount is exactly one */
#define L2_COMPRESSED (1ull << 62)
#define L2_ZERO 1ull
#define L2_RESERVED 0x3f000000000001feull /* unless it is compressed */
#define REFTABLE_OFFSET 0xfffffffffffffe00u

/* A snapshot table entry: where its fields are; then extra data, id, name, padded to 8 bytes. */
#define SNAPSHOT_L1_OFFSET 0
#define SNAPSHOT_L1_SIZE 8
#define SNAPSHOT_ID_LENGTH 12
#define SNAPSHOT_NAME_LENGTH 14
#define SNAPSHOT_SECONDS 16
#define SNAPSHOT_NANOSECONDS 20
#define SNAPSHOT_CLOCK 24
#define SNAPSHOT_VM_STATE 32
#define SNAPSHOT_EXTRA_LENGTH 36
#define SNAPSHOT_FIXED_LENGTH 40
/* Extra data: where its fields are, and how much of it QEMU writes today. */
#define SNAPSHOT_EXTRA_VM_STATE 0
#define SNAPSHOT_EXTRA_SIZE 8
#define SNAPSHOT_EXTRA_ICOUNT 16
#define SNAPSHOT_EXTRA_NEW 24
