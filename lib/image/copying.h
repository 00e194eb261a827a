/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What copies (copy.c) and streams (stream_out.c, stream_in.c) are made of. Nobody else includes it.
 *
 *     plan.c     where data is in the source, asked ahead of need          store.c    a buffer into the target, zeros left out
 *     copying.c  slots with their buffers, start and end, speed            pipe.c     a descriptor that may have to be waited for
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/copy.h"

struct copying;

/* ---- where data is: plan.c --------------------------------------------------------------------------------------------------------------- */

#define PLAN_RUNS 512
#define PLAN_BATCH 64

struct plan_piece {
	uint64_t offset, length;
	bool zero;
};

/*
 * What is to be made: [0, end), of which the source has source_size and the rest is zeros. Pieces come in order, begin and end at whole units (or at
 * end), and a piece that is not zero does not cross a multiple of its largest length.
 */
struct plan {
	struct image *source;
	struct image_request *request;
	void (*more)(struct plan *plan); /* what plan_next() waited for has come */
	uint64_t unit, source_size, end;
	uint64_t position; /* given out up to here */
	uint64_t known;	   /* the runs reach until here */
	uint64_t asked;	   /* answered up to here, bytes of the source */
	uint64_t query;	   /* bytes that are asked for at once */
	bool asking, starting;
	int result;
	unsigned *in_flight; /* the copy's: counts the request */
	unsigned first, count;
	struct plan_run {
		uint64_t end;
		bool zero;
	} runs[PLAN_RUNS]; /* a ring */
	struct lunkit_extent extents[PLAN_BATCH];
};

/* -ENOMEM. unit: a power of two. end: at least the source's size. */
int plan_init(struct plan *plan, struct image *source, uint64_t unit, uint64_t end, unsigned *in_flight, void (*more)(struct plan *plan));
void plan_destroy(struct plan *plan);
/* 1 with *ret; 0: the end; -EAGAIN: more() will be called, maybe from inside; -errno: the source could not tell. */
int plan_next(struct plan *plan, uint64_t most, uint64_t most_zero, struct plan_piece *ret);

/* ---- slots and the life of a copy: copying.c ------------------------------------------------------------------------------------------------ */

struct slot {
	struct copying *copying;
	struct slot *next;
	uint8_t *buffer;
	struct image_request *read, *write;
	struct iovec iov, write_iov;
	uint64_t offset, length; /* of the disk */
	uint64_t filled;	 /* bytes that came from the source */
	bool ready, zero;	 /* streams: what is in it */
	/* store.c's */
	void (*stored)(struct slot *slot, int result);
	uint64_t position, piece;
	int result;
	bool stepping, go_on;
};

/*
 * The life of a copy or a stream: start() is called whenever something may have become possible, never from inside itself, and starts what
 * it can; when nothing is in flight and it failed, or all has been done and made durable, end() is called, from the loop.
 */
struct copying {
	struct loop *loop;
	struct image *source, *target; /* one may be missing */
	struct image_copy_options options;
	uint64_t unit;
	struct slot *slots, *free_slots;
	/* Where the user's members are. */
	const bool *cancelled;
	const uint64_t *rate;
	struct lunkit_error *err;
	void (*start)(struct copying *copying);
	void (*report)(struct copying *copying); /* progress */
	void (*end)(struct copying *copying);
	uint64_t bytes_written;
	uint64_t finished, total; /* bytes of the disk */
	int result;		  /* the first failure */
	unsigned in_flight;	  /* operations, each of which calls copying_done() */
	bool all;		  /* start() has nothing left to do */
	bool running, again, flushed, ended;
	double owed;	  /* bytes that have moved and that the rate has not allowed yet */
	uint64_t owed_at; /* … at this time, ns */
	struct loop_alarm tick, pace;
	struct loop_op end_op;
	struct image_request *flush;
};

/* Checks and completes the options, takes memory. The user's pointers have been set, the rest is zeros. -errno with the error set. */
int copying_init(struct copying *copying, const struct image_copy_options *options);
void copying_destroy(struct copying *copying);
void copying_begin(struct copying *copying);
/* Goes on with what can be gone on with. */
void copying_run(struct copying *copying);
/* One operation that was counted in in_flight has ended, with the error already set. */
void copying_done(struct copying *copying, int result);
/* The first failure: keeps it and its text, and starts nothing any more. Returns the result. */
__attribute__((format(printf, 3, 4))) int copying_fail(struct copying *copying, int result, const char *format, ...);
/* A request to an image has failed. */
int copying_fail_request(struct copying *copying, int result, const struct image *image, const struct lunkit_request *request);
/* False: the rate does not allow any bytes yet, and copying_run() comes later by itself. */
bool copying_may_move(struct copying *copying);
/* They have begun to move. */
void copying_moved(struct copying *copying, uint64_t bytes);

struct slot *slot_take(struct copying *copying); /* NULL: none is free */
void slot_give(struct slot *slot);
/* Reads [offset, offset + length), as far as the source goes, and zeros behind; then done(). */
void slot_read(struct slot *slot, uint64_t offset, uint64_t length, void (*done)(struct image_request *request, int result));

/* ---- into the target: store.c ------------------------------------------------------------------------------------------------------------ */

/* Stores length bytes of the slot's buffer at the offset: zeros as zeros. stored() maybe from inside; failures are set in the copy's error. */
void slot_store(struct slot *slot, uint64_t offset, uint64_t length, void (*stored)(struct slot *slot, int result));
/* Zeros there, where there are none yet. */
void slot_store_zeroes(struct slot *slot, uint64_t offset, uint64_t length, void (*stored)(struct slot *slot, int result));
/* How many of them at once, so that it can be cancelled in between. */
uint64_t store_most_zeroes(const struct copying *copying);
bool is_all_zero(const uint8_t *data, size_t length); /* length: a multiple of 64, data aligned to that */

/* ---- descriptors: pipe.c ------------------------------------------------------------------------------------------------------------------ */

struct pipe {
	struct loop *loop;
	int fd;
	char label[64];
	unsigned events;
	bool waitable;	   /* a pipe, socket or terminal: can be not ready */
	bool was_blocking; /* and is to be so again */
	bool polling, waiting;
	void (*ready)(struct pipe *pipe);
	struct loop_op poll;
	void (*closed)(struct pipe *pipe);
};

/* events: POLLIN or POLLOUT. -EBADF. */
int pipe_init(struct pipe *pipe, struct loop *loop, int fd, const char *label, unsigned events, void (*ready)(struct pipe *pipe));
/* An attempt said -EAGAIN: ready() will be called, perhaps for nothing. */
void pipe_wait(struct pipe *pipe);
/* Nobody waits any more. closed() is called when nothing of it is used any more, maybe from inside. */
void pipe_close(struct pipe *pipe, void (*closed)(struct pipe *pipe));
