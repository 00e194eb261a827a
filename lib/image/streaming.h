/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What both directions of a stream share: stream.c. Nobody else includes it. */

#include "image/copying.h"
#include "image/stream.h"

#define STREAM_IOV 32
/* A piece of zeros, so that progress is seen and slots are not all of them. */
#define STREAM_ZEROES_MAX ((uint64_t)64 << 20)

struct image_stream_work {
	struct copying copying;
	struct image_stream *stream;
	struct pipe pipe;
	struct plan plan; /* out */
	struct loop_op op;
	struct iovec iov[STREAM_IOV];
	bool moving;	    /* op is under way */
	struct slot *first; /* out: in order; in: the one that is being filled */
	struct slot **end;
	uint64_t skip;	   /* out: bytes of the first that have been written */
	uint8_t *zeroes;   /* out */
	uint64_t position; /* in: of the disk, what has been taken care of */
	bool ended;	   /* in: the stream has */
	/* in, where the target grows: */
	struct image_job resize;
	bool resizing, fitted; /* fitted: it has its last size */
};

static inline struct image_stream_work *stream_work_of(struct copying *copying)
{
	return list_entry(copying, struct image_stream_work, copying);
}

/* NULL, with the error set: no memory. */
struct image_stream_work *stream_new(struct loop *loop, struct image *source, struct image *target, void (*start)(struct copying *copying),
				     struct image_stream *stream);
int stream_use(struct image_stream_work *work, int fd, const char *label, unsigned events, void (*ready)(struct pipe *pipe));
/* result: of the preparations; a failure ends the stream, from the loop. */
void stream_begin(struct image_stream_work *work, struct image_stream *stream, int result);
