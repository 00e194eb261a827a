/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Writing compressed: compress_write.c makes clusters smaller, pack.c puts them behind each other in the file. Owner: the worker's thread. */

#include <stdatomic.h>
#include <zlib.h>
#include <zstd.h>

#include "qcow2.h"

#define PACKS_MAX 16

/* What a compressor needs, which is much: as many as there are helper threads, so that they stay in their caches. */
struct pack_tool {
	atomic_flag used; /* by a helper thread */
	bool has_stream;
	z_stream stream;
	ZSTD_CCtx *context;
};

/* A cluster on its way. */
struct pack {
	struct cow cow; /* first: who wants to write there waits for it, as for any other allocating write */
	struct pack *next;
	struct waiter waiter;
	struct lunkit_work work;
	uint8_t *in, *out;
	size_t packed;	/* bytes of out; 0: it does not become smaller */
	uint64_t place; /* in the file; 0: none yet */
};

/* Packed clusters that stand together and are written together. */
struct pack_batch {
	uint8_t *data;
	uint64_t base; /* in the file, aligned */
	size_t fill;
	struct pack *first, **end;
};

struct packer {
	struct pack_tool tools[PACKS_MAX];
	struct pack *free;
	unsigned made, most, busy;
	struct waiters waiters;		 /* requests: for a free one */
	struct pack *queue, **queue_end; /* compressed, without a place in a batch */
	uint64_t next, end;		 /* the open cluster of the file: where the next one goes; end 0: there is none */
	uint64_t spare;			 /* a cluster that is counted and not used yet, or 0 */
	struct waiter waiter;
	bool parked, placing;
	struct pack_batch batch[2], *filling;
	size_t batch_size, alignment;
	bool writing;
	uint8_t *carry; /* the bytes before next in its block */
	struct transfer transfer;
};

/* A step of a request whose position is at a cluster's beginning and that covers the cluster, or the rest of the disk. */
int compress_step(struct qcow2_request *r);
/* It has become smaller: finds it a place; then pack_written(). */
void pack_add(struct qcow2 *q, struct pack *pack);
void pack_written(struct pack *pack, int result);
/*
 * A part that waits for space must not keep space from being freed, which on a device may be all there is to wait for: it counts as being under
 * way no longer, then again.
 */
void pack_count(struct pack *pack, bool counted);
/* Clusters of the file are about to be free: nothing is put into them any more. */
void pack_forget(struct qcow2 *q, uint64_t offset, uint64_t length);
/* Gives the memory back when nothing is under way. */
void pack_shrink(struct qcow2 *q);
/* pack.c's part of the packer. -ENOMEM. */
int pack_init(struct qcow2 *q, struct packer *packer);
