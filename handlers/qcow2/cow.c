/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes to clusters that the image does not have for itself.
 *
 *     1. a fresh cluster where zeros were:  refcount 1, L2 entry, both in memory ─► from now on it is an ordinary write in place
 *     2. anything else:                     (head and tail read) ─► │ head │ guest's data │ tail │ written at once ─► L2 entry
 *
 * Encrypted images take 2 only: a fresh cluster is no zeros once it is decrypted.
 *
 * 1 is safe because the fresh cluster reads as zeros, as the guest's cluster did: should the mapping reach the disk without the data, nothing has
 * changed for what the guest did not write, and what it wrote was not flushed. Writes to one such cluster need not wait for each other.
 * 2 shows the new cluster only when it is complete, and order.c writes the mapping only when that is durable (BASE). Others that want to
 * write there wait for it.
 *
 *     one cluster:   │ head from below │ guest │ tail from below │      several: whole ones only, and nothing is read
 *
 * What is below: zeros, the backing file, the shared cluster, a compressed one. Only what the guest does not cover is read, except a short
 * stretch between head and tail, which costs less than a second read.
 *
 * Order of taking: whatever can be waited for first, the clusters last, and nothing waits between taking them and starting.
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

#define BUFFER_BYTES ((uint64_t)8 << 20)
#define BUFFERS_MAX 64
#define READ_ALONG ((uint64_t)16 << 10)

int cow_init(struct qcow2 *q)
{
	struct cows *cows = &q->cows;
	list_init(&cows->active);
	waiters_init(&cows->buffer_waiters);
	cows->buffers_max = (unsigned)MIN(MAX(BUFFER_BYTES >> q->cluster_bits, (uint64_t)2), (uint64_t)BUFFERS_MAX);
	cows->buffers = calloc(cows->buffers_max, sizeof(void *));
	return cows->buffers ? 0 : -ENOMEM;
}

static struct cow *cow_take(struct qcow2 *q)
{
	struct cow *cow = q->cows.free;
	if (cow)
		q->cows.free = cow->next_free;
	else
		cow = malloc(sizeof(*cow));
	if (!cow)
		return NULL;
	memset(cow, 0, sizeof(*cow));
	cow->q = q;
	list_init(&cow->node);
	waiters_init(&cow->waiters);
	return cow;
}

static void cow_give(struct cow *cow)
{
	struct qcow2 *q = cow->q;
	struct cows *cows = &q->cows;
	list_remove(&cow->node);
	if (cow->slice)
		slice_unpin(q, cow->slice);
	free(cow->iov);
	void *buffer = cow->buffer;
	cow->next_free = cows->free;
	cows->free = cow;
	if (buffer) {
		cows->buffers[cows->buffer_count++] = buffer;
		waiters_wake(&cows->buffer_waiters, 0);
	}
}

/* 0, -EAGAIN (parked), -ENOMEM. */
static int buffer_take(struct cow *cow, struct waiter *waiter)
{
	struct cows *cows = &cow->q->cows;
	if (cows->buffer_count) {
		cow->buffer = cows->buffers[--cows->buffer_count];
		return 0;
	}
	if (cows->buffers_made < cows->buffers_max) {
		cow->buffer = file_buffer(cow->q, cow->q->cluster_size);
		if (cow->buffer) {
			cows->buffers_made++;
			return 0;
		}
		if (!cows->buffers_made)
			return -ENOMEM;
	}
	waiters_add(&cows->buffer_waiters, waiter);
	return -EAGAIN;
}

void cow_shrink(struct qcow2 *q)
{
	struct cows *cows = &q->cows;
	while (cows->buffer_count) {
		free(cows->buffers[--cows->buffer_count]);
		cows->buffers_made--;
	}
	for (struct cow *cow; (cow = cows->free);) {
		cows->free = cow->next_free;
		free(cow);
	}
}

void cow_destroy(struct qcow2 *q)
{
	cow_shrink(q);
	free(q->cows.buffers);
}

struct cow *cow_overlapping(const struct qcow2 *q, uint64_t cluster, uint64_t clusters)
{
	struct cow *first = NULL;
	list_for_each (node, &q->cows.active) {
		struct cow *cow = list_entry(node, struct cow, node);
		if (range_overlaps(cow->cluster, cow->clusters, cluster, clusters) && (!first || cow->cluster < first->cluster))
			first = cow;
	}
	return first;
}

/* ---- the end ---- */

/* The L2 entries of the run; what they lead to now is freed later. */
static int show(struct cow *cow)
{
	struct qcow2 *q = cow->q;
	int r = slice_modify(q, cow->slice);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < cow->clusters; i++) {
		uint8_t *at = cow->slice->data + (size_t)(cow->index + i) * 8;
		if (!cow->reuse)
			map_release(q, get_be64(at));
		put_be64(at, (cow->run.offset + ((uint64_t)i << q->cluster_bits)) | ENTRY_COPIED);
	}
	return 0;
}

static void cow_end(struct cow *cow, int result)
{
	struct qcow2 *q = cow->q;
	struct part *part = cow->part;
	if (result == 0)
		result = show(cow);
	if (result < 0 && !cow->reuse)
		free_later(q, cow->run.offset, (uint64_t)cow->run.clusters << q->cluster_bits, false);
	struct waiters waiters = cow->waiters;
	if (!waiters.first)
		waiters_init(&waiters);
	cow_give(cow);
	part_done(part, result);
	waiters_wake(&waiters, 0);
}

static void cow_written(struct transfer *transfer, int result)
{
	struct part *part = (struct part *)transfer;
	if (result == 0)
		order_wrote(&transfer->q->order, ORDER_BASE);
	cow_end(part->cow, result);
}

/* ---- writing head, data and tail ---- */

static unsigned pieces(const struct cow *cow, uint64_t length)
{
	return cow->buffer ? length > 0 : (unsigned)((length + ZEROES_SIZE - 1) / ZEROES_SIZE);
}

static unsigned add_around(const struct cow *cow, struct iovec *out, uint64_t in, uint64_t length)
{
	unsigned count = 0;
	if (cow->buffer && length) {
		out[0] = (struct iovec){ cow->buffer + in, length };
		return 1;
	}
	for (; length; length -= out[count++].iov_len)
		out[count] = (struct iovec){ qcow2_zeroes, MIN(length, ZEROES_SIZE) };
	return count;
}

static void cow_start_write(struct cow *cow)
{
	struct qcow2 *q = cow->q;
	struct part *part = cow->part;
	part->transfer.done = cow_written;
	if (!cow->head && !cow->tail) {
		data_start(q, &part->transfer, &part->scrambling, true, part->iov, part->iov_count, cow->run.offset, part->length);
		return;
	}
	unsigned count = pieces(cow, cow->head) + part->iov_count + pieces(cow, cow->tail);
	cow->iov = malloc(count * sizeof(*cow->iov));
	if (!cow->iov) {
		cow_end(cow, -ENOMEM);
		return;
	}
	unsigned used = add_around(cow, cow->iov, 0, cow->head);
	memcpy(cow->iov + used, part->iov, part->iov_count * sizeof(*part->iov));
	used += part->iov_count;
	used += add_around(cow, cow->iov + used, q->cluster_size - cow->tail, cow->tail);
	data_start(q, &part->transfer, &part->scrambling, true, cow->iov, used, cow->run.offset, q->cluster_size);
}

/* ---- reading head and tail ---- */

static void read_done(struct cow *cow, int result)
{
	if (result < 0 && !cow->result)
		cow->result = result;
	if (--cow->reads)
		return;
	if (cow->result < 0)
		cow_end(cow, cow->result);
	else
		cow_start_write(cow);
}

static void data_read(struct transfer *transfer, int result)
{
	read_done(((struct cow_read *)transfer)->cow, result);
}

static void child_read(struct lunkit_child_request *child, int result)
{
	struct cow *cow = child->user;
	backing_give(cow->q, child);
	read_done(cow, result);
}

/* A part of the cluster, from the backing file; zeros behind its end. */
static int start_child_read(struct cow *cow, unsigned which, uint64_t in, uint64_t length)
{
	struct qcow2 *q = cow->q;
	uint64_t offset = (cow->cluster << q->cluster_bits) + in;
	uint64_t there = offset < q->backing_length ? MIN(length, q->backing_length - offset) : 0;
	memset(cow->buffer + in + there, 0, length - there);
	if (!there)
		return 0;
	struct lunkit_child_request *child = backing_take(q);
	if (!child)
		return -ENOMEM;
	cow->child_iov[which] = (struct iovec){ cow->buffer + in, there };
	child->request = (struct lunkit_request){
		.op = LUNKIT_READ,
		.offset = offset,
		.length = there,
		.iov = &cow->child_iov[which],
		.iov_count = 1,
		.memory = child->request.memory,
	};
	child->done = child_read;
	child->user = cow;
	cow->reads++;
	lunkit_child_submit(q->backing, child);
	return 0;
}

static int start_read(struct cow *cow, unsigned which, uint64_t in, uint64_t length)
{
	struct qcow2 *q = cow->q;
	if (!length)
		return 0;
	if (cow->source == MAP_UNALLOCATED)
		return start_child_read(cow, which, in, length);
	cow->read[which].cow = cow;
	cow->read[which].transfer.done = data_read;
	cow->reads++;
	data_read_one(q, &cow->read[which].transfer, &cow->read[which].scrambling, cow->buffer + in, length, cow->source_offset + in);
	return 0;
}

static void unpacked(struct waiter *waiter, int result);

/* The compressed cluster, whole; it may have to be waited for more than once. */
static void start_unpack(struct cow *cow)
{
	struct qcow2 *q = cow->q;
	struct blob *blob;
	cow->waiter.wake = unpacked;
	int r = blob_get(q, cow->source_offset, &cow->waiter, &blob);
	if (r == -EAGAIN)
		return;
	if (r == 0) {
		uint64_t behind = q->cluster_size - cow->tail;
		memcpy(cow->buffer, blob->data, cow->head);
		memcpy(cow->buffer + behind, blob->data + behind, cow->tail);
		blob_put(q, blob);
	}
	read_done(cow, r);
}

static void unpacked(struct waiter *waiter, int result)
{
	struct cow *cow = list_entry(waiter, struct cow, waiter);
	if (result < 0)
		read_done(cow, result);
	else
		start_unpack(cow);
}

static void cow_start(struct cow *cow)
{
	struct qcow2 *q = cow->q;
	if (!cow->buffer) {
		cow_start_write(cow);
		return;
	}
	cow->reads = 1; /* until all are started */
	int r = 0;
	if (cow->source == MAP_COMPRESSED) {
		start_unpack(cow);
		return;
	}
	uint64_t behind = q->cluster_size - cow->tail;
	if (cow->head && cow->tail && behind - cow->head <= READ_ALONG) {
		r = start_read(cow, 0, 0, q->cluster_size);
	} else {
		r = start_read(cow, 0, 0, cow->head);
		if (r == 0)
			r = start_read(cow, 1, behind, cow->tail);
	}
	read_done(cow, r);
}

/* ---- the beginning ---- */

static bool below_is_zero(const struct qcow2 *q, const struct mapping *mapping, uint64_t cluster)
{
	switch (mapping->kind) {
	case MAP_ZERO_PLAIN:
	case MAP_ZERO_ALLOCATED:
		return true;
	case MAP_UNALLOCATED:
		return backing_is_zero(q, cluster << q->cluster_bits, q->cluster_size);
	case MAP_NORMAL:
	case MAP_COMPRESSED:
		return false;
	}
	return false;
}

static void describe_source(struct cow *cow, const struct mapping *mapping, uint64_t in)
{
	cow->source = mapping->kind;
	switch (mapping->kind) {
	case MAP_COMPRESSED:
		cow->source_offset = mapping->entry;
		return;
	case MAP_NORMAL:
		cow->source_offset = mapping->host - in;
		return;
	case MAP_UNALLOCATED:
	case MAP_ZERO_PLAIN:
	case MAP_ZERO_ALLOCATED:
		return;
	}
}

/* What has been taken for it is given back. The request may be parked by now. */
static int give_up(struct cow *cow, int result)
{
	if (cow->run.clusters && !cow->reuse)
		alloc_give_back(cow->q, &cow->run, 0);
	slice_unpin_again(cow->slice);
	cow->slice = NULL;
	cow_give(cow);
	return result;
}

/* Clusters for the write, at most wanted. */
static int take_clusters(struct cow *cow, const struct mapping *mapping, unsigned wanted, uint64_t in, struct waiter *waiter)
{
	if (!cow->reuse)
		return alloc_run(cow->q, wanted, waiter, &cow->run);
	cow->run = (struct run){ mapping->host - in, wanted, false };
	if ((cow->run.offset >> cow->q->cluster_bits) + wanted > cow->q->alloc.high_water)
		return corrupt(cow->q, "a zero cluster's storage, at %#llx, lies behind the file's end",
			       (unsigned long long)cow->run.offset);
	for (unsigned i = 0; i < wanted; i++)
		if (meta_has(cow->q, (cow->run.offset >> cow->q->cluster_bits) + i))
			return corrupt(cow->q, "a zero cluster's storage, at %#llx, is metadata", (unsigned long long)cow->run.offset);
	return 0;
}

int cow_write(struct qcow2_request *r, const struct mapping *mapping, uint64_t length)
{
	struct qcow2 *q = r->q;
	uint64_t in = r->position & q->cluster_mask, cluster = r->position >> q->cluster_bits;
	bool zero = below_is_zero(q, mapping, cluster), reuse = mapping->kind == MAP_ZERO_ALLOCATED && mapping->copied;
	bool early = zero && !reuse && !q->is_block && !q->header.crypt_method, whole = in == 0 && length >= q->cluster_size;
	struct slice *slice;
	unsigned index;
	if (!zero && !q->backing && mapping->kind == MAP_UNALLOCATED)
		return -EIO;
	if (!free_has_room(q)) {
		commit_want(q);
		return request_park(r, &q->freeing.room);
	}
	int s = map_for_write(q, r->position, &r->waiter, &slice, &index);
	if (s < 0)
		return s;
	struct cow *cow = cow_take(q);
	if (!cow)
		return -ENOMEM;
	if (!zero && !whole && (s = buffer_take(cow, &r->waiter)) < 0) {
		cow_give(cow);
		return s;
	}
	uint64_t wanted = 1;
	if (early)
		wanted = (in + length + q->cluster_mask) >> q->cluster_bits;
	else if (whole)
		wanted = length >> q->cluster_bits;
	wanted = MIN(wanted, q->slice_size / 8 - index);
	cow->slice = slice;
	slice_pin(slice);
	cow->index = index;
	cow->cluster = cluster;
	cow->reuse = reuse;
	describe_source(cow, mapping, in);
	s = take_clusters(cow, mapping, (unsigned)wanted, in, &r->waiter);
	if (s < 0) {
		cow->run.clusters = 0;
		return give_up(cow, s);
	}
	cow->clusters = cow->run.clusters;
	if (early && cow->run.fresh) {
		s = show(cow);
		if (s < 0)
			return give_up(cow, s);
		cow_give(cow);
		if (q->survive)
			commit_store_soon(q);
		return 0; /* and the next step finds clusters of its own */
	}
	if (early && cow->clusters > 1) {
		unsigned used = whole ? (unsigned)MIN(length >> q->cluster_bits, cow->clusters) : 1;
		alloc_give_back(q, &cow->run, used);
		cow->clusters = used;
	}
	uint64_t piece = whole ? (uint64_t)cow->clusters << q->cluster_bits : MIN(length, q->cluster_size - in);
	struct part *part = part_take(r, piece);
	if (!part)
		return give_up(cow, -ENOMEM);
	part->cow = cow;
	cow->part = part;
	cow->head = whole ? 0 : in;
	cow->tail = whole ? 0 : q->cluster_size - in - piece;
	list_add_tail(&q->cows.active, &cow->node);
	cow_start(cow);
	return 0;
}
