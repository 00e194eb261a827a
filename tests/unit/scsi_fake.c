/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "scsi_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/iov.h"

#define REQUIRE(condition)                                                                                                                 \
	do {                                                                                                                               \
		if (!(condition)) {                                                                                                        \
			fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #condition);                                    \
			abort();                                                                                                           \
		}                                                                                                                          \
	} while (0)

#define STEPS_MAX 200000

void fake_init(struct fake *fake, uint32_t block_size)
{
	memset(fake, 0, sizeof(*fake));
	fake->device = (struct scsi_device){
		.block_size = block_size,
		.blocks = FAKE_BLOCKS,
		.can_discard = true,
		.discard_zeroes = true,
		.write_cache_default = true,
		.write_cache = true,
	};
	scsi_device_init(&fake->device);
	fake->disk = calloc(FAKE_BLOCKS, block_size);
	fake->allocated = calloc(FAKE_BLOCKS, 1);
	fake->scratch = aligned_alloc(4096, SCSI_SCRATCH_SIZE);
	REQUIRE(fake->disk && fake->allocated && fake->scratch);
	fake->fail_op = -1;
	fake->identity = (struct scsi_identity){
		.serial = "9f8e7d6c-5b4a-3928-1706-f5e4d3c2b1a0", .vendor = "LUNKIT", .product = "disk", .revision = "1"
	};
	fake->groups = (struct scsi_port_groups){
		.count = 1,
		.transition_seconds = 3,
		.groups = { { .id = 0, .access_type = 3, .supported_states = 0x0f, .port_count = 1, .ports = { 7 } } },
	};
}

void fake_free(struct fake *fake)
{
	free(fake->disk);
	free(fake->allocated);
	free(fake->scratch);
}

static bool within(const void *base, size_t length, const uint8_t *buffer, size_t size)
{
	const uint8_t *from = base;
	return from >= buffer && from <= buffer + size && length <= (size_t)(buffer + size - from);
}

static void check_iov(const struct fake *fake, const struct lunkit_request *request)
{
	REQUIRE(iov_length(request->iov, request->iov_count) == request->length);
	for (unsigned at = 0; at < request->iov_count; at++) {
		const struct iovec *iov = &request->iov[at];
		bool known = fake->command.scratch && within(iov->iov_base, iov->iov_len, fake->scratch, SCSI_SCRATCH_SIZE);
		for (unsigned piece = 0; piece < FAKE_PIECES; piece++)
			known |= within(iov->iov_base, iov->iov_len, fake->pieces[piece], fake->piece_length[piece]);
		REQUIRE(known);
	}
}

static void mark(struct fake *fake, const struct lunkit_request *request, uint8_t value)
{
	uint64_t from = request->offset / fake->device.block_size;
	uint64_t to = (request->offset + request->length) / fake->device.block_size;
	memset(fake->allocated + from, value, to - from);
}

/* Runs of equal state, as far as room goes. */
static void fill_extents(const struct fake *fake, struct lunkit_request *request)
{
	uint32_t block_size = fake->device.block_size;
	uint64_t block = request->offset / block_size, end = (request->offset + request->length) / block_size;
	request->extent_count = 0;
	while (block < end && request->extent_count < request->extent_capacity) {
		uint64_t run = block + 1;
		while (run < end && fake->allocated[run] == fake->allocated[block])
			run++;
		static const unsigned flags[] = { LUNKIT_EXTENT_ZERO, LUNKIT_EXTENT_ALLOCATED, 0,
						  LUNKIT_EXTENT_ALLOCATED | LUNKIT_EXTENT_ZERO };
		request->extents[request->extent_count++] = (struct lunkit_extent){
			.offset = block * block_size,
			.length = (run - block) * block_size,
			.flags = flags[fake->allocated[block] & 3],
		};
		block = run;
	}
}

static int submit(struct fake *fake)
{
	struct lunkit_request *request = fake->command.request;
	uint64_t size = fake->device.blocks * fake->device.block_size;
	REQUIRE(request == &fake->request);
	REQUIRE((unsigned)request->op < LUNKIT_OP_COUNT);
	REQUIRE(range_within(request->offset, request->length, size));
	REQUIRE(!(request->flags & ~(LUNKIT_REQUEST_FUA | LUNKIT_REQUEST_MAY_DISCARD)));
	if (fake->order_count < ARRAY_SIZE(fake->order))
		fake->order[fake->order_count++] = request->op;
	fake->ops[request->op]++;
	fake->op_flags[request->op] = request->flags;
	if (fake->before)
		fake->before(fake, request);
	int result = 0;
	if (fake->fail_op == (int)request->op && fake->ops[request->op] > fake->fail_after)
		result = fake->fail_result;
	if (fake->result)
		result = fake->result(fake->argument);

	uint8_t *at = fake->disk + request->offset;
	switch (request->op) {
	case LUNKIT_READ:
		REQUIRE(request->length);
		check_iov(fake, request);
		if (!result)
			iov_copy_to(request->iov, request->iov_count, 0, at, request->length);
		break;
	case LUNKIT_WRITE:
		REQUIRE(request->length && !fake->device.read_only && !fake->device.software_write_protect);
		check_iov(fake, request);
		if (!result) {
			iov_copy_from(at, request->iov, request->iov_count, 0, request->length);
			mark(fake, request, 1);
		}
		break;
	case LUNKIT_DISCARD:
	case LUNKIT_WRITE_ZEROES:
		REQUIRE(request->length && !fake->device.read_only && !fake->device.software_write_protect);
		if (!result) {
			memset(at, 0, request->length);
			mark(fake, request, request->op == LUNKIT_WRITE_ZEROES && !(request->flags & LUNKIT_REQUEST_MAY_DISCARD));
		}
		break;
	case LUNKIT_EXTENTS:
		REQUIRE(request->length && request->extents && request->extent_capacity);
		if (!result && !request->extent_count)
			fill_extents(fake, request);
		break;
	case LUNKIT_FLUSH:
		break;
	}
	return result;
}

static int answer(struct fake *fake)
{
	struct scsi_query *query = &fake->command.query;
	int result = fake->result ? fake->result(fake->argument) : fake->ask_result;
	fake->asks++;
	switch (query->question) {
	case SCSI_ASK_IDENTITY:
		if (!result)
			query->identity = fake->identity;
		return result;
	case SCSI_ASK_PORT_GROUPS:
		if (!result)
			query->port_groups = fake->groups;
		return result;
	case SCSI_ASK_SET_PORT_GROUPS:
		REQUIRE(query->port_groups.count <= SCSI_PORT_GROUPS_MAX);
		fake->set = query->port_groups;
		return fake->result ? result : fake->set_result;
	}
	abort();
}

static int meet(struct fake *fake, enum scsi_step step)
{
	struct scsi_command *command = &fake->command;
	int result;
	switch (step) {
	case SCSI_SUBMIT:
		return submit(fake);
	case SCSI_LOCK:
		REQUIRE(!fake->locks++);
		REQUIRE(range_within(command->lock_offset, command->lock_length, fake->device.blocks * fake->device.block_size));
		fake->lock_offset = command->lock_offset;
		fake->lock_length = command->lock_length;
		return fake->lock_result;
	case SCSI_SCRATCH:
		REQUIRE(!fake->scratches++);
		result = fake->result ? fake->result(fake->argument) : fake->scratch_result;
		if (!result) {
			memset(fake->scratch, 0xee, SCSI_SCRATCH_SIZE);
			command->scratch = fake->scratch;
		}
		return result;
	case SCSI_ASK:
		return answer(fake);
	case SCSI_DONE:
		break;
	}
	abort();
}

enum scsi_status fake_run(struct fake *fake, const void *cdb, unsigned cdb_length, void *data, size_t size)
{
	struct scsi_command *command = &fake->command;
	memset(command, 0xa5, sizeof(*command)); /* what start() does not set shall be seen */
	memset(&fake->request, 0, sizeof(fake->request));
	memset(fake->ops, 0, sizeof(fake->ops));
	memset(fake->op_flags, 0, sizeof(fake->op_flags));
	fake->order_count = fake->locks = fake->scratches = fake->asks = fake->steps = 0;

	/* Three pieces of odd lengths, the middle one maybe empty, each with its own end for the sanitizer to see. */
	struct iovec iov[FAKE_PIECES];
	size_t cut[FAKE_PIECES + 1] = { 0, size / 3, size < 100 ? size / 3 : size / 2 + 1, size };
	for (unsigned at = 0; at < FAKE_PIECES; at++) {
		size_t length = cut[at + 1] - cut[at];
		fake->piece_length[at] = length;
		fake->pieces[at] = malloc(length ? length : 1);
		REQUIRE(fake->pieces[at]);
		if (length)
			memcpy(fake->pieces[at], (uint8_t *)data + cut[at], length);
		iov[at] = (struct iovec){ fake->pieces[at], length };
	}
	memcpy(command->cdb, cdb, cdb_length);
	command->cdb_length = cdb_length;
	command->iov = iov;
	command->iov_count = size ? FAKE_PIECES : 0;
	command->request = &fake->request;

	enum scsi_step step = scsi_command_start(&fake->device, command);
	while (step != SCSI_DONE) {
		REQUIRE(++fake->steps < STEPS_MAX);
		step = scsi_command_step(command, meet(fake, step));
	}

	REQUIRE(command->data_in_length <= size);
	REQUIRE(command->sense_length <= SCSI_SENSE_SIZE);
	REQUIRE((command->status == SCSI_CHECK_CONDITION) == (command->sense_length != 0));
	REQUIRE(command->status == SCSI_GOOD || !command->data_in_length);
	REQUIRE(command->status == SCSI_GOOD || command->status == SCSI_CHECK_CONDITION || command->status == SCSI_BUSY);
	for (unsigned at = 0; at < FAKE_PIECES; at++) {
		if (fake->piece_length[at])
			memcpy((uint8_t *)data + cut[at], fake->pieces[at], fake->piece_length[at]);
		free(fake->pieces[at]);
		fake->pieces[at] = NULL;
		fake->piece_length[at] = 0;
	}
	return command->status;
}

unsigned fake_sense(const struct fake *fake)
{
	const uint8_t *sense = fake->command.sense;
	if (!fake->command.sense_length)
		return 0;
	if ((sense[0] & 0x7f) == 0x72)
		return (sense[1] & 0xfu) << 16 | get_be16(sense + 2);
	return (sense[2] & 0xfu) << 16 | get_be16(sense + 12);
}

/* The descriptor of a type in descriptor-format sense, or NULL. */
static const uint8_t *sense_descriptor(const struct fake *fake, uint8_t type)
{
	const uint8_t *sense = fake->command.sense;
	for (unsigned at = 8; at + 2 <= fake->command.sense_length; at += 2u + sense[at + 1])
		if (sense[at] == type)
			return sense + at;
	return NULL;
}

bool fake_information(const struct fake *fake, uint64_t *ret)
{
	const uint8_t *sense = fake->command.sense;
	if ((sense[0] & 0x7f) == 0x72) {
		const uint8_t *descriptor = sense_descriptor(fake, 0);
		if (!descriptor || !(descriptor[2] & 0x80))
			return false;
		*ret = get_be64(descriptor + 4);
		return true;
	}
	*ret = get_be32(sense + 3);
	return sense[0] & 0x80;
}

unsigned fake_field(const struct fake *fake)
{
	const uint8_t *sense = fake->command.sense;
	if ((sense[0] & 0x7f) == 0x72) {
		const uint8_t *descriptor = sense_descriptor(fake, 2);
		return descriptor ? get_be24(descriptor + 4) : 0;
	}
	return get_be24(sense + 15);
}
