/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Arbitrary CDBs with arbitrary data, results and answers against the fake owner, which aborts where the machine breaks a promise.
 *
 *     input: device flags(1) │ commands: cdb length(1) cdb │ data length(2, little-endian) data │ one byte for each result
 *
 * Several commands run against one device, so that state (mode pages, copies, stopped) meets them too.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "scsi_fake.h"

#define DATA_MAX 16384
#define COMMANDS_MAX 8

struct input {
	const uint8_t *at, *end;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t input_byte(struct input *input)
{
	return input->at < input->end ? *input->at++ : 0;
}

static int next_result(void *argument)
{
	static const int errors[] = { -EIO, -ENOSPC, -EAGAIN, -EROFS, -ETIMEDOUT, -EOPNOTSUPP, -EINVAL, -ENOMEM };
	struct input *input = argument;
	uint8_t byte = input_byte(input);
	return byte & 0x80 ? errors[byte & 7] : 0;
}

/* Extents as a broken handler might tell them. */
static void hostile_extents(struct fake *fake, struct lunkit_request *request)
{
	struct input *input = fake->argument;
	if (request->op != LUNKIT_EXTENTS || !(input_byte(input) & 1))
		return;
	unsigned count = input_byte(input) % (request->extent_capacity + 1);
	uint64_t offset = request->offset;
	for (unsigned at = 0; at < count; at++) {
		uint8_t shape = input_byte(input);
		uint64_t length = (uint64_t)input_byte(input) << (shape & 0x3f);
		request->extents[at] = (struct lunkit_extent){ offset, length, shape >> 6 };
		offset += length + (shape == 0x3f);
	}
	request->extent_count = count;
}

static void hostile_answers(struct fake *fake, uint8_t flags)
{
	if (flags & 0x10)
		fake->groups.count = 1000;
	if (flags & 0x20)
		for (unsigned at = 0; at < SCSI_PORT_GROUPS_MAX; at++) {
			fake->groups.groups[at] = fake->groups.groups[0];
			fake->groups.groups[at].id = (uint16_t)at;
			fake->groups.groups[at].port_count = 60000;
		}
	if (flags & 0x40)
		memset(&fake->identity, 'f', sizeof(fake->identity)); /* nothing ends */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, data + size };
	struct fake fake;
	uint8_t flags = input_byte(&input), cdb[SCSI_CDB_MAX];
	fake_init(&fake, flags & 1 ? 4096 : 512);
	fake.device.blocks = flags & 2 ? FAKE_BLOCKS : 100;
	fake.device.can_discard = !(flags & 4);
	fake.device.read_only = (flags & 0x88) == 0x88;
	if (flags & 8) {
		fake.device.max_transfer_blocks = 64;
		fake.device.max_unmap_blocks = 50;
		fake.device.max_unmap_descriptors = 3;
		fake.device.max_write_same_blocks = 70;
		fake.device.unit_attentions = SCSI_UA_RESET | SCSI_UA_CAPACITY_CHANGED;
	}
	hostile_answers(&fake, flags);
	fake.result = next_result;
	fake.argument = &input;
	fake.before = hostile_extents;

	for (unsigned number = 0; number < COMMANDS_MAX && input.at < input.end; number++) {
		unsigned cdb_length = input_byte(&input) % 20;
		for (unsigned at = 0; at < cdb_length; at++)
			cdb[at] = input_byte(&input);
		size_t length = input_byte(&input);
		length |= (size_t)input_byte(&input) << 8;
		length %= DATA_MAX + 1;
		uint8_t *buffer = calloc(1, length ? length : 1);
		if (!buffer)
			abort();
		size_t given = MIN(length, (size_t)(input.end - input.at));
		memcpy(buffer, input.at, given);
		input.at += given;
		fake_run(&fake, cdb, cdb_length, buffer, length);
		if (!scsi_opcode_name(cdb, cdb_length)[0])
			abort();
		free(buffer);
	}
	fake_free(&fake);
	return 0;
}
