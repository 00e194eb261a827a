/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Giving back and filling space: UNMAP, WRITE SAME (10, 16) of SBC-3. Owner: the worker's thread.
 *
 *     UNMAP       header │ descriptor: LBA(8) blocks(4) reserved(4) │ …      all are checked, then one discard for each
 *     WRITE SAME  zeros (NDOB, or a block of zeros): one write_zeroes, which may give storage back when UNMAP is set
 *                 other patterns: scratch filled with the block → { write a chunk } …
 *
 * UNMAP's parameter list stays in the buffer: a descriptor is copied out and checked again where it is used. ANCHOR is refused: nothing here
 * can promise storage.
 */

#include "scsi/command.h"

#define UNMAP_HEADER 8
#define UNMAP_DESCRIPTOR 16

/* Copies descriptor number index out. False when its range is not on the medium. */
static bool descriptor_get(const struct scsi_command *command, unsigned index, uint64_t *ret_lba, uint32_t *ret_blocks)
{
	uint8_t raw[UNMAP_DESCRIPTOR];
	iov_copy_from(raw, command->iov, command->iov_count, UNMAP_HEADER + (size_t)index * UNMAP_DESCRIPTOR, sizeof(raw));
	uint64_t lba = get_be64(raw), size = command->device->blocks;
	uint32_t blocks = get_be32(raw + 8);
	if (!range_within(lba, blocks, size)) /* no blocks may start at the end */
		return false;
	*ret_lba = lba;
	*ret_blocks = blocks;
	return true;
}

static enum scsi_step unmap_next(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_DISCARD);
	while (command->index < command->count) {
		uint64_t lba;
		uint32_t blocks;
		if (!descriptor_get(command, command->index++, &lba, &blocks))
			return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LBA_OUT_OF_RANGE);
		if (blocks > command->remaining)
			return scsi_invalid_list(command, UNMAP_HEADER + (command->index - 1) * UNMAP_DESCRIPTOR + 8, -1);
		command->remaining -= blocks;
		if (blocks)
			return scsi_submit(command, LUNKIT_DISCARD, 0, scsi_bytes(command, lba), scsi_bytes(command, blocks), NULL, 0,
					   unmap_next);
	}
	return scsi_good(command);
}

enum scsi_step scsi_start_unmap(struct scsi_command *command)
{
	unsigned length = get_be16(command->cdb + 7);
	if (command->cdb[1] & 1)
		return scsi_invalid_cdb(command, 1, 0); /* ANCHOR */
	if (!length)
		return scsi_good(command);
	uint8_t header[UNMAP_HEADER];
	if (length < UNMAP_HEADER || command->data_length < length)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
	iov_copy_from(header, command->iov, command->iov_count, 0, sizeof(header));
	unsigned descriptors = get_be16(header + 2);
	if (get_be16(header) + 2u > length || descriptors > length - UNMAP_HEADER)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
	command->count = descriptors / UNMAP_DESCRIPTOR; /* an incomplete one is ignored (SBC-3 5.28) */
	if (command->count > scsi_limit_unmap_descriptors(command->device))
		return scsi_invalid_list(command, 2, -1);

	uint64_t total = 0, limit = scsi_limit_unmap_blocks(command->device);
	for (unsigned index = 0; index < command->count; index++) {
		uint64_t lba;
		uint32_t blocks;
		if (!descriptor_get(command, index, &lba, &blocks))
			return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LBA_OUT_OF_RANGE);
		total += blocks;
		if (total > limit)
			return scsi_invalid_list(command, UNMAP_HEADER + index * UNMAP_DESCRIPTOR + 8, -1);
	}
	command->index = 0;
	command->remaining = total;
	return unmap_next(command, 0);
}

/* ---- WRITE SAME ------------------------------------------------------------------------------------------------------------------------- */

#define SAME_UNMAP 0x08
#define SAME_ANCHOR 0x10
#define SAME_NDOB 0x01

static bool block_is_zero(const struct scsi_command *command)
{
	for (unsigned at = 0; at < command->iov_count; at++) {
		const uint8_t *bytes = command->iov[at].iov_base;
		size_t length = command->iov[at].iov_len;
		for (size_t byte = 0; byte < length; byte++)
			if (bytes[byte])
				return false;
	}
	return true;
}

static enum scsi_step same_chunk(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_WRITE);
	if (!command->remaining)
		return scsi_written(command, 0);
	uint64_t length = MIN(command->remaining, (uint64_t)SCSI_SCRATCH_SIZE), offset = command->position;
	command->position += length;
	command->remaining -= length;
	return scsi_submit_scratch(command, LUNKIT_WRITE, scsi_write_flags(command, false), offset, length, same_chunk);
}

static enum scsi_step same_scratch(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_WRITE);
	size_t block_size = command->device->block_size;
	size_t filled = block_size, want = (size_t)MIN(command->remaining, (uint64_t)SCSI_SCRATCH_SIZE);
	uint8_t *scratch = command->scratch;
	iov_copy_from(scratch, command->iov, command->iov_count, 0, block_size);
	while (filled < want) {
		size_t more = MIN(filled, want - filled);
		memcpy(scratch + filled, scratch, more);
		filled += more;
	}
	return same_chunk(command, 0);
}

/* The block that is written, checked. False when the command is done. */
static bool same_pattern(struct scsi_command *command, unsigned flags, bool *ret_zero, enum scsi_step *ret)
{
	uint32_t block_size = command->device->block_size;
	/* With UNMAP some initiators send no block at all: zeros are what it could only be. */
	if (flags & SAME_NDOB || (flags & SAME_UNMAP && !command->data_length)) {
		*ret_zero = true;
		return true;
	}
	if (command->data_length != block_size) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_INVALID_INFORMATION_UNIT);
		return false;
	}
	*ret_zero = block_is_zero(command);
	return true;
}

enum scsi_step scsi_start_write_same(struct scsi_command *command)
{
	const struct scsi_device *device = command->device;
	bool ten = command->cdb[0] == 0x41, zero;
	unsigned flags = command->cdb[1];
	enum scsi_step end;
	/* Obsolete PBDATA and LBDATA; in WRITE SAME(10), where NDOB is in the other, a reserved bit. */
	if (flags & 0x06)
		return scsi_invalid_cdb(command, 1, 2);
	if (ten && flags & SAME_NDOB)
		return scsi_invalid_cdb(command, 1, 0);
	if (flags & SAME_ANCHOR)
		return scsi_invalid_cdb(command, 1, 4);
	if (flags & SAME_UNMAP && !device->can_discard)
		return scsi_invalid_cdb(command, 1, 3);
	scsi_decode_range(command);
	if (!scsi_range_ok(command, &end))
		return end;
	uint64_t blocks = command->blocks ? command->blocks : device->blocks - command->lba; /* WSNZ is 0: 0 means up to the end */
	if (device->max_write_same_blocks && blocks > device->max_write_same_blocks)
		return scsi_invalid_cdb(command, ten ? 7 : 10, -1);
	if (!same_pattern(command, flags, &zero, &end))
		return end;

	command->position = scsi_bytes(command, command->lba);
	command->remaining = scsi_bytes(command, blocks);
	if (zero)
		return scsi_submit(command, LUNKIT_WRITE_ZEROES,
				   scsi_write_flags(command, false) | (flags & SAME_UNMAP ? LUNKIT_REQUEST_MAY_DISCARD : 0),
				   command->position, command->remaining, NULL, 0, scsi_written);
	command->next = same_scratch;
	return SCSI_SCRATCH;
}
