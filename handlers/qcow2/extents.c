/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is where: the maps of the range, with neighbours of one kind put together. */
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
	if (!flags && q->backing)
		length = MIN(length, q->backing_length - r->position);
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
