/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counts every reference to every cluster and compares with the refcounts.
 *
 *     header ─► refcount table ─► refblocks          what the image says
 *     header ─► L1 ─► L2 ─► data                     what is used, active: COPIED is compared too
 *     header ─► snapshot table ─► L1 ─► L2 ─► data   what is used, by snapshots
 *     header ─► bitmap directory ─► tables ─► data
 *
 * Left out: extended L2, external data files, encryption (reported as corruption: no test makes them).
 */
#include "fakehost/qcow2_check.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPIED (1ull << 63)
#define COMPRESSED (1ull << 62)
#define OFFSET_MASK 0x00fffffffffffe00ull

struct look {
	const uint8_t *image;
	uint64_t size, cluster_size, clusters, disk_size;
	unsigned cluster_bits, version, refcount_order;
	uint32_t *references;
	uint8_t *early;	      /* COPIED, and the refcount is more than one */
	uint8_t *active_data; /* data clusters of the active table: none is used twice */
	struct qcow2_findings *out;
};

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint64_t be64(const uint8_t *p)
{
	return (uint64_t)be32(p) << 32 | be32(p + 4);
}

__attribute__((format(printf, 2, 3))) static void corrupt(struct look *look, const char *format, ...)
{
	if (look->out->corruptions++ == 0) {
		va_list args;
		va_start(args, format);
		vsnprintf(look->out->first, sizeof(look->out->first), format, args);
		va_end(args);
	}
}

static bool inside(const struct look *look, uint64_t offset, uint64_t length)
{
	return offset <= look->size && length <= look->size - offset;
}

/* One more reference to each cluster that [offset, offset + length) touches. A last cluster may lie behind the file's end, in part or whole. */
static void refer(struct look *look, uint64_t offset, uint64_t length, const char *what)
{
	if (length == 0)
		return;
	uint64_t first = offset >> look->cluster_bits, last = (offset + length - 1) >> look->cluster_bits;
	if (offset + length < offset || last >= look->clusters) {
		corrupt(look, "%s at %#llx, %#llx bytes, lies behind the end of the file, %#llx", what, (unsigned long long)offset,
			(unsigned long long)length, (unsigned long long)look->size);
		return;
	}
	for (uint64_t i = first; i <= last; i++)
		look->references[i]++;
}

static uint64_t refcount_of(const struct look *look, uint64_t cluster)
{
	unsigned bits = 1u << look->refcount_order;
	uint64_t per_block = look->cluster_size * 8 / bits;
	uint64_t table = be64(look->image + 48), table_size = (uint64_t)be32(look->image + 56) << look->cluster_bits;
	uint64_t index = cluster / per_block;
	if (index * 8 + 8 > table_size || !inside(look, table + index * 8, 8))
		return 0;
	uint64_t block = be64(look->image + table + index * 8) & ~511ull;
	if (!block || block & (look->cluster_size - 1) || !inside(look, block, look->cluster_size))
		return 0;
	const uint8_t *data = look->image + block;
	uint64_t at = cluster % per_block;
	if (bits < 8)
		return data[at * bits / 8] >> at * bits % 8 & ((1u << bits) - 1);
	uint64_t value = 0;
	for (unsigned i = 0; i < bits / 8; i++)
		value = value << 8 | data[at * (bits / 8) + i];
	return value;
}

static void check_copied(struct look *look, uint64_t entry, uint64_t offset, const char *what, uint64_t where)
{
	if (offset >> look->cluster_bits >= look->clusters)
		return;
	bool single = refcount_of(look, offset >> look->cluster_bits) == 1, copied = entry & COPIED;
	if (single == copied)
		return;
	if (look->out->dirty)
		look->out->dirty_errors++;
	else if (!copied)
		look->out->stale_copied++;
	else if (refcount_of(look, offset >> look->cluster_bits) > 1)
		look->early[offset >> look->cluster_bits] = 1;
	else
		corrupt(look, "%s %llu: COPIED with refcount %llu: entry %#llx", what, (unsigned long long)where,
			(unsigned long long)refcount_of(look, offset >> look->cluster_bits), (unsigned long long)entry);
}

static void look_at_data(struct look *look, uint64_t entry, bool active, uint64_t guest)
{
	uint64_t offset = entry & OFFSET_MASK;
	if (entry & COMPRESSED) {
		unsigned shift = 62 - (look->cluster_bits - 8);
		uint64_t at = entry & ((1ull << shift) - 1), sectors = (entry & ~COPIED & ~COMPRESSED) >> shift;
		if (entry & COPIED)
			corrupt(look, "guest cluster %llu is compressed and COPIED", (unsigned long long)guest);
		refer(look, at & ~511ull, (sectors + 1) * 512, "a compressed cluster");
		return;
	}
	if (entry & 0x3f000000000001feull || (entry & 1 && look->version < 3))
		corrupt(look, "guest cluster %llu: reserved bits in %#llx", (unsigned long long)guest, (unsigned long long)entry);
	if (!offset)
		return;
	if (offset & (look->cluster_size - 1)) {
		corrupt(look, "guest cluster %llu: offset %#llx is not aligned", (unsigned long long)guest, (unsigned long long)offset);
		return;
	}
	refer(look, offset, look->cluster_size, "a data cluster");
	if (!active)
		return;
	check_copied(look, entry, offset, "guest cluster", guest);
	uint64_t cluster = offset >> look->cluster_bits;
	if (cluster < look->clusters && look->active_data[cluster]++)
		corrupt(look, "host cluster %#llx is data of two guest clusters, the second is %llu", (unsigned long long)offset,
			(unsigned long long)guest);
}

static void look_at_l1(struct look *look, uint64_t table, uint64_t entries, bool active, const char *name)
{
	if (entries == 0)
		return;
	if (table & (look->cluster_size - 1) || entries > (32u << 20) / 8 || !inside(look, table, entries * 8)) {
		corrupt(look, "the L1 table of %s, %llu entries at %#llx, is not inside the file", name, (unsigned long long)entries,
			(unsigned long long)table);
		return;
	}
	refer(look, table, entries * 8, "an L1 table");
	uint64_t per_table = look->cluster_size / 8;
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t entry = be64(look->image + table + i * 8), offset = entry & OFFSET_MASK;
		if (entry & 0x7f000000000001ffull)
			corrupt(look, "L1 entry %llu of %s: reserved bits in %#llx", (unsigned long long)i, name,
				(unsigned long long)entry);
		if (!offset)
			continue;
		if (offset & (look->cluster_size - 1) || !inside(look, offset, look->cluster_size)) {
			corrupt(look, "L1 entry %llu of %s: L2 table at %#llx is not inside the file", (unsigned long long)i, name,
				(unsigned long long)offset);
			continue;
		}
		refer(look, offset, look->cluster_size, "an L2 table");
		if (active)
			check_copied(look, entry, offset, "L2 table", i);
		for (uint64_t k = 0; k < per_table; k++) {
			uint64_t data = be64(look->image + offset + k * 8);
			if (data)
				look_at_data(look, data, active, i * per_table + k);
		}
	}
}

static void look_at_snapshots(struct look *look)
{
	uint32_t count = be32(look->image + 60);
	uint64_t table = be64(look->image + 64), at = table;
	if (count == 0)
		return;
	if (table & (look->cluster_size - 1) || count > 65536) {
		corrupt(look, "the snapshot table, %u entries at %#llx", count, (unsigned long long)table);
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		at = (at + 7) & ~7ull;
		if (!inside(look, at, 40)) {
			corrupt(look, "snapshot %u lies behind the end of the file", i);
			return;
		}
		const uint8_t *entry = look->image + at;
		char name[32];
		snprintf(name, sizeof(name), "snapshot %u", i);
		look_at_l1(look, be64(entry), be32(entry + 8), false, name);
		at += 40 + (uint64_t)be32(entry + 36) + (uint64_t)(entry[12] << 8 | entry[13]) + (uint64_t)(entry[14] << 8 | entry[15]);
	}
	if (!inside(look, table, at - table))
		corrupt(look, "the snapshot table lies behind the end of the file");
	refer(look, table, at - table, "the snapshot table");
}

static void look_at_bitmaps(struct look *look, const uint8_t *extension)
{
	uint32_t count = be32(extension);
	uint64_t directory_size = be64(extension + 8), directory = be64(extension + 16), at = directory;
	if (directory & (look->cluster_size - 1) || !inside(look, directory, directory_size)) {
		corrupt(look, "the bitmap directory is not inside the file");
		return;
	}
	refer(look, directory, directory_size, "the bitmap directory");
	for (uint32_t i = 0; i < count; i++) {
		if (at + 24 > directory + directory_size) {
			corrupt(look, "the bitmap directory is too short");
			return;
		}
		const uint8_t *entry = look->image + at;
		uint64_t table = be64(entry), entries = be32(entry + 8);
		if (table & (look->cluster_size - 1) || !inside(look, table, entries * 8)) {
			corrupt(look, "the table of bitmap %u is not inside the file", i);
			return;
		}
		refer(look, table, entries * 8, "a bitmap's table");
		for (uint64_t k = 0; k < entries; k++) {
			uint64_t offset = be64(look->image + table + k * 8) & OFFSET_MASK;
			if (offset)
				refer(look, offset, look->cluster_size, "a bitmap's cluster");
		}
		at += 24 + (uint64_t)(entry[18] << 8 | entry[19]) + be32(entry + 20);
		at = (at + 7) & ~7ull;
	}
}

static void look_at_extensions(struct look *look, uint64_t at)
{
	while (at + 8 <= look->cluster_size && inside(look, at, 8)) {
		uint32_t type = be32(look->image + at), length = be32(look->image + at + 4);
		if (type == 0)
			return;
		if (at + 8 + length > look->cluster_size || !inside(look, at + 8, length)) {
			corrupt(look, "header extension %#x is too long", type);
			return;
		}
		bool valid = look->version >= 3 && be64(look->image + 88) & 1;
		if (type == 0x23852875 && valid && length >= 24)
			look_at_bitmaps(look, look->image + at + 8);
		at += 8 + ((length + 7) & ~7u);
	}
}

static void look_at_refcount_table(struct look *look)
{
	uint64_t table = be64(look->image + 48), clusters = be32(look->image + 56);
	uint64_t length = clusters << look->cluster_bits;
	if (!table || table & (look->cluster_size - 1) || clusters > (8u << 20) || !inside(look, table, length)) {
		corrupt(look, "the refcount table, %llu clusters at %#llx, is not inside the file", (unsigned long long)clusters,
			(unsigned long long)table);
		return;
	}
	refer(look, table, length, "the refcount table");
	for (uint64_t i = 0; i < length / 8; i++) {
		uint64_t entry = be64(look->image + table + i * 8), block = entry & ~511ull;
		if (entry & 511)
			corrupt(look, "refcount table entry %llu: reserved bits", (unsigned long long)i);
		if (!block)
			continue;
		if (block & (look->cluster_size - 1) || !inside(look, block, look->cluster_size))
			corrupt(look, "refblock %llu at %#llx is not inside the file", (unsigned long long)i, (unsigned long long)block);
		else
			refer(look, block, look->cluster_size, "a refblock");
	}
}

static void compare(struct look *look)
{
	for (uint64_t i = 0; i < look->clusters; i++) {
		uint64_t said = refcount_of(look, i), used = look->references[i];
		if (look->early[i] && used == 1)
			look->out->early_copied++;
		else if (look->early[i])
			corrupt(look, "cluster at %#llx: COPIED with %llu references", (unsigned long long)(i << look->cluster_bits),
				(unsigned long long)used);
		/* The last is the one behind the file's end: a refcount without a reference holds no space there. */
		if (said == used || (used == 0 && i + 1 == look->clusters))
			continue;
		if (said > used) {
			if (look->out->leaks++ == 0 && !look->out->corruptions)
				snprintf(look->out->first, sizeof(look->out->first),
					 "leak: cluster at %#llx: refcount %llu, %llu references",
					 (unsigned long long)(i << look->cluster_bits), (unsigned long long)said, (unsigned long long)used);
		} else if (look->out->dirty) {
			look->out->dirty_errors++;
		} else {
			corrupt(look, "cluster at %#llx: refcount %llu, %llu references", (unsigned long long)(i << look->cluster_bits),
				(unsigned long long)said, (unsigned long long)used);
		}
	}
}

static bool look_at_header(struct look *look)
{
	const uint8_t *h = look->image;
	if (look->size < 112 || memcmp(h, "QFI\xfb", 4) != 0) {
		corrupt(look, "this is no qcow2 header");
		return false;
	}
	look->version = be32(h + 4);
	look->cluster_bits = be32(h + 20);
	look->refcount_order = look->version >= 3 ? be32(h + 96) : 4;
	if ((look->version != 2 && look->version != 3) || look->cluster_bits < 9 || look->cluster_bits > 21 || look->refcount_order > 6) {
		corrupt(look, "the header's version, cluster size or refcount width");
		return false;
	}
	look->cluster_size = 1ull << look->cluster_bits;
	look->disk_size = be64(h + 24);
	uint64_t incompatible = look->version >= 3 ? be64(h + 72) : 0;
	if (incompatible & ~9ull) {
		corrupt(look, "incompatible features %#llx", (unsigned long long)incompatible);
		return false;
	}
	look->out->dirty = incompatible & 1;
	/* One cluster more than the file has: the last may lie just behind its end. */
	look->clusters = (look->size + look->cluster_size - 1) / look->cluster_size + 1;
	return true;
}

/* What lies behind a file's end reads as zeros: QEMU relies on it for tables in the last cluster. */
static uint8_t *pad(struct look *look)
{
	uint64_t padded = look->clusters << look->cluster_bits;
	uint8_t *copy = calloc(1, padded);
	if (!copy)
		abort();
	memcpy(copy, look->image, look->size);
	look->image = copy;
	look->size = padded;
	return copy;
}

void qcow2_find(const uint8_t *image, uint64_t size, struct qcow2_findings *ret)
{
	*ret = (struct qcow2_findings){ 0 };
	struct look look = { .image = image, .size = size, .out = ret };
	if (!look_at_header(&look))
		return;
	uint8_t *copy = pad(&look);
	look.references = calloc(look.clusters, sizeof(*look.references));
	look.active_data = calloc(look.clusters, 1);
	look.early = calloc(look.clusters, 1);
	if (!look.references || !look.active_data || !look.early)
		abort();
	refer(&look, 0, look.cluster_size, "the header");
	look_at_refcount_table(&look);
	uint64_t l1_entries = be32(look.image + 36), per_l1 = look.cluster_size * (look.cluster_size / 8);
	if (l1_entries < (look.disk_size + per_l1 - 1) / per_l1)
		corrupt(&look, "the L1 table, %llu entries, is too short for the disk", (unsigned long long)l1_entries);
	look_at_l1(&look, be64(look.image + 40), l1_entries, true, "the image");
	look_at_snapshots(&look);
	look_at_extensions(&look, look.version >= 3 ? be32(look.image + 100) : 72);
	compare(&look);
	free(look.references);
	free(look.active_data);
	free(look.early);
	free(copy);
}
