/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An image's content as a stream of raw bytes, to or from a file descriptor that need not be able to seek: a pipe, a socket, a terminal's redirection.
 *
 * Owner: the thread of the loop that the image is on. The descriptor stays the caller's and open until done(). It is used from its current position
 * on. Nothing blocks: a pipe or socket is made non-blocking for as long as the stream goes on, and set back; whoever may not call fcntl(2) (a
 * sandbox) gets it non-blocking from the start. A stream whose other end neither moves nor goes away ends when it is cancelled.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/copy.h"

struct image_stream_work;

/* Members as in struct image_copy. */
struct image_stream {
	/* Exactly once, never from inside the call that starts it: 0, or -errno with err set. */
	void (*done)(struct image_stream *stream, int result);
	/* About ten times a second, and at the end; or NULL. total: the image's size; of a stream from a descriptor, less may come. */
	void (*progress)(struct image_stream *stream, uint64_t done, uint64_t total);
	bool cancelled;
	uint64_t rate; /* bytes a second that go through the descriptor; 0: no limit */
	bool grow;     /* into an image: it becomes as large as what comes, in whole blocks of 512 bytes; until then total is told as 0 */
	struct lunkit_error err;
	uint64_t bytes; /* that went through the descriptor so far; for a stream into an image that tells how much came */
	/* below: the stream's */
	struct image_stream_work *work;
	struct loop *loop;
	struct loop_op op;
	int result;
};

/*
 * The whole virtual disk, in order, zeros written out; many reads ahead of the descriptor. -EPIPE: nobody reads any more (SIGPIPE has to be ignored or
 * blocked by the program). label: what to call the descriptor in messages, "standard output"; copied. options: depth and buffer_size.
 */
void image_stream_out(struct loop *loop, struct image *source, int fd, const char *label, const struct image_copy_options *options,
		      struct image_stream *stream);

/*
 * Until the end of the stream: what comes is stored as a copy stores it, sparse and compressed as options say. More than the image's size is
 * -EFBIG; less is success, with zeros in the rest; of one that grows, nothing at all is -ENODATA. A last FLUSH makes the result durable before done(stream, 0).
 */
void image_stream_in(struct loop *loop, int fd, const char *label, struct image *target, const struct image_copy_options *options,
		     struct image_stream *stream);
