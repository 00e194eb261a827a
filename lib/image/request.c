/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A request's way through the shim. Owner: the worker's thread.
 *
 *     image_submit() ─┬─ aligned, in range, not too long ──────────────► handler ─► lunkit_request_done() ─► done()
 *                     ├─ wrong, or nothing to do ──────────────────────────────────────────────────────────► done()
 *                     ├─ draining: held ─► image_resume() ─┐
 *                     └─ else ◄────────────────────────────┘ ─► its range (range.c) ─► steps: piece ─► handler ─► next piece … ─► done()
 *
 * Invariants: a slot is idle, held, waiting or running; in_flight counts the running ones. The handler has at most one struct lunkit_request
 * of a slot at a time, shim.running; a completion of anything else is a bug in the handler that can have corrupted the image's users: the
 * worker ends. Steps run in a loop, never in each other, so that a handler which completes at once can't exhaust the stack; the user's done()
 * is called when nothing of the slot is used any more.
 *
 * Left out on purpose: pieces of one request in parallel (a slot has one handler's memory, and pieces are the rare case).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/iov.h"
#include "base/log.h"
#include "image/shim.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

_Static_assert(LUNKIT_READ == 0 && LUNKIT_WRITE == 1, "image.straight is indexed with them");

size_t image_request_size(const struct image *image)
{
	return SHIM_MEMORY_OFFSET + SHIM_ALIGN(image->handler->request_size);
}

static void request_granted(struct image_range *range);

void image_request_init(struct image *image, struct image_request *request)
{
	memset(request, 0, SHIM_MEMORY_OFFSET);
	request->image = image;
	request->shim = (struct image_shim *)((char *)request + SHIM_OFFSET);
	request->request.memory = request->shim->sub.memory = (char *)request + SHIM_MEMORY_OFFSET;
	request->shim->range.granted = request_granted;
	list_init(&request->node);
}

__attribute__((noreturn, cold)) static void broken(const struct image_request *request, const char *what)
{
	log_error("%s: %s: %s", request->image->handler->name, request->image->name, what);
	abort();
}

/* ---- the end ---- */

static void finish(struct image_request *request, int result)
{
	struct image *image = request->image;
	struct image_shim *shim = request->shim;
	if (unlikely(result > 0)) {
		log_error("%s: the handler completed a request with %d", image->name, result);
		result = -EIO;
	}
	shim->state = SHIM_IDLE;
	image->in_flight--;
	if (shim->range.tracked)
		range_leave(image, &shim->range);
	if (unlikely(shim->bounce))
		bounce_put(request);
	if (unlikely(image->draining))
		drain_check(image);
	request->done(request, result);
}

void lunkit_request_done(struct lunkit_request *request, int result)
{
	struct image_request *slot = request_of_memory(request->memory);
	struct image_shim *shim = slot->shim;
	if (unlikely(shim->running != request))
		broken(slot, "a request was completed that the handler does not have");
	shim->running = NULL;
	if (likely(!shim->step))
		finish(slot, result);
	else
		shim_advance(slot, result);
}

/* ---- pieces ---- */

void shim_advance(struct image_request *request, int result)
{
	struct image_shim *shim = request->shim;
	shim->result = result;
	shim->ready = true;
	if (shim->stepping)
		return;
	enum step step = STEP_WAIT;
	shim->stepping = true;
	while (shim->ready && step == STEP_WAIT) {
		shim->ready = false;
		step = shim->step(request, shim->result, &shim->result);
	}
	shim->stepping = false;
	if (step == STEP_DONE)
		finish(request, shim->result);
}

enum step shim_send(struct image_request *request, enum shim_phase phase)
{
	struct image_shim *shim = request->shim;
	struct image *image = request->image;
	shim->phase = phase;
	shim->running = &shim->sub;
	image->handler->submit(image->state, &shim->sub);
	return STEP_WAIT;
}

/* ---- the beginning ---- */

bool may_compress(const struct image *image, uint64_t offset, uint64_t length)
{
	uint64_t unit = image->limits.compress_unit;
	return unit && is_aligned(offset, unit) && (is_aligned(length, unit) || offset + length == image->limits.size);
}

static int check(const struct image *image, const struct lunkit_request *request)
{
	static const unsigned flags_known[LUNKIT_OP_COUNT] = {
		[LUNKIT_WRITE] = LUNKIT_REQUEST_FUA | LUNKIT_REQUEST_COMPRESS,
		[LUNKIT_WRITE_ZEROES] = LUNKIT_REQUEST_FUA | LUNKIT_REQUEST_MAY_DISCARD,
	};
	if ((unsigned)request->op >= LUNKIT_OP_COUNT || request->flags & ~flags_known[request->op])
		return -EINVAL;
	bool writes = false;
	if (request->flags & LUNKIT_REQUEST_COMPRESS && !may_compress(image, request->offset, request->length))
		return -EINVAL;
	switch (request->op) {
	case LUNKIT_FLUSH:
		return 0;
	case LUNKIT_WRITE:
		writes = true;
		__attribute__((fallthrough));
	case LUNKIT_READ:
		if (iov_length(request->iov, request->iov_count) != request->length)
			return -EINVAL;
		break;
	case LUNKIT_DISCARD:
	case LUNKIT_WRITE_ZEROES:
		writes = true;
		break;
	case LUNKIT_EXTENTS:
		if (request->extent_capacity == 0)
			return -EINVAL;
		break;
	}
	if (!range_within(request->offset, request->length, image->limits.size))
		return -ERANGE;
	return writes && image->limits.flags & LUNKIT_READ_ONLY ? -EROFS : 0;
}

/* What needs no handler. */
static bool is_answered(const struct image *image, struct lunkit_request *request)
{
	unsigned flags = image->limits.flags;
	switch (request->op) {
	case LUNKIT_FLUSH:
		return !(flags & LUNKIT_NEEDS_FLUSH) || flags & LUNKIT_READ_ONLY;
	case LUNKIT_READ:
	case LUNKIT_WRITE:
	case LUNKIT_WRITE_ZEROES:
		return request->length == 0;
	case LUNKIT_DISCARD:
		/* Only whole units can be given back. */
		return !(flags & LUNKIT_CAN_DISCARD) || align_up(request->offset, image->request_mask + 1) >=
								align_down(request->offset + request->length, image->request_mask + 1);
	case LUNKIT_EXTENTS:
		request->extent_count = 0;
		if (request->length == 0)
			return true;
		if (flags & LUNKIT_CAN_EXTENTS)
			return false;
		request->extents[0] = (struct lunkit_extent){ request->offset, request->length, LUNKIT_EXTENT_ALLOCATED };
		request->extent_count = 1;
		return true;
	}
	return false;
}

static void run(struct image_request *request)
{
	struct image_shim *shim = request->shim;
	static enum step (*const steps[LUNKIT_OP_COUNT])(struct image_request *, int, int *) = {
		[LUNKIT_READ] = step_read,	 [LUNKIT_WRITE] = step_write,	     [LUNKIT_FLUSH] = step_flush,
		[LUNKIT_DISCARD] = step_discard, [LUNKIT_WRITE_ZEROES] = step_write, [LUNKIT_EXTENTS] = step_extents,
	};
	shim->state = SHIM_RUNNING;
	request->image->in_flight++;
	shim->step = steps[request->request.op];
	shim->phase = PHASE_NEXT;
	shim->position = request->request.offset;
	shim->end = request->request.offset + request->request.length;
	shim->piece = 0;
	shim->flush_after = request->request.flags & LUNKIT_REQUEST_FUA && !(request->image->limits.flags & LUNKIT_CAN_FUA);
	shim_advance(request, 0);
}

static void request_granted(struct image_range *range)
{
	struct image_shim *shim = list_entry(range, struct image_shim, range);
	struct image_request *request = (struct image_request *)((char *)shim - SHIM_OFFSET);
	/* The image may have shrunk while it waited. */
	int r = check(request->image, &request->request);
	if (r == 0) {
		run(request);
		return;
	}
	shim->state = SHIM_IDLE;
	range_leave(request->image, range);
	request->done(request, r);
}

void shim_start(struct image_request *request)
{
	struct image *image = request->image;
	struct image_shim *shim = request->shim;
	struct lunkit_request *user = &request->request;
	if (image->draining) {
		shim->state = SHIM_HELD;
		list_add_tail(&image->held, &request->node);
		return;
	}
	int r = check(image, user);
	if (r < 0 || is_answered(image, user)) {
		shim->state = SHIM_IDLE;
		request->done(request, r);
		return;
	}
	if (user->op == LUNKIT_WRITE || user->op == LUNKIT_WRITE_ZEROES || user->op == LUNKIT_DISCARD) {
		struct image_range *range = &shim->range;
		uint64_t alignment = image->request_mask + 1;
		range->begin = align_down(user->offset, alignment);
		range->end = align_up(user->offset + user->length, alignment);
		range->exclusive = user->op != LUNKIT_DISCARD && !is_aligned(user->offset | user->length, alignment);
		shim->state = SHIM_WAITING;
		if (!range_enter(image, range))
			return;
	}
	run(request);
}

/* The iov's length and alignment in one pass. */
static inline bool iov_goes_straight(const struct image *image, const struct lunkit_request *request)
{
	uint64_t length = 0, bits = 0;
	for (unsigned i = 0; i < request->iov_count; i++) {
		bits |= (uintptr_t)request->iov[i].iov_base | request->iov[i].iov_len;
		length += request->iov[i].iov_len;
	}
	return length == request->length && !(bits & image->memory_mask);
}

static inline bool goes_straight(const struct image *image, const struct lunkit_request *request)
{
	return (unsigned)request->op <= LUNKIT_WRITE && image->straight[request->op] && !image->draining &&
	       !(request->flags & ~image->straight_flags[request->op]) && !((request->offset | request->length) & image->request_mask) &&
	       request->length - 1 < image->limits.max_transfer && range_within(request->offset, request->length, image->limits.size) &&
	       request->iov_count - 1 < image->limits.max_iov && iov_goes_straight(image, request);
}

void image_submit(struct image *image, struct image_request *request)
{
	struct lunkit_request *user = &request->request;
	struct image_shim *shim = request->shim;
	if (unlikely(shim->state != SHIM_IDLE))
		broken(request, "a request slot was submitted that is in use");
	user->memory = shim->sub.memory;
	if (unlikely(!goes_straight(image, user))) {
		shim_start(request);
		return;
	}
	if (user->op == LUNKIT_WRITE) {
		if (unlikely(!list_empty(&image->exclusive) || !list_empty(&image->waiting))) {
			shim_start(request);
			return;
		}
		shim->range.begin = user->offset;
		shim->range.end = user->offset + user->length;
		shim->range.exclusive = false;
		shim->range.tracked = true;
		list_add_tail(&image->writes, &shim->range.node);
	}
	shim->state = SHIM_RUNNING;
	shim->step = NULL;
	shim->running = user;
	image->in_flight++;
	image->handler->submit(image->state, user);
}
