/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Commands about the unit and its cache: TEST UNIT READY, REQUEST SENSE, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL (SPC-4, SBC-3),
 * SYNCHRONIZE CACHE and PRE-FETCH (10, 16). Owner: the worker's thread.
 *
 * A stopped unit answers LOGICAL UNIT NOT READY, INITIALIZING COMMAND REQUIRED (02/04/02) to what needs the medium, until it is started; it
 * is started again when the worker is. The medium is not removable, so LOEJ is refused, and there are no power conditions. IMMED is accepted and
 * the status sent when the work is done: later than allowed to be, never earlier than durable.
 */

#include "scsi/command.h"

enum scsi_step scsi_start_test_unit_ready(struct scsi_command *command)
{
	return scsi_good(command);
}

enum scsi_step scsi_start_request_sense(struct scsi_command *command)
{
	struct scsi_device *device = command->device;
	uint8_t data[18];
	enum scsi_sense_key key = SENSE_NO_SENSE;
	uint16_t code = 0;
	if (device->unit_attentions) {
		key = SENSE_UNIT_ATTENTION;
		if (device->unit_attentions & SCSI_UA_RESET) {
			code = CODE_RESET;
			device->unit_attentions &= ~SCSI_UA_RESET;
		} else if (device->unit_attentions & SCSI_UA_MODE_CHANGED) {
			code = CODE_MODE_CHANGED;
			device->unit_attentions &= ~SCSI_UA_MODE_CHANGED;
		} else {
			code = CODE_CAPACITY_CHANGED;
			device->unit_attentions = 0;
		}
	} else if (device->stopped) {
		key = SENSE_NOT_READY;
		code = CODE_START_REQUIRED;
	}
	unsigned length = scsi_sense_build(data, command->cdb[1] & 1, key, code);
	return scsi_reply(command, data, length, command->cdb[4]);
}

static enum scsi_step stop_flushed(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_FLUSH);
	command->device->stopped = true;
	return scsi_good(command);
}

enum scsi_step scsi_start_start_stop(struct scsi_command *command)
{
	uint8_t flags = command->cdb[4];
	if (flags & 0xf0)
		return scsi_invalid_cdb(command, 4, 7); /* POWER CONDITION */
	if (flags & 0x02)
		return scsi_invalid_cdb(command, 4, 1); /* LOEJ */
	if (flags & 0x01) {
		command->device->stopped = false;
		return scsi_good(command);
	}
	if (flags & 0x04 || command->device->stopped) /* NO_FLUSH */
		return stop_flushed(command, 0);
	return scsi_flush(command, stop_flushed);
}

enum scsi_step scsi_start_prevent_allow(struct scsi_command *command)
{
	if (command->cdb[4] & 0x02)
		return scsi_invalid_cdb(command, 4, 1); /* obsolete: for medium changers */
	return scsi_good(command);
}

enum scsi_step scsi_start_synchronize_cache(struct scsi_command *command)
{
	enum scsi_step end;
	scsi_decode_range(command); /* 0 blocks: up to the end. The whole cache is written whatever the range. */
	if (!scsi_range_ok(command, &end))
		return end;
	return scsi_flush(command, scsi_finish);
}

enum scsi_step scsi_start_prefetch(struct scsi_command *command)
{
	enum scsi_step end;
	scsi_decode_range(command);
	if (!scsi_range_ok(command, &end))
		return end;
	return scsi_good(command); /* not CONDITION MET: there is no cache that would hold the blocks (SBC-3 5.8) */
}
