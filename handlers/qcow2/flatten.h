/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What snapshots read from the backing file, copied into the image: fill.c, a part of flatten.c. Owner: the worker's thread. */

#include "encrypt.h"
#include "qcow2.h"

struct fill {
	struct waiter waiter; /* first */
	struct qcow2 *q;
	struct lunkit_job *job;
	void (*step)(struct fill *fill); /* what comes next, and again when it was parked */
	void (*done)(struct fill *fill, int result);
	int result;
	unsigned index;		   /* of the snapshot */
	uint64_t position, end;	   /* of its disk: looked at so far, and what there is below */
	uint64_t hole_end, length; /* position is in a hole that ends there; bytes of it in the buffer */
	uint64_t from;		   /* of the buffer: what comes next */
	uint64_t table, users;	   /* the L2 table, or 0, and how many L1 tables lead to it */
	struct run run;		   /* clusters for what comes next; not shown yet */
	uint64_t counted;	   /* of run: clusters whose refcounts are users */
	struct run new_table;
	uint8_t *buffer;
	struct iovec iov;
	struct transfer transfer;
	struct scrambling scrambling;
	struct lunkit_child_request *child;
	struct lunkit_extent extent;
	struct lunkit_io deferred;
	struct lunkit_alarm pause;
	uint64_t ticket;		 /* of what is to be counted down first */
	uint64_t paid_ns, before, total; /* progress: bytes of snapshots that are through, and of all */
};

/* Bytes of snapshots that can be seen below: what fill_start() has to look at. */
uint64_t fill_total(const struct qcow2 *q);
/* All that the image itself shows has to be in it. base: what progress begins with. done() from the loop; all that was done is in the file then. */
void fill_start(struct qcow2 *q, struct fill *fill, struct lunkit_job *job, uint64_t base, uint64_t total,
		void (*done)(struct fill *fill, int result));
/* Nanoseconds to wait until length bytes may be copied at the job's rate; 0: now, and they count. */
uint64_t flatten_wait_ns(const struct lunkit_job *job, uint64_t *paid_ns, uint64_t length);
bool flatten_is_zero(const uint8_t *data, uint64_t length);
