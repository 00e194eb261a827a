/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Private to lib/scsi: what the commands' files share. A command's start function is called once the checks that all commands share have
 * passed (command.c); it and the step functions that it leaves in command->next return what they need next, or SCSI_DONE through one of
 * the functions below.
 */

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/iov.h"
#include "scsi/scsi.h"

/* ---- ASC and ASCQ (SPC-4 annex D): 0x2400 is 24/00 ------------------------------------------------------------------------------------ */

enum scsi_sense_key {
	SENSE_NO_SENSE = 0x0,
	SENSE_NOT_READY = 0x2,
	SENSE_MEDIUM_ERROR = 0x3,
	SENSE_HARDWARE_ERROR = 0x4,
	SENSE_ILLEGAL_REQUEST = 0x5,
	SENSE_UNIT_ATTENTION = 0x6,
	SENSE_DATA_PROTECT = 0x7,
	SENSE_COPY_ABORTED = 0xa,
	SENSE_MISCOMPARE = 0xe,
};

#define CODE_BECOMING_READY 0x0401
#define CODE_START_REQUIRED 0x0402
#define CODE_UNREACHABLE_COPY_TARGET 0x0804
#define CODE_WRITE_ERROR 0x0c00
#define CODE_NOTHING 0x0000
#define CODE_COPY_TARGET_NOT_REACHABLE 0x0d02
#define CODE_COPY_TARGET_TYPE 0x0d03
#define CODE_INVALID_INFORMATION_UNIT 0x0e03
#define CODE_READ_ERROR 0x1100
#define CODE_LIST_LENGTH_ERROR 0x1a00
#define CODE_MISCOMPARE 0x1d00
#define CODE_INVALID_OPCODE 0x2000
#define CODE_LBA_OUT_OF_RANGE 0x2100
#define CODE_INVALID_FIELD_IN_CDB 0x2400
#define CODE_INVALID_FIELD_IN_LIST 0x2600
#define CODE_TOO_MANY_TARGETS 0x2606
#define CODE_UNSUPPORTED_TARGET 0x2607
#define CODE_TOO_MANY_SEGMENTS 0x2608
#define CODE_UNSUPPORTED_SEGMENT 0x2609
#define CODE_INLINE_DATA_EXCEEDED 0x260b
#define CODE_WRITE_PROTECTED 0x2700
#define CODE_SOFTWARE_WRITE_PROTECTED 0x2702
#define CODE_SPACE_ALLOCATION_FAILED 0x2707
#define CODE_RESET 0x2900
#define CODE_MODE_CHANGED 0x2a01
#define CODE_CAPACITY_CHANGED 0x2a09
#define CODE_SAVING_NOT_SUPPORTED 0x3900
#define CODE_INTERNAL_TARGET_FAILURE 0x4400
#define CODE_SET_PORT_GROUPS_FAILED 0x670a

/* ---- ending a command (sense.c) ------------------------------------------------------------------------------------------------------- */

static inline enum scsi_step scsi_good(struct scsi_command *command)
{
	command->status = SCSI_GOOD;
	return SCSI_DONE;
}

enum scsi_step scsi_check(struct scsi_command *command, enum scsi_sense_key key, uint16_t code);
/* With the information field: a byte offset or an LBA. */
enum scsi_step scsi_check_information(struct scsi_command *command, enum scsi_sense_key key, uint16_t code, uint64_t information);
/* ILLEGAL REQUEST, with the byte and its most significant bit that is wrong (-1: the whole byte or field). */
enum scsi_step scsi_invalid_cdb(struct scsi_command *command, unsigned byte, int bit);
enum scsi_step scsi_invalid_list(struct scsi_command *command, unsigned byte, int bit);
/* The one translation of an image's errno (handler.h); op is what failed. */
enum scsi_step scsi_fail(struct scsi_command *command, int result, enum lunkit_op op);
/* The same for a question that was not answered: there is no medium to blame. */
enum scsi_step scsi_fail_question(struct scsi_command *command, int result);

/* Builds sense without a command: to gets at most 18 bytes (fixed) or 8 (descriptor). Returns the length. */
unsigned scsi_sense_build(uint8_t *to, bool descriptor, enum scsi_sense_key key, uint16_t code);

/* ---- data (command.c) ------------------------------------------------------------------------------------------------------------------ */

/* GOOD with what fits of data: the least of length, the CDB's allocation length and the buffer. */
enum scsi_step scsi_reply(struct scsi_command *command, const void *data, size_t length, uint64_t allocation_length);
/* Makes the buffer the part [offset, offset + length) of itself, which lies within data_length. */
void scsi_data_cut(struct scsi_command *command, uint64_t offset, uint64_t length);
/* LBA and length in blocks of a READ(6)-, READ(10)-, READ(12)- or READ(16)-like CDB into lba and blocks. */
void scsi_decode_range(struct scsi_command *command);
/* False, with the command done in *ret, when [lba, lba + blocks) is not on the medium. */
bool scsi_range_ok(struct scsi_command *command, enum scsi_step *ret);

static inline uint64_t scsi_bytes(const struct scsi_command *command, uint64_t blocks)
{
	return blocks * command->device->block_size;
}

static inline enum scsi_step scsi_submit(struct scsi_command *command, enum lunkit_op op, unsigned flags, uint64_t offset, uint64_t length,
					 const struct iovec *iov, unsigned iov_count, enum scsi_step (*next)(struct scsi_command *, int))
{
	struct lunkit_request *request = command->request;
	request->op = op;
	request->flags = flags;
	request->offset = offset;
	request->length = length;
	request->iov = iov;
	request->iov_count = iov_count;
	command->next = next;
	return SCSI_SUBMIT;
}

/* READ or WRITE of length bytes at offset with the scratch buffer. */
static inline enum scsi_step scsi_submit_scratch(struct scsi_command *command, enum lunkit_op op, unsigned flags, uint64_t offset,
						 uint64_t length, enum scsi_step (*next)(struct scsi_command *, int))
{
	command->scratch_iov[0] = (struct iovec){ command->scratch, (size_t)length };
	return scsi_submit(command, op, flags, offset, length, command->scratch_iov, 1, next);
}

static inline enum scsi_step scsi_flush(struct scsi_command *command, enum scsi_step (*next)(struct scsi_command *, int))
{
	return scsi_submit(command, LUNKIT_FLUSH, 0, 0, 0, NULL, 0, next);
}

/* The last step of most commands: GOOD, or what the errno says. */
enum scsi_step scsi_finish(struct scsi_command *command, int result);

static inline enum scsi_step scsi_ask(struct scsi_command *command, enum scsi_question question,
				      enum scsi_step (*next)(struct scsi_command *, int))
{
	command->query.question = question;
	command->next = next;
	return SCSI_ASK;
}

/* Flags for a write: durable before it completes where the CDB or the caching mode page asks for it. */
static inline unsigned scsi_write_flags(struct scsi_command *command, bool fua)
{
	if (fua || !command->device->write_cache)
		return LUNKIT_REQUEST_FUA;
	command->wrote_volatile = true;
	return 0;
}

/* The end of a command that has written: GOOD, after a flush where the write cache was switched off while it was under way. */
enum scsi_step scsi_written(struct scsi_command *command, int result);

/* ---- limits, as the block limits page tells and as the commands enforce ----------------------------------------------------------------- */

uint32_t scsi_limit_compare_blocks(const struct scsi_device *device);
uint32_t scsi_limit_unmap_blocks(const struct scsi_device *device);
uint32_t scsi_limit_unmap_descriptors(const struct scsi_device *device);

/* ---- identity (inquiry.c) --------------------------------------------------------------------------------------------------------------- */

#define SCSI_NAA_LENGTH 16
/* The NAA designator as the kernel target derives it from the unit serial number. False when there is no serial number to derive it from. */
bool scsi_identity_naa(const struct scsi_identity *identity, uint8_t naa[SCSI_NAA_LENGTH]);
/* Takes the answer to SCSI_ASK_IDENTITY, made printable and terminated, as the last known identity; on failure that one stays. */
void scsi_identity_take(struct scsi_command *command, int result);

/* ---- operations (operations.c) ------------------------------------------------------------------------------------------------------------ */

#define OPERATION_WRITES 1u	    /* refused on a write protected device */
#define OPERATION_MEDIUM 2u	    /* refused while stopped */
#define OPERATION_NO_ATTENTION 4u   /* does not report unit attentions */
#define OPERATION_SERVICE_ACTION 8u /* byte 1 says which */
#define OPERATION_PROTECT 16u	    /* byte 1 bits 7 to 5 ask for protection information, which there is none of */
#define OPERATION_NEEDS_DISCARD 32u /* known only where the image can discard */

struct scsi_operation {
	uint8_t opcode, service_action, length;
	uint8_t flags;
	const char *name;
	enum scsi_step (*start)(struct scsi_command *command);
	uint8_t usage[16]; /* SPC-4 6.37.3: one bits are looked at */
};

/* NULL when the device does not know it; *ret_opcode_known: then it is the service action that is unknown. */
const struct scsi_operation *scsi_operation_find(const struct scsi_device *device, uint8_t opcode, uint8_t service_action,
						 bool *ret_opcode_known);

enum scsi_step scsi_start_test_unit_ready(struct scsi_command *command);
enum scsi_step scsi_start_request_sense(struct scsi_command *command);
enum scsi_step scsi_start_start_stop(struct scsi_command *command);
enum scsi_step scsi_start_prevent_allow(struct scsi_command *command);
enum scsi_step scsi_start_inquiry(struct scsi_command *command);
enum scsi_step scsi_start_mode_sense(struct scsi_command *command);
enum scsi_step scsi_start_mode_select(struct scsi_command *command);
enum scsi_step scsi_start_read(struct scsi_command *command);
enum scsi_step scsi_start_write(struct scsi_command *command);
enum scsi_step scsi_start_write_verify(struct scsi_command *command);
enum scsi_step scsi_start_verify(struct scsi_command *command);
enum scsi_step scsi_start_read_capacity_10(struct scsi_command *command);
enum scsi_step scsi_start_read_capacity_16(struct scsi_command *command);
enum scsi_step scsi_start_get_lba_status(struct scsi_command *command);
enum scsi_step scsi_start_synchronize_cache(struct scsi_command *command);
enum scsi_step scsi_start_prefetch(struct scsi_command *command);
enum scsi_step scsi_start_unmap(struct scsi_command *command);
enum scsi_step scsi_start_write_same(struct scsi_command *command);
enum scsi_step scsi_start_compare_and_write(struct scsi_command *command);
enum scsi_step scsi_start_extended_copy(struct scsi_command *command);
enum scsi_step scsi_start_receive_copy_results(struct scsi_command *command);
enum scsi_step scsi_start_report_opcodes(struct scsi_command *command);
enum scsi_step scsi_start_report_port_groups(struct scsi_command *command);
enum scsi_step scsi_start_set_port_groups(struct scsi_command *command);

/* A copy that is ended from outside is no longer in progress (copy.c). */
void scsi_copy_abandon(struct scsi_command *command);
