/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the medium is: READ CAPACITY (10, 16) and GET LBA STATUS of SBC-3. Owner: the worker's thread.
 *
 * GET LBA STATUS asks the image for its extents. An LBA is "deallocated" only where nothing is allocated and zeros are known to be read: a
 * hole that a backing file fills reads as data, so it is reported as mapped. Extents lie at byte granularity; a block that is only partly
 * deallocated is mapped.
 */

#include "scsi/command.h"

enum scsi_step scsi_start_read_capacity_10(struct scsi_command *command)
{
	uint8_t data[8];
	const struct scsi_device *device = command->device;
	if (!(command->cdb[8] & 1) && get_be32(command->cdb + 2))
		return scsi_invalid_cdb(command, 2, -1); /* an LBA without PMI */
	put_be32(data, (uint32_t)MIN(device->blocks ? device->blocks - 1 : 0, (uint64_t)UINT32_MAX));
	put_be32(data + 4, device->block_size);
	return scsi_reply(command, data, sizeof(data), sizeof(data));
}

enum scsi_step scsi_start_read_capacity_16(struct scsi_command *command)
{
	uint8_t data[32] = { 0 };
	const struct scsi_device *device = command->device;
	put_be64(data, device->blocks ? device->blocks - 1 : 0);
	put_be32(data + 8, device->block_size);
	data[13] = device->physical_block_exponent & 0x0f;
	if (device->can_discard)
		data[14] = device->discard_zeroes ? 0xc0 : 0x80; /* LBPME, LBPRZ */
	return scsi_reply(command, data, sizeof(data), get_be32(command->cdb + 10));
}

enum { LBA_MAPPED = 0, LBA_DEALLOCATED = 1 };

struct status_list {
	uint8_t data[8 + 16 * SCSI_EXTENTS_MAX];
	unsigned count;
};

/* Adds blocks [lba, end) with a status; runs that touch and are alike become one. False when there is no room. */
static bool status_add(struct status_list *list, uint64_t lba, uint64_t end, uint8_t status)
{
	while (lba < end) {
		if (list->count) {
			uint8_t *last = list->data + 8 + 16 * (list->count - 1);
			uint32_t have = get_be32(last + 8);
			if (last[12] == status && have < UINT32_MAX) {
				uint32_t more = (uint32_t)MIN(end - lba, (uint64_t)UINT32_MAX - have);
				put_be32(last + 8, have + more);
				lba += more;
				continue;
			}
		}
		if (list->count == SCSI_EXTENTS_MAX)
			return false;
		uint8_t *to = list->data + 8 + 16 * list->count++;
		uint32_t blocks = (uint32_t)MIN(end - lba, (uint64_t)UINT32_MAX);
		memset(to, 0, 16);
		put_be64(to, lba);
		put_be32(to + 8, blocks);
		to[12] = status;
		lba += blocks;
	}
	return true;
}

static enum scsi_step status_extents(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_EXTENTS);
	const struct lunkit_request *request = command->request;
	uint32_t block_size = command->device->block_size;
	uint64_t end = request->offset + request->length, lba = command->lba, position = request->offset;
	struct status_list list;
	list.count = 0;

	unsigned count = MIN(request->extent_count, request->extent_capacity);
	for (unsigned at = 0; at < count && position < end; at++) {
		const struct lunkit_extent *extent = &command->extents[at];
		if (extent->offset != position || !extent->length)
			break; /* extents touch; what does not is not believed */
		bool deallocated = (extent->flags & (LUNKIT_EXTENT_ALLOCATED | LUNKIT_EXTENT_ZERO)) == LUNKIT_EXTENT_ZERO;
		uint64_t extent_end = extent->length > end - position ? end : position + extent->length;
		uint64_t from = deallocated ? position / block_size + (position % block_size != 0) : position / block_size;
		uint64_t to = deallocated ? extent_end / block_size : extent_end / block_size + (extent_end % block_size != 0);
		/* A deallocated run's ragged edges belong to mapped blocks. */
		if (deallocated && from > lba && !status_add(&list, lba, MIN(from, to), LBA_MAPPED))
			break;
		lba = MAX(lba, deallocated ? MIN(from, to) : lba);
		if (to > lba && !status_add(&list, lba, to, deallocated ? LBA_DEALLOCATED : LBA_MAPPED))
			break;
		lba = MAX(lba, to);
		position = extent_end;
	}
	if (!list.count)
		status_add(&list, command->lba, command->lba + 1, LBA_MAPPED);
	memset(list.data, 0, 8);
	put_be32(list.data, 4 + 16 * list.count);
	return scsi_reply(command, list.data, 8 + 16 * (size_t)list.count, get_be32(command->cdb + 10));
}

enum scsi_step scsi_start_get_lba_status(struct scsi_command *command)
{
	enum scsi_step end;
	command->lba = get_be64(command->cdb + 2);
	command->blocks = 1;
	if (!scsi_range_ok(command, &end))
		return end;
	struct lunkit_request *request = command->request;
	request->extents = command->extents;
	request->extent_capacity = SCSI_EXTENTS_MAX;
	request->extent_count = 0;
	uint64_t length = scsi_bytes(command, command->device->blocks - command->lba);
	return scsi_submit(command, LUNKIT_EXTENTS, 0, scsi_bytes(command, command->lba), length, NULL, 0, status_extents);
}
