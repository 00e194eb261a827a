/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the files of this folder share: an open image's inside. Nobody else includes it.
 *
 * A request slot is one piece of memory:
 *
 *     struct image_request (the user's) │ struct image_shim │ the handler's request_size bytes ◄─ lunkit_request.memory
 *
 * so that each part is found from each other by arithmetic. The handler sees either the user's own struct lunkit_request, when that can go
 * straight through, or shim.sub, one piece after another.
 */

#include <stdalign.h>

#include "image/image.h"

/* Entries of a piece's own list; a piece that needs more is bounced. */
#define SHIM_SLICE_MAX 16

/* Where a request is. */
enum shim_state { SHIM_IDLE, SHIM_HELD, SHIM_WAITING, SHIM_RUNNING };

/* What a request that runs in pieces is waiting for. */
enum shim_phase { PHASE_NEXT, PHASE_PIECE, PHASE_OLD_BLOCK, PHASE_FLUSH };

enum step { STEP_WAIT, STEP_DONE };

struct image_shim {
	struct lunkit_request *running; /* what the handler has now, or NULL */
	/* Called with the result of the last piece, 0 at first; on STEP_DONE *ret_result is the request's result. NULL: straight through. */
	enum step (*step)(struct image_request *request, int result, int *ret_result);
	enum shim_state state;
	enum shim_phase phase;
	struct image_range range;
	struct lunkit_request sub;
	struct iovec slice[SHIM_SLICE_MAX];
	void *bounce;
	uint64_t position, end; /* what is left, bytes of the image */
	uint64_t piece;		/* bytes of the piece that is running */
	int result;
	bool stepping, ready, flush_after;
};

#define SHIM_ALIGN(size) (((size) + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1))
#define SHIM_OFFSET SHIM_ALIGN(sizeof(struct image_request))
#define SHIM_MEMORY_OFFSET (SHIM_OFFSET + SHIM_ALIGN(sizeof(struct image_shim)))

static inline struct image_request *request_of_memory(void *memory)
{
	return (struct image_request *)((char *)memory - SHIM_MEMORY_OFFSET);
}

struct bounce_pool {
	size_t size; /* of each */
	size_t alignment;
	unsigned allocated; /* at most BOUNCE_MAX */
	unsigned count;	    /* in free */
	void **free;
	struct list waiting; /* image_request.node */
};

struct image {
	const struct lunkit_handler *handler;
	void *state;
	/* What the fast path asks, in one cache line. */
	uint64_t request_mask, memory_mask; /* alignment - 1 */
	unsigned straight_flags[2];	    /* READ, WRITE: flags that may go straight through */
	bool straight[2];		    /* READ, WRITE: may go straight through */
	unsigned in_flight, draining;
	struct lunkit_limits limits;
	unsigned dropped; /* LUNKIT_CAN_* that the handler claimed and could not */

	struct list writes;    /* ranges of writes in flight */
	struct list exclusive; /* ranges of locks that are held and of blocks being read, changed and written back */
	struct list waiting;   /* ranges in the order in which they came */
	bool waking, wake_again;

	struct list held; /* image_request.node */
	struct loop_op *drains;

	struct bounce_pool bounce;
	void *zeroes; /* ZEROES_SIZE, read-only */

	struct lunkit_host *host;
	bool read_only, look_only;
	char *name;
};

#define ZEROES_SIZE ((size_t)256 << 10)

/* limits.c: checks what the handler says and fills the defaults in. */
int limits_complete(struct lunkit_limits *limits, bool look_only, const char *name, struct lunkit_error *err);
/* What follows from image->limits. */
void image_apply_limits(struct image *image);
/* The handler said -EOPNOTSUPP to something that it claims to be able to. */
void image_drop_flag(struct image *image, unsigned flag);

/* options.c: the result is one allocation, freed by the caller. NULL with count 0 when there are none. */
int options_parse(const struct lunkit_handler *handler, const char *text, unsigned use, struct lunkit_option_value **ret_values,
		  size_t *ret_count, struct lunkit_error *err);

/* request.c */
/* Whole units, or up to the image's end. */
bool may_compress(const struct image *image, uint64_t offset, uint64_t length);
/* Gives the handler a piece. The caller has filled op, flags, offset, length and what the operation needs in shim.sub. */
enum step shim_send(struct image_request *request, enum shim_phase phase);
/* Goes on with a request that waited. */
void shim_advance(struct image_request *request, int result);
/* Takes a request up that was held back or that had to wait for its range. */
void shim_start(struct image_request *request);

/* align.c, emulate.c: the steps of each operation. */
enum step step_read(struct image_request *request, int result, int *ret_result);
enum step step_write(struct image_request *request, int result, int *ret_result); /* WRITE_ZEROES too */
enum step step_discard(struct image_request *request, int result, int *ret_result);
enum step step_flush(struct image_request *request, int result, int *ret_result);
enum step step_extents(struct image_request *request, int result, int *ret_result);
enum step emulate_flush_after(struct image_request *request, int *ret_result);
/* A piece of zeros at shim.position, aligned, at most left bytes. */
enum step emulate_send_zeroes(struct image_request *request, uint64_t left);

/* bounce.c: 0, -EAGAIN (the request goes on when there is a buffer), -ENOMEM. */
int bounce_init(struct bounce_pool *pool);
void bounce_destroy(struct bounce_pool *pool);
void bounce_configure(struct bounce_pool *pool, const struct lunkit_limits *limits);
int bounce_get(struct image_request *request);
void bounce_put(struct image_request *request);

/* range.c */
/* True when the range may be worked on now; else granted() will be called. */
bool range_enter(struct image *image, struct image_range *range);
void range_leave(struct image *image, struct image_range *range);
void range_wake(struct image *image);

/* drain.c */
void drain_check(struct image *image);
