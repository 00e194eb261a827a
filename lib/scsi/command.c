/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The life of a command: the checks that all commands share, then its operation's machine. Owner: the worker's thread.
 *
 *     scsi_command_start ─→ unit attention? known? length, NACA, protection, ready, write protect ─→ operation->start
 *                                                                                                     │ need
 *     scsi_command_step ──────────────────────────────────────────────────────────────────→ command->next ─→ … ─→ SCSI_DONE
 *
 * Invariants: a request that is submitted lies within the medium and its iov holds exactly its length; data_in_length never exceeds the
 * buffer; what lies in the guest's memory is read once, or checked again each time it is read. The big members of struct scsi_command are
 * written only by commands that use them: READ and WRITE touch the first cache lines.
 *
 * Left out on purpose: reservations, REPORT LUNS and the task set, which the kernel target keeps; NACA and linked commands; protection
 * information. Unit attentions are one set for the device, since an entry of the command ring does not say which initiator sent it.
 */

#include "scsi/command.h"

void scsi_device_init(struct scsi_device *device)
{
	device->unit_attentions = 0;
	device->write_cache_reset = device->write_cache;
	device->descriptor_sense = false;
	device->software_write_protect = false;
	device->stopped = false;
	device->copy_known = false;
	device->copy_list_id = 0;
	device->copy_status = 0;
	device->copy_segments = 0;
	device->copy_transferred = 0;
	device->copy_sense_length = 0;
	memset(device->copy_sense, 0, sizeof(device->copy_sense));
}

unsigned scsi_device_modes(const struct scsi_device *device)
{
	return SCSI_MODES_KNOWN | (device->write_cache ? SCSI_MODES_WRITE_CACHE : 0) |
	       (device->write_cache_reset ? SCSI_MODES_WRITE_CACHE_RESET : 0) |
	       (device->descriptor_sense ? SCSI_MODES_DESCRIPTOR_SENSE : 0) |
	       (device->software_write_protect ? SCSI_MODES_WRITE_PROTECT : 0);
}

void scsi_device_take_modes(struct scsi_device *device, unsigned modes)
{
	const unsigned seen = SCSI_MODES_WRITE_CACHE | SCSI_MODES_DESCRIPTOR_SENSE | SCSI_MODES_WRITE_PROTECT;
	if (!(modes & SCSI_MODES_KNOWN))
		return;
	bool configured_before = modes & SCSI_MODES_WRITE_CACHE_RESET;
	if (configured_before == device->write_cache_reset)
		device->write_cache = modes & SCSI_MODES_WRITE_CACHE && device->write_cache_default;
	device->descriptor_sense = modes & SCSI_MODES_DESCRIPTOR_SENSE;
	device->software_write_protect = modes & SCSI_MODES_WRITE_PROTECT;
	if ((scsi_device_modes(device) ^ modes) & seen)
		device->unit_attentions |= SCSI_UA_MODE_CHANGED;
}

void scsi_device_resize(struct scsi_device *device, uint64_t blocks)
{
	if (device->blocks == blocks)
		return;
	device->blocks = blocks;
	device->unit_attentions |= SCSI_UA_CAPACITY_CHANGED;
}

uint32_t scsi_limit_compare_blocks(const struct scsi_device *device)
{
	uint32_t limit = MIN(255u, SCSI_SCRATCH_SIZE / device->block_size);
	if (device->max_transfer_blocks)
		limit = MIN(limit, device->max_transfer_blocks);
	return limit;
}

uint32_t scsi_limit_unmap_blocks(const struct scsi_device *device)
{
	return device->max_unmap_blocks ? device->max_unmap_blocks : UINT32_MAX;
}

uint32_t scsi_limit_unmap_descriptors(const struct scsi_device *device)
{
	uint32_t fit = (UINT16_MAX - 8) / 16; /* what the 16 bits of UNMAP's parameter list length hold */
	return device->max_unmap_descriptors ? MIN(fit, device->max_unmap_descriptors) : fit;
}

enum scsi_step scsi_reply(struct scsi_command *command, const void *data, size_t length, uint64_t allocation_length)
{
	size_t fits = (size_t)MIN((uint64_t)length, allocation_length);
	command->data_in_length = iov_copy_to(command->iov, command->iov_count, 0, data, fits);
	return scsi_good(command);
}

void scsi_data_cut(struct scsi_command *command, uint64_t offset, uint64_t length)
{
	struct iovec *iov = command->iov;
	unsigned count = command->iov_count, kept = 0;
	while (count && offset >= iov->iov_len) {
		offset -= iov->iov_len;
		iov++;
		count--;
	}
	if (count && offset) {
		iov->iov_base = (uint8_t *)iov->iov_base + offset;
		iov->iov_len -= (size_t)offset;
	}
	for (uint64_t left = length; left && kept < count; kept++) {
		if (iov[kept].iov_len > left)
			iov[kept].iov_len = (size_t)left;
		left -= iov[kept].iov_len;
	}
	command->iov = iov;
	command->iov_count = kept;
	command->data_length = length;
}

void scsi_decode_range(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	switch (cdb[0] >> 5) {
	case 0: /* 6 bytes: 0 means 256 */
		command->lba = get_be24(cdb + 1) & 0x1fffff;
		command->blocks = cdb[4] ? cdb[4] : 256;
		break;
	case 4:
		command->lba = get_be64(cdb + 2);
		command->blocks = get_be32(cdb + 10);
		break;
	case 5:
		command->lba = get_be32(cdb + 2);
		command->blocks = get_be32(cdb + 6);
		break;
	default:
		command->lba = get_be32(cdb + 2);
		command->blocks = get_be16(cdb + 7);
	}
}

bool scsi_range_ok(struct scsi_command *command, enum scsi_step *ret)
{
	uint64_t size = command->device->blocks;
	if (command->lba < size && command->blocks <= size - command->lba)
		return true;
	*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LBA_OUT_OF_RANGE);
	return false;
}

enum scsi_step scsi_finish(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, command->request->op);
	return scsi_good(command);
}

enum scsi_step scsi_written(struct scsi_command *command, int result)
{
	/* MODE SELECT's own flush covers what was complete then, not what was under way. */
	if (!result && command->wrote_volatile && !command->device->write_cache)
		return scsi_flush(command, scsi_finish);
	return scsi_finish(command, result);
}

static enum scsi_step report_attention(struct scsi_command *command)
{
	struct scsi_device *device = command->device;
	static const struct {
		unsigned attention;
		uint16_t code;
	} order[] = {
		{ SCSI_UA_RESET, CODE_RESET },
		{ SCSI_UA_MODE_CHANGED, CODE_MODE_CHANGED },
		{ SCSI_UA_CAPACITY_CHANGED, CODE_CAPACITY_CHANGED },
	};
	for (size_t at = 0; at < ARRAY_SIZE(order); at++)
		if (device->unit_attentions & order[at].attention) {
			device->unit_attentions &= ~order[at].attention;
			return scsi_check(command, SENSE_UNIT_ATTENTION, order[at].code);
		}
	device->unit_attentions = 0;
	return scsi_check(command, SENSE_UNIT_ATTENTION, CODE_RESET);
}

enum scsi_step scsi_command_start(struct scsi_device *device, struct scsi_command *command)
{
	command->device = device;
	command->status = SCSI_GOOD;
	command->sense_length = 0;
	command->data_in_length = 0;
	command->scratch = NULL;
	command->next = NULL;
	command->fields = 0;
	command->wrote_volatile = false;
	command->data_length = iov_length(command->iov, command->iov_count);

	bool opcode_known = false;
	const struct scsi_operation *operation = NULL;
	if (command->cdb_length >= 6 && command->cdb_length <= SCSI_CDB_MAX)
		operation = scsi_operation_find(device, command->cdb[0], command->cdb[1] & 0x1f, &opcode_known);
	if (device->unit_attentions && !(operation && operation->flags & OPERATION_NO_ATTENTION))
		return report_attention(command);
	if (!operation)
		return opcode_known ? scsi_invalid_cdb(command, 1, 4) : scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_INVALID_OPCODE);
	if (command->cdb_length < operation->length)
		return scsi_invalid_cdb(command, command->cdb_length, -1);
	if (command->cdb[operation->length - 1] & 0x04)
		return scsi_invalid_cdb(command, operation->length - 1u, 2);
	if (operation->flags & OPERATION_MEDIUM && device->stopped)
		return scsi_check(command, SENSE_NOT_READY, CODE_START_REQUIRED);
	if (operation->flags & OPERATION_PROTECT && command->cdb[1] & 0xe0)
		return scsi_invalid_cdb(command, 1, 7);
	if (operation->flags & OPERATION_WRITES && (device->read_only || device->software_write_protect))
		return scsi_check(command, SENSE_DATA_PROTECT, device->read_only ? CODE_WRITE_PROTECTED : CODE_SOFTWARE_WRITE_PROTECTED);
	return operation->start(command);
}

enum scsi_step scsi_command_step(struct scsi_command *command, int result)
{
	return command->next(command, result);
}

void scsi_command_fail(struct scsi_command *command, enum scsi_status status, uint8_t key, uint16_t code)
{
	scsi_copy_abandon(command);
	command->next = NULL;
	if (status == SCSI_CHECK_CONDITION) {
		scsi_check(command, (enum scsi_sense_key)(key & 0xf), code);
		return;
	}
	command->status = status;
	command->sense_length = 0;
	command->data_in_length = 0;
}
