/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A LUN in its worker: the ring, the SCSI device and the image, and the life of every command between them. Owner: the worker's thread.
 * Slots for commands are allocated once; when all are busy the ring is left alone until one is free. Completions of a turn are published together,
 * with one doorbell.
 */

#include <stddef.h>
#include <stdint.h>

#include "image/image.h"
#include "io/loop.h"
#include "scsi/scsi.h"

/*
 * The ring as it was mapped. notify_fd becomes readable when the kernel has put entries; it is polled and not read. Writing word bytes to
 * doorbell_fd tells the kernel of completions. A TCM-User device: both are the uio fd, word is 4. The stand-in of the tests and benchmarks: two
 * eventfds, word is 8.
 */
struct lun_ring {
	void *base;
	size_t length;
	int notify_fd, doorbell_fd;
	unsigned word;
};

/*
 * ask passes a query to the control process; query_done() of the LUN is called with the answer, later, once for each ask. modes (or NULL) is told
 * scsi_device_modes() when they have changed, before the initiator that changed them has its answer.
 */
struct lun_control {
	void (*ask)(void *argument, struct scsi_query *query);
	void (*modes)(void *argument, unsigned modes);
	void *argument;
};

struct lun_config {
	struct loop *loop;
	struct image *image;
	struct lun_ring ring;
	struct lun_control control;
	struct scsi_identity identity; /* known so far */
	uint32_t block_size;	       /* the LUN's hw_block_size */
	uint32_t max_transfer_blocks;  /* the LUN's hw_max_sectors, 0: unknown; 1 MiB is always allowed */
	bool read_only;
	bool write_cache; /* false: cache=writethrough or the kernel's emulate_write_cache=0 */
	unsigned modes;	  /* scsi_device_modes() of the LUN in whose place this one is started; 0: none */
	unsigned slots;	  /* commands in flight at most; 0: 256 */
};

/* commands: fetched from the ring; errors: those that failed; refused: those that were answered with ILLEGAL REQUEST, UNIT ATTENTION or MISCOMPARE; aborted: by task management. The others count requests to the image. */
struct lun_statistics {
	uint64_t commands, reads, writes, read_bytes, write_bytes, flushes, discards, errors, refused, aborted;
	uint64_t doorbells, batches;
	unsigned in_flight;
};

struct lun;

/* -EPROTO: not a mailbox; -EINVAL: image and block size don't fit. Serving starts with lun_start(). */
int lun_new(const struct lun_config *config, struct lun **ret, struct lunkit_error *err);
/* Stopped, or never started. Takes NULL. */
void lun_free(struct lun *lun);
void lun_start(struct lun *lun);
/* Fetches nothing more, finishes and publishes what is in flight, then done(op, 0). */
void lun_stop(struct lun *lun, struct loop_op *op);
/*
 * Called when the ring made no sense (-EPROTO) or the doorbell failed, once, from within a turn. Nothing is fetched or published from then on; the owner calls
 * lun_stop(), and the worker should end with an error so that the device is reset.
 */
void lun_on_failure(struct lun *lun, void (*failed)(void *argument, int result), void *argument);
/* The answer to control.ask: query was filled in place; result 0 or -errno. */
void lun_query_done(struct lun *lun, struct scsi_query *query, int result);
/* The capacity that initiators see, in bytes: a multiple of the block size, at most the image's. */
void lun_set_capacity(struct lun *lun, uint64_t bytes);
void lun_get_statistics(const struct lun *lun, struct lun_statistics *ret);
