/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The beginning and the end of a stream, in either direction. */
#include "image/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/streaming.h"

static void work_free(struct image_stream_work *work)
{
	copying_destroy(&work->copying);
	plan_destroy(&work->plan);
	free(work->zeroes);
	free(work);
}

static void report(struct copying *copying)
{
	struct image_stream *stream = stream_work_of(copying)->stream;
	bool known = !stream->grow || stream_work_of(copying)->fitted;
	if (stream->progress)
		stream->progress(stream, copying->finished, known ? copying->total : 0);
}

static void closed(struct pipe *pipe)
{
	struct image_stream_work *work = list_entry(pipe, struct image_stream_work, pipe);
	struct image_stream *stream = work->stream;
	int result = work->copying.result;
	stream->work = NULL;
	work_free(work);
	stream->done(stream, result);
}

static void end(struct copying *copying)
{
	pipe_close(&stream_work_of(copying)->pipe, closed);
}

struct image_stream_work *stream_new(struct loop *loop, struct image *source, struct image *target, void (*start)(struct copying *copying),
				     struct image_stream *stream)
{
	stream->err = LUNKIT_ERROR_INIT;
	stream->bytes = 0;
	stream->loop = loop;
	struct image_stream_work *work = stream->work = calloc(1, sizeof(*work));
	if (!work) {
		lunkit_error_set(&stream->err, ENOMEM, "%.300s: not enough memory", image_name(source ? source : target));
		return NULL;
	}
	work->stream = stream;
	work->copying = (struct copying){
		.loop = loop,
		.source = source,
		.target = target,
		.cancelled = &stream->cancelled,
		.rate = &stream->rate,
		.err = &stream->err,
		.start = start,
		.report = report,
		.end = end,
	};
	return work;
}

int stream_use(struct image_stream_work *work, int fd, const char *label, unsigned events, void (*ready)(struct pipe *pipe))
{
	int r = pipe_init(&work->pipe, work->copying.loop, fd, label, events, ready);
	return r < 0 ? lunkit_error_set(work->copying.err, r, "%.64s: cannot use the descriptor: %s", label, strerror(-r)) : 0;
}

static void failed(struct loop_op *op, int result)
{
	struct image_stream *stream = list_entry(op, struct image_stream, op);
	stream->done(stream, result);
}

void stream_begin(struct image_stream_work *work, struct image_stream *stream, int result)
{
	if (result == 0) {
		copying_begin(&work->copying);
		return;
	}
	struct loop *loop = stream->loop;
	if (work)
		work_free(work);
	stream->work = NULL;
	stream->op = (struct loop_op){ .done = failed };
	loop_defer(loop, &stream->op, result);
}
