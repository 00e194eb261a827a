/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sense data (SPC-4 4.5), in the format that D_SENSE in the control mode page chooses, and the one translation of errno to sense. Owner: the
 * worker's thread.
 *
 *     fixed:      VALID|70 0 key information[4] 0a … asc ascq … sks[3]
 *     descriptor: 72 key asc ascq 0 0 0 n, then 00 0a 80 0 information[8], 02 06 0 0 sks[3] 0
 *
 * Left out: deferred errors (nothing is acknowledged before it is done) and progress indications.
 */

#include <errno.h>

#include "scsi/command.h"

#define SKS_VALID 0x80
#define SKS_IN_CDB 0x40
#define SKS_BIT_VALID 0x08

struct sense {
	enum scsi_sense_key key;
	uint16_t code;
	bool has_information, has_field;
	uint64_t information;
	uint8_t field[3]; /* sense key specific */
};

bool scsi_is_refusal(const struct scsi_command *command)
{
	if (command->status != SCSI_CHECK_CONDITION || command->sense_length < 3)
		return false;
	bool descriptor = (command->sense[0] & 0x7f) >= 0x72;
	unsigned key = command->sense[descriptor ? 1 : 2] & 0xf;
	return key == SENSE_ILLEGAL_REQUEST || key == SENSE_UNIT_ATTENTION || key == SENSE_MISCOMPARE;
}

static unsigned sense_encode(uint8_t *to, bool descriptor, const struct sense *sense)
{
	if (!descriptor) {
		memset(to, 0, 18);
		to[0] = 0x70;
		to[2] = (uint8_t)sense->key;
		/* What does not fit leaves VALID clear (SPC-4 4.5.3). */
		if (sense->has_information && sense->information <= UINT32_MAX) {
			to[0] |= 0x80;
			put_be32(to + 3, (uint32_t)sense->information);
		}
		to[7] = 10;
		put_be16(to + 12, sense->code);
		if (sense->has_field)
			memcpy(to + 15, sense->field, 3);
		return 18;
	}
	unsigned length = 8;
	memset(to, 0, 8);
	to[0] = 0x72;
	to[1] = (uint8_t)sense->key;
	put_be16(to + 2, sense->code);
	if (sense->has_information) {
		memset(to + length, 0, 12);
		to[length + 1] = 10;
		to[length + 2] = 0x80;
		put_be64(to + length + 4, sense->information);
		length += 12;
	}
	if (sense->has_field) {
		memset(to + length, 0, 8);
		to[length] = 2;
		to[length + 1] = 6;
		memcpy(to + length + 4, sense->field, 3);
		length += 8;
	}
	to[7] = (uint8_t)(length - 8);
	return length;
}

static enum scsi_step sense_finish(struct scsi_command *command, const struct sense *sense)
{
	command->status = SCSI_CHECK_CONDITION;
	command->sense_length = sense_encode(command->sense, command->device && command->device->descriptor_sense, sense);
	command->data_in_length = 0;
	return SCSI_DONE;
}

unsigned scsi_sense_build(uint8_t *to, bool descriptor, enum scsi_sense_key key, uint16_t code)
{
	return sense_encode(to, descriptor, &(struct sense){ .key = key, .code = code });
}

enum scsi_step scsi_check(struct scsi_command *command, enum scsi_sense_key key, uint16_t code)
{
	return sense_finish(command, &(struct sense){ .key = key, .code = code });
}

enum scsi_step scsi_check_information(struct scsi_command *command, enum scsi_sense_key key, uint16_t code, uint64_t information)
{
	return sense_finish(command, &(struct sense){ .key = key, .code = code, .has_information = true, .information = information });
}

static enum scsi_step invalid_field(struct scsi_command *command, uint16_t code, uint8_t where, unsigned byte, int bit)
{
	struct sense sense = { .key = SENSE_ILLEGAL_REQUEST, .code = code, .has_field = true };
	sense.field[0] = SKS_VALID | where;
	if (bit >= 0)
		sense.field[0] |= (uint8_t)(SKS_BIT_VALID | (unsigned)bit);
	put_be16(sense.field + 1, (uint16_t)byte);
	return sense_finish(command, &sense);
}

enum scsi_step scsi_invalid_cdb(struct scsi_command *command, unsigned byte, int bit)
{
	return invalid_field(command, CODE_INVALID_FIELD_IN_CDB, SKS_IN_CDB, byte, bit);
}

enum scsi_step scsi_invalid_list(struct scsi_command *command, unsigned byte, int bit)
{
	return invalid_field(command, CODE_INVALID_FIELD_IN_LIST, 0, byte, bit);
}

static bool op_writes(enum lunkit_op op)
{
	switch (op) {
	case LUNKIT_READ:
	case LUNKIT_EXTENTS:
		return false;
	case LUNKIT_WRITE:
	case LUNKIT_FLUSH:
	case LUNKIT_DISCARD:
	case LUNKIT_WRITE_ZEROES:
		return true;
	}
	return false;
}

enum scsi_step scsi_fail(struct scsi_command *command, int result, enum lunkit_op op)
{
	switch (-result) {
	case ENOSPC:
	case EDQUOT:
		return scsi_check(command, SENSE_DATA_PROTECT, CODE_SPACE_ALLOCATION_FAILED);
	case EROFS:
	case EPERM:
		return scsi_check(command, SENSE_DATA_PROTECT, CODE_WRITE_PROTECTED);
	case ETIMEDOUT:
	case ENOTCONN:
	case ESHUTDOWN:
		return scsi_check(command, SENSE_NOT_READY, CODE_BECOMING_READY);
	case EAGAIN:
	case EBUSY:
	case ENOMEM:
		command->status = SCSI_BUSY;
		command->sense_length = 0;
		command->data_in_length = 0;
		return SCSI_DONE;
	case EIO:
	case ENODATA:
	case EILSEQ:
		return scsi_check(command, SENSE_MEDIUM_ERROR, op_writes(op) ? CODE_WRITE_ERROR : CODE_READ_ERROR);
	case EOPNOTSUPP:
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_INVALID_OPCODE);
	default:
		return scsi_check(command, SENSE_HARDWARE_ERROR, CODE_INTERNAL_TARGET_FAILURE);
	}
}

enum scsi_step scsi_fail_question(struct scsi_command *command, int result)
{
	if (result == -EIO || result == -ENODATA || result == -EILSEQ)
		return scsi_check(command, SENSE_HARDWARE_ERROR, CODE_INTERNAL_TARGET_FAILURE);
	return scsi_fail(command, result, LUNKIT_READ);
}
