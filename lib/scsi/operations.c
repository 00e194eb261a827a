/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The operations that a device knows: one table drives decoding, names and REPORT SUPPORTED OPERATION CODES (SPC-4 6.37), so that what is
 * reported is what is done. Owner: the worker's thread.
 *
 *     first[opcode] ─→ entry, and behind it the opcode's further service actions
 *
 * Left out on purpose: what the kernel target answers before us (REPORT LUNS, PERSISTENT RESERVE IN and OUT, RESERVE, RELEASE), and timeouts:
 * nothing here knows how long an image takes, so RCTD gets zeros ("no timeout").
 */

#include "scsi/command.h"

#define W OPERATION_WRITES
#define M OPERATION_MEDIUM
#define P OPERATION_PROTECT

/*
 * OP(identifier, opcode, length, flags, name, start, usage…), SA(identifier, opcode, service action, length, flags, name, start, usage…) for
 * an opcode's first service action and MORE(…) for its others, which follow it. usage starts at byte 1; the control byte's one bit is NACA.
 */
#define OPERATIONS(OP, SA, MORE)                                                                                                           \
	OP(TEST_UNIT_READY, 0x00, 6, M, "TEST UNIT READY", test_unit_ready, 0, 0, 0, 0, 4)                                                 \
	OP(REQUEST_SENSE, 0x03, 6, OPERATION_NO_ATTENTION, "REQUEST SENSE", request_sense, 1, 0, 0, 0xff, 4)                               \
	OP(READ_6, 0x08, 6, M, "READ(6)", read, 0x1f, 0xff, 0xff, 0xff, 4)                                                                 \
	OP(WRITE_6, 0x0a, 6, M | W, "WRITE(6)", write, 0x1f, 0xff, 0xff, 0xff, 4)                                                          \
	OP(INQUIRY, 0x12, 6, OPERATION_NO_ATTENTION, "INQUIRY", inquiry, 1, 0xff, 0xff, 0xff, 4)                                           \
	OP(MODE_SELECT_6, 0x15, 6, 0, "MODE SELECT(6)", mode_select, 0x11, 0, 0, 0xff, 4)                                                  \
	OP(MODE_SENSE_6, 0x1a, 6, 0, "MODE SENSE(6)", mode_sense, 0x08, 0xff, 0xff, 0xff, 4)                                               \
	OP(START_STOP, 0x1b, 6, 0, "START STOP UNIT", start_stop, 0x01, 0, 0x0f, 0xf7, 4)                                                  \
	OP(PREVENT_ALLOW, 0x1e, 6, 0, "PREVENT ALLOW MEDIUM REMOVAL", prevent_allow, 0, 0, 0, 0x03, 4)                                     \
	OP(READ_CAPACITY_10, 0x25, 10, M, "READ CAPACITY(10)", read_capacity_10, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 4)                    \
	OP(READ_10, 0x28, 10, M | P, "READ(10)", read, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)                                  \
	OP(WRITE_10, 0x2a, 10, M | W | P, "WRITE(10)", write, 0xf8, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)                           \
	OP(WRITE_VERIFY_10, 0x2e, 10, M | W | P, "WRITE AND VERIFY(10)", write_verify, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)  \
	OP(VERIFY_10, 0x2f, 10, M | P, "VERIFY(10)", verify, 0xf6, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)                            \
	OP(PREFETCH_10, 0x34, 10, M, "PRE-FETCH(10)", prefetch, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)                         \
	OP(SYNC_CACHE_10, 0x35, 10, M, "SYNCHRONIZE CACHE(10)", synchronize_cache, 0x02, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)      \
	OP(WRITE_SAME_10, 0x41, 10, M | W | P, "WRITE SAME(10)", write_same, 0xfe, 0xff, 0xff, 0xff, 0xff, 0x1f, 0xff, 0xff, 4)            \
	OP(UNMAP, 0x42, 10, M | W | OPERATION_NEEDS_DISCARD, "UNMAP", unmap, 1, 0, 0, 0, 0, 0x1f, 0xff, 0xff, 4)                           \
	OP(MODE_SELECT_10, 0x55, 10, 0, "MODE SELECT(10)", mode_select, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 4)                                \
	OP(MODE_SENSE_10, 0x5a, 10, 0, "MODE SENSE(10)", mode_sense, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 4)                             \
	SA(EXTENDED_COPY, 0x83, 0x00, 16, M | W, "EXTENDED COPY(LID1)", extended_copy, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,  \
	   0, 4)                                                                                                                           \
	SA(COPY_STATUS, 0x84, 0x00, 16, 0, "RECEIVE COPY STATUS(LID1)", receive_copy_results, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, \
	   0xff, 0xff, 0, 4)                                                                                                               \
	MORE(COPY_PARAMETERS, 0x84, 0x03, 16, 0, "RECEIVE COPY OPERATING PARAMETERS", receive_copy_results, 0x03, 0, 0, 0, 0, 0, 0, 0, 0,  \
	     0xff, 0xff, 0xff, 0xff, 0, 4)                                                                                                 \
	MORE(COPY_FAILURE, 0x84, 0x04, 16, 0, "RECEIVE COPY FAILURE DETAILS(LID1)", receive_copy_results, 0x04, 0xff, 0, 0, 0, 0, 0, 0, 0, \
	     0xff, 0xff, 0xff, 0xff, 0, 4)                                                                                                 \
	OP(READ_16, 0x88, 16, M | P, "READ(16)", read, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, \
	   4)                                                                                                                              \
	OP(COMPARE_AND_WRITE, 0x89, 16, M | W | P, "COMPARE AND WRITE", compare_and_write, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, \
	   0xff, 0, 0, 0, 0xff, 0x1f, 4)                                                                                                   \
	OP(WRITE_16, 0x8a, 16, M | W | P, "WRITE(16)", write, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,      \
	   0xff, 0x1f, 4)                                                                                                                  \
	OP(WRITE_VERIFY_16, 0x8e, 16, M | W | P, "WRITE AND VERIFY(16)", write_verify, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,     \
	   0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 4)                                                                                          \
	OP(VERIFY_16, 0x8f, 16, M | P, "VERIFY(16)", verify, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, \
	   0x1f, 4)                                                                                                                        \
	OP(PREFETCH_16, 0x90, 16, M, "PRE-FETCH(16)", prefetch, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,    \
	   0xff, 0x1f, 4)                                                                                                                  \
	OP(SYNC_CACHE_16, 0x91, 16, M, "SYNCHRONIZE CACHE(16)", synchronize_cache, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,   \
	   0xff, 0xff, 0xff, 0xff, 0x1f, 4)                                                                                                \
	OP(WRITE_SAME_16, 0x93, 16, M | W | P, "WRITE SAME(16)", write_same, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,   \
	   0xff, 0xff, 0xff, 0x1f, 4)                                                                                                      \
	SA(READ_CAPACITY_16, 0x9e, 0x10, 16, M, "READ CAPACITY(16)", read_capacity_16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff,     \
	   0xff, 0, 4)                                                                                                                     \
	MORE(GET_LBA_STATUS, 0x9e, 0x12, 16, M, "GET LBA STATUS", get_lba_status, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,    \
	     0xff, 0xff, 0xff, 0xff, 0, 4)                                                                                                 \
	SA(REPORT_PORT_GROUPS, 0xa3, 0x0a, 12, 0, "REPORT TARGET PORT GROUPS", report_port_groups, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff,     \
	   0xff, 0, 4)                                                                                                                     \
	MORE(REPORT_OPCODES, 0xa3, 0x0c, 12, 0, "REPORT SUPPORTED OPERATION CODES", report_opcodes, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff,    \
	     0xff, 0xff, 0xff, 0, 4)                                                                                                       \
	SA(SET_PORT_GROUPS, 0xa4, 0x0a, 12, 0, "SET TARGET PORT GROUPS", set_port_groups, 0x0a, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 4)  \
	OP(READ_12, 0xa8, 12, M | P, "READ(12)", read, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 4)                      \
	OP(WRITE_12, 0xaa, 12, M | W | P, "WRITE(12)", write, 0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 4)               \
	OP(WRITE_VERIFY_12, 0xae, 12, M | W | P, "WRITE AND VERIFY(12)", write_verify, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,     \
	   0xff, 0x1f, 4)                                                                                                                  \
	OP(VERIFY_12, 0xaf, 12, M | P, "VERIFY(12)", verify, 0xf6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f, 4)

enum operation_number {
#define NUMBER_OP(id, opcode, length, flags, name, start, ...) OPERATION_##id,
#define NUMBER_SA(id, opcode, action, length, flags, name, start, ...) OPERATION_##id,
	OPERATIONS(NUMBER_OP, NUMBER_SA, NUMBER_SA) OPERATION_COUNT
};

static const struct scsi_operation operations[] = {
#define ENTRY_OP(id, op, len, what, text, function, ...)                                                                                   \
	[OPERATION_##id] = { .opcode = (op),                                                                                               \
			     .length = (len),                                                                                              \
			     .flags = (what),                                                                                              \
			     .name = (text),                                                                                               \
			     .start = scsi_start_##function,                                                                               \
			     .usage = { (op), __VA_ARGS__ } },
#define ENTRY_SA(id, op, action, len, what, text, function, ...)                                                                           \
	[OPERATION_##id] = { .opcode = (op),                                                                                               \
			     .service_action = (action),                                                                                   \
			     .length = (len),                                                                                              \
			     .flags = (what) | OPERATION_SERVICE_ACTION,                                                                   \
			     .name = (text),                                                                                               \
			     .start = scsi_start_##function,                                                                               \
			     .usage = { (op), __VA_ARGS__ } },
	OPERATIONS(ENTRY_OP, ENTRY_SA, ENTRY_SA)
};

static const uint8_t first[256] = {
#define FIRST_OP(id, opcode, ...) [opcode] = OPERATION_##id + 1,
#define FIRST_NONE(...)
	OPERATIONS(FIRST_OP, FIRST_OP, FIRST_NONE)
};

static bool operation_supported(const struct scsi_device *device, const struct scsi_operation *operation)
{
	return !(operation->flags & OPERATION_NEEDS_DISCARD) || device->can_discard;
}

const struct scsi_operation *scsi_operation_find(const struct scsi_device *device, uint8_t opcode, uint8_t service_action,
						 bool *ret_opcode_known)
{
	unsigned number = first[opcode];
	if (!number)
		return NULL;
	const struct scsi_operation *operation = &operations[number - 1];
	if (!(operation->flags & OPERATION_SERVICE_ACTION))
		return operation_supported(device, operation) ? operation : NULL;
	*ret_opcode_known = true;
	for (; operation < operations + OPERATION_COUNT && operation->opcode == opcode; operation++)
		if (operation->service_action == service_action)
			return operation;
	return NULL;
}

const char *scsi_opcode_name(const uint8_t *cdb, unsigned cdb_length)
{
	static const struct scsi_device any = { .can_discard = true };
	bool known = false;
	const struct scsi_operation *operation = NULL;
	if (cdb_length >= 1)
		operation = scsi_operation_find(&any, cdb[0], cdb_length >= 2 ? cdb[1] & 0x1f : 0, &known);
	if (operation)
		return operation->name;
	return known ? "unknown service action" : "unknown operation";
}

/* ---- REPORT SUPPORTED OPERATION CODES ------------------------------------------------------------------------------------------------- */

#define TIMEOUTS_LENGTH 12

static unsigned timeouts_put(uint8_t *to)
{
	memset(to, 0, TIMEOUTS_LENGTH);
	put_be16(to, TIMEOUTS_LENGTH - 2);
	return TIMEOUTS_LENGTH;
}

static enum scsi_step report_all(struct scsi_command *command, bool timeouts, uint32_t allocation_length)
{
	uint8_t data[4 + OPERATION_COUNT * (8 + TIMEOUTS_LENGTH)];
	unsigned length = 4;
	for (unsigned at = 0; at < OPERATION_COUNT; at++) {
		const struct scsi_operation *operation = &operations[at];
		if (!operation_supported(command->device, operation))
			continue;
		uint8_t *to = data + length;
		memset(to, 0, 8);
		to[0] = operation->opcode;
		put_be16(to + 2, operation->service_action);
		to[5] = (uint8_t)((timeouts ? 2 : 0) | (operation->flags & OPERATION_SERVICE_ACTION ? 1 : 0));
		put_be16(to + 6, operation->length);
		length += 8;
		if (timeouts)
			length += timeouts_put(data + length);
	}
	put_be32(data, length - 4);
	return scsi_reply(command, data, length, allocation_length);
}

static enum scsi_step report_one(struct scsi_command *command, const struct scsi_operation *operation, bool timeouts,
				 uint32_t allocation_length)
{
	uint8_t data[4 + 16 + TIMEOUTS_LENGTH] = { 0 };
	unsigned length = 4;
	if (!operation) {
		data[1] = 1; /* not supported */
		return scsi_reply(command, data, length, allocation_length);
	}
	data[1] = 3; /* as in the standard */
	put_be16(data + 2, operation->length);
	memcpy(data + 4, operation->usage, operation->length);
	length += operation->length;
	if (timeouts) {
		data[1] |= 0x80;
		length += timeouts_put(data + length);
	}
	return scsi_reply(command, data, length, allocation_length);
}

enum scsi_step scsi_start_report_opcodes(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	bool timeouts = cdb[2] & 0x80, has_actions = false;
	uint8_t opcode = cdb[3];
	uint16_t action = get_be16(cdb + 4);
	uint32_t allocation_length = get_be32(cdb + 6);

	const struct scsi_operation *operation =
		scsi_operation_find(command->device, opcode, (uint8_t)MIN(action, (uint16_t)0xff), &has_actions);
	switch (cdb[2] & 7) {
	case 0:
		return report_all(command, timeouts, allocation_length);
	case 1: /* an opcode without service actions */
		if (has_actions)
			return scsi_invalid_cdb(command, 2, 2);
		break;
	case 2: /* an opcode with one */
		if (operation && !has_actions)
			return scsi_invalid_cdb(command, 2, 2);
		break;
	case 3: /* either; 0 for an opcode without */
		if (operation && !has_actions && action)
			operation = NULL;
		break;
	default:
		return scsi_invalid_cdb(command, 2, 2);
	}
	return report_one(command, operation, timeouts, allocation_length);
}
