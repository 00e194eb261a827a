/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Counting what refers to each cluster: the header and its tables, every L1 (the image's and its snapshots'), every L2 table and what it maps, bitmaps.
 * Runs on a helper thread while the image is quiet: it reads the file, and of the image only what does not change then.
 */
#include <stdlib.h>

#include "check.h"

#define DIRECTORY_MAX ((uint64_t)16 << 20)
#define BITMAPS_MAX 65535u

void check_count(struct check *check, uint64_t offset, uint64_t length, const char *what)
{
	const struct qcow2 *q = check->q;
	if (!length)
		return;
	uint64_t first = offset >> q->cluster_bits, last = (offset + length - 1) >> q->cluster_bits;
	for (uint64_t cluster = first; cluster <= last; cluster++) {
		if (cluster >= check->clusters) {
			check->behind_end = true;
			check_found(check, "%s at %#llx lies behind the file's end", what, (unsigned long long)offset);
			return;
		}
		if (check->counts[cluster] < UINT16_MAX)
			check->counts[cluster]++;
	}
}

static void count_entry(struct check *check, uint64_t entry, bool active)
{
	const struct qcow2 *q = check->q;
	uint64_t offset, length;
	switch (map_classify(entry)) {
	case MAP_UNALLOCATED:
	case MAP_ZERO_PLAIN:
		return;
	case MAP_COMPRESSED:
		map_compressed(q, entry, &offset, &length);
		if (entry & ENTRY_COPIED)
			check_found(check, "a compressed cluster is marked as writable in place, at %#llx", (unsigned long long)offset);
		check_count(check, offset, length, "a compressed cluster");
		check->report->allocated_clusters += active;
		return;
	case MAP_ZERO_ALLOCATED:
	case MAP_NORMAL:
		offset = entry & ENTRY_OFFSET;
		if (entry & L2_RESERVED)
			check_found(check, "bits that mean nothing are set where a cluster is mapped, at %#llx",
				    (unsigned long long)offset);
		if (offset & q->cluster_mask)
			check_found(check, "a cluster lies between two clusters, at %#llx", (unsigned long long)offset);
		else
			check_count(check, offset, q->cluster_size, "a cluster");
		check->report->allocated_clusters += active;
		return;
	}
}

static int count_l2(struct check *check, uint64_t l1_entry, bool active)
{
	struct qcow2 *q = check->q;
	uint64_t offset = l1_entry & ENTRY_OFFSET;
	if (l1_entry & ~(ENTRY_OFFSET | ENTRY_COPIED))
		check_found(check, "bits that mean nothing are set where an L2 table is named, at %#llx", (unsigned long long)offset);
	if (!offset)
		return 0;
	if (offset & q->cluster_mask) {
		check_found(check, "an L2 table lies between two clusters, at %#llx", (unsigned long long)offset);
		return 0;
	}
	check_count(check, offset, q->cluster_size, "an L2 table");
	if (offset >> q->cluster_bits >= check->clusters)
		return 0;
	int r = file_read(q, check->buffer, q->cluster_size, offset);
	for (uint64_t i = 0; i < (uint64_t)1 << q->entry_bits && r == 0; i++)
		count_entry(check, get_be64(check->buffer + i * 8), active);
	return r;
}

static int count_snapshot(struct check *check, const struct snapshot *snapshot)
{
	struct qcow2 *q = check->q;
	uint64_t length = (uint64_t)snapshot->l1_size * 8;
	uint8_t *l1 = file_buffer(q, length);
	if (!l1)
		return -ENOMEM;
	check_count(check, snapshot->l1_offset, length, "a snapshot's L1 table");
	int r = file_read(q, l1, length, snapshot->l1_offset);
	for (unsigned i = 0; i < snapshot->l1_size && r == 0; i++)
		r = count_l2(check, get_be64(l1 + (size_t)i * 8), false);
	free(l1);
	return r;
}

/* One bitmap: its table, and what that leads to. */
static int count_bitmap(struct check *check, uint64_t table_offset, uint64_t entries)
{
	struct qcow2 *q = check->q;
	uint64_t per_read = q->cluster_size / 8;
	if (table_offset & q->cluster_mask || table_offset >= HOST_OFFSET_MAX) {
		check_found(check, "a bitmap's table lies between two clusters, at %#llx", (unsigned long long)table_offset);
		return 0;
	}
	check_count(check, table_offset, entries * 8, "a bitmap's table");
	for (uint64_t done = 0; done < entries; done += per_read) {
		if ((table_offset + done * 8) >> q->cluster_bits >= check->clusters)
			return 0;
		int r = file_read(q, check->buffer, q->cluster_size, table_offset + done * 8);
		if (r < 0)
			return r;
		for (uint64_t i = 0; i < per_read && done + i < entries; i++) {
			uint64_t offset = get_be64(check->buffer + i * 8) & ENTRY_OFFSET;
			if (offset & q->cluster_mask)
				check_found(check, "a bitmap lies between two clusters, at %#llx", (unsigned long long)offset);
			else if (offset)
				check_count(check, offset, q->cluster_size, "a bitmap");
		}
	}
	return 0;
}

/* Directory entries: table offset 8, table size 4, flags 4, type 1, granularity 1, name length 2, extra length 4; extra, name, to 8. */
static int count_directory(struct check *check, const uint8_t *directory, uint64_t length, unsigned bitmaps)
{
	uint64_t at = 0;
	for (unsigned i = 0; i < bitmaps; i++) {
		if (length - at < 24) {
			check_found(check, "the bitmap directory is too short for %u bitmaps", bitmaps);
			return 0;
		}
		const uint8_t *entry = directory + at;
		int r = count_bitmap(check, get_be64(entry), get_be32(entry + 8));
		if (r < 0)
			return r;
		uint64_t size = align_up(24 + (uint64_t)get_be16(entry + 18) + get_be32(entry + 20), 8);
		at = size > length - at ? length : at + size;
	}
	return 0;
}

int check_count_bitmaps(struct check *check)
{
	struct qcow2 *q = check->q;
	const struct header *header = &q->header;
	unsigned bitmaps = header->bitmap_count;
	uint64_t offset = header->bitmap_directory, length = header->bitmap_directory_length;
	/* Without the bit, somebody who does not know bitmaps has written, which may be us: what is left of them is nobody's. */
	if (!header->has_bitmaps || !(header->autoclear & AUTOCLEAR_BITMAPS) || !q->hidden_changes)
		return 0;
	if (bitmaps > BITMAPS_MAX || length > DIRECTORY_MAX || offset & q->cluster_mask || offset >= HOST_OFFSET_MAX) {
		check_found(check, "the bitmap directory lies at an impossible place");
		return 0;
	}
	check_count(check, offset, length, "the bitmap directory");
	uint8_t *directory = file_buffer(q, length);
	if (!directory)
		return -ENOMEM;
	int r = file_read(q, directory, length, offset);
	if (r == 0)
		r = count_directory(check, directory, length, bitmaps);
	free(directory);
	return r;
}

int check_count_all(struct check *check)
{
	struct qcow2 *q = check->q;
	const struct header *header = &q->header;
	check_count(check, 0, q->cluster_size, "the header");
	check_count(check, q->reftable.offset, q->reftable.entries * 8, "the refcount table");
	check_count(check, q->l1.offset, q->l1.entries * 8, "the L1 table");
	if (header->crypt_method)
		check_count(check, header->crypt_offset, header->crypt_length, "the encryption header");
	if (header->snapshot_count)
		check_count(check, header->snapshot_offset, q->snapshot_table_length, "the snapshot table");
	for (uint64_t i = 0; i < q->reftable.entries; i++) {
		uint64_t offset = table_get(&q->reftable, i) & REFTABLE_OFFSET;
		if (offset & q->cluster_mask)
			check_found(check, "a refcount block lies between two clusters, at %#llx", (unsigned long long)offset);
		else if (offset)
			check_count(check, offset, q->cluster_size, "a refcount block");
	}
	int r = 0;
	for (uint64_t i = 0; i < q->l1.entries && r == 0; i++)
		r = count_l2(check, table_get(&q->l1, i), true);
	for (unsigned i = 0; i < header->snapshot_count && r == 0; i++)
		r = count_snapshot(check, &q->snapshots[i]);
	return r == 0 ? check_count_bitmaps(check) : r;
}
