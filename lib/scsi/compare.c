/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * COMPARE AND WRITE (SBC-3 5.2). Owner: the worker's thread.
 *
 *     data-out: │ n blocks to compare with │ n blocks to write │
 *
 *     scratch → lock the range → read into scratch → compare → write the second half → done (the owner unlocks)
 *
 * The range's lock makes it atomic against every other write. The compared half is looked at once, after the read. Scratch comes before the
 * lock: commands that hold scratch buffers write, and wait for locks, so a lock's holder that waited for scratch could wait for ever.
 */

#include "scsi/command.h"

static enum scsi_step compare_read(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	uint64_t half = command->remaining;
	size_t mismatch;
	if (!iov_equal(command->iov, command->iov_count, 0, command->scratch, (size_t)half, &mismatch))
		return scsi_check_information(command, SENSE_MISCOMPARE, CODE_MISCOMPARE, mismatch);
	scsi_data_cut(command, half, half);
	return scsi_submit(command, LUNKIT_WRITE, scsi_write_flags(command, command->cdb[1] & 0x08), scsi_bytes(command, command->lba),
			   half, command->iov, command->iov_count, scsi_written);
}

static enum scsi_step compare_locked(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	return scsi_submit_scratch(command, LUNKIT_READ, 0, scsi_bytes(command, command->lba), command->remaining, compare_read);
}

static enum scsi_step compare_scratch(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	command->lock_offset = scsi_bytes(command, command->lba);
	command->lock_length = command->remaining;
	command->next = compare_locked;
	return SCSI_LOCK;
}

enum scsi_step scsi_start_compare_and_write(struct scsi_command *command)
{
	enum scsi_step end;
	command->lba = get_be64(command->cdb + 2);
	command->blocks = command->cdb[13];
	if (command->blocks > scsi_limit_compare_blocks(command->device))
		return scsi_invalid_cdb(command, 13, -1);
	if (!scsi_range_ok(command, &end))
		return end;
	if (!command->blocks)
		return scsi_good(command);
	command->remaining = scsi_bytes(command, command->blocks);
	/* Neither more nor less: where the second half starts must not be in doubt. */
	if (command->data_length != 2 * command->remaining)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_INVALID_INFORMATION_UNIT);
	command->next = compare_scratch;
	return SCSI_SCRATCH;
}
