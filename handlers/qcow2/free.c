/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clusters that nothing refers to any more.
 *
 *     open ─────────────► round ─────────────► settled ────────────────► ready ─────► (hole punched) ─► counted down ─► allocated again
 *     out of the maps     the running round    durable; waits for        a queue, worked on a range
 *     in memory           makes that durable   parts of its epoch        at a time, as slices come
 *
 * Invariants: a refcount is counted down only when no map on disk leads to the cluster, so a crash leaks and never shares; a cluster can be
 * allocated again only when no part of a request is under way that found it in a map (parts count themselves in one of two epochs; the epoch changes
 * with the round) and its hole has been punched, so that neither an old write nor an old hole falls on new data.
 *
 * All of it is bounded together: who would free more waits until ranges are through (free_has_room), one by one, so that nobody waits for the whole queue. The
 * bound may be passed by what a request that was let in frees. While a snapshot is made nothing gets through, and more is let in. What settles is put in the
 * file's order, so that what stands together is punched at once.
 *
 * A generation is what one round takes; passes is the last one that is through.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "pack.h"
#include "qcow2.h"

/* Ranges of clusters of one refcount until others get their turn. */
#define BUDGET 4096u
/* Ranges on their way through; the same while a snapshot is made; and how many have to be through before those who wait are woken. */
#define RANGES_MAX 16384u
#define RANGES_MAX_SNAPSHOT (16 * RANGES_MAX)
#define ROOM_BATCH 64u

static void work(struct qcow2 *q);

static bool list_push(struct free_list *list, const struct free_range *range)
{
	if (list->count) {
		struct free_range *last = &list->ranges[list->count - 1];
		if (last->offset + last->length == range->offset && last->table == range->table && last->generation == range->generation) {
			last->length += range->length;
			return true;
		}
	}
	if (list->count == list->room) {
		size_t room = MAX(list->room * 2, (size_t)64);
		struct free_range *grown = reallocarray(list->ranges, room, sizeof(*grown));
		if (!grown)
			return false;
		list->ranges = grown;
		list->room = room;
	}
	list->ranges[list->count++] = *range;
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = ((const struct free_range *)a)->offset, y = ((const struct free_range *)b)->offset;
	return (x > y) - (x < y);
}

static void push(struct qcow2 *q, struct free_list *list, const struct free_range *range)
{
	if (!list_push(list, range))
		lunkit_log(LUNKIT_LOG_WARNING, "%s: not enough memory to free %llu bytes of the file: they leak", q->name,
			   (unsigned long long)range->length);
}

void free_later(struct qcow2 *q, uint64_t offset, uint64_t length, bool table)
{
	uint64_t begin = align_down(offset, q->cluster_size);
	push(q, &q->freeing.open, &(struct free_range){ begin, align_up(offset + length, q->cluster_size) - begin, 0, table });
	commit_arm(q);
}

static size_t pending(const struct freeing *freeing)
{
	return freeing->open.count + freeing->round.count + freeing->settled.count + freeing->ready.count - freeing->next;
}

bool free_has_room(const struct qcow2 *q)
{
	return pending(&q->freeing) < (q->snapshotting ? RANGES_MAX_SNAPSHOT : RANGES_MAX);
}

bool free_is_pending(const struct qcow2 *q)
{
	return pending(&q->freeing) > 0;
}

/* For those who wait for room, and those who wait for clusters. */
static void wake_room(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	if (freeing->room.first && pending(freeing) + ROOM_BATCH <= RANGES_MAX) {
		if (freeing->open.count)
			commit_want(q);
		waiters_wake(&freeing->room, 0);
	}
}

void free_round_begin(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	/* An epoch ends only when the one before it has no parts left. */
	if (!freeing->open.count || freeing->has_round || freeing->settled.count || q->in_flight[!q->epoch] || q->snapshotting)
		return;
	struct free_list empty = freeing->round;
	freeing->round = freeing->open;
	freeing->open = empty;
	freeing->has_round = true;
	freeing->generation++;
	q->epoch = !q->epoch;
}

void free_round_end(struct qcow2 *q, bool durable)
{
	struct freeing *freeing = &q->freeing;
	if (!freeing->has_round)
		return;
	freeing->has_round = false;
	if (!durable) {
		int error = q->commit.error ? q->commit.error : -EIO;
		for (size_t i = 0; i < freeing->round.count; i++)
			push(q, &freeing->open, &freeing->round.ranges[i]);
		freeing->round.count = 0;
		waiters_wake(&freeing->ended, error);
		/* When nothing can be written, there will be no room. */
		waiters_wake(&freeing->room, error);
		return;
	}
	struct free_list empty = freeing->settled;
	freeing->settled = freeing->round;
	freeing->round = empty;
	free_check(q);
}

/* Behind what is ready already. */
static void make_ready(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	struct free_list *ready = &freeing->ready, *settled = &freeing->settled;
	if (freeing->next) {
		ready->count -= freeing->next;
		memmove(ready->ranges, ready->ranges + freeing->next, ready->count * sizeof(*ready->ranges));
		freeing->next = 0;
	}
	qsort(settled->ranges, settled->count, sizeof(*settled->ranges), compare);
	for (size_t i = 0; i < settled->count; i++) {
		struct free_range range = settled->ranges[i];
		range.generation = freeing->generation;
		push(q, ready, &range);
	}
	settled->count = 0;
}

void free_check(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	if (!freeing->settled.count || q->in_flight[!q->epoch])
		return;
	make_ready(q);
	if (freeing->working)
		return;
	freeing->working = true;
	work(q);
}

static void finish(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	freeing->working = false;
	freeing->next = freeing->ready.count = 0;
	if (freeing->ended.first)
		waiters_wake(&freeing->ended, 0);
	wake_room(q);
}

/* The range that is worked on is through. True when it was the last of its generation. */
static bool range_end(struct freeing *freeing)
{
	unsigned generation = freeing->ready.ranges[freeing->next++].generation;
	freeing->position = 0;
	if (freeing->next < freeing->ready.count && freeing->ready.ranges[freeing->next].generation == generation)
		return false;
	freeing->passes = generation;
	return true;
}

static void woken(struct waiter *waiter, int result)
{
	struct qcow2 *q = list_entry(waiter, struct qcow2, freeing.waiter);
	if (result < 0) {
		/* Its refcounts can't be read: what they count leaks. */
		lunkit_log(LUNKIT_LOG_WARNING, "%s: cannot read refcounts (error %d): what they count leaks", q->name, -result);
		range_end(&q->freeing);
	}
	work(q);
}

static void punched(struct lunkit_io *io, int result)
{
	struct qcow2 *q = list_entry(io, struct qcow2, freeing.punch);
	if (result < 0 && result != -EINTR && q->freeing.discard) {
		lunkit_log(LUNKIT_LOG_DEBUG, "%s: the storage takes no discard (error %d)", q->name, -result);
		q->freeing.discard = false;
	}
	work(q);
}

/* Punches what will be free; false when that has been done. */
static bool punch(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	struct freeing *freeing = &q->freeing;
	if (!freeing->discard || (freeing->punch_offset == offset && freeing->punch_length == length))
		return false;
	freeing->punch_offset = offset;
	freeing->punch_length = length;
	freeing->punch.done = punched;
	lunkit_io_fallocate(q->host, &freeing->punch, q->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
	return true;
}

/* As much of the range as one slice counts. 0, -EAGAIN (goes on by itself), -errno. */
static int count_down(struct qcow2 *q, const struct free_range *range)
{
	struct freeing *freeing = &q->freeing;
	uint64_t offset = range->offset + freeing->position, cluster = offset >> q->cluster_bits;
	struct slice *slice;
	unsigned index;
	int r = refcount_get_slice(q, cluster, &freeing->waiter, &slice, &index);
	if (r < 0)
		return r;
	uint64_t most = MIN((range->length - freeing->position) >> q->cluster_bits, refcount_slice_span(q) - index);
	uint64_t value = refcount_read(q, slice->data, index), count = 1;
	if (value == 0) {
		corrupt(q, "the cluster at %#llx was in use, and its refcount is zero", (unsigned long long)offset);
		freeing->position += q->cluster_size;
		return 0;
	}
	if (value == 1) {
		while (count < most && refcount_read(q, slice->data, index + count) == 1)
			count++;
		pack_forget(q, offset, count << q->cluster_bits);
		if (punch(q, offset, count << q->cluster_bits))
			return -EAGAIN;
	}
	r = slice_modify(q, slice);
	if (r < 0)
		return r;
	for (uint64_t i = 0; i < count; i++)
		refcount_write(q, slice->data, index + i, value - 1);
	freeing->punch_length = 0;
	if (value == 1) {
		if (range->table)
			cache_forget(q, offset, count << q->cluster_bits);
		q->alloc.cursor = MIN(q->alloc.cursor, cluster);
	}
	freeing->position += count << q->cluster_bits;
	return 0;
}

static void next_turn(struct lunkit_io *io, int result)
{
	(void)result;
	work(list_entry(io, struct qcow2, freeing.turn));
}

static void go_on_later(struct qcow2 *q)
{
	q->freeing.turn.done = next_turn;
	lunkit_io_defer(q->host, &q->freeing.turn, 0);
}

/* Those who are woken at its ends may free more, and may not find the queue half changed. */
static void work(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	for (unsigned budget = BUDGET; freeing->next < freeing->ready.count; budget--) {
		if (budget == 0) {
			go_on_later(q);
			break;
		}
		const struct free_range *range = &freeing->ready.ranges[freeing->next];
		int r = count_down(q, range);
		if (r == -EAGAIN)
			break;
		if (r < 0)
			lunkit_log(LUNKIT_LOG_WARNING, "%s: cannot count down the refcount at %#llx (error %d): it leaks", q->name,
				   (unsigned long long)range->offset, -r);
		if ((r < 0 || freeing->position >= range->length) && range_end(freeing) && freeing->next < freeing->ready.count &&
		    freeing->ended.first) {
			go_on_later(q);
			waiters_wake(&freeing->ended, 0);
			break;
		}
	}
	if (freeing->next < freeing->ready.count)
		wake_room(q);
	else
		finish(q);
}

uint64_t free_ticket(const struct qcow2 *q)
{
	return (uint64_t)q->freeing.generation + 1;
}

bool free_passed(struct qcow2 *q, uint64_t ticket, struct waiter *waiter)
{
	if (q->freeing.passes >= ticket || !free_is_pending(q))
		return true;
	waiters_add(&q->freeing.ended, waiter);
	commit_want(q);
	return false;
}

void free_init(struct qcow2 *q)
{
	q->freeing.waiter.wake = woken;
	waiters_init(&q->freeing.room);
	waiters_init(&q->freeing.ended);
}

void free_destroy(struct qcow2 *q)
{
	free(q->freeing.open.ranges);
	free(q->freeing.round.ranges);
	free(q->freeing.settled.ranges);
	free(q->freeing.ready.ranges);
}
