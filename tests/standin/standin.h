/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The kernel's side of TCM-User's mailbox in user space: shared memory laid out as target_core_user lays it out, entries, data area, doorbell.
 * For tests and benchmarks of what stands on the other side: a struct lun in this process, or a real worker.
 *
 * It also holds the other side to the rules: every command completes exactly once, cmd_tail moves over entries that were put, lengths and
 * operations of entries are not touched, a data-in length is not longer than the buffer. A rule that is broken ends the program with
 * a message. Owner: one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STANDIN_BLOCK 4096u
#define STANDIN_SENSE 96

struct standin_config {
	uint32_t ring_bytes; /* mailbox header and ring; a multiple of 4096; 0: 8 MiB, as the kernel's */
	size_t data_bytes;   /* 0: 64 MiB */
	bool scattered;	     /* no two blocks of a buffer touch, so that each is an iovec of its own */
	bool quiet;	     /* no kick with each command: the caller kicks once for many */
};

enum standin_direction { STANDIN_NONE, STANDIN_IN, STANDIN_OUT };

struct standin_command {
	/* the caller's, before standin_submit() */
	uint8_t cdb[260];
	unsigned cdb_length;
	enum standin_direction direction;
	void *data; /* the initiator's buffer: copied to the data area at submit (OUT), from it at completion (IN) */
	size_t length;
	void (*done)(struct standin_command *command);
	void *user;
	/* results */
	uint8_t status;
	uint8_t sense[STANDIN_SENSE];
	size_t data_in_length; /* IN: what was said to be valid, at most length */
	bool reset;	       /* ended by standin_reset(), never answered */
	/* the stand-in's */
	uint16_t id;
	bool in_flight;
	uint32_t block_count;
	uint32_t *blocks;
	uint32_t few_blocks[16];
};

struct standin {
	int memory_fd, kick_fd, doorbell_fd; /* for START_LUN, in this order; the last two are non-blocking eventfds, word 8 */
	char *base;
	size_t length;
	uint32_t ring_size, data_offset;
	bool scattered, quiet;
	/* the kernel's private state */
	uint32_t head, cleaned;
	uint32_t *shadow; /* len_op of each entry that is not cleaned yet, by position / 8 */
	struct standin_command **commands;
	uint16_t *free_ids;
	unsigned free_id_count, in_flight;
	uint64_t *free_blocks; /* bitmap */
	uint32_t block_count, blocks_used, first_word;
	uint64_t completed, kicks, doorbells;
};

/* Ends the program when the system has no memory or descriptors. standin_free() does not touch commands in flight. */
void standin_new(struct standin *standin, const struct standin_config *config);
void standin_free(struct standin *standin);

/* -EBUSY: no room in the ring, the data area or among the ids: reap first. */
int standin_submit(struct standin *standin, struct standin_command *command);
/* Wakes the other side; done by standin_submit() unless config.quiet. */
void standin_kick(struct standin *standin);
/* What the kernel does when the doorbell is written. Returns the number of commands that completed; their done() has been called. */
unsigned standin_reap(struct standin *standin);
/* Waits for the doorbell. False after timeout_ms. */
bool standin_wait(struct standin *standin, int timeout_ms);
/* Puts a TMR entry. -EBUSY as above. */
int standin_tmr(struct standin *standin, uint8_t type, const uint16_t *ids, unsigned count);
/* Writing 1 to the device's reset_ring: completions that were published count, all else ends with BUSY, the ring starts anew. */
void standin_reset(struct standin *standin);

/* Fill cdb, direction, data and length; block_size in bytes. READ(16), WRITE(16), SYNCHRONIZE CACHE(10), UNMAP is not among them: it has a list. */
void standin_read16(struct standin_command *command, uint64_t lba, uint32_t blocks, uint32_t block_size, void *data);
void standin_write16(struct standin_command *command, uint64_t lba, uint32_t blocks, uint32_t block_size, void *data, bool fua);
void standin_flush(struct standin_command *command);
