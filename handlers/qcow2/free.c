/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Clusters that nothing refers to any more.
 *
 *     open ─────────────► round ───────────────► ready ───────────────► (hole punched) ─► counted down ─► allocated again
 *     out of the maps     the running round      durable; waits for         a range at a time,
 *     in memory           makes that durable     parts of the epoch         as slices come
 *
 * Invariants: a refcount is counted down only when no map on disk leads to the cluster, so a crash leaks and never shares; a cluster can be
 * allocated again only when no part of a request is under way that found it in a map (parts count themselves in one of two epochs; the epoch changes
 * with the round) and its hole has been punched, so that neither an old write nor an old hole falls on new data.
 *
 * The list is bounded: who would make it longer waits for a round (free_has_room). It may pass the bound by what a request that was let in frees.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "pack.h"
#include "qcow2.h"

/* Ranges of clusters of one refcount until others get their turn. */
#define BUDGET 4096u

static void work(struct qcow2 *q);

static bool list_push(struct free_list *list, const struct free_range *range)
{
	if (list->count) {
		struct free_range *last = &list->ranges[list->count - 1];
		if (last->offset + last->length == range->offset && last->table == range->table) {
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

static void push(struct qcow2 *q, const struct free_range *range)
{
	if (!list_push(&q->freeing.open, range))
		lunkit_log(LUNKIT_LOG_WARNING, "%s: not enough memory to free %llu bytes of the file: they leak", q->name,
			   (unsigned long long)range->length);
}

void free_later(struct qcow2 *q, uint64_t offset, uint64_t length, bool table)
{
	uint64_t begin = align_down(offset, q->cluster_size);
	push(q, &(struct free_range){ begin, align_up(offset + length, q->cluster_size) - begin, table });
	commit_arm(q);
}

bool free_has_room(const struct qcow2 *q)
{
	return q->freeing.open.count < FREE_RANGES_MAX;
}

bool free_is_pending(const struct qcow2 *q)
{
	return q->freeing.open.count || q->freeing.round.count || q->freeing.ready.count;
}

void free_round_begin(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	/* An epoch ends only when the one before it has no parts left. */
	if (!freeing->open.count || freeing->has_round || freeing->ready.count || q->in_flight[!q->epoch] || q->snapshotting)
		return;
	struct free_list empty = freeing->round;
	freeing->round = freeing->open;
	freeing->open = empty;
	freeing->has_round = true;
	q->epoch = !q->epoch;
	if (freeing->room.first)
		waiters_wake(&freeing->room, 0);
}

void free_round_end(struct qcow2 *q, bool durable)
{
	struct freeing *freeing = &q->freeing;
	if (!freeing->has_round)
		return;
	freeing->has_round = false;
	if (!durable) {
		for (size_t i = 0; i < freeing->round.count; i++)
			push(q, &freeing->round.ranges[i]);
		freeing->round.count = 0;
		waiters_wake(&freeing->ended, q->commit.error ? q->commit.error : -EIO);
		return;
	}
	struct free_list empty = freeing->ready;
	freeing->ready = freeing->round;
	freeing->round = empty;
	freeing->next = 0;
	freeing->position = 0;
	free_check(q);
}

void free_check(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	if (!freeing->ready.count || freeing->working || q->in_flight[!q->epoch])
		return;
	freeing->working = true;
	work(q);
}

static void finish(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	freeing->working = false;
	freeing->ready.count = 0;
	freeing->passes++;
	if (freeing->ended.first)
		waiters_wake(&freeing->ended, 0);
	if (freeing->room.first) {
		if (!free_has_room(q))
			commit_want(q);
		waiters_wake(&freeing->room, 0);
	}
}

static void woken(struct waiter *waiter, int result)
{
	struct qcow2 *q = list_entry(waiter, struct qcow2, freeing.waiter);
	if (result < 0) {
		/* Its refcounts can't be read: what they count leaks. */
		lunkit_log(LUNKIT_LOG_WARNING, "%s: cannot read refcounts (error %d): what they count leaks", q->name, -result);
		q->freeing.next++;
		q->freeing.position = 0;
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

static void work(struct qcow2 *q)
{
	struct freeing *freeing = &q->freeing;
	for (unsigned budget = BUDGET; freeing->next < freeing->ready.count; budget--) {
		if (budget == 0) {
			freeing->turn.done = next_turn;
			lunkit_io_defer(q->host, &freeing->turn, 0);
			return;
		}
		const struct free_range *range = &freeing->ready.ranges[freeing->next];
		int r = count_down(q, range);
		if (r == -EAGAIN)
			return;
		if (r < 0 || freeing->position >= range->length) {
			if (r < 0)
				lunkit_log(LUNKIT_LOG_WARNING, "%s: cannot count down the refcount at %#llx (error %d): it leaks", q->name,
					   (unsigned long long)range->offset, -r);
			freeing->next++;
			freeing->position = 0;
		}
	}
	finish(q);
}

uint64_t free_ticket(const struct qcow2 *q)
{
	const struct freeing *freeing = &q->freeing;
	return freeing->passes + (freeing->has_round || freeing->ready.count ? 2 : 1);
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
	free(q->freeing.ready.ranges);
}
