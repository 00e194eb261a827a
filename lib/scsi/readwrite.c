/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * READ and WRITE (6, 10, 12, 16), WRITE AND VERIFY and VERIFY (10, 12, 16) of SBC-3. Owner: the worker's thread.
 *
 *     READ               [flush, when FUA asks for the medium and writes may be volatile] → read into the guest's buffer
 *     WRITE              write from the guest's buffer
 *     WRITE AND VERIFY   write, durable → as VERIFY
 *     VERIFY             scratch → { read a chunk into scratch → compare } …   (BYTCHK 0 compares nothing: the medium could be read)
 *
 * Data shorter than the CDB says: a READ fills what there is; a WRITE writes nothing and says so (INVALID FIELD IN COMMAND INFORMATION UNIT),
 * since TCM-User has no way to report a residual overflow and GOOD would be a lie. Data beyond what the CDB says is not looked at.
 * Left out on purpose: protection information; DPO and GROUP NUMBER are hints that are accepted and ignored.
 */

#include "scsi/command.h"

enum { VERIFY_NOTHING, VERIFY_BUFFER, VERIFY_ONE_BLOCK }; /* command->fields */

/* Range and length. True when there is work; else *ret is the command's end. */
static bool transfer_check(struct scsi_command *command, enum scsi_step *ret)
{
	scsi_decode_range(command);
	if (!scsi_range_ok(command, ret))
		return false;
	uint32_t limit = command->device->max_transfer_blocks;
	if (limit && command->blocks > limit) {
		static const uint8_t length_byte[] = { 4, 7, 7, 7, 10, 6, 6, 6 };
		*ret = scsi_invalid_cdb(command, length_byte[command->cdb[0] >> 5], -1);
		return false;
	}
	if (!command->blocks) {
		*ret = scsi_good(command);
		return false;
	}
	return true;
}

static bool has_fua(const struct scsi_command *command)
{
	return command->cdb[0] >> 5 && command->cdb[1] & 0x08; /* the 6-byte CDBs have none */
}

static enum scsi_step read_done(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	command->data_in_length = command->data_length;
	return scsi_good(command);
}

static enum scsi_step read_submit(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_FLUSH);
	return scsi_submit(command, LUNKIT_READ, 0, scsi_bytes(command, command->lba), command->data_length, command->iov,
			   command->iov_count, read_done);
}

enum scsi_step scsi_start_read(struct scsi_command *command)
{
	enum scsi_step end;
	if (!transfer_check(command, &end))
		return end;
	uint64_t length = scsi_bytes(command, command->blocks);
	if (command->data_length > length)
		scsi_data_cut(command, 0, length);
	if (!command->data_length)
		return scsi_good(command);
	if (has_fua(command) && command->device->write_cache_default)
		return scsi_flush(command, read_submit);
	return read_submit(command, 0);
}

/* The buffer becomes exactly as long as the CDB says. */
static bool data_out_check(struct scsi_command *command, uint64_t length, enum scsi_step *ret)
{
	if (command->data_length < length) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_INVALID_INFORMATION_UNIT);
		return false;
	}
	if (command->data_length > length)
		scsi_data_cut(command, 0, length);
	return true;
}

enum scsi_step scsi_start_write(struct scsi_command *command)
{
	enum scsi_step end;
	if (!transfer_check(command, &end) || !data_out_check(command, scsi_bytes(command, command->blocks), &end))
		return end;
	return scsi_submit(command, LUNKIT_WRITE, scsi_write_flags(command, has_fua(command)), scsi_bytes(command, command->lba),
			   command->data_length, command->iov, command->iov_count, scsi_written);
}

/* ---- VERIFY -------------------------------------------------------------------------------------------------------------------------------- */

static enum scsi_step verify_chunk(struct scsi_command *command);

/* Compares a chunk in scratch. False with the mismatch's offset in the data-out buffer. */
static bool verify_compare(const struct scsi_command *command, uint64_t length, uint64_t *ret_offset)
{
	size_t mismatch;
	const uint8_t *scratch = command->scratch;
	switch (command->fields) {
	case VERIFY_BUFFER:
		if (iov_equal(command->iov, command->iov_count, (size_t)command->position, scratch, (size_t)length, &mismatch))
			return true;
		*ret_offset = command->position + mismatch;
		return false;
	case VERIFY_ONE_BLOCK:
		for (uint64_t at = 0; at < length; at += command->device->block_size)
			if (!iov_equal(command->iov, command->iov_count, 0, scratch + at, command->device->block_size, &mismatch)) {
				*ret_offset = mismatch;
				return false;
			}
		return true;
	default:
		return true;
	}
}

static enum scsi_step verify_chunk_done(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	uint64_t offset, length = command->request->length;
	if (!verify_compare(command, length, &offset))
		return scsi_check_information(command, SENSE_MISCOMPARE, CODE_MISCOMPARE, offset);
	command->position += length;
	command->remaining -= length;
	return verify_chunk(command);
}

static enum scsi_step verify_chunk(struct scsi_command *command)
{
	if (!command->remaining)
		return scsi_good(command);
	return scsi_submit_scratch(command, LUNKIT_READ, 0, scsi_bytes(command, command->lba) + command->position,
				   MIN(command->remaining, (uint64_t)SCSI_SCRATCH_SIZE), verify_chunk_done);
}

static enum scsi_step verify_scratch(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	return verify_chunk(command);
}

static enum scsi_step verify_start(struct scsi_command *command)
{
	command->position = 0;
	command->remaining = scsi_bytes(command, command->blocks);
	command->next = verify_scratch;
	return SCSI_SCRATCH;
}

enum scsi_step scsi_start_verify(struct scsi_command *command)
{
	enum scsi_step end;
	scsi_decode_range(command);
	if (!scsi_range_ok(command, &end))
		return end;
	switch (command->cdb[1] >> 1 & 3) {
	case 0:
		/* No data is transferred, so the transfer limits do not apply; the medium is read as a disk would read it. */
		if (!command->blocks)
			return scsi_good(command);
		command->fields = VERIFY_NOTHING;
		return verify_start(command);
	case 1:
		if (!transfer_check(command, &end) || !data_out_check(command, scsi_bytes(command, command->blocks), &end))
			return end;
		command->fields = VERIFY_BUFFER;
		return verify_start(command);
	case 3:
		if (!command->blocks)
			return scsi_good(command);
		if (!data_out_check(command, command->device->block_size, &end))
			return end;
		command->fields = VERIFY_ONE_BLOCK;
		return verify_start(command);
	default:
		return scsi_invalid_cdb(command, 1, 2);
	}
}

static enum scsi_step write_verify_written(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_WRITE);
	return verify_start(command);
}

enum scsi_step scsi_start_write_verify(struct scsi_command *command)
{
	enum scsi_step end;
	unsigned check = command->cdb[1] >> 1 & 3;
	if (check > 1)
		return scsi_invalid_cdb(command, 1, 2);
	if (!transfer_check(command, &end) || !data_out_check(command, scsi_bytes(command, command->blocks), &end))
		return end;
	command->fields = check ? VERIFY_BUFFER : VERIFY_NOTHING;
	return scsi_submit(command, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, scsi_bytes(command, command->lba), command->data_length, command->iov,
			   command->iov_count, write_verify_written);
}
