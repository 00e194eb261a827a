/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the files of the raw handler share. */

#include "image/handler.h"

/* Devices that have no command for it are zeroed by writing: a request must not take longer than an initiator waits (30 s). */
#define RAW_DEVICE_ZEROES_MAX ((uint64_t)32 << 20)

struct raw {
	struct lunkit_host *host;
	int fd;
	uint64_t size;
	unsigned block_size, physical_block_size, optimal_transfer;
	unsigned request_alignment, memory_alignment;
	bool is_block, direct, read_only, rotational;
	bool durable;	    /* each write is durable before it completes: cache=writethrough */
	bool no_zero_range; /* the filesystem has no FALLOC_FL_ZERO_RANGE */
	int sync_error;	    /* -errno of the first sync that failed, 0 until then: see sync.c */
	char name[512];	    /* for messages */
};

/* What a request needs; the first is what the loop completes. */
enum raw_step { RAW_RANGE, RAW_ALLOCATE, RAW_SYNC };
struct raw_request {
	struct lunkit_work work; /* work.io for plain I/O */
	struct raw *raw;
	struct lunkit_request *request;
	struct iovec part; /* what is left of one entry after a short transfer */
	uint64_t done;	   /* bytes */
	int mode;	   /* write_zeroes: what fallocate is doing */
	enum raw_step step;
};

/* geometry.c: all that is known of the open file. -errno with the error set. */
int raw_look(struct raw *raw, const char *path, uint64_t wanted_block_size, struct lunkit_error *err);
/* The storage's size now. */
int raw_read_size(const struct raw *raw, uint64_t *ret_size);
/* A size must be whole blocks, and whole units of direct I/O. */
int raw_check_size(const struct raw *raw, uint64_t size, struct lunkit_error *err);

/* space.c: what is not reading or writing. */
void raw_discard(struct raw_request *r);
void raw_write_zeroes(struct raw_request *r);
void raw_extents(struct raw_request *r);

/* sync.c: what is to be durable. */
/* What went to storage so that it would be durable has come back with result; returns what the initiator is to be told. by_write: as part of a write. */
int raw_synced(struct raw *raw, bool by_write, int result);
/* Whether it has to be durable when it completes. */
static inline bool raw_wants_durable(const struct raw *raw, const struct lunkit_request *request)
{
	bool writes = request->op == LUNKIT_WRITE || request->op == LUNKIT_WRITE_ZEROES;
	return request->op == LUNKIT_FLUSH || (writes && (raw->durable || request->flags & LUNKIT_REQUEST_FUA));
}

/* control.c */
extern const struct lunkit_option raw_options[];
int raw_create(const struct lunkit_params *params, struct lunkit_error *err);
int raw_info(void *state, struct lunkit_info *info, struct lunkit_error *err);
void raw_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags);
