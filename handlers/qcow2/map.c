/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Guest offset to file offset, on cached slices only.
 *
 *     guest offset:  │ L1 index │ L2 index │ offset in the cluster │
 *     L1 entry:      │C│ … │ offset of the L2 table        │ …│      C: COPIED, this image alone uses it
 *     L2 entry:      │C│0│ … │ offset of the cluster       │ …│Z│    Z: reads as zeros, whatever is there
 *                    │0│1│ sectors - 1 │ offset, in bytes      │    compressed; the boundary depends on the cluster size
 *
 * A slice that is not there is fetched, and whoever needs it is parked and starts again from the top: nothing that was found before is
 * relied on after a wait.
 */
#include "qcow2.h"

static bool has_place(enum map_kind kind)
{
	return kind == MAP_NORMAL || kind == MAP_ZERO_ALLOCATED;
}

static uint64_t l1_index_of(const struct qcow2 *q, uint64_t guest_offset)
{
	return guest_offset >> (q->cluster_bits + q->entry_bits);
}

/* Where in the file the slice with the guest offset's entry is, and the entry's index there. */
static uint64_t slice_offset(const struct qcow2 *q, uint64_t l2_offset, uint64_t guest_offset, unsigned *ret_index)
{
	uint64_t index = (guest_offset >> q->cluster_bits) & ((1u << q->entry_bits) - 1);
	unsigned shift = q->slice_bits - 3;
	*ret_index = (unsigned)(index & ((1u << shift) - 1));
	return l2_offset + ((index >> shift) << q->slice_bits);
}

static bool slice_is_stored(const struct slice *slice)
{
	return !slice || !(slice->dirty || slice->again || (slice->committing && !slice->written));
}

bool map_is_stored(const struct qcow2 *q, uint64_t guest_offset, uint64_t end)
{
	const uint64_t span = (uint64_t)q->cluster_size << (q->slice_bits - 3);
	for (uint64_t offset = guest_offset & ~(span - 1); offset < end; offset += span) {
		uint64_t l1_index = l1_index_of(q, offset);
		unsigned index;
		if (l1_index >= q->l1.entries)
			return true; /* behind the end of a disk that has shrunk */
		if (!slice_is_stored(q->l1.slices[l1_index >> q->l1.shift]))
			return false;
		uint64_t l2_offset = table_get(&q->l1, l1_index) & ENTRY_OFFSET;
		if (l2_offset && !slice_is_stored(cache_peek(q, slice_offset(q, l2_offset, offset, &index))))
			return false;
	}
	return true;
}

static int check_entry(struct qcow2 *q, uint64_t guest_offset, uint64_t entry, enum map_kind kind)
{
	if (has_place(kind) && entry & ENTRY_OFFSET & q->cluster_mask)
		return corrupt(q, "the cluster for guest offset %#llx lies at %#llx, between two clusters",
			       (unsigned long long)guest_offset, (unsigned long long)(entry & ENTRY_OFFSET));
	if ((kind == MAP_ZERO_PLAIN || kind == MAP_ZERO_ALLOCATED) && q->header.version < 3)
		return corrupt(q, "there is a zero cluster at guest offset %#llx, which version 2 does not have",
			       (unsigned long long)guest_offset);
	return 0;
}

int map_lookup(struct qcow2 *q, uint64_t guest_offset, uint64_t length, struct waiter *waiter, struct mapping *ret)
{
	uint64_t l1_entry = table_get(&q->l1, l1_index_of(q, guest_offset)), l2_offset = l1_entry & ENTRY_OFFSET;
	if (!l2_offset) {
		uint64_t span = q->cluster_size << q->entry_bits;
		ret->kind = MAP_UNALLOCATED;
		ret->copied = false;
		ret->entry = ret->host = 0;
		ret->length = MIN(length, span - (guest_offset & (span - 1)));
		return 0;
	}
	if (__builtin_expect(l2_offset & q->cluster_mask, 0))
		return corrupt(q, "the L2 table for guest offset %#llx lies at %#llx, between two clusters",
			       (unsigned long long)guest_offset, (unsigned long long)l2_offset);
	unsigned index;
	struct slice *slice;
	int r = cache_get(q, ORDER_MAP, slice_offset(q, l2_offset, guest_offset, &index), waiter, &slice);
	if (r < 0)
		return r;
	const uint8_t *at = slice->data + (size_t)index * 8;
	uint64_t entry = get_be64(at), in = guest_offset & q->cluster_mask;
	enum map_kind kind = map_classify(entry);
	r = check_entry(q, guest_offset, entry, kind);
	if (r < 0)
		return r;
	ret->kind = kind;
	ret->entry = entry;
	ret->copied = l1_entry & entry & ENTRY_COPIED;
	ret->host = has_place(kind) ? (entry & ENTRY_OFFSET) + in : 0;
	uint64_t found = q->cluster_size - in;
	if (found < length && kind != MAP_COMPRESSED) {
		uint64_t step = has_place(kind) ? q->cluster_size : 0;
		unsigned count = (unsigned)(q->slice_size / 8);
		for (index++; index < count && found < length; index++) {
			entry += step;
			at += 8;
			if (get_be64(at) != entry)
				break;
			found += q->cluster_size;
		}
	}
	ret->length = MIN(found, length);
	return 0;
}

int map_for_write(struct qcow2 *q, uint64_t guest_offset, struct waiter *waiter, struct slice **ret_slice, unsigned *ret_index)
{
	/* It would never be in the file: commit.c. */
	if (q->broken)
		return q->broken;
	uint64_t l1_index = l1_index_of(q, guest_offset), l1_entry = table_get(&q->l1, l1_index);
	if (!(l1_entry & ENTRY_OFFSET) || !(l1_entry & ENTRY_COPIED)) {
		int r = new_table_get(q, l1_index, l1_entry, waiter);
		if (r < 0)
			return r;
		l1_entry = table_get(&q->l1, l1_index);
	}
	if (l1_entry & ENTRY_OFFSET & q->cluster_mask)
		return corrupt(q, "the L2 table for guest offset %#llx lies between two clusters", (unsigned long long)guest_offset);
	return cache_get(q, ORDER_MAP, slice_offset(q, l1_entry & ENTRY_OFFSET, guest_offset, ret_index), waiter, ret_slice);
}

void map_compressed(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset, uint64_t *ret_length)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	uint64_t offset = entry & (((uint64_t)1 << shift) - 1);
	uint64_t sectors = ((entry & ~(ENTRY_COPIED | L2_COMPRESSED)) >> shift) + 1;
	*ret_offset = offset;
	*ret_length = sectors * 512 - (offset & 511);
}

void map_release(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset, length;
	switch (map_classify(entry)) {
	case MAP_UNALLOCATED:
	case MAP_ZERO_PLAIN:
		return;
	case MAP_ZERO_ALLOCATED:
	case MAP_NORMAL:
		free_later(q, entry & ENTRY_OFFSET, q->cluster_size, false);
		return;
	case MAP_COMPRESSED:
		map_compressed(q, entry, &offset, &length);
		blob_forget(q, offset, length);
		free_later(q, offset, length, false);
		return;
	}
}
