/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How often each cluster of the file is used.
 *
 *     refcount table:  │ offset of refblock 0 │ offset of refblock 1 │ …      kept in memory as a whole
 *     refblock:        │ refcount │ refcount │ …  of 1 to 64 bits             in slices
 *
 * A new refblock lies at the first cluster that it counts, or at the one that needed it, and counts itself: it needs no other to be
 * found free. Its table entry is written a sync after it (order.c).
 */
#include "qcow2.h"

uint64_t refcount_read(const struct qcow2 *q, const uint8_t *data, uint64_t index)
{
	switch (q->refcount_order) {
	case 0:
		return data[index / 8] >> (index % 8) & 1;
	case 1:
		return data[index / 4] >> (index % 4 * 2) & 3;
	case 2:
		return data[index / 2] >> (index % 2 * 4) & 15;
	case 3:
		return data[index];
	case 4:
		return get_be16(data + index * 2);
	case 5:
		return get_be32(data + index * 4);
	default:
		return get_be64(data + index * 8);
	}
}

/* Bits below a byte: the first index is the least significant. */
static void write_bits(uint8_t *data, uint64_t index, unsigned bits, uint64_t value)
{
	unsigned per_byte = 8 / bits, shift = (unsigned)(index % per_byte) * bits, mask = (1u << bits) - 1;
	data[index / per_byte] = (uint8_t)((data[index / per_byte] & ~(mask << shift)) | (unsigned)value << shift);
}

void refcount_write(const struct qcow2 *q, uint8_t *data, uint64_t index, uint64_t value)
{
	switch (q->refcount_order) {
	case 0:
	case 1:
	case 2:
		write_bits(data, index, 1u << q->refcount_order, value);
		return;
	case 3:
		data[index] = (uint8_t)value;
		return;
	case 4:
		put_be16(data + index * 2, (uint16_t)value);
		return;
	case 5:
		put_be32(data + index * 4, (uint32_t)value);
		return;
	default:
		put_be64(data + index * 8, value);
		return;
	}
}

static uint64_t block_offset(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t block = cluster >> q->refblock_bits;
	return block < q->reftable.entries ? table_get(&q->reftable, block) & REFTABLE_OFFSET : 0;
}

/* The slice's place, and the cluster's index in it. */
static uint64_t slice_place(const struct qcow2 *q, uint64_t block, uint64_t cluster, unsigned *ret_index)
{
	uint64_t index = cluster & (((uint64_t)1 << q->refblock_bits) - 1), span = refcount_slice_span(q);
	*ret_index = (unsigned)(index & (span - 1));
	return block + (index / span << q->slice_bits);
}

int refcount_get_slice(struct qcow2 *q, uint64_t cluster, struct waiter *waiter, struct slice **ret, unsigned *ret_index)
{
	uint64_t block = block_offset(q, cluster);
	if (!block)
		return -ENOENT;
	if (block & q->cluster_mask)
		return corrupt(q, "the refcount block at %#llx lies between two clusters", (unsigned long long)block);
	return cache_get(q, ORDER_REFBLOCK, slice_place(q, block, cluster, ret_index), waiter, ret);
}

/* ---- making refblocks ---- */

static void zeroed(struct transfer *transfer, int result)
{
	struct qcow2 *q = transfer->q;
	q->alloc.zeroing = false;
	if (result == 0)
		order_wrote(&q->order, ORDER_BASE);
	else
		q->alloc.zeroing_cluster = 0;
	waiters_wake(&q->alloc.zeroed, result);
}

/* A used cluster has something in it; the whole refblock has to be zeros. */
static int zero_first(struct qcow2 *q, uint64_t cluster, struct waiter *waiter)
{
	static struct iovec zeros[((uint64_t)1 << CLUSTER_BITS_MAX) / ZEROES_SIZE];
	struct allocator *alloc = &q->alloc;
	if (alloc->zeroing_cluster == cluster && !alloc->zeroing)
		return 0;
	waiters_add(&alloc->zeroed, waiter);
	if (alloc->zeroing)
		return -EAGAIN;
	alloc->zeroing = true;
	alloc->zeroing_cluster = cluster;
	alloc->zeroing_transfer.done = zeroed;
	unsigned count = (unsigned)MAX(q->cluster_size / ZEROES_SIZE, 1u);
	for (unsigned i = 0; i < count; i++)
		zeros[i] = (struct iovec){ qcow2_zeroes, MIN(q->cluster_size, ZEROES_SIZE) };
	transfer_start(q, &alloc->zeroing_transfer, true, zeros, count, cluster << q->cluster_bits, q->cluster_size);
	return -EAGAIN;
}

/* The place of a new refblock is counted: by the refblock itself, or by the one that is there for it. */
static int count_place(struct qcow2 *q, uint64_t block, uint64_t place, struct slice *slice, unsigned index, struct waiter *waiter)
{
	int r = 0;
	slice_pin(slice);
	if (place >> q->refblock_bits != block) {
		struct slice *other;
		r = refcount_get_slice(q, place, waiter, &other, &index);
		if (r == 0 && (r = slice_modify(q, other)) == 0)
			refcount_write(q, other->data, index, 1);
	} else if ((r = slice_modify(q, slice)) == 0) {
		refcount_write(q, slice->data, index, 1);
	}
	slice_unpin_again(slice);
	return r;
}

int refblock_make(struct qcow2 *q, uint64_t cluster, uint64_t place, bool fresh, struct waiter *waiter)
{
	uint64_t block = cluster >> q->refblock_bits, offset = place << q->cluster_bits;
	struct slice *slice;
	unsigned index;
	int r = 0;
	if (block >= q->reftable.entries)
		return reftable_grow(q, block + 1, waiter);
	if (meta_has(q, place))
		return corrupt(q, "the free cluster at %#llx holds metadata", (unsigned long long)offset);
	if (!fresh)
		r = zero_first(q, place, waiter);
	if (r == 0)
		r = cache_get_zero(q, ORDER_REFBLOCK, slice_place(q, offset, place, &index), waiter, &slice);
	if (r == 0)
		r = count_place(q, block, place, slice, index, waiter);
	if (r == 0)
		r = meta_add(q, offset, q->cluster_size);
	if (r == 0)
		r = table_set(q, &q->reftable, block, offset);
	return r;
}
