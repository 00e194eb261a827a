/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Copies an open image to another open one, of whatever kinds: what export, import and a full clone do with the data.
 *
 * Owner: the thread of the loop that both images are on. Both stay open, and the source as it is, until done(). Many requests are in flight on both sides;
 * buffers are taken once, when the copy begins. Ranges that the source knows to be zeros are not read, zeros that were read are not written: a
 * target that reads as zeros already (target_is_zero) is left alone there, another one gets WRITE_ZEROES with MAY_DISCARD, so that the result
 * is sparse. What the target has behind the source's end becomes zeros too. A last FLUSH makes the result durable before done(copy, 0).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "image/image.h"

struct image_copy_options {
	bool target_is_zero; /* every byte of the target reads as zero: it was made for this */
	bool compress;	     /* LUNKIT_REQUEST_COMPRESS. -EOPNOTSUPP: the target's limits have no compress_unit */
	unsigned depth;	     /* buffers, 1 to 64 [16; fewer where they are large] */
	size_t buffer_size;  /* bytes of each, 4 KiB to 8 MiB [512 KiB]; rounded up to whole units of the target */
};

struct image_copy_work;

/* Members as in struct image_job. */
struct image_copy {
	/* Exactly once, never from inside image_copy_start(): 0, or -errno with err set. */
	void (*done)(struct image_copy *copy, int result);
	/* About ten times a second, and at the end; or NULL. Bytes of the target's virtual disk that are as they shall be, zeros included. */
	void (*progress)(struct image_copy *copy, uint64_t done, uint64_t total);
	bool cancelled; /* set by the user at any time: the copy ends soon with -ECANCELED, unless it has ended by then */
	uint64_t rate;	/* bytes a second that are read, zeros that need no reading left out; 0: no limit; may be changed at any time */
	struct lunkit_error err; /* names the image that failed, what failed and at which offset */
	/* Valid from done() on: bytes that were read from the source, and bytes of data (not zeros) that were given to the target. */
	uint64_t bytes_read, bytes_written;
	/* below: the copy's */
	struct image_copy_work *work;
	struct loop_op op;
	int result;
};

/*
 * Zeroes err and what lies below it. The target may be larger than the source, never smaller (-ENOSPC). -EROFS: the target can't be written. options:
 * NULL for the defaults. The struct is the caller's again when done() is called.
 */
void image_copy_start(struct loop *loop, struct image *source, struct image *target, const struct image_copy_options *options,
		      struct image_copy *copy);
