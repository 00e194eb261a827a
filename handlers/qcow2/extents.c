/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What is where: the maps of the range, with neighbours of one kind put together. Where nothing is mapped the image below is asked, and what it knows
 * to be zeros is told as zeros: a copy of an overlay then does not read the holes of its base.
 *
 * The answer from below is kept in the request, and the map is looked at again when it has come. The question counts as a part of the request that
 * is under way: so the image below stays for as long.
 */
#include "qcow2.h"

static unsigned extent_flags(const struct qcow2 *q, const struct mapping *mapping, uint64_t position)
{
	switch (mapping->kind) {
	case MAP_NORMAL:
	case MAP_COMPRESSED:
		return LUNKIT_EXTENT_ALLOCATED;
	case MAP_ZERO_ALLOCATED:
		return LUNKIT_EXTENT_ALLOCATED | LUNKIT_EXTENT_ZERO;
	case MAP_ZERO_PLAIN:
		return LUNKIT_EXTENT_ZERO;
	case MAP_UNALLOCATED:
		return backing_is_zero(q, position, mapping->length) ? LUNKIT_EXTENT_ZERO : 0;
	}
	return 0;
}

/* ---- the image below ---- */

static void told(struct lunkit_child_request *child, int result)
{
	struct qcow2_request *r = child->user;
	struct qcow2 *q = r->q;
	struct below *below = &r->below;
	below->count = child->request.extent_count;
	below->result = result;
	below->state = BELOW_TOLD;
	backing_give(q, child);
	if (--q->in_flight[below->epoch] == 0) {
		if (below->epoch != q->epoch)
			free_check(q);
		hold_settle(q);
	}
	if (!below->starting)
		r->waiter.wake(&r->waiter, 0);
}

static int ask(struct qcow2_request *r, uint64_t length)
{
	struct qcow2 *q = r->q;
	struct below *below = &r->below;
	struct lunkit_child_request *child = backing_take(q);
	if (!child)
		return -ENOMEM;
	child->request = (struct lunkit_request){
		.op = LUNKIT_EXTENTS,
		.offset = r->position,
		.length = length,
		.extents = below->extents,
		.extent_capacity = BELOW_EXTENTS,
		.memory = child->request.memory,
	};
	child->done = told;
	child->user = r;
	below->epoch = q->epoch;
	q->in_flight[below->epoch]++;
	below->state = BELOW_ASKED;
	below->starting = true;
	lunkit_child_submit(q->backing, child);
	below->starting = false;
	return below->state == BELOW_TOLD ? 0 : -EAGAIN;
}

/* The extent at the position that the answer has, if it has one. */
static const struct lunkit_extent *find(const struct qcow2_request *r)
{
	const struct below *below = &r->below;
	for (unsigned i = 0; below->state == BELOW_TOLD && i < below->count; i++) {
		const struct lunkit_extent *extent = &below->extents[i];
		if (r->position >= extent->offset && r->position - extent->offset < extent->length)
			return extent;
	}
	return NULL;
}

/* Shortens the length to what is alike below. 0, -EAGAIN (parked), -errno. */
static int look_below(struct qcow2_request *r, uint64_t *length, unsigned *ret_flags)
{
	const struct lunkit_extent *extent = find(r);
	/* Asked once: what failed would fail again. */
	if (r->below.state == BELOW_TOLD && r->below.result < 0)
		return r->below.result;
	if (!extent) {
		int s = ask(r, *length);
		if (s < 0)
			return s;
		extent = find(r);
	}
	if (r->below.result < 0)
		return r->below.result;
	if (!extent)
		return -EIO;
	*length = MIN(*length, extent->offset + extent->length - r->position);
	*ret_flags = extent->flags & LUNKIT_EXTENT_ZERO;
	return 0;
}

/* ---- the whole ---- */

int extents_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	struct lunkit_request *request = r->request;
	struct mapping mapping;
	int s = map_lookup(q, r->position, r->end - r->position, &r->waiter, &mapping);
	if (s < 0)
		return s;
	unsigned flags = extent_flags(q, &mapping, r->position);
	uint64_t length = mapping.length;
	if (!flags && q->backing) {
		length = MIN(length, q->backing_length - r->position);
		s = look_below(r, &length, &flags);
		if (s < 0)
			return s;
	}
	struct lunkit_extent *last = request->extent_count ? &request->extents[request->extent_count - 1] : NULL;
	if (last && last->flags == flags) {
		last->length += length;
	} else if (request->extent_count < request->extent_capacity) {
		request->extents[request->extent_count++] = (struct lunkit_extent){ r->position, length, flags };
	} else {
		r->end = r->position;
		return 0;
	}
	r->position += length;
	return 0;
}
