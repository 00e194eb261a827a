/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A descriptor into an image: one read at a time fills a slot, full ones are stored side by side.
 *
 *     descriptor ─► slot, until it is full ─► store.c ─► the slot is free
 *                                  the end: the last one is filled up with zeros to a whole unit, and what the target has behind becomes zeros
 *
 * A target that grows gets room ahead of need, and is cut to what came when all of that is stored.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "base/checked.h"
#include "image/streaming.h"

#define BLOCK ((uint64_t)512)
/* What a target gets more, at least. */
#define ROOM_MIN ((uint64_t)1 << 30)

static void stored(struct slot *slot, int result)
{
	struct copying *copying = slot->copying;
	if (result == 0)
		copying->finished += slot->length;
	slot_give(slot);
	copying_done(copying, result);
}

/* The slot that was being filled goes to the target. */
static void store_first(struct image_stream_work *work)
{
	struct copying *copying = &work->copying;
	struct slot *slot = work->first;
	uint64_t left = copying->total - work->position, length = MIN(align_up(slot->filled, copying->unit), left);
	work->first = NULL;
	if (!length) {
		slot_give(slot);
		return;
	}
	memset(slot->buffer + slot->filled, 0, length - slot->filled);
	uint64_t offset = work->position;
	work->position += length;
	copying->in_flight++;
	slot_store(slot, offset, length, stored);
}

static void resized(struct image_job *job, int result)
{
	struct image_stream_work *work = list_entry(job, struct image_stream_work, resize);
	struct copying *copying = &work->copying;
	work->resizing = false;
	if (result < 0 && !copying->result) {
		copying_fail(copying, result, "%s", job->err.message);
		if (job->err.hint[0])
			lunkit_error_hint(copying->err, "%s", job->err.hint);
	}
	copying->total = image_limits(copying->target)->size;
	if (work->ended && !copying->result) {
		work->fitted = true;
		work->position = copying->finished = copying->total;
	}
	copying_done(copying, 0);
}

static void resize(struct image_stream_work *work, uint64_t size, unsigned flags)
{
	work->resizing = true;
	work->copying.in_flight++;
	work->resize = (struct image_job){ .done = resized };
	image_resize(work->copying.target, &work->resize, size, flags);
}

/* Once nothing is in flight any more. */
static void fit(struct image_stream_work *work)
{
	struct copying *copying = &work->copying;
	uint64_t size = align_up(work->stream->bytes, BLOCK);
	if (copying->in_flight)
		return;
	if (size == 0) {
		copying_fail(copying, -ENODATA, "%s: nothing came", work->pipe.label);
		lunkit_error_hint(copying->err, "Look at what the program before the pipe says.");
		return;
	}
	resize(work, size, LUNKIT_RESIZE_SHRINK);
}

static void came(struct image_stream_work *work, uint64_t bytes)
{
	struct copying *copying = &work->copying;
	struct slot *slot = work->first;
	work->stream->bytes += bytes;
	copying_moved(copying, bytes);
	slot->filled += bytes;
	if (work->position == copying->total && work->stream->grow) {
		resize(work, copying->total + MAX(copying->total, ROOM_MIN), 0);
	} else if (work->position == copying->total) {
		copying_fail(copying, -EFBIG, "%s: more comes than the %" PRIu64 " bytes that %.300s has", work->pipe.label, copying->total,
			     image_name(copying->target));
		lunkit_error_hint(copying->err, "Make the target larger.");
	} else if (slot->filled == MIN(copying->options.buffer_size, copying->total - work->position)) {
		store_first(work);
	}
}

static void stream_read(struct loop_op *op, int result)
{
	struct image_stream_work *work = list_entry(op, struct image_stream_work, op);
	struct copying *copying = &work->copying;
	work->moving = false;
	if (result > 0) {
		came(work, (unsigned)result);
	} else if (result == 0) {
		work->ended = true;
		if (!copying->result)
			store_first(work);
	} else if (result == -EAGAIN) {
		pipe_wait(&work->pipe);
	} else if (result != -EINTR) {
		copying_fail(copying, result, "%s: cannot read behind the first %" PRIu64 " bytes: %s", work->pipe.label,
			     work->stream->bytes, strerror(-result));
	}
	copying_done(copying, 0);
}

static void read_some(struct image_stream_work *work)
{
	struct copying *copying = &work->copying;
	if (work->moving || work->resizing || work->pipe.waiting || !copying_may_move(copying))
		return;
	if (!work->first) {
		work->first = slot_take(copying);
		if (!work->first)
			return;
		work->first->filled = 0;
	}
	/* When all is there, whether there is more. */
	uint64_t left = copying->total - work->position, room = MIN(copying->options.buffer_size, left ? left : 1);
	work->iov[0] = (struct iovec){ work->first->buffer + work->first->filled, room - work->first->filled };
	work->moving = true;
	copying->in_flight++;
	work->op.done = stream_read;
	/* -1: where the descriptor is */
	loop_readv(copying->loop, &work->op, work->pipe.fd, work->iov, 1, UINT64_MAX);
}

/* Less has come than the target holds. */
static void fill_rest(struct image_stream_work *work)
{
	struct copying *copying = &work->copying;
	uint64_t most = store_most_zeroes(copying);
	if (work->stream->grow && !work->fitted) {
		if (!work->resizing)
			fit(work);
		return;
	}
	if (copying->options.target_is_zero) {
		copying->finished += copying->total - work->position;
		work->position = copying->total;
	}
	while (work->position < copying->total && copying->free_slots && !copying->result) {
		uint64_t offset = work->position, length = MIN(most, copying->total - offset);
		work->position += length;
		copying->in_flight++;
		slot_store_zeroes(slot_take(copying), offset, length, stored);
	}
	copying->all = work->position == copying->total;
}

static void start(struct copying *copying)
{
	struct image_stream_work *work = stream_work_of(copying);
	if (work->ended)
		fill_rest(work);
	else
		read_some(work);
}

static void ready(struct pipe *pipe)
{
	copying_run(&list_entry(pipe, struct image_stream_work, pipe)->copying);
}

static int prepare(struct image_stream_work *work, int fd, const char *label, const struct image_copy_options *options)
{
	int r = copying_init(&work->copying, options);
	work->copying.total = image_limits(work->copying.target)->size;
	return r < 0 ? r : stream_use(work, fd, label, POLLIN, ready);
}

void image_stream_in(struct loop *loop, int fd, const char *label, struct image *target, const struct image_copy_options *options,
		     struct image_stream *stream)
{
	struct image_stream_work *work = stream_new(loop, NULL, target, start, stream);
	stream_begin(work, stream, work ? prepare(work, fd, label, options) : -ENOMEM);
}
