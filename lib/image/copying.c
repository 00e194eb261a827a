/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a copy or a stream, and its memory.
 *
 *     begin ─► start(): operations ─► … each end: start() again ─► all has been done ─► FLUSH of the target ─┐
 *                 │ a failure, or cancelled: nothing new; what is in flight is waited for                    ├─► (loop) end()
 *                 └──────────────────────────────────────────────────────────────────────────────────────────┘
 *
 * Invariants: in_flight counts every operation that will call back, so that nothing is freed which is in use; the first failure is the one that
 * is told. Cancelling is looked for with each step and ten times a second, so that a copy that waits for the other end of a pipe, or for its
 * rate, ends too. Everything is allocated at the beginning.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "image/copying.h"

#define DEPTH_DEFAULT 16u
#define DEPTH_MAX 64u
#define BUFFER_DEFAULT ((size_t)512 << 10)
#define BUFFER_MIN ((size_t)4096)
#define BUFFER_MAX ((size_t)8 << 20)
#define MEMORY_MAX ((size_t)32 << 20)
#define UNIT_MIN ((uint64_t)4096)
#define UNIT_MAX ((uint64_t)64 << 10)
#define TICK_NS 100000000u

/* ---- failures ---- */

int copying_fail(struct copying *copying, int result, const char *format, ...)
{
	if (copying->result)
		return result;
	char text[LUNKIT_ERROR_MESSAGE_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	copying->result = result;
	return lunkit_error_set(copying->err, result, "%s", text);
}

int copying_fail_request(struct copying *copying, int result, const struct image *image, const struct lunkit_request *request)
{
	static const char *const what[LUNKIT_OP_COUNT] = { "read", "write", "flush", "discard", "zero", "tell what is in" };
	if (copying->result)
		return result;
	if (request->op == LUNKIT_FLUSH)
		copying_fail(copying, result, "%.300s: cannot make the copy durable: %s", image_name(image), strerror(-result));
	else
		copying_fail(copying, result, "%.300s: cannot %s %" PRIu64 " bytes at offset %" PRIu64 ": %s", image_name(image),
			     what[request->op], request->length, request->offset, strerror(-result));
	if (result == -ENOSPC || result == -EDQUOT)
		lunkit_error_hint(copying->err, "Free some space where the target lies.");
	return result;
}

/* ---- the rate ---- */

/* What the rate has allowed since the last look; it may have been changed at any time. */
static void pay(struct copying *copying, uint64_t rate)
{
	uint64_t now = clock_now_ns();
	/* What was not used for a moment may be made up for. */
	double least = -(double)rate * (TICK_NS / 1e9);
	copying->owed -= (double)(now - copying->owed_at) * (double)rate / 1e9;
	copying->owed = MAX(copying->owed, least);
	copying->owed_at = now;
}

bool copying_may_move(struct copying *copying)
{
	uint64_t rate = *copying->rate;
	if (!rate) {
		copying->owed = 0;
		return true;
	}
	pay(copying, rate);
	if (copying->owed <= 0)
		return true;
	loop_alarm_set(copying->loop, &copying->pace, (uint64_t)MIN(copying->owed / (double)rate * 1e9, (double)TICK_NS));
	return false;
}

void copying_moved(struct copying *copying, uint64_t bytes)
{
	if (*copying->rate)
		copying->owed += (double)bytes;
}

/* ---- going on ---- */

static void end_now(struct loop_op *op, int ignored)
{
	(void)ignored;
	struct copying *copying = list_entry(op, struct copying, end_op);
	loop_alarm_cancel(copying->loop, &copying->tick);
	loop_alarm_cancel(copying->loop, &copying->pace);
	copying->report(copying);
	copying->end(copying);
}

static void flushed(struct image_request *request, int result)
{
	struct copying *copying = request->user;
	copying->flushed = true;
	if (result < 0)
		copying_fail_request(copying, result, copying->target, &request->request);
	copying_done(copying, result);
}

static void finish(struct copying *copying)
{
	if (copying->in_flight)
		return;
	if (!copying->result && copying->target && !copying->flushed) {
		copying->flush->request.op = LUNKIT_FLUSH;
		copying->flush->done = flushed;
		copying->flush->user = copying;
		copying->in_flight++;
		image_submit(copying->target, copying->flush);
		return;
	}
	copying->ended = true;
	copying->end_op.done = end_now;
	loop_defer(copying->loop, &copying->end_op, 0);
}

void copying_run(struct copying *copying)
{
	if (copying->ended)
		return;
	if (copying->running) {
		copying->again = true;
		return;
	}
	copying->running = true;
	do {
		copying->again = false;
		if (*copying->cancelled && !copying->flushed)
			copying_fail(copying, -ECANCELED, "%.300s: cancelled",
				     image_name(copying->source ? copying->source : copying->target));
		if (!copying->result && !copying->all)
			copying->start(copying);
		if (!copying->again && (copying->result || copying->all))
			finish(copying);
	} while (copying->again && !copying->ended);
	copying->running = false;
}

void copying_done(struct copying *copying, int result)
{
	copying->in_flight--;
	if (result < 0 && !copying->result)
		copying->result = result;
	copying_run(copying);
}

static void tick(struct loop_alarm *alarm)
{
	struct copying *copying = list_entry(alarm, struct copying, tick);
	loop_alarm_set(copying->loop, alarm, TICK_NS);
	copying->report(copying);
	copying_run(copying);
}

static void paced(struct loop_alarm *alarm)
{
	copying_run(list_entry(alarm, struct copying, pace));
}

void copying_begin(struct copying *copying)
{
	copying->owed_at = clock_now_ns();
	copying->tick.ring = tick;
	copying->pace.ring = paced;
	loop_alarm_set(copying->loop, &copying->tick, TICK_NS);
	/* The first step too comes from the loop: nothing is called from inside the call that starts it. */
	loop_alarm_set(copying->loop, &copying->pace, 0);
}

/* ---- slots ---- */

struct slot *slot_take(struct copying *copying)
{
	struct slot *slot = copying->free_slots;
	if (slot)
		copying->free_slots = slot->next;
	return slot;
}

void slot_give(struct slot *slot)
{
	slot->next = slot->copying->free_slots;
	slot->copying->free_slots = slot;
}

void slot_read(struct slot *slot, uint64_t offset, uint64_t length, void (*done)(struct image_request *request, int result))
{
	struct copying *copying = slot->copying;
	uint64_t size = image_limits(copying->source)->size, there = offset < size ? MIN(length, size - offset) : 0;
	struct lunkit_request *request = &slot->read->request;
	slot->offset = offset;
	slot->length = length;
	slot->filled = there;
	memset(slot->buffer + there, 0, length - there);
	slot->iov = (struct iovec){ slot->buffer, there };
	request->op = LUNKIT_READ;
	request->flags = 0;
	request->offset = offset;
	request->length = there;
	request->iov = &slot->iov;
	request->iov_count = 1;
	slot->read->done = done;
	slot->read->user = slot;
	copying->in_flight++;
	image_submit(copying->source, slot->read);
}

/* ---- the beginning ---- */

static struct image_request *new_request(struct image *image)
{
	struct image_request *request = malloc(image_request_size(image));
	if (request)
		image_request_init(image, request);
	return request;
}

static void complete_options(struct copying *copying)
{
	struct image_copy_options *options = &copying->options;
	const struct lunkit_limits *source = copying->source ? image_limits(copying->source) : NULL;
	const struct lunkit_limits *target = copying->target ? image_limits(copying->target) : NULL;
	uint64_t unit = UNIT_MIN;
	if (target && is_power_of_two(target->discard_granularity))
		unit = MIN(MAX(unit, target->discard_granularity), UNIT_MAX);
	if (target && options->compress)
		unit = MAX(target->compress_unit, target->request_alignment);
	if (target)
		unit = MAX(unit, target->request_alignment);
	if (source)
		unit = MAX(unit, source->request_alignment);
	copying->unit = unit;
	size_t size = options->buffer_size ? MIN(MAX(options->buffer_size, BUFFER_MIN), BUFFER_MAX) : BUFFER_DEFAULT;
	options->buffer_size = align_up(size, unit);
	unsigned most = (unsigned)MAX(MEMORY_MAX / options->buffer_size, (size_t)2);
	options->depth = options->depth ? MIN(options->depth, DEPTH_MAX) : MIN(DEPTH_DEFAULT, most);
}

static bool make_slots(struct copying *copying)
{
	unsigned depth = copying->options.depth;
	size_t alignment = 4096;
	if (copying->source)
		alignment = MAX(alignment, image_limits(copying->source)->memory_alignment);
	if (copying->target)
		alignment = MAX(alignment, image_limits(copying->target)->memory_alignment);
	copying->slots = calloc(depth, sizeof(*copying->slots));
	if (!copying->slots)
		return false;
	for (unsigned i = depth; i--;) {
		struct slot *slot = &copying->slots[i];
		slot->copying = copying;
		slot->buffer = aligned_alloc(alignment, align_up(copying->options.buffer_size, alignment));
		slot->read = copying->source ? new_request(copying->source) : NULL;
		slot->write = copying->target ? new_request(copying->target) : NULL;
		if (!slot->buffer || (copying->source && !slot->read) || (copying->target && !slot->write))
			return false;
		slot_give(slot);
	}
	copying->flush = copying->target ? new_request(copying->target) : NULL;
	return !copying->target || copying->flush;
}

int copying_init(struct copying *copying, const struct image_copy_options *options)
{
	struct image *target = copying->target;
	if (options)
		copying->options = *options;
	if (target && image_is_read_only(target))
		return lunkit_error_set(copying->err, EROFS, "%.300s: the image is read-only: nothing can be copied to it",
					image_name(target));
	if (target && copying->options.compress && !image_limits(target)->compress_unit) {
		lunkit_error_set(copying->err, EOPNOTSUPP, "%.300s: images of the kind \"%s\" cannot be written compressed",
				 image_name(target), image_kind(target));
		return lunkit_error_hint(copying->err, "Leave compression off, or choose another kind for the target.");
	}
	complete_options(copying);
	if (!make_slots(copying))
		return lunkit_error_set(copying->err, ENOMEM, "%.300s: not enough memory for the copy's buffers",
					image_name(target ? target : copying->source));
	return 0;
}

void copying_destroy(struct copying *copying)
{
	for (unsigned i = 0; copying->slots && i < copying->options.depth; i++) {
		free(copying->slots[i].buffer);
		free(copying->slots[i].read);
		free(copying->slots[i].write);
	}
	free(copying->slots);
	free(copying->flush);
}
