/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Any bytes as the shared memory: header, ring and data area. What is fetched is completed after a delay that the input decides, every buffer that
 * the mailbox hands out is touched at both ends, and every second entry is overwritten between fetch and completion.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tcmu/mailbox.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY_MAX (1u << 16)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > MEMORY_MAX)
		return 0;
	uint8_t behaviour = data[size - 1];
	/* Exactly as long as the mapping is said to be: an access beyond is seen. */
	void *memory;
	if (posix_memalign(&memory, 64, size))
		return 0;
	char *base = memory;
	memcpy(base, data, size);
	struct mailbox mailbox;
	if (mailbox_init(&mailbox, base, size)) {
		free(base);
		return 0;
	}
	struct iovec iov[32];
	uint16_t held[8];
	unsigned holding = 0;
	static struct mailbox_entry entry;
	for (unsigned turn = 0; turn < 4096; turn++) {
		enum mailbox_entry_kind kind;
		if (mailbox_fetch(&mailbox, &entry, iov, 32, &kind) || kind == MAILBOX_EMPTY)
			break;
		switch (kind) {
		case MAILBOX_EMPTY:
			break;
		case MAILBOX_TMR:
			for (uint32_t i = 0; i < entry.tmr_count; i++)
				behaviour ^= (uint8_t)mailbox_tmr_id(&entry, i);
			break;
		case MAILBOX_COMMAND:
			if (entry.cdb_length > sizeof(entry.cdb) || entry.iov_count > 32)
				abort();
			for (unsigned i = 0; i < entry.iov_count; i++) {
				char *buffer = iov[i].iov_base;
				if (buffer < base + mailbox.ring_offset + mailbox.ring_size || buffer + iov[i].iov_len > base + size)
					abort();
				buffer[0] ^= 1;
				buffer[iov[i].iov_len - 1] ^= 1;
			}
			/* fall through */
		case MAILBOX_UNPARSABLE:
			held[holding++] = entry.id;
			break;
		}
		if (behaviour & 1 && turn % 2)
			base[mailbox.ring_offset + mailbox.tail] ^= (char)behaviour;
		while (holding && (holding == 8 || behaviour >> (holding - 1) & 1)) {
			uint16_t id = held[--holding];
			mailbox_complete(&mailbox, id, behaviour & 2, &entry, behaviour, behaviour & 4, turn);
		}
		mailbox_publish(&mailbox);
		if (mailbox.tail >= mailbox.ring_size || mailbox.fetch >= mailbox.ring_size)
			abort();
	}
	free(base);
	return 0;
}
