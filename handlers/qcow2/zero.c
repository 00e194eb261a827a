/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Discard and write_zeroes: whole clusters by their L2 entries, a cluster's part by writing zeros.
 *
 *                          discard            write_zeroes, may discard      write_zeroes
 *     no backing file      0                  0                              ZERO, storage kept
 *     a backing file       ZERO               ZERO                           ZERO, storage kept
 *     version 2            0; with a backing  0; with a backing file the handler says that it can't (qcow2_limits)
 *                          file: nothing
 *
 * Nothing ever falls through to the backing file that did not before: what was discarded reads as zeros. What an entry led to is freed when that is
 * durable (free.c). What lies behind the disk's end is dropped: its entries become 0. The last cluster counts as whole when the range reaches the image's end.
 */
#include "qcow2.h"

static bool is_end(const struct qcow2 *q, uint64_t offset)
{
	return is_aligned(offset, q->cluster_size) || offset == q->size;
}

enum what { GIVE_BACK, KEEP, DROP };

/* What a whole cluster's entry becomes. */
static uint64_t zero_entry(const struct qcow2 *q, uint64_t entry, bool copied, enum what what)
{
	enum map_kind kind = map_classify(entry);
	uint64_t nothing = q->has_backing && what != DROP ? L2_ZERO : 0;
	bool keep = what == KEEP;
	switch (kind) {
	case MAP_UNALLOCATED:
		return nothing;
	case MAP_ZERO_PLAIN:
		return entry;
	case MAP_ZERO_ALLOCATED:
		return keep ? entry : nothing;
	case MAP_NORMAL:
		return keep && copied && q->header.version >= 3 ? (entry | L2_ZERO) : nothing;
	case MAP_COMPRESSED:
		return nothing;
	}
	return entry;
}

/* Whole clusters from the position on, as many as one slice maps. */
static int zero_clusters(struct qcow2_request *r, enum what what)
{
	struct qcow2 *q = r->q;
	uint64_t cluster = r->position >> q->cluster_bits, count = (r->end - r->position + q->cluster_mask) >> q->cluster_bits;
	int s = image_prepare_write(q, &r->waiter);
	if (s < 0)
		return s;
	struct cow *cow = list_empty(&q->cows.active) ? NULL : cow_overlapping(q, cluster, count);
	if (cow && cow->cluster <= cluster)
		return request_park(r, &cow->waiters);
	if (cow)
		count = cow->cluster - cluster;
	struct mapping mapping;
	s = map_lookup(q, r->position, MIN(count << q->cluster_bits, r->end - r->position), &r->waiter, &mapping);
	if (s < 0)
		return s;
	bool is_nothing = what == DROP || backing_is_zero(q, r->position, mapping.length);
	if (mapping.kind == MAP_ZERO_PLAIN || (mapping.kind == MAP_UNALLOCATED && is_nothing)) {
		r->position += mapping.length;
		return 0;
	}
	if (!free_has_room(q)) {
		commit_want(q);
		return request_park(r, &q->freeing.room);
	}
	struct slice *slice;
	unsigned index;
	s = map_for_write(q, r->position, &r->waiter, &slice, &index);
	if (s == 0)
		s = slice_modify(q, slice);
	if (s < 0)
		return s;
	count = MIN(count, q->slice_size / 8 - index);
	for (uint64_t i = 0; i < count; i++) {
		uint8_t *at = slice->data + (index + i) * 8;
		uint64_t old = get_be64(at), new = zero_entry(q, old, old & ENTRY_COPIED, what);
		if (new == old)
			continue;
		if (!(new &ENTRY_OFFSET))
			map_release(q, old);
		put_be64(at, new);
	}
	r->position = MIN(r->position + (count << q->cluster_bits), r->end);
	return 0;
}

int discard_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	r->position = align_up(r->position, q->cluster_size);
	if (!is_end(q, r->end))
		r->end = align_down(r->end, q->cluster_size);
	if (r->position >= r->end || (q->header.version < 3 && q->has_backing)) {
		r->position = r->end;
		return 0;
	}
	return zero_clusters(r, GIVE_BACK);
}

int drop_step(struct qcow2_request *r)
{
	return zero_clusters(r, DROP);
}

int zero_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	uint64_t end = r->end;
	if (is_aligned(r->position, q->cluster_size)) {
		uint64_t whole = is_end(q, end) ? end : align_down(end, q->cluster_size);
		if (whole > r->position) {
			r->end = whole;
			int s = zero_clusters(r, r->request->flags & LUNKIT_REQUEST_MAY_DISCARD ? GIVE_BACK : KEEP);
			r->end = end;
			return s;
		}
	}
	/* A part of one cluster: nothing to do where it reads as zeros, else it is written. */
	uint64_t until = MIN(end, align_down(r->position, q->cluster_size) + q->cluster_size);
	struct mapping mapping;
	int s = map_lookup(q, r->position, until - r->position, &r->waiter, &mapping);
	if (s < 0)
		return s;
	bool zero = mapping.kind == MAP_ZERO_PLAIN || mapping.kind == MAP_ZERO_ALLOCATED ||
		    (mapping.kind == MAP_UNALLOCATED && backing_is_zero(q, r->position, mapping.length));
	if (zero) {
		r->position = until;
		return 0;
	}
	return write_step_until(r, until);
}
