/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clusters for what is written.
 *
 *     0 ─────── cursor ──────────── high_water ─────────── file_end
 *     nothing     some are free        fresh: never used,      the file is that long; it grows ahead of need
 *     free here   (recycled)           read as zeros
 *
 * A recycled cluster is one whose refcount is zero in the cache: a cluster that was freed keeps its count until that is durable (free.c), so what can be
 * found here can be used. Refcounts are counted up in memory and written by the next round; a crash before it loses nothing but the count.
 *
 * The file is made longer by writing a block of zeros at its new end, ahead of need and in steps: nothing fresh is handed out beyond what the
 * file is long, so that a mapping never outlives the end of the file that it needs (the write is BASE for order.c), and guest writes do not
 * extend the file, which filesystems do one at a time. What is not used is cut off when the image is closed.
 *
 * Where mappings go to the file one by one (q->survive), a sync a mapping would be needed, for its refcount. There fresh clusters are counted ahead, a stretch at a
 * time: alloc_uncount() takes back what nobody has got; what a crash leaves of it is leaks.
 *
 * A device does not grow, and nothing on it is fresh: high_water is its end.
 */
#include "qcow2.h"

#define STEP_MIN ((uint64_t)1 << 20)
#define STEP_MAX ((uint64_t)64 << 20)
#define END_BLOCK ((uint64_t)4096)
/* Slices looked through for one allocation, when there are fresh clusters instead. */
#define SEARCH_MAX 2
/* Free pieces of a device that are tried for a table. */
#define TRIED_MAX 256
/* What is counted ahead, and how far the file is made longer then. */
#define AHEAD_BYTES ((uint64_t)16 << 20)

void alloc_init(struct qcow2 *q)
{
	struct allocator *alloc = &q->alloc;
	uint64_t size = q->geometry.size;
	alloc->high_water = q->is_block ? size >> q->cluster_bits : align_up(size, q->cluster_size) >> q->cluster_bits;
	alloc->file_end = size;
	waiters_init(&alloc->extended);
	waiters_init(&alloc->zeroed);
}

void alloc_raise(struct qcow2 *q, uint64_t clusters)
{
	struct allocator *alloc = &q->alloc;
	if (alloc->cursor == alloc->high_water)
		alloc->cursor += clusters;
	alloc->high_water += clusters;
}

/* ---- the file's end ---- */

void alloc_trim(struct qcow2 *q)
{
	uint64_t end = MAX(q->alloc.high_water << q->cluster_bits, q->geometry.size);
	if (q->is_block || q->read_only || q->alloc.file_end <= end)
		return;
	int r = lunkit_file_truncate(q->host, q->fd, end);
	if (r < 0)
		lunkit_log(LUNKIT_LOG_DEBUG, "%s: cannot cut off the file's end (error %d)", q->name, -r);
}

static void extended(struct transfer *transfer, int result)
{
	struct qcow2 *q = transfer->q;
	struct allocator *alloc = &q->alloc;
	alloc->extending = false;
	if (result == 0) {
		alloc->file_end = alloc->extending_to;
		order_wrote(&q->order, ORDER_BASE);
	}
	/* Who came while it was done ahead of need tries for himself. */
	waiters_wake(&alloc->extended, alloc->extending_ahead ? 0 : result);
}

static void extend(struct qcow2 *q, uint64_t end)
{
	struct allocator *alloc = &q->alloc;
	uint64_t used = alloc->high_water << q->cluster_bits;
	uint64_t step = MIN(MAX(used / 8, q->survive ? AHEAD_BYTES : STEP_MIN), STEP_MAX), unit = MAX(q->cluster_size, END_BLOCK);
	/* A step that would not fit under the format's end is not an error yet: the clusters themselves will tell. */
	uint64_t to = MIN(align_up(end + step, unit), HOST_OFFSET_MAX - unit);
	alloc->extending = true;
	alloc->extending_to = to;
	alloc->extension.done = extended;
	transfer_start_one(q, &alloc->extension, true, qcow2_zeroes, END_BLOCK, to - END_BLOCK);
}

int alloc_extend(struct qcow2 *q, uint64_t end, struct waiter *waiter)
{
	struct allocator *alloc = &q->alloc;
	if (end >= HOST_OFFSET_MAX - STEP_MAX)
		return -ENOSPC;
	uint64_t ahead = MIN(MAX((alloc->high_water << q->cluster_bits) / 16, STEP_MIN / 2), STEP_MAX / 2);
	if (end + ahead > alloc->file_end && !alloc->extending) {
		alloc->extending_ahead = end <= alloc->file_end;
		extend(q, MAX(end, alloc->file_end));
	}
	if (end <= alloc->file_end)
		return 0;
	waiters_add(&alloc->extended, waiter);
	return -EAGAIN;
}

/* ---- taking ---- */

/* Clusters from index on, up to limit, whose refcount is zero. */
static unsigned free_run(const struct qcow2 *q, const struct slice *slice, unsigned index, unsigned limit)
{
	unsigned count = 0;
	while (count < limit && refcount_read(q, slice->data, index + count) == 0)
		count++;
	return count;
}

static int take(struct qcow2 *q, struct slice *slice, unsigned index, uint64_t cluster, unsigned count, bool fresh, struct run *ret)
{
	for (unsigned i = 0; i < count; i++)
		if (meta_has(q, cluster + i))
			return corrupt(q, "the refcount of the metadata at %#llx is zero",
				       (unsigned long long)(cluster + i) << q->cluster_bits);
	int r = slice_modify(q, slice);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < count; i++)
		refcount_write(q, slice->data, index + i, 1);
	*ret = (struct run){ cluster << q->cluster_bits, count, fresh };
	return 0;
}

/* 0; -ENOENT: none that is known; -EAGAIN on a device only, which has no others. */
static int take_recycled(struct qcow2 *q, unsigned wanted, struct waiter *waiter, struct run *ret)
{
	struct allocator *alloc = &q->alloc;
	if (q->cache.ahead_failed && !q->is_block) {
		q->cache.ahead_failed = false; /* not again and again */
		return -ENOENT;
	}
	for (unsigned searched = 0; alloc->cursor < alloc->high_water;) {
		struct slice *slice;
		unsigned index;
		if (alloc->cursor >= alloc->reserved && alloc->cursor < alloc->reserved_end) {
			alloc->cursor = alloc->reserved_end;
			continue;
		}
		int r = refcount_get_slice(q, alloc->cursor, q->is_block ? waiter : NULL, &slice, &index);
		if (r == -ENOENT && q->is_block) {
			r = refblock_make(q, alloc->cursor, alloc->cursor, false, waiter);
			if (r < 0)
				return r;
			alloc->cursor++;
			continue;
		}
		if (r == -ENOENT) {
			/* A stretch of the file that nothing counts: nobody knows what it is for. */
			alloc->cursor = ((alloc->cursor >> q->refblock_bits) + 1) << q->refblock_bits;
			continue;
		}
		if (r < 0)
			return r == -EAGAIN && !q->is_block ? -ENOENT : r;
		uint64_t end = alloc->cursor < alloc->reserved ? MIN(alloc->reserved, alloc->high_water) : alloc->high_water;
		unsigned span = (unsigned)MIN(refcount_slice_span(q) - index, end - alloc->cursor), skip = 0;
		while (skip < span && refcount_read(q, slice->data, index + skip) != 0)
			skip++;
		alloc->cursor += skip;
		if (skip == span) {
			if (++searched == SEARCH_MAX && !q->is_block)
				return -ENOENT;
			continue;
		}
		unsigned count = free_run(q, slice, index + skip, MIN(wanted, span - skip));
		r = take(q, slice, index + skip, alloc->cursor, count, false, ret);
		if (r == 0)
			alloc->cursor += count;
		return r;
	}
	return -ENOENT;
}

static void take_ahead(struct qcow2 *q, unsigned wanted, struct run *ret)
{
	struct allocator *alloc = &q->alloc;
	unsigned count = (unsigned)MIN(wanted, alloc->ahead_end - alloc->ahead);
	*ret = (struct run){ alloc->ahead << q->cluster_bits, count, true };
	alloc->ahead += count;
}

static int take_fresh(struct qcow2 *q, unsigned wanted, struct waiter *waiter, struct run *ret)
{
	struct allocator *alloc = &q->alloc;
	uint64_t most = q->survive ? MAX(wanted, AHEAD_BYTES >> q->cluster_bits) : wanted;
	if (alloc->ahead < alloc->ahead_end) {
		take_ahead(q, wanted, ret);
		return 0;
	}
	for (;;) {
		uint64_t cluster = alloc->high_water;
		/* What there is already is better than waiting for all. */
		int r = alloc_extend(q, (cluster + 1) << q->cluster_bits, waiter);
		if (r < 0)
			return r;
		uint64_t room = (alloc->file_end >> q->cluster_bits) - cluster;
		struct slice *slice;
		unsigned index;
		r = refcount_get_slice(q, cluster, waiter, &slice, &index);
		if (r == -ENOENT) {
			r = refblock_make(q, cluster, cluster, true, waiter);
			if (r < 0)
				return r;
			alloc_raise(q, 1);
			continue;
		}
		if (r < 0)
			return r;
		uint64_t span = MIN(refcount_slice_span(q) - index, room);
		unsigned count = free_run(q, slice, index, (unsigned)MIN(most, span));
		if (count == 0) {
			/* Counted, though the file was never that long: a leak. */
			alloc_raise(q, 1);
			continue;
		}
		r = take(q, slice, index, cluster, count, true, ret);
		if (r < 0)
			return r;
		alloc_raise(q, count);
		if (count > wanted) {
			alloc->ahead = cluster;
			alloc->ahead_end = cluster + count;
			take_ahead(q, wanted, ret);
		}
		return 0;
	}
}

int alloc_uncount(struct qcow2 *q, struct waiter *waiter)
{
	struct allocator *alloc = &q->alloc;
	struct slice *slice;
	unsigned index;
	if (alloc->ahead == alloc->ahead_end)
		return 0;
	/* One stretch has been counted by one slice. */
	int r = refcount_get_slice(q, alloc->ahead, waiter, &slice, &index);
	if (r == 0)
		r = slice_modify(q, slice);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < alloc->ahead_end - alloc->ahead; i++)
		refcount_write(q, slice->data, index + i, 0);
	if (alloc->ahead_end == alloc->high_water)
		alloc->high_water = alloc->ahead;
	alloc->cursor = MIN(alloc->cursor, alloc->ahead);
	alloc->ahead = alloc->ahead_end;
	return 0;
}

int alloc_run(struct qcow2 *q, unsigned wanted, struct waiter *waiter, struct run *ret)
{
	if (q->growth.active)
		return reftable_growth_wait(q, waiter);
	int r = take_recycled(q, wanted, waiter, ret);
	if (r != -ENOENT)
		return r;
	if (!q->is_block)
		return take_fresh(q, wanted, waiter, ret);
	if (!free_is_pending(q))
		return -ENOSPC;
	/* Something has been freed, and can be used as soon as that is durable. */
	waiters_add(&q->freeing.room, waiter);
	commit_want(q);
	return -EAGAIN;
}

void alloc_tick(struct qcow2 *q)
{
	struct allocator *alloc = &q->alloc;
	/* Should its slice not be in the cache, the next tick finds it there. */
	if (alloc->ahead == alloc->ahead_seen && !q->read_only)
		alloc_uncount(q, NULL);
	alloc->ahead_seen = alloc->ahead;
}

void alloc_give_back(struct qcow2 *q, struct run *run, unsigned keep)
{
	uint64_t cluster = (run->offset >> q->cluster_bits) + keep;
	unsigned count = run->clusters - keep, index;
	struct slice *slice;
	if (count == 0)
		return;
	run->clusters = keep;
	if (cluster + count == q->alloc.ahead && run->fresh) {
		q->alloc.ahead -= count;
		return;
	}
	/* It has just been changed for the run, and a run lies within one slice. */
	if (refcount_get_slice(q, cluster, NULL, &slice, &index) == 0 && slice_modify(q, slice) == 0) {
		for (unsigned i = 0; i < count; i++)
			refcount_write(q, slice->data, index + i, 0);
		q->alloc.cursor = MIN(q->alloc.cursor, cluster);
	} else {
		free_later(q, cluster << q->cluster_bits, (uint64_t)count << q->cluster_bits, false);
	}
}

/* ---- a piece for a table ---- */

/*
 * A refblock for the cluster, at the file's end: everything there is fresh. One that counts the end itself comes first. On a device the cluster
 * has been found through its refblock, but while the refcount table grows.
 */
static int make_block(struct qcow2 *q, uint64_t cluster, struct waiter *waiter)
{
	uint64_t place = q->is_block ? q->growth.place : q->alloc.high_water;
	struct slice *slice;
	unsigned index;
	int r = 0;
	if (q->is_block)
		r = q->growth.active && place < q->alloc.high_water ? 0 : -ENOSPC;
	else
		r = alloc_extend(q, (place + 1) << q->cluster_bits, waiter);
	if (r < 0)
		return r;
	if (place >> q->refblock_bits != cluster >> q->refblock_bits) {
		r = refcount_get_slice(q, place, waiter, &slice, &index);
		if (r == -ENOENT)
			cluster = place;
		else if (r < 0)
			return r;
	}
	if (q->growth.active && cluster >> q->refblock_bits >= q->reftable.entries)
		return -ENOSPC;
	r = refblock_make(q, cluster, place, !q->is_block, waiter);
	if (r < 0)
		return r;
	if (q->is_block)
		q->growth.place++;
	else
		alloc_raise(q, 1);
	return 0;
}

int alloc_count(struct qcow2 *q, uint64_t *next, uint64_t end, struct waiter *waiter)
{
	while (*next < end) {
		struct slice *slice;
		unsigned index;
		int r = refcount_get_slice(q, *next, waiter, &slice, &index);
		if (r == -ENOENT) {
			r = make_block(q, *next, waiter);
			if (r < 0)
				return r;
			continue;
		}
		if (r == 0)
			r = slice_modify(q, slice);
		if (r < 0)
			return r;
		refcount_write(q, slice->data, index, 1);
		++*next;
	}
	/* What is counted may be another piece: a refcount table that grows in between. */
	if (end == q->alloc.reserved_end)
		q->alloc.reserved_end = 0;
	return 0;
}

/*
 * On a device the pieces that are free are tried from its beginning on; those that are too short are kept aside meanwhile, so that the search goes on behind them. Two that
 * touch count as one.
 */
static int reserve_on_device(struct qcow2 *q, uint64_t clusters, struct waiter *waiter, uint64_t *ret_place)
{
	struct run tried[TRIED_MAX];
	unsigned count = 0;
	uint64_t start = 0, end = 0;
	int r = 0;
	while (end - start < clusters && count < TRIED_MAX) {
		struct run *run = &tried[count];
		r = alloc_run(q, (unsigned)MIN(clusters, (uint64_t)UINT32_MAX), waiter, run);
		if (r < 0)
			break;
		count++;
		uint64_t at = run->offset >> q->cluster_bits;
		if (at != end)
			start = at;
		end = at + run->clusters;
	}
	bool good = r == 0 && end - start >= clusters;
	for (unsigned i = 0; i < count; i++) {
		uint64_t at = tried[i].offset >> q->cluster_bits, own = at + tried[i].clusters;
		if (!good || own <= start)
			alloc_give_back(q, &tried[i], 0);
		else if (own > start + clusters)
			alloc_give_back(q, &tried[i], (unsigned)(start + clusters - at));
	}
	if (good)
		*ret_place = start;
	return good ? 0 : r < 0 ? r : -ENOSPC;
}

int alloc_reserve(struct qcow2 *q, uint64_t clusters, struct waiter *waiter, uint64_t *ret_place)
{
	if (q->growth.active)
		return reftable_growth_wait(q, waiter);
	q->alloc.reserved_end = 0;
	if (q->is_block)
		return reserve_on_device(q, clusters, waiter, ret_place);
	int r = alloc_extend(q, (q->alloc.high_water + clusters) << q->cluster_bits, waiter);
	if (r < 0)
		return r;
	*ret_place = q->alloc.reserved = q->alloc.high_water;
	alloc_raise(q, clusters);
	q->alloc.reserved_end = q->alloc.high_water;
	return 0;
}
