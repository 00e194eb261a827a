/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Tables in memory, in slices of 4 KiB (or a cluster, if that is smaller).
 *
 *     loading ─► clean ─► dirty ─► in a round ─► written ─► clean         a slice that changes while a round has it is dirty again
 *        │         │                                                      when the round is through with it
 *        └─ error ─┴─► gone
 *
 * Invariants: at most limit slices are counted; those of tables that are kept as a whole (L1, refcount table, header) are not, their formats
 * bound them. Only a clean slice that nobody has pinned and no round has is evicted, by the clock: a slice that was used since the hand passed
 * is passed over once. While a round writes a slice the kernel reads its buffer: whoever changes the slice gets a copy as the new data, and the
 * old buffer goes out as it was. A slice's data moves only in slice_modify().
 *
 * Left out on purpose: sharing the budget between kinds. Refblocks are few (one slice counts 128 MiB) and recently used whenever they matter.
 */
#include "qcow2.h"

#include <stdlib.h>
#include <string.h>

#define CACHE_MIN ((uint64_t)1 << 20)

void waiters_wake(struct waiters *waiters, int result)
{
	struct waiter *waiter = waiters->first;
	waiters_init(waiters);
	while (waiter) {
		struct waiter *next = waiter->next;
		waiter->wake(waiter, result);
		waiter = next;
	}
}

/* ---- the table of slices ---- */

static struct slice **bucket_of(const struct qcow2 *q, uint64_t offset)
{
	uint64_t hash = (offset >> q->slice_bits) * 0x9e3779b97f4a7c15u;
	return &q->cache.buckets[(hash >> 32) & q->cache.bucket_mask];
}

static struct slice *find(const struct qcow2 *q, uint64_t offset)
{
	struct slice *slice = *bucket_of(q, offset);
	while (slice && slice->offset != offset)
		slice = slice->hash_next;
	return slice;
}

static void unhash(struct qcow2 *q, struct slice *slice)
{
	struct slice **at = bucket_of(q, slice->offset);
	while (*at && *at != slice)
		at = &(*at)->hash_next;
	if (*at)
		*at = slice->hash_next;
}

int cache_init(struct qcow2 *q, uint64_t bytes)
{
	struct cache *cache = &q->cache;
	list_init(&cache->clock);
	waiters_init(&cache->room);
	slabs_init(&cache->slabs, MAX(q->slice_size, q->geometry.memory_alignment));
	/* An L2 table that is copied has all of its slices in the cache at once. */
	bytes = MAX(bytes, CACHE_MIN + 2 * q->cluster_size);
	cache->limit = (size_t)(bytes >> q->slice_bits);
	size_t buckets = 256;
	while (buckets < cache->limit && buckets < (1u << 20))
		buckets *= 2;
	cache->bucket_mask = (unsigned)(buckets - 1);
	cache->buckets = calloc(buckets, sizeof(struct slice *));
	return cache->buckets ? 0 : -ENOMEM;
}

void slice_destroy(struct qcow2 *q, struct slice *slice)
{
	slabs_give(&q->cache.slabs, slice->frozen);
	slabs_give(&q->cache.slabs, slice->data);
	free(slice);
}

static struct slice *slice_new(struct qcow2 *q, enum order_kind kind, uint64_t offset)
{
	struct slice *slice = calloc(1, sizeof(*slice));
	if (!slice)
		return NULL;
	slice->data = slabs_take(&q->cache.slabs);
	if (!slice->data) {
		free(slice);
		return NULL;
	}
	slice->offset = offset;
	slice->kind = kind;
	list_init(&slice->clock);
	list_init(&slice->node);
	waiters_init(&slice->waiters);
	struct slice **bucket = bucket_of(q, offset);
	slice->hash_next = *bucket;
	*bucket = slice;
	return slice;
}

static bool is_evictable(const struct slice *slice)
{
	return !slice->pins && !slice->loading && !slice->dirty && !slice->committing;
}

static void drop(struct qcow2 *q, struct slice *slice)
{
	unhash(q, slice);
	list_remove(&slice->clock);
	q->cache.count--;
	slice_destroy(q, slice);
}

static bool evict_one(struct qcow2 *q)
{
	struct cache *cache = &q->cache;
	for (size_t left = 2 * cache->count; left; left--) {
		struct slice *slice = list_entry(cache->clock.next, struct slice, clock);
		if (is_evictable(slice) && !slice->used) {
			drop(q, slice);
			return true;
		}
		slice->used = false;
		list_remove(&slice->clock);
		list_add_tail(&cache->clock, &slice->clock);
	}
	return false;
}

/* NULL with *ret_result: -EAGAIN when everything is in use, -ENOMEM. */
static struct slice *add(struct qcow2 *q, enum order_kind kind, uint64_t offset, int *ret_result)
{
	struct cache *cache = &q->cache;
	/* After a failed flush all of it may be dirty, for good: the rest is for who only reads. */
	size_t limit = cache->limit + (q->broken ? MAX(cache->limit / 16, (size_t)16) : 0);
	if (cache->count >= limit && (cache->stuck || !evict_one(q))) {
		/* Nobody looks through all of it again before something has ended: cache_room(). */
		cache->stuck = true;
		*ret_result = -EAGAIN;
		return NULL;
	}
	struct slice *slice = slice_new(q, kind, offset);
	if (!slice && evict_one(q))
		slice = slice_new(q, kind, offset); /* the system is short of memory: make do with what we have */
	if (!slice) {
		*ret_result = -ENOMEM;
		return NULL;
	}
	slice->used = true;
	cache->count++;
	list_add_tail(&cache->clock, &slice->clock);
	commit_arm(q);
	return slice;
}

/* ---- getting ---- */

struct slice *cache_peek(const struct qcow2 *q, uint64_t offset)
{
	return find(q, offset);
}

struct slice *cache_find(struct qcow2 *q, uint64_t offset)
{
	struct slice *slice = find(q, offset);
	q->cache.uses++;
	if (!slice || slice->loading)
		return NULL;
	slice->used = true;
	return slice;
}

static void slice_loaded(struct qcow2 *q, struct slice *slice, int result)
{
	struct waiters waiters = slice->waiters;
	if (waiters.first == NULL)
		waiters_init(&waiters);
	waiters_init(&slice->waiters);
	slice->loading = false;
	q->cache.loading--;
	/* Who came while it was fetched ahead of need tries for himself. */
	bool ahead = slice->ahead || slice->gone;
	if (result < 0 || slice->gone) {
		q->cache.ahead_failed |= result < 0 && slice->ahead;
		drop(q, slice);
	}
	waiters_wake(&waiters, ahead ? 0 : result);
}

static void loaded(struct transfer *transfer, int result)
{
	struct qcow2 *q = transfer->q;
	slice_loaded(q, list_entry(transfer, struct slice, transfer), result);
	cache_room(q, 0);
}

static void slice_start_loading(struct qcow2 *q, struct slice *slice, bool ahead)
{
	slice->loading = true;
	slice->ahead = ahead;
	q->cache.loading++;
}

static int wait_for_room(struct qcow2 *q, struct waiter *waiter)
{
	if (waiter)
		waiters_add(&q->cache.room, waiter);
	if (q->commit.dirty_count)
		commit_want(q);
	return -EAGAIN;
}

int cache_get(struct qcow2 *q, enum order_kind kind, uint64_t offset, struct waiter *waiter, struct slice **ret)
{
	struct slice *slice = find(q, offset);
	int r = 0;
	q->cache.uses++;
	if (slice && !slice->loading) {
		slice->used = true;
		*ret = slice;
		return 0;
	}
	if (!slice) {
		slice = add(q, kind, offset, &r);
		if (!slice)
			return r == -EAGAIN ? wait_for_room(q, waiter) : r;
		slice_start_loading(q, slice, !waiter);
		slice->transfer.done = loaded;
		transfer_start_one(q, &slice->transfer, false, slice->data, q->slice_size, offset);
	}
	if (waiter)
		waiters_add(&slice->waiters, waiter);
	return -EAGAIN;
}

/* Slices that stand next to each other and are read at once. */
struct cache_run {
	struct transfer transfer; /* first */
	unsigned count;
	struct slice *slices[CACHE_RUN];
	struct iovec iov[CACHE_RUN];
};

static void run_loaded(struct transfer *transfer, int result)
{
	struct cache_run *run = (struct cache_run *)transfer;
	struct qcow2 *q = transfer->q;
	for (unsigned i = 0; i < run->count; i++)
		slice_loaded(q, run->slices[i], result);
	free(run);
	cache_room(q, 0);
}

unsigned cache_fetch(struct qcow2 *q, enum order_kind kind, uint64_t offset, unsigned count)
{
	struct cache_run *run = NULL;
	unsigned there = 0;
	int r;
	count = MIN(count, CACHE_RUN);
	while (there < count && find(q, offset + ((uint64_t)there << q->slice_bits)))
		there++;
	if (there)
		return there;
	if (!(run = malloc(sizeof(*run))))
		return 0;
	for (run->count = 0; run->count < count; run->count++) {
		uint64_t place = offset + ((uint64_t)run->count << q->slice_bits);
		struct slice *slice = find(q, place) ? NULL : add(q, kind, place, &r);
		if (!slice)
			break;
		slice_start_loading(q, slice, true);
		run->slices[run->count] = slice;
		run->iov[run->count] = (struct iovec){ slice->data, q->slice_size };
	}
	count = run->count;
	if (!count) {
		free(run);
		return 0;
	}
	run->transfer.done = run_loaded;
	transfer_start(q, &run->transfer, false, run->iov, count, offset, (uint64_t)count << q->slice_bits);
	return count;
}

int cache_get_zero(struct qcow2 *q, enum order_kind kind, uint64_t offset, struct waiter *waiter, struct slice **ret)
{
	struct slice *slice = find(q, offset);
	int r = 0;
	if (slice && slice->loading) {
		if (waiter)
			waiters_add(&slice->waiters, waiter);
		return -EAGAIN;
	}
	if (!slice) {
		slice = add(q, kind, offset, &r);
		if (!slice)
			return r == -EAGAIN ? wait_for_room(q, waiter) : r;
		memset(slice->data, 0, q->slice_size);
	}
	slice->used = true;
	*ret = slice;
	return 0;
}

void cache_forget(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	for (uint64_t end = offset + length; offset < end; offset += q->slice_size) {
		struct slice *slice = find(q, offset);
		if (slice && slice->loading) {
			unhash(q, slice);
			slice->gone = true;
		} else if (slice && !slice->resident && is_evictable(slice)) {
			drop(q, slice);
		}
	}
}

void cache_room(struct qcow2 *q, int result)
{
	q->cache.stuck = false;
	if (q->cache.room.first)
		waiters_wake(&q->cache.room, result);
}

void slice_unpin(struct qcow2 *q, struct slice *slice)
{
	if (--slice->pins == 0)
		cache_room(q, 0);
}

/* ---- changing ---- */

int slice_modify(struct qcow2 *q, struct slice *slice)
{
	slice->used = true;
	if (slice->committing) {
		if (!slice->frozen && !slice->written) {
			uint8_t *copy = slabs_take(&q->cache.slabs);
			if (!copy)
				return -ENOMEM;
			memcpy(copy, slice->data, q->slice_size);
			slice->frozen = slice->data;
			slice->data = copy;
		}
		slice->again = true;
		return 0;
	}
	if (!slice->dirty) {
		slice->dirty = true;
		list_add_tail(&q->commit.dirty[slice->kind], &slice->node);
		if (++q->commit.dirty_count > q->cache.limit / 2)
			commit_want(q);
		commit_arm(q);
	}
	return 0;
}

void slice_thaw(struct qcow2 *q, struct slice *slice)
{
	slabs_give(&q->cache.slabs, slice->frozen);
	slice->frozen = NULL;
}

/* ---- giving back ---- */

void cache_shrink(struct qcow2 *q, bool everything)
{
	for (struct list *node = q->cache.clock.next, *next; node != &q->cache.clock; node = next) {
		struct slice *slice = list_entry(node, struct slice, clock);
		next = node->next;
		if (is_evictable(slice) && (everything || !slice->used))
			drop(q, slice);
		else
			slice->used = false;
	}
	if (everything)
		slabs_trim(&q->cache.slabs);
}

void cache_destroy(struct qcow2 *q)
{
	if (!q->cache.buckets)
		return;
	while (!list_empty(&q->cache.clock))
		drop(q, list_entry(q->cache.clock.next, struct slice, clock));
	free(q->cache.buckets);
	slabs_destroy(&q->cache.slabs);
}

/* ---- tables that are kept as a whole ---- */

struct slice *slice_new_resident(struct qcow2 *q, enum order_kind kind, uint64_t offset)
{
	struct slice *slice = slice_new(q, kind, offset);
	if (!slice)
		return NULL;
	slice->resident = true;
	memset(slice->data, 0, q->slice_size);
	return slice;
}

void slice_free_resident(struct qcow2 *q, struct slice *slice)
{
	if (!slice)
		return;
	unhash(q, slice);
	if (slice->committing) {
		slice->forgotten = true;
		return;
	}
	if (slice->dirty) {
		list_remove(&slice->node);
		q->commit.dirty_count--;
	}
	slice_destroy(q, slice);
}

int table_init(struct qcow2 *q, struct table *table, enum order_kind kind, uint64_t offset, uint64_t entries)
{
	unsigned count = (unsigned)((entries * 8 + q->slice_size - 1) >> q->slice_bits);
	*table = (struct table){ .offset = offset, .entries = entries, .shift = q->slice_bits - 3 };
	table->slices = calloc(MAX(count, 1u), sizeof(*table->slices));
	if (!table->slices)
		return -ENOMEM;
	for (; table->slice_count < count; table->slice_count++) {
		table->slices[table->slice_count] = slice_new_resident(q, kind, offset + ((uint64_t)table->slice_count << q->slice_bits));
		if (!table->slices[table->slice_count]) {
			table_destroy(q, table);
			return -ENOMEM;
		}
	}
	return 0;
}

int table_load(struct qcow2 *q, struct table *table)
{
	int r = 0;
	for (unsigned i = 0; i < table->slice_count && r == 0; i++)
		r = file_read(q, table->slices[i]->data, q->slice_size, table->slices[i]->offset);
	return r;
}

int table_set(struct qcow2 *q, struct table *table, uint64_t index, uint64_t value)
{
	struct slice *slice = table->slices[index >> table->shift];
	int r = slice_modify(q, slice);
	if (r == 0)
		put_be64(slice->data + (index & ((1u << table->shift) - 1)) * 8, value);
	return r;
}

void table_destroy(struct qcow2 *q, struct table *table)
{
	for (unsigned i = 0; i < table->slice_count; i++)
		slice_free_resident(q, table->slices[i]);
	free(table->slices);
	*table = (struct table){ 0 };
}
