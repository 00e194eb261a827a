/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walks: all that an L1 table leads to, table by table, while requests go on.
 *
 *     L1 entry ─► the L2 table's own reference ─► its entries, a slice at a time ─► next        (RELEASE: entries first, then the table)
 *
 * The tables come through the cache, some fetched ahead. A walk that needs a slice waits for it and goes on where it was: position says exactly what has
 * been done, so that what was counted can be taken back. It gives the loop its turn after every few slices.
 *
 * What is walked must not change meanwhile, COPIED bits apart: the L1 of a snapshot, or one that is no longer in use. LIMIT and COPIED look at the active
 * table and take it as it is at each slice.
 */
#include "walk.h"

/* Slices until others get their turn: about a tenth of a millisecond. */
#define BUDGET 8
#define AHEAD (2 * CACHE_RUN)

static uint64_t l1_entry(const struct walk *walk)
{
	return walk->l1 && walk->kind != WALK_COPIED ? walk->l1[walk->position.table] : table_get(&walk->q->l1, walk->position.table);
}

static bool is_place(const struct qcow2 *q, uint64_t offset)
{
	return offset && !(offset & q->cluster_mask) && offset < HOST_OFFSET_MAX;
}

static void next_table(struct walk *walk)
{
	walk->position = (struct walk_position){ .table = walk->position.table + 1 };
}

/* ---- fetching ---- */

/* The rest of this table, and then the next ones. */
static void fetch_ahead(struct walk *walk, uint64_t table, uint64_t offset)
{
	struct qcow2 *q = walk->q;
	uint64_t end = table + q->cluster_size, next = walk->position.table;
	for (unsigned ahead = 0; ahead < AHEAD && q->cache.loading < AHEAD;) {
		if (offset >= end) {
			/* Only what is in use: the tables of a snapshot that is no more belong to others. */
			bool live = !walk->l1 || walk->kind == WALK_COPIED;
			if (++next >= walk->entries || next > walk->end.table)
				return;
			/* What was never counted may have been freed, and be anything by now. */
			if (next == walk->end.table && !walk->end.counted)
				return;
			offset = (live ? table_get(&q->l1, next) : walk->l1[next]) & ENTRY_OFFSET;
			if (!is_place(q, offset))
				return;
			end = offset + q->cluster_size;
		}
		unsigned fetched = cache_fetch(q, ORDER_MAP, offset, (unsigned)((end - offset) >> q->slice_bits));
		if (!fetched)
			return;
		ahead += fetched;
		offset += (uint64_t)fetched << q->slice_bits;
	}
}

/* The slice of the entry at the position. */
static int get_slice(struct walk *walk, uint64_t table, struct slice **ret, unsigned *ret_index)
{
	struct qcow2 *q = walk->q;
	uint64_t per_slice = q->slice_size / 8, offset = table + align_down(walk->position.entry, per_slice) * 8;
	*ret_index = (unsigned)(walk->position.entry & (per_slice - 1));
	int r = cache_get(q, ORDER_MAP, offset, &walk->waiter, ret);
	if (r < 0 && r != -EAGAIN)
		return r;
	if (r == 0 && walk->position.entry & (per_slice * (AHEAD / 4) - 1))
		return 0;
	/* Hardly anything can be evicted then, and the counters are to have that. */
	if (q->commit.running && q->cache.count >= q->cache.limit)
		return r;
	/* Where all else is dirty, it would be what is evicted for the next ones. */
	if (r == 0)
		slice_pin(*ret);
	fetch_ahead(walk, table, offset + q->slice_size);
	if (r == 0)
		slice_unpin_again(*ret);
	return r;
}

/* ---- counting ---- */

static uint64_t refcount_most(const struct qcow2 *q)
{
	return q->refcount_order == REFCOUNT_ORDER_MAX ? UINT64_MAX : ((uint64_t)1 << (1u << q->refcount_order)) - 1;
}

/*
 * The slice that counts the cluster. The last one is remembered, since neighbours stand in it: until the cache is asked for anything else, which may
 * evict it (walk->counter.slice = NULL).
 */
static int get_counter(struct walk *walk, uint64_t cluster, unsigned *ret_index)
{
	struct qcow2 *q = walk->q;
	struct slice *slice;
	if (walk->counter.slice && cluster - walk->counter.first < refcount_slice_span(q)) {
		*ret_index = (unsigned)(cluster - walk->counter.first);
		return 0;
	}
	walk->counter.slice = NULL;
	int r = refcount_get_slice(q, cluster, &walk->waiter, &slice, ret_index);
	if (r == 0) {
		walk->counter.slice = slice;
		walk->counter.first = cluster - *ret_index;
	}
	return r;
}

/* Clusters that one entry leads to: all are looked at before any is counted. */
static int count_up(struct walk *walk, uint64_t offset, uint64_t length)
{
	struct qcow2 *q = walk->q;
	uint64_t first = offset >> q->cluster_bits, last = (offset + length - 1) >> q->cluster_bits;
	unsigned index;
	for (uint64_t cluster = first; cluster <= last; cluster++) {
		int r = get_counter(walk, cluster, &index);
		uint64_t value = r == 0 ? refcount_read(q, walk->counter.slice->data, index) : 0;
		if (r == -ENOENT || (r == 0 && value == 0))
			return corrupt(q, "the cluster at %#llx is in use, and its refcount is zero",
				       (unsigned long long)cluster << q->cluster_bits);
		if (r == 0 && value >= refcount_most(q))
			return -EOVERFLOW;
		if (r == 0 && walk->kind == WALK_REFERENCE && !walk->counter.slice->dirty)
			r = slice_modify(q, walk->counter.slice);
		if (r < 0)
			return r;
	}
	for (uint64_t cluster = first; cluster <= last && walk->kind == WALK_REFERENCE; cluster++) {
		/* All are in the cache: nothing has been fetched since. */
		if (get_counter(walk, cluster, &index) < 0)
			return -EIO;
		uint8_t *data = walk->counter.slice->data;
		refcount_write(q, data, index, refcount_read(q, data, index) + 1);
	}
	return 0;
}

static int reference_entry(struct walk *walk, struct slice *slice, unsigned index)
{
	struct qcow2 *q = walk->q;
	uint8_t *at = slice->data + (size_t)index * 8;
	uint64_t entry = get_be64(at), offset = entry & ENTRY_OFFSET, length = q->cluster_size;
	if (!entry)
		return 0;
	switch (map_classify(entry)) {
	case MAP_UNALLOCATED:
	case MAP_ZERO_PLAIN:
		return 0;
	case MAP_COMPRESSED:
		map_compressed(q, entry, &offset, &length);
		return count_up(walk, offset, length);
	case MAP_ZERO_ALLOCATED:
	case MAP_NORMAL:
		break;
	}
	if (!is_place(q, offset))
		return walk->kind == WALK_LIMIT ? 0 : corrupt(q, "a cluster lies at %#llx, between two", (unsigned long long)offset);
	bool clear = walk->kind == WALK_REFERENCE && entry & ENTRY_COPIED;
	int r = clear && !slice->dirty ? slice_modify(q, slice) : 0;
	if (r == 0)
		r = count_up(walk, offset, length);
	if (r == 0 && clear)
		put_be64(slice->data + (size_t)index * 8, entry & ~ENTRY_COPIED);
	return r;
}

static int step_reference(struct walk *walk, uint64_t table)
{
	struct qcow2 *q = walk->q;
	struct slice *slice;
	unsigned index;
	int r = 0;
	walk->counter.slice = NULL;
	if (!walk->position.counted) {
		r = count_up(walk, table, q->cluster_size);
		if (r < 0)
			return r;
		walk->position.counted = true;
	}
	r = get_slice(walk, table, &slice, &index);
	if (r < 0)
		return r;
	walk->counter.slice = NULL;
	slice_pin(slice);
	for (; index < q->slice_size / 8 && r == 0; index++) {
		r = reference_entry(walk, slice, index);
		walk->position.entry += r == 0;
	}
	slice_unpin_again(slice);
	return r;
}

/* ---- freeing ---- */

static int release_entry(struct walk *walk, uint64_t entry)
{
	struct qcow2 *q = walk->q;
	enum map_kind kind = map_classify(entry);
	if (kind == MAP_UNALLOCATED || kind == MAP_ZERO_PLAIN ||
	    (kind != MAP_COMPRESSED && !is_place(q, entry & ENTRY_OFFSET))) /* what could not have been counted is not freed */
		return 0;
	if (!free_has_room(q)) {
		waiters_add(&q->freeing.room, &walk->waiter);
		commit_want(q);
		return -EAGAIN;
	}
	map_release(q, entry);
	return 0;
}

static int step_release(struct walk *walk, uint64_t table)
{
	struct qcow2 *q = walk->q;
	const struct walk_position *end = &walk->end;
	bool last = walk->position.table == end->table;
	uint64_t until = last ? end->entry : (uint64_t)1 << q->entry_bits;
	if (walk->position.entry < until) {
		struct slice *slice;
		unsigned index;
		int r = get_slice(walk, table, &slice, &index);
		if (r < 0)
			return r;
		for (; index < q->slice_size / 8 && walk->position.entry < until && r == 0; index++) {
			r = release_entry(walk, get_be64(slice->data + (size_t)index * 8));
			walk->position.entry += r == 0;
		}
		if (r < 0)
			return r;
	}
	if (walk->position.entry < until)
		return 0;
	if (!last || end->counted)
		free_later(q, table, q->cluster_size, true);
	next_table(walk);
	return 0;
}

/* ---- COPIED ---- */

static int refcount_is_one(struct walk *walk, uint64_t offset, bool *ret)
{
	struct slice *slice;
	unsigned index;
	int r = refcount_get_slice(walk->q, offset >> walk->q->cluster_bits, &walk->waiter, &slice, &index);
	*ret = r == 0 && refcount_read(walk->q, slice->data, index) == 1;
	return r == -ENOENT ? 0 : r;
}

static int copied_entry(struct walk *walk, struct slice *slice, unsigned index)
{
	uint64_t entry = get_be64(slice->data + (size_t)index * 8);
	enum map_kind kind = map_classify(entry);
	bool one;
	if ((kind != MAP_NORMAL && kind != MAP_ZERO_ALLOCATED) || entry & ENTRY_COPIED || !is_place(walk->q, entry & ENTRY_OFFSET))
		return 0;
	int r = refcount_is_one(walk, entry & ENTRY_OFFSET, &one);
	if (r == 0 && one && (r = slice_modify(walk->q, slice)) == 0)
		put_be64(slice->data + (size_t)index * 8, entry | ENTRY_COPIED);
	return r;
}

/* Somebody may be copying the table: what is set in the old one would be lost, and so would be writes to it. */
static int step_copied(struct walk *walk, uint64_t table)
{
	struct qcow2 *q = walk->q;
	uint64_t entry = l1_entry(walk);
	struct slice *slice;
	unsigned index;
	bool one;
	if (new_table_wait(q, walk->position.table, &walk->waiter))
		return -EAGAIN;
	if (!(entry & ENTRY_COPIED)) {
		int r = refcount_is_one(walk, table, &one);
		if (r == 0 && one)
			r = table_set(q, &q->l1, walk->position.table, entry | ENTRY_COPIED);
		if (r < 0)
			return r;
		if (!one) {
			/* A shared table's clusters are shared too. */
			next_table(walk);
			return 0;
		}
	}
	int r = get_slice(walk, table, &slice, &index);
	if (r < 0)
		return r;
	slice_pin(slice);
	for (; index < q->slice_size / 8 && r == 0; index++) {
		r = copied_entry(walk, slice, index);
		walk->position.entry += r == 0;
	}
	slice_unpin_again(slice);
	return r;
}

/* ---- the loop ---- */

static bool is_over(const struct walk *walk)
{
	const struct walk_position *end = &walk->end;
	return walk->position.table >= walk->entries || walk->position.table > end->table ||
	       (walk->position.table == end->table && end->entry == 0 && !end->counted);
}

/* 1: there was nothing to do. */
static int step(struct walk *walk)
{
	struct qcow2 *q = walk->q;
	uint64_t entry = walk->kind == WALK_COPIED && walk->l1 && !(walk->l1[walk->position.table] & ENTRY_OFFSET) ? 0 : l1_entry(walk);
	uint64_t table = entry & ENTRY_OFFSET;
	if (!is_place(q, table) || walk->position.entry >> q->entry_bits) {
		if (table & q->cluster_mask && walk->kind == WALK_REFERENCE)
			return corrupt(q, "an L2 table lies at %#llx, between two clusters", (unsigned long long)table);
		next_table(walk);
		return 1;
	}
	switch (walk->kind) {
	case WALK_LIMIT:
	case WALK_REFERENCE:
		return step_reference(walk, table);
	case WALK_RELEASE:
		return step_release(walk, table);
	case WALK_COPIED:
		return step_copied(walk, table);
	}
	return -EINVAL;
}

static void go_on(struct walk *walk)
{
	int r = 0;
	walk->budget = BUDGET;
	while (r >= 0 && !is_over(walk)) {
		r = step(walk);
		if (r == 0 && --walk->budget == 0) {
			lunkit_io_defer(walk->q->host, &walk->deferred, 0);
			return;
		}
	}
	if (r != -EAGAIN)
		walk->done(walk, MIN(r, 0));
}

static void deferred(struct lunkit_io *io, int result)
{
	(void)result;
	go_on(list_entry(io, struct walk, deferred));
}

static void woken(struct waiter *waiter, int result)
{
	struct walk *walk = (struct walk *)waiter;
	if (result < 0)
		walk->done(walk, result);
	else
		go_on(walk);
}

void walk_start(struct qcow2 *q, struct walk *walk, enum walk_kind kind, const uint64_t *l1, uint64_t entries,
		void (*done)(struct walk *walk, int result))
{
	*walk = (struct walk){
		.waiter.wake = woken, .q = q, .kind = kind, .l1 = l1, .entries = entries, .end.table = entries, .done = done
	};
	walk->deferred.done = deferred;
	lunkit_io_defer(q->host, &walk->deferred, 0);
}
