/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One image to another.
 *
 *     plan ─► piece ─┬─ data:  slot: READ of the source ─► store.c: WRITE, WRITE_ZEROES of the target ─► the slot is free
 *                    └─ zeros: nothing, or WRITE_ZEROES of the target
 *
 * Slots go through this side by side and end in any order, so that both images have something to do all the time.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "image/copying.h"

struct image_copy_work {
	struct copying copying;
	struct plan plan;
	struct image_copy *copy;
	uint64_t bytes_read;
};

static struct image_copy_work *work_of(struct copying *copying)
{
	return list_entry(copying, struct image_copy_work, copying);
}

static void stored(struct slot *slot, int result)
{
	struct copying *copying = slot->copying;
	if (result == 0)
		copying->finished += slot->length;
	slot_give(slot);
	copying_done(copying, result);
}

static void was_read(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	struct copying *copying = slot->copying;
	if (result < 0)
		copying_fail_request(copying, result, copying->source, &request->request);
	if (result < 0 || copying->result)
		stored(slot, copying->result);
	else
		slot_store(slot, slot->offset, slot->length, stored);
}

static void start_piece(struct image_copy_work *work, struct slot *slot, const struct plan_piece *piece)
{
	struct copying *copying = &work->copying;
	if (piece->zero) {
		copying->in_flight++;
		slot_store_zeroes(slot, piece->offset, piece->length, stored);
		return;
	}
	slot_read(slot, piece->offset, piece->length, was_read);
	work->bytes_read += slot->filled;
	copying_moved(copying, slot->filled);
}

static void start(struct copying *copying)
{
	struct image_copy_work *work = work_of(copying);
	uint64_t most_zero = store_most_zeroes(copying);
	while (copying->free_slots && !copying->result && !*copying->cancelled && copying_may_move(copying)) {
		struct plan_piece piece;
		int r = plan_next(&work->plan, copying->options.buffer_size, most_zero, &piece);
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			copying_fail_request(copying, r, copying->source, &work->plan.request->request);
			return;
		}
		if (r == 0) {
			copying->all = true;
			return;
		}
		if (piece.zero && copying->options.target_is_zero)
			copying->finished += piece.length;
		else
			start_piece(work, slot_take(copying), &piece);
	}
}

static void more(struct plan *plan)
{
	copying_run(&list_entry(plan, struct image_copy_work, plan)->copying);
}

static void report(struct copying *copying)
{
	struct image_copy *copy = work_of(copying)->copy;
	if (copy->progress)
		copy->progress(copy, copying->finished, copying->total);
}

static void work_free(struct image_copy_work *work)
{
	copying_destroy(&work->copying);
	plan_destroy(&work->plan);
	free(work);
}

static void end(struct copying *copying)
{
	struct image_copy_work *work = work_of(copying);
	struct image_copy *copy = work->copy;
	int result = copying->result;
	copy->bytes_read = work->bytes_read;
	copy->bytes_written = copying->bytes_written;
	copy->work = NULL;
	work_free(work);
	copy->done(copy, result);
}

static void failed(struct loop_op *op, int result)
{
	struct image_copy *copy = list_entry(op, struct image_copy, op);
	copy->done(copy, result);
}

static int prepare(struct image_copy_work *work, const struct image_copy_options *options)
{
	struct copying *copying = &work->copying;
	uint64_t source = image_limits(copying->source)->size, target = image_limits(copying->target)->size;
	if (target < source) {
		lunkit_error_set(copying->err, ENOSPC, "%.300s: its %" PRIu64 " bytes are fewer than the %" PRIu64 " of %.300s",
				 image_name(copying->target), target, source, image_name(copying->source));
		return lunkit_error_hint(copying->err, "Make the target as large as the source.");
	}
	int r = copying_init(copying, options);
	if (r == 0 && plan_init(&work->plan, copying->source, copying->unit, target, &copying->in_flight, more) < 0)
		r = lunkit_error_set(copying->err, ENOMEM, "%.300s: not enough memory", image_name(copying->source));
	copying->total = target;
	return r;
}

void image_copy_start(struct loop *loop, struct image *source, struct image *target, const struct image_copy_options *options,
		      struct image_copy *copy)
{
	copy->err = LUNKIT_ERROR_INIT;
	copy->bytes_read = copy->bytes_written = 0;
	copy->op = (struct loop_op){ .done = failed };
	struct image_copy_work *work = copy->work = calloc(1, sizeof(*work));
	int r = 0;
	if (!work) {
		r = lunkit_error_set(&copy->err, ENOMEM, "%.300s: not enough memory", image_name(source));
	} else {
		work->copy = copy;
		work->copying = (struct copying){
			.loop = loop,
			.source = source,
			.target = target,
			.cancelled = &copy->cancelled,
			.rate = &copy->rate,
			.err = &copy->err,
			.start = start,
			.report = report,
			.end = end,
		};
		r = prepare(work, options);
	}
	if (r == 0) {
		copying_begin(&work->copying);
		return;
	}
	if (work)
		work_free(work);
	copy->work = NULL;
	loop_defer(loop, &copy->op, r);
}
