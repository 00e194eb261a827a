/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * TCM-User's mailbox (linux/target_core_user.h, version 2) over plain memory: no file descriptor, no loop, so that it can be tested and
 * fuzzed alone. One reader: the worker's thread. The kernel writes cmd_head and entries, we write cmd_tail and completions.
 *
 *   mailbox header | command ring (cmdr_off, cmdr_size) ....| data area
 *                    cmd_tail ............ fetch ......... cmd_head
 *                    completed             with us         not fetched
 *
 * Everything that the ring says is checked against the mapping before it is used: a hostile or damaged ring ends in -EPROTO, never in an access
 * outside. Commands are copied out when fetched (the kernel lets completions overwrite them).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* One struct a mapping. All members are the mailbox's own. */
struct mailbox {
	void *base; /* of the mapping */
	size_t length;
	uint32_t flags, ring_offset, ring_size; /* checked copies of the header's */
	uint32_t head;				/* cmd_head as it was last read */
	uint32_t fetch;				/* ring position of the next entry to fetch */
	uint32_t tail;				/* our cmd_tail, published by mailbox_publish() */
	uint32_t unpublished;			/* entries that tail has passed since then */
	uint32_t outstanding;			/* commands fetched and not completed */
	bool broken;				/* the ring made no sense: nothing more is fetched or published */
};

enum mailbox_entry_kind { MAILBOX_EMPTY, MAILBOX_COMMAND, MAILBOX_TMR, MAILBOX_UNPARSABLE };

#define MAILBOX_CDB_MAX 260

struct mailbox_entry {
	uint16_t id;	     /* cmd_id, to complete with */
	uint16_t cdb_length; /* what the operation code says, at most what the entry holds */
	uint32_t iov_count;
	uint8_t cdb[MAILBOX_CDB_MAX]; /* bytes from cdb_length on are undefined */
	/*
	 * TMR: the task management function (linux TCMU_TMR_*) and the ids of the commands that it aborts, read with mailbox_tmr_id() before
	 * the next mailbox_publish().
	 */
	uint8_t tmr_type;
	uint32_t tmr_count;
	const void *tmr_ids;
};

/*
 * -EPROTO: not a mailbox of version 2 with out-of-order completion that fits the mapping. base is aligned to a page. Starts at the ring's cmd_tail:
 * entries that nobody completed are seen (again). After a reader that died, the kernel has to be told to reset the ring first: completions
 * that were written and not published have overwritten entries.
 */
int mailbox_init(struct mailbox *mailbox, void *base, size_t length);

/* True when the kernel has put an entry that was not fetched: one acquire load. */
bool mailbox_pending(const struct mailbox *mailbox);

/*
 * Fetches the next entry into *ret and its data buffers, as addresses in the mapping, into iov (room for iov_capacity). MAILBOX_COMMAND and
 * MAILBOX_UNPARSABLE (a command whose CDB or buffers are not within bounds, or that has more buffers than iov has room for: answer it with sense)
 * have to be completed. MAILBOX_EMPTY: nothing is there. -EPROTO: the ring itself makes no sense; the device has to be reset.
 */
int mailbox_fetch(struct mailbox *mailbox, struct mailbox_entry *ret, struct iovec *iov, unsigned iov_capacity,
		  enum mailbox_entry_kind *ret_kind);
/* index is below tmr_count */
uint16_t mailbox_tmr_id(const struct mailbox_entry *entry, uint32_t index);

/*
 * Writes a completion, visible to the kernel after mailbox_publish(). sense: at most 96 bytes, NULL or length 0 for none. read_length: bytes of
 * data-in that are valid, used when has_read_length is set and the kernel knows TCMU_UFLAG_READ_LEN (the kernel takes 0 as "all").
 */
void mailbox_complete(struct mailbox *mailbox, uint16_t id, uint8_t status, const void *sense, size_t sense_length, bool has_read_length,
		      uint32_t read_length);
/* Moves cmd_tail past padding and what was completed, with release. True when the kernel has to be told with the doorbell. */
bool mailbox_publish(struct mailbox *mailbox);
