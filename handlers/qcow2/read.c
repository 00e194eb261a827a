/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reading: each stretch that is mapped alike is one part.
 *
 *     in the file ─► READV into the guest's memory      zeros ─► set at once
 *     compressed  ─► compress.c, then copied            nothing here ─► the backing file, zeros behind its end
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

static void memory_zero(const struct part *part, uint64_t skip)
{
	for (unsigned i = 0; i < part->iov_count; i++) {
		size_t length = part->iov[i].iov_len;
		if (skip < length)
			memset((char *)part->iov[i].iov_base + skip, 0, length - skip);
		skip -= MIN(skip, length);
	}
}

static void memory_copy(const struct part *part, const uint8_t *from)
{
	for (unsigned i = 0; i < part->iov_count; i++) {
		memcpy(part->iov[i].iov_base, from, part->iov[i].iov_len);
		from += part->iov[i].iov_len;
	}
}

static void data_read(struct transfer *transfer, int result)
{
	part_done((struct part *)transfer, result);
}

static int read_data(struct qcow2_request *r, uint64_t host, uint64_t length)
{
	struct part *part = part_take(r, length);
	if (!part)
		return -ENOMEM;
	part->transfer.done = data_read;
	data_start(r->q, &part->transfer, &part->scrambling, false, part->iov, part->iov_count, host, length);
	return 0;
}

static int read_zeros(struct qcow2_request *r, uint64_t length)
{
	struct part *part = part_take(r, length);
	if (!part)
		return -ENOMEM;
	memory_zero(part, 0);
	part_done(part, 0);
	return 0;
}

/* ---- the backing file ---- */

struct lunkit_child_request *backing_take(struct qcow2 *q)
{
	if (q->child_count)
		return q->children[--q->child_count];
	return lunkit_child_request_new(q->backing);
}

void backing_give(struct qcow2 *q, struct lunkit_child_request *child)
{
	if (q->child_count == q->child_room) {
		unsigned room = MAX(q->child_room * 2, 16u);
		struct lunkit_child_request **grown = reallocarray(q->children, room, sizeof(struct lunkit_child_request *));
		if (!grown) {
			lunkit_child_request_free(child);
			return;
		}
		q->children = grown;
		q->child_room = room;
	}
	q->children[q->child_count++] = child;
}

bool backing_is_zero(const struct qcow2 *q, uint64_t guest_offset, uint64_t length)
{
	(void)length;
	return !q->has_backing || (q->backing && guest_offset >= q->backing_length);
}

static void backing_read(struct lunkit_child_request *child, int result)
{
	struct part *part = child->user;
	backing_give(part->r->q, child);
	part_done(part, result);
}

static int read_backing(struct qcow2_request *r, uint64_t length)
{
	struct qcow2 *q = r->q;
	if (!q->backing)
		return -EIO;
	length = MIN(length, q->backing_length - r->position);
	struct lunkit_child_request *child = backing_take(q);
	struct part *part = child ? part_take(r, length) : NULL;
	if (!part) {
		if (child)
			backing_give(q, child);
		return -ENOMEM;
	}
	child->request = (struct lunkit_request){
		.op = LUNKIT_READ,
		.offset = part->guest_offset,
		.length = length,
		.iov = part->iov,
		.iov_count = part->iov_count,
		.memory = child->request.memory,
	};
	child->done = backing_read;
	child->user = part;
	lunkit_child_submit(q->backing, child);
	return 0;
}

/* ---- compressed clusters ---- */

static int read_compressed(struct qcow2_request *r, const struct mapping *mapping)
{
	struct blob *blob;
	int s = blob_get(r->q, mapping->entry, &r->waiter, &blob);
	if (s < 0)
		return s;
	uint64_t in = r->position & r->q->cluster_mask;
	struct part *part = part_take(r, mapping->length);
	if (part)
		memory_copy(part, blob->data + in);
	blob_put(r->q, blob);
	if (!part)
		return -ENOMEM;
	part_done(part, 0);
	return 0;
}

int read_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	struct mapping mapping;
	int s = map_lookup(q, r->position, r->end - r->position, &r->waiter, &mapping);
	if (s < 0)
		return s;
	switch (mapping.kind) {
	case MAP_NORMAL:
		return read_data(r, mapping.host, mapping.length);
	case MAP_ZERO_PLAIN:
	case MAP_ZERO_ALLOCATED:
		return read_zeros(r, mapping.length);
	case MAP_UNALLOCATED:
		if (backing_is_zero(q, r->position, mapping.length))
			return read_zeros(r, mapping.length);
		return read_backing(r, mapping.length);
	case MAP_COMPRESSED:
		return read_compressed(r, &mapping);
	}
	return -EIO;
}
