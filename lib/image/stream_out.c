/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An image into a descriptor.
 *
 *     plan ─► pieces in order:  │ reading │ ready │ zeros │ reading │ …      a slot each; many READs at once
 *                               └── those that are ready, from the first on ─► one writev at a time
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "image/copying.h"
#include "image/stream.h"
#include "image/streaming.h"

static void stream_written(struct loop_op *op, int result);

/* What is ready, from where the descriptor is on. */
static unsigned gather(struct image_stream_work *work)
{
	size_t zeroes = work->copying.options.buffer_size;
	unsigned count = 0;
	uint64_t skip = work->skip;
	for (const struct slot *slot = work->first; slot && slot->ready && count < STREAM_IOV; slot = slot->next) {
		for (uint64_t left = slot->length - skip; left && count < STREAM_IOV;) {
			struct iovec *iov = &work->iov[count++];
			if (slot->zero)
				*iov = (struct iovec){ work->zeroes, MIN(left, zeroes) };
			else
				*iov = (struct iovec){ slot->buffer + (slot->length - left), left };
			left -= iov->iov_len;
		}
		skip = 0;
	}
	return count;
}

static void write_some(struct image_stream_work *work)
{
	struct copying *copying = &work->copying;
	if (work->moving || work->pipe.waiting || !work->first || !work->first->ready || !copying_may_move(copying))
		return;
	unsigned count = gather(work);
	work->moving = true;
	copying->in_flight++;
	work->op.done = stream_written;
	/* -1: where the descriptor is */
	loop_writev(copying->loop, &work->op, work->pipe.fd, work->iov, count, UINT64_MAX, 0);
}

static void written(struct image_stream_work *work, uint64_t bytes)
{
	work->stream->bytes += bytes;
	work->copying.finished += bytes;
	copying_moved(&work->copying, bytes);
	for (work->skip += bytes; work->first && work->skip >= work->first->length;) {
		struct slot *slot = work->first;
		work->skip -= slot->length;
		work->first = slot->next;
		if (!work->first)
			work->end = &work->first;
		slot_give(slot);
	}
}

static void stream_written(struct loop_op *op, int result)
{
	struct image_stream_work *work = list_entry(op, struct image_stream_work, op);
	struct copying *copying = &work->copying;
	work->moving = false;
	if (result > 0)
		written(work, (unsigned)result);
	else if (result == -EAGAIN)
		pipe_wait(&work->pipe);
	else if (result == -EPIPE) {
		copying_fail(copying, result, "%s: nobody reads it any more, after %" PRIu64 " bytes", work->pipe.label,
			     work->stream->bytes);
		lunkit_error_hint(copying->err, "Look at what the program behind the pipe says.");
	} else if (result != -EINTR) {
		int error = result ? result : -EIO;
		copying_fail(copying, error, "%s: cannot write behind the first %" PRIu64 " bytes: %s", work->pipe.label,
			     work->stream->bytes, strerror(-error));
	}
	copying_done(copying, 0);
}

static void was_read(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	if (result < 0)
		copying_fail_request(slot->copying, result, slot->copying->source, &request->request);
	slot->ready = true;
	copying_done(slot->copying, 0);
}

static void start(struct copying *copying)
{
	struct image_stream_work *work = stream_work_of(copying);
	int r = -EAGAIN;
	struct plan_piece piece;
	while (copying->free_slots && (r = plan_next(&work->plan, copying->options.buffer_size, STREAM_ZEROES_MAX, &piece)) > 0) {
		struct slot *slot = slot_take(copying);
		slot->zero = slot->ready = piece.zero;
		slot->next = NULL;
		*work->end = slot;
		work->end = &slot->next;
		if (piece.zero)
			slot->length = piece.length;
		else
			slot_read(slot, piece.offset, piece.length, was_read);
	}
	if (r < 0 && r != -EAGAIN) {
		copying_fail_request(copying, r, copying->source, &work->plan.request->request);
		return;
	}
	write_some(work);
	copying->all = r == 0 && !work->first;
}

static void ready(struct pipe *pipe)
{
	copying_run(&list_entry(pipe, struct image_stream_work, pipe)->copying);
}

static void more(struct plan *plan)
{
	copying_run(&list_entry(plan, struct image_stream_work, plan)->copying);
}

static int prepare(struct image_stream_work *work, int fd, const char *label, const struct image_copy_options *options)
{
	struct copying *copying = &work->copying;
	work->end = &work->first;
	int r = copying_init(copying, options);
	if (r < 0)
		return r;
	copying->total = image_limits(copying->source)->size;
	work->zeroes = calloc(1, copying->options.buffer_size);
	if (!work->zeroes || plan_init(&work->plan, copying->source, copying->unit, copying->total, &copying->in_flight, more) < 0)
		return lunkit_error_set(copying->err, ENOMEM, "%.300s: not enough memory", image_name(copying->source));
	return stream_use(work, fd, label, POLLOUT, ready);
}

void image_stream_out(struct loop *loop, struct image *source, int fd, const char *label, const struct image_copy_options *options,
		      struct image_stream *stream)
{
	struct image_copy_options own = options ? *options : (struct image_copy_options){ 0 };
	struct image_stream_work *work = stream_new(loop, source, NULL, start, stream);
	own.compress = false;
	stream_begin(work, stream, work ? prepare(work, fd, label, &own) : -ENOMEM);
}
