/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A SCSI direct-access device (SPC-4, SBC-3): bytes in, image requests out. This layer has no file descriptor, no clock, no allocation and no
 * loop: a command is a small machine that says in each step what it needs, and its owner (the LUN) does that and steps it on with the
 * result. So all of it can be tested and fuzzed alone. Owner: the worker's thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "image/handler.h"

#define SCSI_SENSE_SIZE 96 /* room in TCMU's response; the longest sense made here takes 28 */
#define SCSI_CDB_MAX 260

/* Status bytes (SAM-5 5.3.1) */
enum scsi_status {
	SCSI_GOOD = 0x00,
	SCSI_CHECK_CONDITION = 0x02,
	SCSI_BUSY = 0x08,
	SCSI_RESERVATION_CONFLICT = 0x18,
	SCSI_TASK_SET_FULL = 0x28,
	SCSI_TASK_ABORTED = 0x40,
};

#define SCSI_SERIAL_MAX 127
#define SCSI_PORT_GROUPS_MAX 16
#define SCSI_PORTS_MAX 32

/* Who the device is, as the kernel target's configuration says. Asked for when a command needs it, since it may change there at any time. */
struct scsi_identity {
	char serial[SCSI_SERIAL_MAX + 1]; /* unit serial number, printable */
	char vendor[9], product[17], revision[5];
};

/* Asymmetric access states (SPC-4 table 253) as configfs numbers them. */
struct scsi_port_group {
	uint16_t id;
	uint8_t access_state, access_status;
	uint8_t access_type; /* 0 none, 1 implicit, 2 explicit, 3 both */
	bool preferred;
	uint8_t supported_states; /* byte 1 of the descriptor: T_SUP … AO_SUP */
	uint16_t port_count;
	uint16_t ports[SCSI_PORTS_MAX]; /* relative target port identifiers */
};
struct scsi_port_groups {
	unsigned count, transition_seconds;
	struct scsi_port_group groups[SCSI_PORT_GROUPS_MAX];
};

/* A question to the control process; the answer is written here before the command is stepped on. */
enum scsi_question { SCSI_ASK_IDENTITY, SCSI_ASK_PORT_GROUPS, SCSI_ASK_SET_PORT_GROUPS };
struct scsi_query {
	enum scsi_question question;
	union {
		struct scsi_identity identity;
		struct scsi_port_groups port_groups; /* SET: the groups and states that are wanted, in id and access_state */
	};
};

/* The device: one for each LUN. */
struct scsi_device {
	struct scsi_identity identity; /* the last known */
	uint32_t block_size;	       /* bytes, 512 or 4096 */
	uint64_t blocks;
	unsigned physical_block_exponent; /* 2^n logical blocks a physical block */
	bool read_only, rotational, can_discard, discard_zeroes;
	bool write_cache_default; /* the image's: completed writes may be volatile */
	bool write_cache;	  /* WCE in the caching mode page, changed by MODE SELECT; when clear every write is FUA */
	bool write_cache_reset;	  /* what a reset puts it back to: as the LUN is configured (state, filled from write_cache) */
	uint32_t max_transfer_blocks, optimal_transfer_blocks; /* 0: not reported */
	uint32_t max_unmap_blocks, max_unmap_descriptors, unmap_granularity_blocks;
	uint64_t max_write_same_blocks;
	/* state */
	unsigned unit_attentions;    /* SCSI_UA_* that wait for the next command */
	bool descriptor_sense;	     /* D_SENSE in the control mode page */
	bool software_write_protect; /* SWP there */
	bool stopped;		     /* START STOP UNIT */
	/* of the last EXTENDED COPY that started to copy, for RECEIVE COPY RESULTS */
	bool copy_known;
	uint8_t copy_list_id;
	uint8_t copy_status;	   /* COPY MANAGER STATUS: 0 in progress, 1 done, 2 done with errors */
	uint16_t copy_segments;	   /* processed */
	uint64_t copy_transferred; /* bytes */
	uint8_t copy_sense[18];	   /* fixed format, while copy_sense_length is not 0 */
	uint8_t copy_sense_length;
};

#define SCSI_UA_CAPACITY_CHANGED 1u /* 06/2A/09 */
#define SCSI_UA_MODE_CHANGED 2u	    /* 06/2A/01 */
#define SCSI_UA_RESET 4u	    /* 06/29/00 */

/*
 * Fills the state part and checks nothing; the caller fills the rest (write_cache too) from the image's limits. What is 0 there means
 * "no limit"; READ CAPACITY and the block limits page say what is enforced.
 */
void scsi_device_init(struct scsi_device *device);

/*
 * What initiators have set by MODE SELECT, as one word for whoever starts the next device in this one's place. 0: nothing is known. The word also says how the write
 * cache was configured then, so that a configuration that has changed since wins over what an initiator set before.
 */
#define SCSI_MODES_KNOWN 1u
#define SCSI_MODES_WRITE_CACHE 2u
#define SCSI_MODES_WRITE_CACHE_RESET 4u
#define SCSI_MODES_DESCRIPTOR_SENSE 8u
#define SCSI_MODES_WRITE_PROTECT 16u
unsigned scsi_device_modes(const struct scsi_device *device);
/* After scsi_device_init(): takes another device's over. A unit attention says so where an initiator will not find what it left. */
void scsi_device_take_modes(struct scsi_device *device, unsigned modes);

/* The new capacity and a unit attention for it; nothing when it is unchanged. */
void scsi_device_resize(struct scsi_device *device, uint64_t blocks);

enum scsi_step {
	SCSI_DONE,   /* status, sense, and data_in_length are final. The owner gives back scratch and lock. */
	SCSI_SUBMIT, /* submit command->request to the image; step on with its result */
	SCSI_LOCK,   /* get the range lock_offset, lock_length (bytes) exclusively, for the rest of the command; step on with 0 */
	SCSI_SCRATCH, /* set scratch to a page-aligned buffer of SCSI_SCRATCH_SIZE bytes that no other command uses; step on with 0 or -ENOMEM */
	SCSI_ASK, /* get query answered; step on with 0 or -errno */
};

#define SCSI_SCRATCH_SIZE (256u * 1024u)
#define SCSI_EXTENTS_MAX 64
#define SCSI_COPY_SEGMENTS_MAX 8

/* One segment of EXTENDED COPY, in blocks of this device. */
struct scsi_copy_segment {
	uint64_t source, destination;
	uint32_t blocks;
};

struct scsi_command {
	/* set by the owner before scsi_command_start() */
	uint8_t cdb[SCSI_CDB_MAX]; /* copied: the initiator's memory may change */
	unsigned cdb_length;	   /* bytes that are valid in cdb */
	struct iovec *iov;	   /* data-in or data-out buffer; the command may change both the entries and these two members */
	unsigned iov_count;
	struct lunkit_request *request; /* where the command builds its image requests */

	/* results */
	enum scsi_status status;
	uint8_t sense[SCSI_SENSE_SIZE];
	unsigned sense_length;
	uint64_t data_in_length; /* bytes that were written to iov for a data-in command; the rest is the residual */

	/* what a step asks for */
	uint64_t lock_offset, lock_length;
	void *scratch;
	struct scsi_query query;

	/* the machine's own */
	struct scsi_device *device;
	enum scsi_step (*next)(struct scsi_command *command, int result);
	uint64_t lba, position, remaining; /* lba in blocks; position and remaining in bytes unless the command's code says otherwise */
	uint64_t data_length;		   /* of the whole iov */
	uint32_t blocks, index, count;
	unsigned fields;     /* bits that the command's code names */
	bool wrote_volatile; /* a write of its went out that need not be durable when it completes */
	struct iovec scratch_iov[1];
	union { /* big, and touched by the commands that need it only */
		struct lunkit_extent extents[SCSI_EXTENTS_MAX];
		struct scsi_copy_segment segments[SCSI_COPY_SEGMENTS_MAX];
	};
};

/* Starts a command and runs it up to its first need. Never fails: what can't be parsed is done with sense. */
enum scsi_step scsi_command_start(struct scsi_device *device, struct scsi_command *command);
/* Of a command that ended with CHECK CONDITION: nothing is wrong with the disk. It was asked for what it does not have, told news, or compared unequal. */
bool scsi_is_refusal(const struct scsi_command *command);
/* Goes on after a need was met. result: 0 or -errno. */
enum scsi_step scsi_command_step(struct scsi_command *command, int result);

/* Ends a command from outside its machine: BUSY or TASK ABORTED without sense, CHECK CONDITION with the given key and code (0x2400 is 24/00). */
void scsi_command_fail(struct scsi_command *command, enum scsi_status status, uint8_t key, uint16_t code);

/* "READ(10)" for logs. Never NULL. */
const char *scsi_opcode_name(const uint8_t *cdb, unsigned cdb_length);
