/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The first cluster, from outside: checked before anything is believed or allocated.
 *
 *     0        72          104/112      header_length                  backing_offset        cluster
 *     │ v2     │ v3        │ …unknown…  │ extension │ extension │ end │ backing file name │ │
 *
 * A version 2 header has no feature bits: what stands at 72 is an extension there. What is not understood is kept: changes are made to single
 * fields in place (header_set_*), never by writing the header anew.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qcow2.h"

static int damaged(struct lunkit_error *err, const char *name, const char *what)
{
	lunkit_error_set(err, EINVAL, "%.300s: the qcow2 header is damaged: %s", name, what);
	return lunkit_error_hint(err, "Restore the image from a copy; `qemu-img check` may say more.");
}

static int unsupported(struct lunkit_error *err, const char *name, const char *what, const char *hint)
{
	lunkit_error_set(err, ENOTSUP, "%.300s: %s", name, what);
	return lunkit_error_hint(err, "%s", hint);
}

int header_length_needed(const uint8_t *bytes, const char *name, size_t *ret_length, struct lunkit_error *err)
{
	if (get_be32(bytes + HEADER_MAGIC) != QCOW2_MAGIC) {
		lunkit_error_set(err, EINVAL, "%.300s is not a qcow2 image: it does not begin like one", name);
		return lunkit_error_hint(err, "Name the kind that it is; for a disk's own bytes that is raw.");
	}
	unsigned version = get_be32(bytes + HEADER_VERSION), bits = get_be32(bytes + HEADER_CLUSTER_BITS);
	if (version != 2 && version != 3) {
		lunkit_error_set(err, ENOTSUP, "%.300s: version %u of the qcow2 format is not supported", name, version);
		return lunkit_error_hint(err, "Versions 2 and 3 are; `qemu-img convert` makes one of them.");
	}
	if (bits < CLUSTER_BITS_MIN || bits > CLUSTER_BITS_MAX)
		return damaged(err, name, "an impossible cluster size");
	*ret_length = (size_t)1 << bits;
	return 0;
}

uint64_t header_l1_entries(uint64_t size, unsigned cluster_bits)
{
	unsigned bits = cluster_bits + cluster_bits - 3; /* bytes that an L2 table maps */
	return (size >> bits) + !!(size & (((uint64_t)1 << bits) - 1));
}

/* The printable part of a feature's name in the feature name table. */
static bool feature_name(const uint8_t *table, size_t length, unsigned bit, char name[static FEATURE_NAME_TEXT + 1])
{
	for (size_t at = 0; at + FEATURE_NAME_LENGTH <= length; at += FEATURE_NAME_LENGTH) {
		if (table[at] != 0 || table[at + 1] != bit)
			continue;
		size_t used = 0;
		for (; used < FEATURE_NAME_TEXT && table[at + 2 + used]; used++) {
			uint8_t c = table[at + 2 + used];
			name[used] = c >= ' ' && c < 0x7f ? (char)c : '?';
		}
		name[used] = '\0';
		return used > 0;
	}
	return false;
}

static int check_features(const struct header *header, const uint8_t *names, size_t names_length, const char *name,
			  struct lunkit_error *err)
{
	uint64_t unknown = header->incompatible & ~(uint64_t)INCOMPATIBLE_KNOWN;
	if (unknown) {
		char text[FEATURE_NAME_TEXT + 1];
		unsigned bit = (unsigned)__builtin_ctzll(unknown);
		if (names && feature_name(names, names_length, bit, text))
			lunkit_error_set(err, ENOTSUP, "%.300s uses a feature that lunkit does not know: %s", name, text);
		else
			lunkit_error_set(err, ENOTSUP, "%.300s uses a feature that lunkit does not know: incompatible bit %u", name, bit);
		return lunkit_error_hint(err, "`qemu-img convert -O qcow2` makes a copy without it.");
	}
	if (header->incompatible & INCOMPATIBLE_DATA_FILE)
		return unsupported(err, name, "its data is in another file (an external data file), which lunkit does not support",
				   "`qemu-img convert -O qcow2` makes an image that holds its own data.");
	if (header->incompatible & INCOMPATIBLE_EXTENDED_L2)
		return unsupported(err, name, "it uses extended L2 entries (subclusters), which lunkit does not support",
				   "`qemu-img convert -O qcow2` makes an image without them.");
	return 0;
}

struct extensions {
	const uint8_t *names;
	size_t names_length;
};

static int parse_extensions(const uint8_t *bytes, size_t length, struct header *header, struct extensions *ret, const char *name,
			    struct lunkit_error *err)
{
	size_t at = header->header_length;
	size_t end = header->backing_offset ? header->backing_offset : length;
	while (at + 8 <= end) {
		uint32_t type = get_be32(bytes + at), size = get_be32(bytes + at + 4);
		at += 8;
		if (type == EXTENSION_END)
			return 0;
		if (size > end - at)
			return damaged(err, name, "a header extension is longer than the header");
		const uint8_t *data = bytes + at;
		if (type == EXTENSION_BACKING_FORMAT) {
			if (size >= sizeof(header->backing_format) || memchr(data, 0, size))
				return damaged(err, name, "the name of the backing file's format is not one");
			memcpy(header->backing_format, data, size);
			header->backing_format[size] = '\0';
		} else if (type == EXTENSION_FEATURE_NAMES) {
			ret->names = data;
			ret->names_length = size;
		} else if (type == EXTENSION_BITMAPS) {
			if (size < 24)
				return damaged(err, name, "the bitmaps extension is too short");
			header->has_bitmaps = true;
			header->bitmap_count = get_be32(data);
			header->bitmap_directory_length = get_be64(data + 8);
			header->bitmap_directory = get_be64(data + 16);
		} else if (type == EXTENSION_ENCRYPTION) {
			if (size < 16)
				return damaged(err, name, "the encryption extension is too short");
			header->crypt_offset = get_be64(data);
			header->crypt_length = get_be64(data + 8);
		}
		at += (size_t)align_up(size, 8);
	}
	return 0;
}

static int check_encryption(const struct header *header, const char *name, struct lunkit_error *err)
{
	if (!header->crypt_method)
		return 0;
	if (header->crypt_method != CRYPT_LUKS)
		return unsupported(err, name, "it is encrypted by a method other than LUKS, which lunkit does not support",
				   "`qemu-img convert -O qcow2` makes a copy with encrypt.format=luks, or none.");
	uint64_t cluster = (uint64_t)1 << header->cluster_bits;
	if (!header->crypt_offset || !is_aligned(header->crypt_offset, cluster) || header->crypt_offset >= HOST_OFFSET_MAX ||
	    !header->crypt_length || header->crypt_length > CRYPT_HEADER_BYTES_MAX)
		return damaged(err, name, "the encryption header lies at an impossible place");
	return 0;
}

static int parse_backing(const uint8_t *bytes, size_t length, struct header *header, const char *name, struct lunkit_error *err)
{
	if (!header->backing_offset)
		return 0;
	if (header->backing_offset < header->header_length || header->backing_size > BACKING_NAME_MAX ||
	    !range_within(header->backing_offset, header->backing_size, length))
		return damaged(err, name, "the backing file's name does not lie in it");
	const char *text = (const char *)bytes + header->backing_offset;
	if (memchr(text, 0, header->backing_size))
		return damaged(err, name, "the backing file's name holds a NUL");
	memcpy(header->backing_name, text, header->backing_size);
	return 0;
}

static int check_tables(const struct header *header, const char *name, struct lunkit_error *err)
{
	uint64_t cluster = (uint64_t)1 << header->cluster_bits;
	if (header->l1_size > L1_BYTES_MAX / 8)
		return damaged(err, name, "the L1 table is too large");
	if (header->size > INT64_MAX || header_l1_entries(header->size, header->cluster_bits) > header->l1_size)
		return damaged(err, name, "the L1 table is too small for the virtual size");
	if (header->l1_size && (!header->l1_offset || !is_aligned(header->l1_offset, cluster) || header->l1_offset >= HOST_OFFSET_MAX))
		return damaged(err, name, "the L1 table lies at an impossible place");
	if (header->reftable_clusters == 0)
		return damaged(err, name, "there is no refcount table");
	if (header->reftable_clusters > REFTABLE_BYTES_MAX >> header->cluster_bits)
		return damaged(err, name, "the refcount table is too large");
	if (!header->reftable_offset || !is_aligned(header->reftable_offset, cluster) || header->reftable_offset >= HOST_OFFSET_MAX)
		return damaged(err, name, "the refcount table lies at an impossible place");
	if (header->snapshot_count > SNAPSHOTS_MAX)
		return damaged(err, name, "there are too many snapshots");
	if (header->snapshot_count &&
	    (!header->snapshot_offset || !is_aligned(header->snapshot_offset, cluster) || header->snapshot_offset >= HOST_OFFSET_MAX))
		return damaged(err, name, "the snapshot table lies at an impossible place");
	return 0;
}

static int parse_v3(const uint8_t *bytes, size_t length, struct header *header, const char *name, struct lunkit_error *err)
{
	header->incompatible = get_be64(bytes + HEADER_INCOMPATIBLE);
	header->compatible = get_be64(bytes + HEADER_COMPATIBLE);
	header->autoclear = get_be64(bytes + HEADER_AUTOCLEAR);
	header->refcount_order = get_be32(bytes + HEADER_REFCOUNT_ORDER);
	header->header_length = get_be32(bytes + HEADER_LENGTH);
	if (header->header_length < HEADER_V3_LENGTH || header->header_length % 8 || header->header_length > length)
		return damaged(err, name, "its length is impossible");
	if (header->refcount_order > REFCOUNT_ORDER_MAX)
		return damaged(err, name, "an impossible refcount width");
	if (header->header_length > HEADER_COMPRESSION_TYPE)
		header->compression = bytes[HEADER_COMPRESSION_TYPE];
	bool other = header->incompatible & INCOMPATIBLE_COMPRESSION;
	if (other != (header->compression != COMPRESSION_ZLIB))
		return damaged(err, name, "the compression type contradicts the feature bits");
	if (header->compression > COMPRESSION_ZSTD) {
		lunkit_error_set(err, ENOTSUP, "%.300s: its compression type %u is not supported", name, header->compression);
		return lunkit_error_hint(err, "`qemu-img convert -O qcow2` makes a copy with another.");
	}
	return 0;
}

int header_parse(const uint8_t *bytes, size_t length, const char *name, struct header *ret, struct lunkit_error *err)
{
	struct header header = { 0 };
	struct extensions extensions = { 0 };
	size_t needed;
	int r = header_length_needed(bytes, name, &needed, err);
	if (r < 0)
		return r;
	length = MIN(length, needed);
	header.version = get_be32(bytes + HEADER_VERSION);
	header.cluster_bits = get_be32(bytes + HEADER_CLUSTER_BITS);
	header.backing_offset = get_be64(bytes + HEADER_BACKING_OFFSET);
	header.backing_size = get_be32(bytes + HEADER_BACKING_SIZE);
	header.size = get_be64(bytes + HEADER_SIZE);
	header.l1_size = get_be32(bytes + HEADER_L1_SIZE);
	header.l1_offset = get_be64(bytes + HEADER_L1_OFFSET);
	header.reftable_offset = get_be64(bytes + HEADER_REFTABLE_OFFSET);
	header.reftable_clusters = get_be32(bytes + HEADER_REFTABLE_CLUSTERS);
	header.snapshot_count = get_be32(bytes + HEADER_SNAPSHOT_COUNT);
	header.snapshot_offset = get_be64(bytes + HEADER_SNAPSHOT_OFFSET);
	header.header_length = HEADER_V2_LENGTH;
	header.refcount_order = 4;
	header.crypt_method = get_be32(bytes + HEADER_CRYPT_METHOD);
	if (header.version == 3) {
		r = parse_v3(bytes, length, &header, name, err);
		if (r < 0)
			return r;
	}
	r = parse_backing(bytes, length, &header, name, err);
	if (r == 0)
		r = parse_extensions(bytes, length, &header, &extensions, name, err);
	if (r == 0)
		r = check_features(&header, extensions.names, extensions.names_length, name, err);
	if (r == 0)
		r = check_encryption(&header, name, err);
	if (r == 0)
		r = check_tables(&header, name, err);
	if (r < 0)
		return r;
	if (header.size % 512) {
		lunkit_error_set(err, EINVAL, "%.300s: the virtual size, %" PRIu64 " bytes, is not a multiple of 512", name, header.size);
		return lunkit_error_hint(err, "`qemu-img resize` makes it one.");
	}
	*ret = header;
	return 0;
}

int header_set_be32(struct qcow2 *q, unsigned field, uint32_t value)
{
	int r = slice_modify(q, q->header_slice);
	if (r == 0)
		put_be32(q->header_slice->data + field, value);
	return r;
}

int header_set_be64(struct qcow2 *q, unsigned field, uint64_t value)
{
	int r = slice_modify(q, q->header_slice);
	if (r == 0)
		put_be64(q->header_slice->data + field, value);
	return r;
}
