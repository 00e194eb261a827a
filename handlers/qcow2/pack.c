/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where compressed clusters go: behind each other, to the byte, whatever clusters of the file they touch.
 *
 *     clusters of the file:   │ A │  B  │ C ▒▒│▒▒▒▒ D │ E │ … free │        C touches two: each is counted once for everything that touches it
 *                                                     ^next        ^end: the open cluster
 *
 * When the next one does not fit into the open cluster and the new cluster happens to follow it, it goes over the border; else it begins at the
 * new cluster. A cluster whose refcount can take no more is closed. So is one that is about to be free (pack_forget): what was put there is
 * gone, and it may be anybody's soon.
 *
 * Neighbours share blocks of direct I/O, so they are written by one write at a time: what comes meanwhile is gathered in the other buffer, and
 * the last block, when it is not full, is written again with what follows.
 *
 * Invariants: refcounts come first, then the data, then the L2 entry (compress_write.c; ORDER_BASE); one place is looked for at a time; nothing
 * of a batch that is being written changes.
 */
#include <stdlib.h>
#include <string.h>

#include "pack.h"

#define BATCH_BYTES ((size_t)1 << 20)

int pack_init(struct qcow2 *q, struct packer *packer)
{
	packer->alignment = MAX(q->geometry.offset_alignment, 1u);
	packer->batch_size = align_up(MAX(2 * q->cluster_size, BATCH_BYTES), packer->alignment);
	packer->queue_end = &packer->queue;
	packer->filling = &packer->batch[0];
	for (unsigned i = 0; i < 2; i++) {
		packer->batch[i].end = &packer->batch[i].first;
		packer->batch[i].data = file_buffer(q, packer->batch_size);
	}
	packer->carry = malloc(packer->alignment);
	return packer->batch[0].data && packer->batch[1].data && packer->carry ? 0 : -ENOMEM;
}

void pack_forget(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	struct packer *packer = q->packer;
	if (packer && packer->end && packer->next >= offset && packer->next < offset + length)
		packer->end = 0;
}

/* ---- a place ---- */

static uint64_t refcount_max(const struct qcow2 *q)
{
	return q->refcount_order >= 6 ? UINT64_MAX : ((uint64_t)1 << (1u << q->refcount_order)) - 1;
}

/* An entry has fewer bits for the place of a compressed cluster than for that of another. */
static uint64_t place_max(const struct qcow2 *q)
{
	return MIN((uint64_t)1 << (62 - (q->cluster_bits - 8)), HOST_OFFSET_MAX);
}

static void take_place(struct packer *packer, struct pack *pack, uint64_t place, uint64_t end)
{
	pack->place = place;
	packer->next = place + pack->packed;
	packer->end = packer->next < end ? end : 0;
}

/* Counts the open cluster once more. -ERANGE: it can't be. */
static int count_open(struct qcow2 *q, struct waiter *waiter)
{
	struct slice *slice;
	unsigned index;
	int r = refcount_get_slice(q, q->packer->next >> q->cluster_bits, waiter, &slice, &index);
	if (r < 0)
		return r;
	uint64_t value = refcount_read(q, slice->data, index);
	if (value == 0 || value >= refcount_max(q))
		return -ERANGE;
	r = slice_modify(q, slice);
	if (r == 0)
		refcount_write(q, slice->data, index, value + 1);
	return r;
}

/* 0, -EAGAIN (parked), -errno. */
static int find_place(struct qcow2 *q, struct pack *pack)
{
	struct packer *packer = q->packer;
	for (;;) {
		uint64_t room = packer->end ? packer->end - packer->next : 0;
		bool fits = pack->packed <= room;
		if (!fits && !packer->spare) {
			struct run run;
			int r = alloc_run(q, 1, &packer->waiter, &run);
			if (r < 0)
				return r;
			packer->spare = run.offset;
		}
		if (!fits && packer->spare + q->cluster_size > place_max(q))
			return -EFBIG;
		if (!fits && (!packer->end || packer->spare != packer->end)) {
			take_place(packer, pack, packer->spare, packer->spare + q->cluster_size);
			packer->spare = 0;
			return 0;
		}
		int r = count_open(q, &packer->waiter);
		if (r == -ERANGE) {
			packer->end = 0;
			continue;
		}
		if (r < 0)
			return r;
		uint64_t end = fits ? packer->end : packer->spare + q->cluster_size;
		if (!fits)
			packer->spare = 0;
		take_place(packer, pack, packer->next, end);
		return 0;
	}
}

/* ---- batches ---- */

/* False: not into this one. */
static bool append(struct packer *packer, struct pack *pack)
{
	struct pack_batch *batch = packer->filling;
	if (!batch->first) {
		batch->base = align_down(pack->place, packer->alignment);
		batch->fill = pack->place - batch->base;
		memcpy(batch->data, packer->carry, batch->fill);
	} else if (pack->place != batch->base + batch->fill || batch->fill + pack->packed > packer->batch_size) {
		return false;
	}
	memcpy(batch->data + batch->fill, pack->out, pack->packed);
	batch->fill += pack->packed;
	size_t block = align_down(batch->fill, packer->alignment);
	memcpy(packer->carry, batch->data + block, batch->fill - block);
	pack->next = NULL;
	*batch->end = pack;
	batch->end = &pack->next;
	return true;
}

static void place_all(struct qcow2 *q);

static void batch_written(struct transfer *transfer, int result)
{
	struct qcow2 *q = transfer->q;
	struct packer *packer = q->packer;
	struct pack_batch *batch = packer->filling == &packer->batch[0] ? &packer->batch[1] : &packer->batch[0];
	if (result == 0)
		order_wrote(&q->order, ORDER_BASE);
	struct pack *pack = batch->first;
	batch->first = NULL;
	batch->end = &batch->first;
	packer->writing = false;
	place_all(q);
	while (pack) {
		struct pack *next = pack->next;
		pack_written(pack, result);
		pack = next;
	}
}

static void write_batch(struct qcow2 *q)
{
	struct packer *packer = q->packer;
	struct pack_batch *batch = packer->filling;
	if (packer->writing || !batch->first)
		return;
	size_t length = align_up(batch->fill, packer->alignment);
	memset(batch->data + batch->fill, 0, length - batch->fill);
	packer->writing = true;
	packer->filling = batch == &packer->batch[0] ? &packer->batch[1] : &packer->batch[0];
	packer->transfer.done = batch_written;
	transfer_start_one(q, &packer->transfer, true, batch->data, length, batch->base);
}

/* ---- one after the other ---- */

static struct pack *queue_pop(struct packer *packer)
{
	struct pack *pack = packer->queue;
	packer->queue = pack->next;
	if (!packer->queue)
		packer->queue_end = &packer->queue;
	return pack;
}

static void fail_first(struct qcow2 *q, int result)
{
	struct packer *packer = q->packer;
	if (packer->spare)
		free_later(q, packer->spare, q->cluster_size, false);
	packer->spare = 0;
	pack_written(queue_pop(packer), result);
}

void pack_count(struct pack *pack, bool counted)
{
	struct qcow2 *q = pack->cow.q;
	struct part *part = pack->cow.part;
	if (!q->is_block)
		return;
	if (counted) {
		part->epoch = q->epoch;
		q->in_flight[part->epoch]++;
	} else if (--q->in_flight[part->epoch] == 0 && part->epoch != q->epoch) {
		free_check(q);
	}
}

static void woken(struct waiter *waiter, int result)
{
	struct packer *packer = list_entry(waiter, struct packer, waiter);
	struct qcow2 *q = packer->queue->cow.q;
	packer->parked = false;
	pack_count(packer->queue, true);
	/* Meanwhile the disk may have become smaller. */
	if (result == 0 && packer->queue->cow.cluster << q->cluster_bits >= q->size)
		result = -EIO;
	if (result < 0)
		fail_first(q, result);
	place_all(q);
}

static void place_all(struct qcow2 *q)
{
	struct packer *packer = q->packer;
	if (packer->placing)
		return;
	packer->placing = true;
	while (packer->queue && !packer->parked) {
		struct pack *pack = packer->queue;
		int r = pack->place ? 0 : find_place(q, pack);
		if (r == -EAGAIN) {
			packer->parked = true;
			pack_count(pack, false);
			break;
		}
		if (r < 0) {
			fail_first(q, r);
			continue;
		}
		struct pack *after = pack->next;
		if (!append(packer, pack))
			break;
		pack->next = after;
		queue_pop(packer);
		pack->next = NULL;
	}
	packer->placing = false;
	write_batch(q);
}

void pack_add(struct qcow2 *q, struct pack *pack)
{
	struct packer *packer = q->packer;
	packer->waiter.wake = woken;
	pack->place = 0;
	pack->next = NULL;
	*packer->queue_end = pack;
	packer->queue_end = &pack->next;
	place_all(q);
}
