/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See standin.h; what is done here follows drivers/target/target_core_user.c of Linux 6.1 in behaviour. */
#include "standin/standin.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define __LINUX_UIO_H
#include <linux/target_core_user.h>

#include "base/byteorder.h"

#define RING_OFFSET 128u
#define ID_MAX 65535u
#define IDS 4096u

__attribute__((noreturn, format(printf, 1, 2))) static void broken(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	fputs("stand-in: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	abort();
}

static uint32_t *header_word(struct standin *standin, size_t offset)
{
	return (uint32_t *)(standin->base + offset);
}

static struct tcmu_cmd_entry *entry_at(struct standin *standin, uint32_t position)
{
	return (struct tcmu_cmd_entry *)(standin->base + RING_OFFSET + position);
}

static void set_head(struct standin *standin, uint32_t head)
{
	standin->head = head;
	__atomic_store_n(header_word(standin, offsetof(struct tcmu_mailbox, cmd_head)), head, __ATOMIC_RELEASE);
}

void standin_new(struct standin *standin, const struct standin_config *config)
{
	uint32_t ring_bytes = config->ring_bytes ? config->ring_bytes : 8u << 20;
	size_t data_bytes = config->data_bytes ? config->data_bytes : (size_t)64 << 20;
	*standin = (struct standin){
		.scattered = config->scattered,
		.quiet = config->quiet,
		.ring_size = ring_bytes - RING_OFFSET,
		.data_offset = ring_bytes,
		.length = ring_bytes + data_bytes,
		.block_count = (uint32_t)(data_bytes / STANDIN_BLOCK),
		.memory_fd = memfd_create("tcmu-stand-in", MFD_CLOEXEC),
		.kick_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
		.doorbell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
	};
	if (standin->memory_fd < 0 || standin->kick_fd < 0 || standin->doorbell_fd < 0 ||
	    ftruncate(standin->memory_fd, (off_t)standin->length) < 0)
		broken("no descriptors or memory: %s", strerror(errno));
	standin->base = mmap(NULL, standin->length, PROT_READ | PROT_WRITE, MAP_SHARED, standin->memory_fd, 0);
	uint32_t words = (standin->block_count + 63) / 64;
	standin->shadow = calloc(standin->ring_size / 8, sizeof(*standin->shadow));
	standin->commands = calloc(ID_MAX + 1, sizeof(*standin->commands));
	standin->free_ids = calloc(IDS, sizeof(*standin->free_ids));
	standin->free_blocks = calloc(words, sizeof(*standin->free_blocks));
	if (standin->base == MAP_FAILED || !standin->shadow || !standin->commands || !standin->free_ids || !standin->free_blocks)
		broken("no memory");
	for (uint32_t i = 0; i < standin->block_count; i++)
		standin->free_blocks[i / 64] |= 1ull << i % 64;
	for (unsigned id = IDS; id > 0; id--)
		standin->free_ids[standin->free_id_count++] = (uint16_t)id;
	*(struct tcmu_mailbox *)standin->base = (struct tcmu_mailbox){
		.version = TCMU_MAILBOX_VERSION,
		.flags = TCMU_MAILBOX_FLAG_CAP_OOOC | TCMU_MAILBOX_FLAG_CAP_READ_LEN | TCMU_MAILBOX_FLAG_CAP_TMR |
			 TCMU_MAILBOX_FLAG_CAP_KEEP_BUF,
		.cmdr_off = RING_OFFSET,
		.cmdr_size = standin->ring_size,
	};
}

void standin_free(struct standin *standin)
{
	munmap(standin->base, standin->length);
	close(standin->memory_fd);
	close(standin->kick_fd);
	close(standin->doorbell_fd);
	free(standin->shadow);
	free(standin->commands);
	free(standin->free_ids);
	free(standin->free_blocks);
}

/* ---- the data area ------------------------------------------------------------------------------------------------------------------- */

/* The lowest free blocks, as the kernel takes them; every second one when scattered. */
static bool take_blocks(struct standin *standin, struct standin_command *command)
{
	uint32_t wanted = (uint32_t)((command->length + STANDIN_BLOCK - 1) / STANDIN_BLOCK);
	uint32_t words = (standin->block_count + 63) / 64, taken = 0;
	uint64_t mask = standin->scattered ? 0x5555555555555555u : ~(uint64_t)0;
	command->blocks = command->few_blocks;
	command->block_count = 0;
	if (!wanted)
		return true;
	if (wanted > standin->block_count - standin->blocks_used)
		return false;
	if (wanted > sizeof(command->few_blocks) / sizeof(command->few_blocks[0]))
		command->blocks = malloc(wanted * sizeof(*command->blocks));
	for (uint32_t word = standin->first_word; word < words && taken < wanted; word++) {
		uint64_t bits;
		while (taken < wanted && (bits = standin->free_blocks[word] & mask)) {
			unsigned bit = (unsigned)__builtin_ctzll(bits);
			standin->free_blocks[word] &= ~(1ull << bit);
			command->blocks[taken++] = word * 64 + bit;
		}
		if (!standin->free_blocks[word] && word == standin->first_word)
			standin->first_word++;
	}
	command->block_count = taken;
	standin->blocks_used += taken;
	return taken == wanted;
}

static void give_blocks(struct standin *standin, struct standin_command *command)
{
	for (uint32_t i = 0; i < command->block_count; i++) {
		uint32_t word = command->blocks[i] / 64;
		standin->free_blocks[word] |= 1ull << command->blocks[i] % 64;
		if (word < standin->first_word)
			standin->first_word = word;
	}
	standin->blocks_used -= command->block_count;
	if (command->blocks != command->few_blocks)
		free(command->blocks);
	command->blocks = NULL;
	command->block_count = 0;
}

static void copy_data(struct standin *standin, struct standin_command *command, size_t length, bool in)
{
	for (uint32_t i = 0; i < command->block_count && length; i++) {
		size_t part = length < STANDIN_BLOCK ? length : STANDIN_BLOCK;
		char *block = standin->base + standin->data_offset + (size_t)command->blocks[i] * STANDIN_BLOCK;
		char *data = (char *)command->data + (size_t)i * STANDIN_BLOCK;
		memcpy(in ? data : block, in ? block : data, part);
		length -= part;
	}
}

/* Writes the iovecs, touching blocks joined. Counts them when entry is NULL. */
static unsigned put_iov(struct standin *standin, const struct standin_command *command, struct tcmu_cmd_entry *entry)
{
	unsigned count = 0;
	size_t left = command->length;
	struct iovec one = { 0 };
	for (uint32_t i = 0; i < command->block_count; i++) {
		size_t part = left < STANDIN_BLOCK ? left : STANDIN_BLOCK;
		left -= part;
		if (i && command->blocks[i] == command->blocks[i - 1] + 1) {
			one.iov_len += part;
		} else {
			count++;
			one.iov_base = (void *)(uintptr_t)(standin->data_offset + (size_t)command->blocks[i] * STANDIN_BLOCK);
			one.iov_len = part;
		}
		if (entry)
			memcpy((char *)entry->req.iov + (count - 1) * sizeof(one), &one, sizeof(one));
	}
	return count;
}

/* ---- the ring ------------------------------------------------------------------------------------------------------------------------ */

/* Makes room for an entry in one piece, with padding before it where it would wrap. */
static bool make_room(struct standin *standin, uint32_t length)
{
	uint32_t used = standin->head >= standin->cleaned ? standin->head - standin->cleaned
							  : standin->head + standin->ring_size - standin->cleaned;
	uint32_t to_end = standin->ring_size - standin->head;
	uint32_t wanted = to_end < length ? to_end + length : length;
	/* One entry's worth is kept free, so that full and empty differ. */
	if (wanted + 8 > standin->ring_size - used)
		return false;
	if (to_end < length) {
		struct tcmu_cmd_entry_hdr *pad = &entry_at(standin, standin->head)->hdr;
		pad->len_op = to_end | TCMU_OP_PAD;
		pad->cmd_id = 0;
		pad->kflags = pad->uflags = 0;
		standin->shadow[standin->head / 8] = pad->len_op;
		set_head(standin, 0);
	}
	return true;
}

static void put_entry(struct standin *standin, uint32_t len_op)
{
	uint32_t position = standin->head, length = tcmu_hdr_get_len(len_op);
	entry_at(standin, position)->hdr.len_op = len_op;
	standin->shadow[position / 8] = len_op;
	set_head(standin, (position + length) % standin->ring_size);
	if (!standin->quiet)
		standin_kick(standin);
}

int standin_submit(struct standin *standin, struct standin_command *command)
{
	if (!standin->free_id_count)
		return -EBUSY;
	if (!take_blocks(standin, command)) {
		give_blocks(standin, command);
		return -EBUSY;
	}
	unsigned count = put_iov(standin, command, NULL);
	uint32_t base = (uint32_t)(offsetof(struct tcmu_cmd_entry, req.iov) + count * sizeof(struct iovec));
	if (base < sizeof(struct tcmu_cmd_entry))
		base = sizeof(struct tcmu_cmd_entry);
	uint32_t length = (base + command->cdb_length + 7) & ~7u;
	if (!make_room(standin, length)) {
		give_blocks(standin, command);
		return -EBUSY;
	}
	struct tcmu_cmd_entry *entry = entry_at(standin, standin->head);
	memset(entry, 0, length);
	entry->hdr.cmd_id = command->id = standin->free_ids[--standin->free_id_count];
	entry->req.iov_cnt = count;
	entry->req.cdb_off = RING_OFFSET + standin->head + base;
	put_iov(standin, command, entry);
	memcpy((char *)entry + base, command->cdb, command->cdb_length);
	if (command->direction == STANDIN_OUT)
		copy_data(standin, command, command->length, false);
	command->in_flight = true;
	command->reset = false;
	standin->commands[command->id] = command;
	standin->in_flight++;
	put_entry(standin, length | TCMU_OP_CMD);
	return 0;
}

int standin_tmr(struct standin *standin, uint8_t type, const uint16_t *ids, unsigned count)
{
	uint32_t length = (uint32_t)(sizeof(struct tcmu_tmr_entry) + count * sizeof(*ids) + 7) & ~7u;
	if (!make_room(standin, length))
		return -EBUSY;
	struct tcmu_tmr_entry *entry = (struct tcmu_tmr_entry *)entry_at(standin, standin->head);
	memset(entry, 0, length);
	entry->tmr_type = type;
	entry->cmd_cnt = count;
	if (count)
		memcpy((char *)entry + sizeof(*entry), ids, count * sizeof(*ids));
	put_entry(standin, length | TCMU_OP_TMR);
	return 0;
}

void standin_kick(struct standin *standin)
{
	uint64_t one = 1;
	standin->kicks++;
	if (write(standin->kick_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		broken("cannot kick: %s", strerror(errno));
}

bool standin_wait(struct standin *standin, int timeout_ms)
{
	struct pollfd poll_fd = { .fd = standin->doorbell_fd, .events = POLLIN };
	return poll(&poll_fd, 1, timeout_ms) > 0;
}

static void forget(struct standin *standin, struct standin_command *command)
{
	standin->commands[command->id] = NULL;
	standin->free_ids[standin->free_id_count++] = command->id;
	standin->in_flight--;
	give_blocks(standin, command);
	command->in_flight = false;
}

static void complete(struct standin *standin, const struct tcmu_cmd_entry *entry)
{
	uint16_t id = entry->hdr.cmd_id;
	struct standin_command *command = standin->commands[id];
	if (!command)
		broken("cmd_id %u was completed and is not in flight", id);
	if (entry->hdr.uflags & ~TCMU_UFLAG_READ_LEN)
		broken("cmd_id %u was completed with flags %#x", id, entry->hdr.uflags);
	bool has_length = entry->hdr.uflags & TCMU_UFLAG_READ_LEN && entry->rsp.read_len && command->direction == STANDIN_IN;
	if (has_length && entry->rsp.read_len > command->length)
		broken("cmd_id %u: %u bytes of data-in where %zu fit", id, entry->rsp.read_len, command->length);
	command->status = entry->rsp.scsi_status;
	if (command->status)
		memcpy(command->sense, entry->rsp.sense_buffer, STANDIN_SENSE);
	bool has_data = command->direction == STANDIN_IN && (!command->status || has_length);
	command->data_in_length = !has_data ? 0 : has_length ? entry->rsp.read_len : command->length;
	if (has_data)
		copy_data(standin, command, command->data_in_length, true);
	forget(standin, command);
	standin->completed++;
	if (command->done)
		command->done(command);
}

unsigned standin_reap(struct standin *standin)
{
	uint64_t rung;
	if (read(standin->doorbell_fd, &rung, sizeof(rung)) == sizeof(rung))
		standin->doorbells += rung;
	uint32_t tail = __atomic_load_n(header_word(standin, offsetof(struct tcmu_mailbox, cmd_tail)), __ATOMIC_ACQUIRE);
	if (tail >= standin->ring_size || tail % 8)
		broken("cmd_tail is %u", tail);
	unsigned completed = 0;
	while (standin->cleaned != tail) {
		if (standin->cleaned == standin->head)
			broken("cmd_tail %u is beyond cmd_head %u", tail, standin->head);
		const struct tcmu_cmd_entry *entry = entry_at(standin, standin->cleaned);
		uint32_t len_op = standin->shadow[standin->cleaned / 8];
		if (entry->hdr.len_op != len_op)
			broken("the entry at %u was %#x and is %#x", standin->cleaned, len_op, entry->hdr.len_op);
		/* Before done(), which may submit. */
		standin->cleaned = (standin->cleaned + tcmu_hdr_get_len(len_op)) % standin->ring_size;
		if (tcmu_hdr_get_op(len_op) == TCMU_OP_CMD) {
			struct tcmu_cmd_entry copy;
			memcpy(&copy, entry, sizeof(copy));
			complete(standin, &copy);
			completed++;
		}
	}
	return completed;
}

void standin_reset(struct standin *standin)
{
	standin_reap(standin);
	standin->cleaned = standin->head = 0;
	*header_word(standin, offsetof(struct tcmu_mailbox, cmd_tail)) = 0;
	set_head(standin, 0);
	struct standin_command **ended = calloc(standin->in_flight + 1, sizeof(*ended));
	if (!ended)
		broken("no memory");
	unsigned count = 0;
	for (unsigned id = 0; standin->in_flight && id <= ID_MAX; id++) {
		struct standin_command *command = standin->commands[id];
		if (!command)
			continue;
		command->status = 0x08; /* BUSY */
		command->reset = true;
		command->data_in_length = 0;
		forget(standin, command);
		ended[count++] = command;
	}
	/* Only now: done() may submit. */
	for (unsigned i = 0; i < count; i++)
		if (ended[i]->done)
			ended[i]->done(ended[i]);
	free(ended);
}

/* ---- CDBs ---------------------------------------------------------------------------------------------------------------------------- */

static void cdb16(struct standin_command *command, uint8_t opcode, uint64_t lba, uint32_t blocks)
{
	memset(command->cdb, 0, 16);
	command->cdb[0] = opcode;
	put_be64(command->cdb + 2, lba);
	put_be32(command->cdb + 10, blocks);
	command->cdb_length = 16;
}

void standin_read16(struct standin_command *command, uint64_t lba, uint32_t blocks, uint32_t block_size, void *data)
{
	cdb16(command, 0x88, lba, blocks);
	command->direction = STANDIN_IN;
	command->data = data;
	command->length = (size_t)blocks * block_size;
}

void standin_write16(struct standin_command *command, uint64_t lba, uint32_t blocks, uint32_t block_size, void *data, bool fua)
{
	cdb16(command, 0x8a, lba, blocks);
	command->cdb[1] = fua ? 0x08 : 0;
	command->direction = STANDIN_OUT;
	command->data = data;
	command->length = (size_t)blocks * block_size;
}

void standin_flush(struct standin_command *command)
{
	memset(command->cdb, 0, 10);
	command->cdb[0] = 0x35;
	command->cdb_length = 10;
	command->direction = STANDIN_NONE;
	command->data = NULL;
	command->length = 0;
}
