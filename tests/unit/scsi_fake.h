/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The owner of a SCSI command, played against a disk in memory: it meets every need that the machine tells, injects errors, and aborts
 * where the machine breaks its promises (a request beyond the medium, an iov that is not the guest's or the scratch buffer's, a result that
 * does not fit). Used by the unit tests and by the fuzz target.
 */

#include "scsi/scsi.h"

#define FAKE_BLOCKS 4096
#define FAKE_PIECES 3

struct fake {
	struct scsi_device device;
	uint8_t *disk;	    /* FAKE_BLOCKS blocks of up to 4096 bytes */
	uint8_t *allocated; /* one byte a block */

	/* what the owner answers */
	struct scsi_identity identity;
	struct scsi_port_groups groups;
	int ask_result, scratch_result, lock_result, set_result;
	int fail_op; /* the operation that fails with fail_result after fail_after good ones; -1: none */
	unsigned fail_after;
	int fail_result;
	int (*result)(void *argument); /* for fuzzing: the result of the next need; NULL: as above */
	void *argument;
	void (*before)(struct fake *fake, struct lunkit_request *request); /* called before a request is done */

	/* what was asked for since fake_run() */
	unsigned ops[LUNKIT_OP_COUNT], op_flags[LUNKIT_OP_COUNT];
	enum lunkit_op order[64]; /* the first requests */
	unsigned order_count;
	unsigned locks, scratches, asks, steps;
	uint64_t lock_offset, lock_length;
	struct scsi_port_groups set;

	struct scsi_command command;
	struct lunkit_request request;
	uint8_t *scratch;
	uint8_t *pieces[FAKE_PIECES];
	size_t piece_length[FAKE_PIECES];
};

void fake_init(struct fake *fake, uint32_t block_size);
void fake_free(struct fake *fake);

/*
 * Runs a command to its end; data is the guest's buffer (data-in and data-out), cut into pieces of memory of their own. Returns the status.
 */
enum scsi_status fake_run(struct fake *fake, const void *cdb, unsigned cdb_length, void *data, size_t size);

/* Key, ASC and ASCQ of the sense in either format: 0x052400. 0 without sense. */
unsigned fake_sense(const struct fake *fake);
/* The information field; false when it is not valid. */
bool fake_information(const struct fake *fake, uint64_t *ret);
/* The sense-key-specific field: SKSV, C/D, byte pointer as 24 bits. */
unsigned fake_field(const struct fake *fake);

#define FAKE_CDB(...) (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })
