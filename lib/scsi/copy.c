/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * EXTENDED COPY (LID1) and its RECEIVE COPY commands (SPC-4 6.4, 6.18 to 6.21): block to block within this logical unit. Owner: the worker's
 * thread.
 *
 *     parameter list: header 16 │ target descriptors E4, 32 each │ segment descriptors 02, 28 each │ inline data (refused)
 *
 *     start ─→ ask for the identity ─→ parse and check everything ─→ scratch ─→ { read a chunk → write it } … ─→ done
 *
 * The list is copied out of the buffer once and every segment checked before the first is copied. A segment whose source and destination
 * overlap is copied from the end where that is needed, so that it reads nothing that it has written. The copy is not atomic against other
 * commands (SPC-4 does not ask for it).
 *
 * A target that is not this unit is COPY TARGET DEVICE NOT REACHABLE, which initiators answer by copying themselves. An error of the image
 * during the copy is reported as it is for a WRITE, not wrapped in COPY ABORTED: a full disk must look like one.
 *
 * The result of the last copy that started is kept for the RECEIVE COPY commands until it was fetched: one list for the device, since an entry
 * of the command ring does not say which initiator sent it.
 */

#include "scsi/command.h"

#define HEADER_LENGTH 16
#define TARGET_LENGTH 32
#define SEGMENT_LENGTH 28
#define TARGETS_MAX 8
#define LISTS_MAX (TARGETS_MAX * TARGET_LENGTH + SCSI_COPY_SEGMENTS_MAX * SEGMENT_LENGTH)

#define TARGET_IDENTIFICATION 0xe4
#define SEGMENT_BLOCK_TO_BLOCK 0x02

/* command->fields: the list identifier, and whether the result is kept under it */
#define FIELD_LIST_ID 0xffu
#define FIELD_KEPT 0x100u

enum { COPY_IN_PROGRESS, COPY_DONE, COPY_FAILED };

struct copy_list {
	uint8_t data[HEADER_LENGTH + LISTS_MAX];
	unsigned targets_length, segments_length;
	unsigned targets;
	bool ours[TARGETS_MAX];
};

static bool keeps_result(const struct scsi_command *command)
{
	const struct scsi_device *device = command->device;
	return command->fields & FIELD_KEPT && device->copy_known && device->copy_list_id == (command->fields & FIELD_LIST_ID) &&
	       device->copy_status == COPY_IN_PROGRESS;
}

/* ---- copying --------------------------------------------------------------------------------------------------------------------------- */

static enum scsi_step copy_read(struct scsi_command *command, int result);
static enum scsi_step copy_written(struct scsi_command *command, int result);

/* Ends the copy with an image's error and keeps what it was. */
static enum scsi_step copy_fail(struct scsi_command *command, int result, enum lunkit_op op)
{
	bool kept = keeps_result(command);
	enum scsi_step step = scsi_fail(command, result, op);
	if (!kept)
		return step;
	struct scsi_device *device = command->device;
	device->copy_status = COPY_FAILED;
	device->copy_sense_length = 0;
	if (command->sense_length) {
		bool descriptor = (command->sense[0] & 0x7f) == 0x72;
		enum scsi_sense_key key = command->sense[descriptor ? 1 : 2] & 0x0f;
		uint16_t code = get_be16(command->sense + (descriptor ? 2 : 12));
		device->copy_sense_length = (uint8_t)scsi_sense_build(device->copy_sense, false, key, code);
	}
	return step;
}

/* Where the segment's next chunk lies within it, in bytes; *ret_length is how long it is. */
static uint64_t chunk_next(const struct scsi_command *command, uint64_t *ret_length)
{
	const struct scsi_copy_segment *segment = &command->segments[command->index];
	uint64_t length = MIN(command->remaining, (uint64_t)SCSI_SCRATCH_SIZE);
	*ret_length = length;
	if (segment->source < segment->destination && segment->destination - segment->source < segment->blocks)
		return command->remaining - length; /* from the end */
	return command->position;
}

static enum scsi_step copy_next(struct scsi_command *command)
{
	while (!command->remaining) {
		command->index++;
		if (keeps_result(command))
			command->device->copy_segments = (uint16_t)command->index;
		if (command->index >= command->count) {
			if (keeps_result(command))
				command->device->copy_status = COPY_DONE;
			return scsi_written(command, 0);
		}
		command->position = 0;
		command->remaining = scsi_bytes(command, command->segments[command->index].blocks);
	}
	uint64_t length, at = chunk_next(command, &length);
	return scsi_submit_scratch(command, LUNKIT_READ, 0, scsi_bytes(command, command->segments[command->index].source) + at, length,
				   copy_read);
}

static enum scsi_step copy_read(struct scsi_command *command, int result)
{
	if (result)
		return copy_fail(command, result, LUNKIT_READ);
	uint64_t length, at = chunk_next(command, &length);
	return scsi_submit_scratch(command, LUNKIT_WRITE, scsi_write_flags(command, false),
				   scsi_bytes(command, command->segments[command->index].destination) + at, length, copy_written);
}

static enum scsi_step copy_written(struct scsi_command *command, int result)
{
	if (result)
		return copy_fail(command, result, LUNKIT_WRITE);
	uint64_t length = command->request->length;
	command->position += length;
	command->remaining -= length;
	if (keeps_result(command))
		command->device->copy_transferred += length;
	return copy_next(command);
}

static enum scsi_step copy_scratch(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail(command, result, LUNKIT_READ);
	struct scsi_device *device = command->device;
	if (command->fields & FIELD_KEPT) {
		device->copy_known = true;
		device->copy_list_id = command->fields & FIELD_LIST_ID;
		device->copy_status = COPY_IN_PROGRESS;
		device->copy_segments = 0;
		device->copy_transferred = 0;
		device->copy_sense_length = 0;
	}
	command->index = 0;
	command->position = 0;
	command->remaining = scsi_bytes(command, command->segments[0].blocks);
	return copy_next(command);
}

void scsi_copy_abandon(struct scsi_command *command)
{
	if ((command->next == copy_read || command->next == copy_written) && keeps_result(command))
		command->device->copy_known = false;
}

/* ---- the parameter list ------------------------------------------------------------------------------------------------------------------- */

/* Header and lengths. False when the command is done. */
static bool list_header(struct scsi_command *command, struct copy_list *list, enum scsi_step *ret)
{
	uint32_t length = get_be32(command->cdb + 10);
	const uint8_t *data = list->data;
	iov_copy_from(list->data, command->iov, command->iov_count, 0, HEADER_LENGTH);
	list->targets_length = get_be16(data + 2);
	uint32_t segments_length = get_be32(data + 8), inline_length = get_be32(data + 12);
	uint64_t lists = (uint64_t)list->targets_length + segments_length;
	if (lists > LISTS_MAX || lists > length - HEADER_LENGTH || inline_length > length - HEADER_LENGTH - lists) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
		return false;
	}
	list->segments_length = segments_length;
	if (inline_length) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_INLINE_DATA_EXCEEDED);
		return false;
	}
	unsigned usage = data[1] >> 3 & 3;
	if (usage == 1) {
		*ret = scsi_invalid_list(command, 1, 4);
		return false;
	}
	if (usage == 3 && data[0]) {
		*ret = scsi_invalid_list(command, 0, -1); /* no list identifier is used */
		return false;
	}
	command->fields = data[0] | (usage == 3 ? 0 : FIELD_KEPT);
	iov_copy_from(list->data + HEADER_LENGTH, command->iov, command->iov_count, HEADER_LENGTH, (size_t)lists);
	return true;
}

static bool target_is_ours(const struct scsi_command *command, const uint8_t *target)
{
	uint8_t naa[SCSI_NAA_LENGTH];
	return (target[4] & 0x0f) == 1 && (target[5] & 0x3f) == 0x03 && target[7] == SCSI_NAA_LENGTH &&
	       scsi_identity_naa(&command->device->identity, naa) && !memcmp(target + 8, naa, SCSI_NAA_LENGTH);
}

static bool list_targets(struct scsi_command *command, struct copy_list *list, enum scsi_step *ret)
{
	if (list->targets_length % TARGET_LENGTH) {
		*ret = scsi_invalid_list(command, 2, -1);
		return false;
	}
	list->targets = list->targets_length / TARGET_LENGTH;
	if (list->targets > TARGETS_MAX) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_TOO_MANY_TARGETS);
		return false;
	}
	for (unsigned at = 0; at < list->targets; at++) {
		unsigned offset = HEADER_LENGTH + at * TARGET_LENGTH;
		const uint8_t *target = list->data + offset;
		if (target[0] != TARGET_IDENTIFICATION) {
			*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_UNSUPPORTED_TARGET);
			return false;
		}
		if (target[1] & 0xc0) {
			*ret = scsi_invalid_list(command, offset + 1, 7); /* LU ID TYPE */
			return false;
		}
		if (target[1] & 0x20) { /* NUL: a device that is not there */
			*ret = scsi_check(command, SENSE_COPY_ABORTED, CODE_UNREACHABLE_COPY_TARGET);
			return false;
		}
		list->ours[at] = target_is_ours(command, target);
		if (!list->ours[at])
			continue;
		if (target[1] & 0x1f) {
			*ret = scsi_check(command, SENSE_COPY_ABORTED, CODE_COPY_TARGET_TYPE);
			return false;
		}
		if (get_be24(target + 29) != command->device->block_size) {
			*ret = scsi_invalid_list(command, offset + 29, -1);
			return false;
		}
	}
	return true;
}

/* One segment into command->segments. False when the command is done. */
static bool list_segment(struct scsi_command *command, const struct copy_list *list, const uint8_t *raw, enum scsi_step *ret)
{
	uint64_t size = command->device->blocks;
	unsigned source = get_be16(raw + 4), destination = get_be16(raw + 6);
	struct scsi_copy_segment segment = { .source = get_be64(raw + 12),
					     .destination = get_be64(raw + 20),
					     .blocks = get_be16(raw + 10) };
	if (source >= list->targets || destination >= list->targets) {
		*ret = scsi_check(command, SENSE_COPY_ABORTED, CODE_UNREACHABLE_COPY_TARGET);
		return false;
	}
	if (!list->ours[source] || !list->ours[destination]) {
		*ret = scsi_check(command, SENSE_COPY_ABORTED, CODE_COPY_TARGET_NOT_REACHABLE);
		return false;
	}
	if (!range_within(segment.source, segment.blocks, size) || !range_within(segment.destination, segment.blocks, size)) {
		*ret = scsi_check(command, SENSE_COPY_ABORTED, CODE_NOTHING);
		return false;
	}
	command->segments[command->count++] = segment;
	return true;
}

static bool list_segments(struct scsi_command *command, const struct copy_list *list, enum scsi_step *ret)
{
	const uint8_t *raw = list->data + HEADER_LENGTH + list->targets_length;
	unsigned left = list->segments_length;
	command->count = 0;
	/* The types and the number first: they are errors of the list, not of the copy. */
	for (unsigned at = 0, number = 0; at < left; number++) {
		unsigned offset = HEADER_LENGTH + list->targets_length + at;
		if (number == SCSI_COPY_SEGMENTS_MAX) {
			*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_TOO_MANY_SEGMENTS);
			return false;
		}
		if (raw[at] != SEGMENT_BLOCK_TO_BLOCK) {
			*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_UNSUPPORTED_SEGMENT);
			return false;
		}
		if (left - at < SEGMENT_LENGTH) {
			*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
			return false;
		}
		if (get_be16(raw + at + 2) != SEGMENT_LENGTH - 4) {
			*ret = scsi_invalid_list(command, offset + 2, -1);
			return false;
		}
		at += SEGMENT_LENGTH;
	}
	for (; left >= SEGMENT_LENGTH; left -= SEGMENT_LENGTH, raw += SEGMENT_LENGTH)
		if (!list_segment(command, list, raw, ret))
			return false;
	return true;
}

static enum scsi_step copy_identity(struct scsi_command *command, int result)
{
	struct copy_list list;
	enum scsi_step end;
	scsi_identity_take(command, result);
	if (!list_header(command, &list, &end) || !list_targets(command, &list, &end) || !list_segments(command, &list, &end))
		return end;
	if (!command->count)
		return scsi_good(command);
	command->next = copy_scratch;
	return SCSI_SCRATCH;
}

enum scsi_step scsi_start_extended_copy(struct scsi_command *command)
{
	uint32_t length = get_be32(command->cdb + 10);
	if (!length)
		return scsi_good(command);
	if (length < HEADER_LENGTH || command->data_length < length)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
	return scsi_ask(command, SCSI_ASK_IDENTITY, copy_identity);
}

/* ---- RECEIVE COPY … ------------------------------------------------------------------------------------------------------------------------ */

static enum scsi_step receive_status(struct scsi_command *command, uint32_t allocation_length)
{
	struct scsi_device *device = command->device;
	uint8_t data[12] = { 0, 0, 0, 8 };
	if (!device->copy_known || device->copy_list_id != command->cdb[2])
		return scsi_invalid_cdb(command, 2, -1);
	data[4] = device->copy_status;
	put_be16(data + 5, device->copy_segments);
	put_be32(data + 8, (uint32_t)MIN(device->copy_transferred, (uint64_t)UINT32_MAX)); /* in bytes */
	if (device->copy_status == COPY_DONE)
		device->copy_known = false;
	return scsi_reply(command, data, sizeof(data), allocation_length);
}

static enum scsi_step receive_parameters(struct scsi_command *command, uint32_t allocation_length)
{
	uint8_t data[46] = { 0, 0, 0, 42 };
	data[4] = 1; /* SNLID: a copy may have no list identifier */
	put_be16(data + 8, TARGETS_MAX);
	put_be16(data + 10, SCSI_COPY_SEGMENTS_MAX);
	put_be32(data + 12, LISTS_MAX);
	put_be32(data + 16, (uint32_t)scsi_bytes(command, UINT16_MAX)); /* the longest segment */
	put_be16(data + 34, 1);						/* concurrent copies */
	data[36] = 1;
	data[37] = (uint8_t)__builtin_ctz(command->device->block_size); /* data segment granularity, log2 */
	data[43] = 2;
	data[44] = SEGMENT_BLOCK_TO_BLOCK;
	data[45] = TARGET_IDENTIFICATION;
	return scsi_reply(command, data, sizeof(data), allocation_length);
}

static enum scsi_step receive_failure(struct scsi_command *command, uint32_t allocation_length)
{
	struct scsi_device *device = command->device;
	uint8_t data[60 + sizeof(device->copy_sense)] = { 0 };
	if (!device->copy_known || device->copy_list_id != command->cdb[2] || device->copy_status != COPY_FAILED)
		return scsi_reply(command, data, 4, allocation_length); /* none available */
	unsigned length = 60u + device->copy_sense_length;
	put_be32(data, length - 4);
	data[56] = device->copy_sense_length ? SCSI_CHECK_CONDITION : SCSI_BUSY;
	put_be16(data + 58, device->copy_sense_length);
	memcpy(data + 60, device->copy_sense, device->copy_sense_length);
	device->copy_known = false;
	return scsi_reply(command, data, length, allocation_length);
}

enum scsi_step scsi_start_receive_copy_results(struct scsi_command *command)
{
	uint32_t allocation_length = get_be32(command->cdb + 10);
	switch (command->cdb[1] & 0x1f) {
	case 0x00:
		return receive_status(command, allocation_length);
	case 0x03:
		return receive_parameters(command, allocation_length);
	default: /* 04: the operations' table has no other */
		return receive_failure(command, allocation_length);
	}
}
