/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The mailbox. Owner: the worker's thread.
 *
 * What the kernel does (drivers/target/target_core_user.c): it writes an entry at cmd_head, then moves cmd_head. An entry never wraps: where it
 * does not fit before the ring's end, a PAD entry fills the rest. On a doorbell it walks from the last position that it has cleaned to
 * cmd_tail, skips PAD and TMR entries, and for each command entry takes the command by the cmd_id that stands there now, not the one
 * that it wrote. So completions go into command entries in ring order, whichever commands they are for:
 *
 *     tail                               fetch            head
 *     | CMD 7 | PAD | CMD 8 | TMR | CMD 9 | CMD 10 | …     |        fetched: 7 8 9, outstanding: 3
 *     complete(9) makes the first entry "9, GOOD" and tail moves behind it; 7 and 8 were copied out when they were fetched.
 *
 * Invariants
 * - Between tail and fetch there are exactly `outstanding` command entries, so there is always one to complete into.
 * - tail never passes fetch, fetch never passes head; all are multiples of 8 below ring_size.
 * - Lengths are read again when tail moves over an entry and checked again: the memory is shared. A ring that changed ends in `broken`.
 *
 * Left out on purpose: rings without out-of-order completion (no kernel since 4.14 has them), KEEP_BUF (a command's buffers are done with when
 * it is completed), bidirectional and protection buffers (no supported command has them; they are counted and skipped).
 */
#include "tcmu/mailbox.h"

#include <errno.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"

/* <linux/target_core_user.h> wants <linux/uio.h>, whose struct iovec clashes with that of <sys/uio.h>; they are the same. */
#define __LINUX_UIO_H
#include <linux/target_core_user.h>

/* A command's entry has to hold a response, which is larger than a request with one buffer. */
#define COMMAND_ENTRY_MIN sizeof(struct tcmu_cmd_entry)
#define IOV_OFFSET offsetof(struct tcmu_cmd_entry, req.iov)

_Static_assert(sizeof(struct tcmu_cmd_entry_hdr) == 8 && COMMAND_ENTRY_MIN == 112 && IOV_OFFSET == 48, "as the kernel lays entries out");
_Static_assert(sizeof(struct iovec) == 16, "the kernel's iovec is ours");

static uint32_t *header_word(const struct mailbox *mailbox, size_t offset)
{
	return (uint32_t *)((char *)mailbox->base + offset);
}

static struct tcmu_cmd_entry *entry_at(const struct mailbox *mailbox, uint32_t position)
{
	return (struct tcmu_cmd_entry *)((char *)mailbox->base + mailbox->ring_offset + position);
}

static uint32_t advance(const struct mailbox *mailbox, uint32_t position, uint32_t length)
{
	position += length;
	return position == mailbox->ring_size ? 0 : position;
}

/* Reads the header at position, which is not end. False when it does not fit what lies between position and end. */
static bool entry_header(const struct mailbox *mailbox, uint32_t position, uint32_t end, enum tcmu_opcode *ret_op, uint32_t *ret_length)
{
	uint32_t len_op = __atomic_load_n((uint32_t *)entry_at(mailbox, position), __ATOMIC_RELAXED);
	uint32_t length = tcmu_hdr_get_len(len_op);
	uint32_t room = end > position ? end - position : mailbox->ring_size - position;
	if (!length || length > room)
		return false;
	*ret_op = tcmu_hdr_get_op(len_op);
	*ret_length = length;
	return true;
}

int mailbox_init(struct mailbox *mailbox, void *base, size_t length)
{
	const struct tcmu_mailbox *header = base;
	if (length < sizeof(*header) || !is_aligned((uintptr_t)base, ALIGN_SIZE))
		return -EPROTO;
	struct mailbox made = {
		.base = base,
		.length = length,
		.flags = header->flags,
		.ring_offset = header->cmdr_off,
		.ring_size = header->cmdr_size,
		.tail = header->cmd_tail,
	};
	if (header->version != TCMU_MAILBOX_VERSION || !(made.flags & TCMU_MAILBOX_FLAG_CAP_OOOC) || made.ring_offset < sizeof(*header) ||
	    !is_aligned(made.ring_offset, 8) || made.ring_size < COMMAND_ENTRY_MIN || !is_aligned(made.ring_size, 8) ||
	    !range_within(made.ring_offset, made.ring_size, length) || made.tail >= made.ring_size || !is_aligned(made.tail, 8))
		return -EPROTO;
	made.head = made.fetch = made.tail;
	*mailbox = made;
	return 0;
}

bool mailbox_pending(const struct mailbox *mailbox)
{
	return mailbox->fetch != mailbox->head ||
	       mailbox->fetch != __atomic_load_n(header_word(mailbox, offsetof(struct tcmu_mailbox, cmd_head)), __ATOMIC_ACQUIRE);
}

/* SPC-4 4.2.5.1: the group code gives the length; 7Fh says its own. */
static size_t cdb_length(const uint8_t *cdb, size_t room)
{
	static const uint8_t lengths[8] = { 6, 10, 10, 12, 16, 12, 10, 10 };
	size_t length = lengths[cdb[0] >> 5];
	if (cdb[0] == 0x7f && room >= 8)
		length = 8u + cdb[7];
	return MIN(MIN(length, room), (size_t)MAILBOX_CDB_MAX);
}

/* False when the CDB or a buffer is out of bounds. *ret has its id already. */
static bool parse_command(const struct mailbox *mailbox, const struct tcmu_cmd_entry *entry, uint32_t position, uint32_t length,
			  struct mailbox_entry *ret, struct iovec *iov, unsigned iov_capacity)
{
	uint32_t count = entry->req.iov_cnt;
	uint64_t buffers = (uint64_t)count + entry->req.iov_bidi_cnt + entry->req.iov_dif_cnt;
	if (count > iov_capacity || buffers > (length - IOV_OFFSET) / sizeof(struct iovec))
		return false;

	/* The kernel puts the CDB behind the buffers, inside the entry. */
	uint64_t cdb_offset = entry->req.cdb_off, start = (uint64_t)mailbox->ring_offset + position;
	if (cdb_offset < start + IOV_OFFSET + buffers * sizeof(struct iovec) || cdb_offset >= start + length)
		return false;
	const uint8_t *cdb = (const uint8_t *)mailbox->base + cdb_offset;
	size_t room = MIN(start + length - cdb_offset, (uint64_t)MAILBOX_CDB_MAX);
	/* Decided on the copy: what is shared may change. */
	memcpy(ret->cdb, cdb, MIN(room, 16u));
	size_t wanted = cdb_length(ret->cdb, room);
	if (wanted > 16)
		memcpy(ret->cdb + 16, cdb + 16, wanted - 16);

	uint64_t data_offset = (uint64_t)mailbox->ring_offset + mailbox->ring_size;
	const char *from = (const char *)entry + IOV_OFFSET;
	unsigned used = 0;
	for (uint32_t i = 0; i < count; i++, from += sizeof(struct iovec)) {
		struct iovec one;
		memcpy(&one, from, sizeof(one));
		uint64_t offset = (uintptr_t)one.iov_base;
		if (offset < data_offset || !range_within(offset, one.iov_len, mailbox->length))
			return false;
		if (!one.iov_len)
			continue;
		iov[used].iov_base = (char *)mailbox->base + offset;
		iov[used++].iov_len = one.iov_len;
	}
	ret->cdb_length = (uint16_t)wanted;
	ret->iov_count = used;
	return true;
}

static int broken(struct mailbox *mailbox)
{
	mailbox->broken = true;
	return -EPROTO;
}

int mailbox_fetch(struct mailbox *mailbox, struct mailbox_entry *ret, struct iovec *iov, unsigned iov_capacity,
		  enum mailbox_entry_kind *ret_kind)
{
	if (mailbox->broken)
		return -EPROTO;
	for (;;) {
		if (mailbox->fetch == mailbox->head) {
			/* Pairs with the kernel's update of cmd_head after the entry. */
			uint32_t head = __atomic_load_n(header_word(mailbox, offsetof(struct tcmu_mailbox, cmd_head)), __ATOMIC_ACQUIRE);
			if (head == mailbox->fetch) {
				*ret_kind = MAILBOX_EMPTY;
				return 0;
			}
			/* A head inside what was not completed yet would let fetch overtake tail. */
			uint32_t used = mailbox->fetch >= mailbox->tail ? mailbox->fetch - mailbox->tail
									: mailbox->fetch + mailbox->ring_size - mailbox->tail;
			uint32_t left = head >= mailbox->fetch ? head - mailbox->fetch : head + mailbox->ring_size - mailbox->fetch;
			if (head >= mailbox->ring_size || !is_aligned(head, 8) || left >= mailbox->ring_size - used)
				return broken(mailbox);
			mailbox->head = head;
		}

		uint32_t position = mailbox->fetch, length;
		enum tcmu_opcode op;
		if (!entry_header(mailbox, position, mailbox->head, &op, &length))
			return broken(mailbox);
		const struct tcmu_cmd_entry *entry = entry_at(mailbox, position);
		switch ((uint32_t)op) {
		case TCMU_OP_PAD:
			mailbox->fetch = advance(mailbox, position, length);
			continue;
		case TCMU_OP_CMD: {
			if (length < COMMAND_ENTRY_MIN)
				return broken(mailbox); /* no room to answer */
			ret->id = entry->hdr.cmd_id;
			bool good = parse_command(mailbox, entry, position, length, ret, iov, iov_capacity);
			mailbox->fetch = advance(mailbox, position, length);
			mailbox->outstanding++;
			/* Entries lie one behind the other, in memory that another processor has just written. */
			__builtin_prefetch(entry_at(mailbox, mailbox->fetch));
			*ret_kind = good ? MAILBOX_COMMAND : MAILBOX_UNPARSABLE;
			return 0;
		}
		case TCMU_OP_TMR: {
			const struct tcmu_tmr_entry *tmr = (const void *)entry;
			if (length < sizeof(*tmr))
				return broken(mailbox);
			uint32_t count = tmr->cmd_cnt;
			if (count > (length - sizeof(*tmr)) / sizeof(uint16_t))
				return broken(mailbox);
			ret->tmr_type = tmr->tmr_type;
			ret->tmr_count = count;
			ret->tmr_ids = (const char *)tmr + sizeof(*tmr);
			mailbox->fetch = advance(mailbox, position, length);
			*ret_kind = MAILBOX_TMR;
			return 0;
		}
		default:
			return broken(mailbox); /* it can't be known whether an answer is awaited */
		}
	}
}

uint16_t mailbox_tmr_id(const struct mailbox_entry *entry, uint32_t index)
{
	uint16_t id;
	memcpy(&id, (const char *)entry->tmr_ids + index * sizeof(id), sizeof(id));
	return id;
}

/*
 * Moves tail over entries that need no answer. *ret_length is that of the command entry where it stops, 0 when there is none. False when the
 * ring has changed under us.
 */
static bool skip_unanswered(struct mailbox *mailbox, uint32_t *ret_length)
{
	while (mailbox->tail != mailbox->fetch) {
		uint32_t length;
		enum tcmu_opcode op;
		if (!entry_header(mailbox, mailbox->tail, mailbox->fetch, &op, &length))
			return false;
		if (op == TCMU_OP_CMD) {
			*ret_length = length;
			return length >= COMMAND_ENTRY_MIN;
		}
		mailbox->tail = advance(mailbox, mailbox->tail, length);
		mailbox->unpublished++;
	}
	*ret_length = 0;
	return true;
}

void mailbox_complete(struct mailbox *mailbox, uint16_t id, uint8_t status, const void *sense, size_t sense_length, bool has_read_length,
		      uint32_t read_length)
{
	uint32_t length;
	if (mailbox->broken)
		return;
	if (!mailbox->outstanding || !skip_unanswered(mailbox, &length) || !length) {
		mailbox->broken = true;
		return;
	}
	struct tcmu_cmd_entry *entry = entry_at(mailbox, mailbox->tail);
	entry->hdr.cmd_id = id;
	entry->hdr.uflags = 0;
	entry->rsp.scsi_status = status;
	entry->rsp.read_len = 0;
	if (has_read_length && mailbox->flags & TCMU_MAILBOX_FLAG_CAP_READ_LEN) {
		entry->hdr.uflags = TCMU_UFLAG_READ_LEN;
		entry->rsp.read_len = read_length;
	}
	/* The kernel looks at sense for CHECK CONDITION only. */
	if (status) {
		size_t used = sense ? MIN(sense_length, sizeof(entry->rsp.sense_buffer)) : 0;
		if (used)
			memcpy(entry->rsp.sense_buffer, sense, used);
		memset(entry->rsp.sense_buffer + used, 0, sizeof(entry->rsp.sense_buffer) - used);
	}
	mailbox->tail = advance(mailbox, mailbox->tail, length);
	mailbox->unpublished++;
	mailbox->outstanding--;
}

bool mailbox_publish(struct mailbox *mailbox)
{
	uint32_t length;
	if (mailbox->broken)
		return false;
	if (!skip_unanswered(mailbox, &length)) {
		mailbox->broken = true;
		return false;
	}
	if (!mailbox->unpublished)
		return false;
	mailbox->unpublished = 0;
	/* Pairs with the kernel's read of cmd_tail before it reads responses. */
	__atomic_store_n(header_word(mailbox, offsetof(struct tcmu_mailbox, cmd_tail)), mailbox->tail, __ATOMIC_RELEASE);
	return true;
}
