/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may work on which bytes. Writes, discards and write_zeroes may overlap each other in any order; an exclusive range (a lock, or a block
 * that is read, changed and written back) excludes them and other exclusive ones.
 *
 *     writes:    [----)  [-------)    [--)      in flight, overlapping as they like
 *     exclusive:                          [--)  in flight, overlapping nothing
 *     waiting:   first come ─► last come        each waits for what overlaps it above, and before it
 *
 * Without an exclusive range, nothing waits and a write costs one insertion and one removal. With some, everything is looked
 * through: there are never more ranges than request slots. Ranges are rounded out to the image's request alignment, so that two locks
 * within one block exclude each other and a block that a lock's owner reads, changes and writes back lies within the lock.
 *
 * A request that carries a lock passes that lock and doesn't queue: what waits may wait for that very lock.
 */
#include "base/checked.h"
#include "image/shim.h"

static bool conflicts(const struct image_range *a, const struct image_range *b)
{
	return (a->exclusive || b->exclusive) && a->begin < b->end && b->begin < a->end;
}

static bool any_conflicts(const struct list *head, const struct list *before, const struct image_range *range)
{
	for (const struct list *node = head->next; node != before; node = node->next) {
		const struct image_range *other = list_entry(node, struct image_range, node);
		if (conflicts(other, range) && !(range->pass && other == &range->pass->range))
			return true;
	}
	return false;
}

/* before: where in the queue the range stands, or the queue's head for its end. */
static bool may_enter(const struct image *image, const struct image_range *range, const struct list *before)
{
	if (any_conflicts(&image->exclusive, &image->exclusive, range))
		return false;
	if (range->exclusive && any_conflicts(&image->writes, &image->writes, range))
		return false;
	return range->pass || !any_conflicts(&image->waiting, before, range);
}

static void enter(struct image *image, struct image_range *range)
{
	list_add_tail(range->exclusive ? &image->exclusive : &image->writes, &range->node);
	range->tracked = true;
}

bool range_enter(struct image *image, struct image_range *range)
{
	if (may_enter(image, range, &image->waiting)) {
		enter(image, range);
		return true;
	}
	list_add_tail(&image->waiting, &range->node);
	range->tracked = true;
	return false;
}

/* Starts the first that can be. granted() may change every list, so the caller looks again from the top. */
static bool wake_one(struct image *image)
{
	list_for_each (node, &image->waiting) {
		struct image_range *range = list_entry(node, struct image_range, node);
		if (!may_enter(image, range, node))
			continue;
		list_remove(node);
		enter(image, range);
		range->granted(range);
		return true;
	}
	return false;
}

void range_wake(struct image *image)
{
	/* granted() may complete a request and come back here: the outer call goes on. */
	image->wake_again = true;
	if (image->waking)
		return;
	image->waking = true;
	while (image->wake_again && !image->draining) {
		image->wake_again = false;
		while (!image->draining && wake_one(image))
			;
	}
	image->waking = false;
}

void range_leave(struct image *image, struct image_range *range)
{
	list_remove(&range->node);
	range->tracked = false;
	if (!list_empty(&image->waiting))
		range_wake(image);
}

static void lock_granted(struct image_range *range)
{
	struct image_lock *lock = list_entry(range, struct image_lock, range);
	lock->held = true;
	lock->granted(lock);
}

void image_lock(struct image *image, struct image_lock *lock)
{
	uint64_t alignment = image->limits.request_alignment;
	lock->held = false;
	lock->range = (struct image_range){
		.begin = align_down(lock->offset, alignment),
		.end = align_up(lock->offset + lock->length, alignment),
		.granted = lock_granted,
		.exclusive = true,
	};
	if (range_enter(image, &lock->range))
		lock_granted(&lock->range);
}

void image_unlock(struct image *image, struct image_lock *lock)
{
	lock->held = false;
	if (lock->range.tracked)
		range_leave(image, &lock->range);
}

void image_request_set_lock(struct image_request *request, struct image_lock *lock)
{
	request->shim->range.pass = lock;
}
