/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * INQUIRY (SPC-4 6.6) and its vital product data: 00 supported pages, 80 unit serial number, 83 device identification (SPC-4 7.8), B0 block
 * limits, B1 block device characteristics, B2 logical block provisioning (SBC-3 6.6). Owner: the worker's thread.
 *
 *     start ─→ ask for the identity ─→ [standard data, page 83: ask for the target port groups] ─→ answer
 *
 * Identity and port groups belong to the kernel target's configuration, which may change at any time. When a question is not answered, the
 * last known identity is told, and no port groups: an INQUIRY never fails for that.
 *
 * Page 83's NAA designator is 6 001405 and 25 hex digits of the serial number, as LIO and tcmu-runner derive it, so that a disk keeps its name
 * when it moves between them. Relative target port and target port group are told only where there is one port: an entry of the command ring
 * does not say through which port a command came.
 */

#include "scsi/command.h"

#define PAGE_SIZE_MAX 512

bool scsi_identity_naa(const struct scsi_identity *identity, uint8_t naa[SCSI_NAA_LENGTH])
{
	memset(naa, 0, SCSI_NAA_LENGTH);
	naa[0] = 0x60;
	naa[1] = 0x01;
	naa[2] = 0x40;
	naa[3] = 0x50;
	unsigned digit = 7; /* the next hex digit's place */
	for (unsigned at = 0; at < SCSI_SERIAL_MAX && identity->serial[at] && digit < 2 * SCSI_NAA_LENGTH; at++) {
		char c = identity->serial[at];
		unsigned value;
		if (c >= '0' && c <= '9')
			value = (unsigned)(c - '0');
		else if (c >= 'a' && c <= 'f')
			value = (unsigned)(c - 'a') + 10;
		else if (c >= 'A' && c <= 'F')
			value = (unsigned)(c - 'A') + 10;
		else
			continue;
		naa[digit / 2] |= (uint8_t)(digit & 1 ? value : value << 4);
		digit++;
	}
	return digit > 7;
}

static void printable(char *text, size_t size)
{
	text[size - 1] = 0;
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = ' ';
}

void scsi_identity_take(struct scsi_command *command, int result)
{
	if (result)
		return;
	struct scsi_identity *identity = &command->query.identity;
	printable(identity->serial, sizeof(identity->serial));
	printable(identity->vendor, sizeof(identity->vendor));
	printable(identity->product, sizeof(identity->product));
	printable(identity->revision, sizeof(identity->revision));
	command->device->identity = *identity;
}

/* Left-aligned, filled with spaces (SPC-4 4.4.1). */
static void text_put(uint8_t *to, const char *text, size_t size)
{
	size_t length = strnlen(text, size);
	memcpy(to, text, length);
	memset(to + length, ' ', size - length);
}

static enum scsi_step reply(struct scsi_command *command, const uint8_t *data, size_t length)
{
	return scsi_reply(command, data, length, get_be16(command->cdb + 3));
}

static enum scsi_step standard_answer(struct scsi_command *command, const struct scsi_port_groups *groups)
{
	const struct scsi_identity *identity = &command->device->identity;
	uint8_t data[96] = { 0 };
	unsigned access_types = 0;
	for (unsigned at = 0; groups && at < groups->count && at < SCSI_PORT_GROUPS_MAX; at++)
		access_types |= groups->groups[at].access_type & 3;
	data[2] = 6;	/* SPC-4 */
	data[3] = 0x12; /* HISUP, response data format 2 */
	data[4] = sizeof(data) - 5;
	data[5] = (uint8_t)(access_types << 4 | 0x08); /* TPGS, 3PC */
	data[7] = 0x02;				       /* CMDQUE */
	text_put(data + 8, identity->vendor, 8);
	text_put(data + 16, identity->product, 16);
	text_put(data + 32, identity->revision, 4);
	put_be16(data + 58, 0x00a0); /* SAM-5 */
	put_be16(data + 60, 0x0460); /* SPC-4 */
	put_be16(data + 62, 0x04c0); /* SBC-3 */
	return reply(command, data, sizeof(data));
}

static enum scsi_step page_supported(struct scsi_command *command)
{
	static const uint8_t data[] = { 0, 0x00, 0, 6, 0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2 };
	return reply(command, data, sizeof(data));
}

static enum scsi_step page_serial(struct scsi_command *command)
{
	const char *serial = command->device->identity.serial;
	uint8_t data[4 + SCSI_SERIAL_MAX] = { 0, 0x80 };
	size_t length = strnlen(serial, SCSI_SERIAL_MAX);
	data[3] = (uint8_t)length;
	memcpy(data + 4, serial, length);
	return reply(command, data, 4 + length);
}

/* A designator's header (SPC-4 7.8.6.1); the body follows it. */
static uint8_t *designator_put(uint8_t *to, uint8_t code_set, uint8_t association_and_type, size_t length)
{
	to[0] = code_set;
	to[1] = association_and_type;
	to[2] = 0;
	to[3] = (uint8_t)length;
	return to + 4;
}

static enum scsi_step identification_answer(struct scsi_command *command, const struct scsi_port_groups *groups)
{
	const struct scsi_identity *identity = &command->device->identity;
	uint8_t data[PAGE_SIZE_MAX] = { 0, 0x83 }, naa[SCSI_NAA_LENGTH];
	uint8_t *to = data + 4;
	if (scsi_identity_naa(identity, naa)) {
		to = designator_put(to, 1, 0x03, sizeof(naa));
		memcpy(to, naa, sizeof(naa));
		to += sizeof(naa);
	}
	size_t serial_length = strnlen(identity->serial, SCSI_SERIAL_MAX);
	to = designator_put(to, 2, 0x01, 8 + serial_length); /* T10 vendor identification */
	text_put(to, identity->vendor, 8);
	memcpy(to + 8, identity->serial, serial_length);
	to += 8 + serial_length;

	const struct scsi_port_group *group = NULL;
	unsigned ports = 0;
	for (unsigned at = 0; groups && at < groups->count && at < SCSI_PORT_GROUPS_MAX; at++) {
		ports += groups->groups[at].port_count;
		if (groups->groups[at].port_count)
			group = &groups->groups[at];
	}
	if (ports == 1) {
		to = designator_put(to, 1, 0x14, 4); /* relative target port */
		put_be16(to + 2, group->ports[0]);
		to += 4;
		to = designator_put(to, 1, 0x15, 4); /* target port group */
		put_be16(to + 2, group->id);
		to += 4;
	}
	put_be16(data + 2, (uint16_t)(to - data - 4));
	return reply(command, data, (size_t)(to - data));
}

static enum scsi_step page_limits(struct scsi_command *command)
{
	const struct scsi_device *device = command->device;
	uint8_t data[64] = { 0, 0xb0, 0, 60 };
	data[5] = (uint8_t)scsi_limit_compare_blocks(device);
	put_be16(data + 6, (uint16_t)(1u << (device->physical_block_exponent & 0x0f)));
	put_be32(data + 8, device->max_transfer_blocks);
	put_be32(data + 12, device->optimal_transfer_blocks);
	if (device->can_discard) {
		put_be32(data + 20, scsi_limit_unmap_blocks(device));
		put_be32(data + 24, scsi_limit_unmap_descriptors(device));
		put_be32(data + 28, device->unmap_granularity_blocks);
		if (device->unmap_granularity_blocks)
			put_be32(data + 32, 0x80000000); /* UGAVALID, aligned at 0 */
	}
	put_be64(data + 36, device->max_write_same_blocks);
	return reply(command, data, sizeof(data));
}

static enum scsi_step page_characteristics(struct scsi_command *command)
{
	uint8_t data[64] = { 0, 0xb1, 0, 60 };
	put_be16(data + 4, command->device->rotational ? 0 : 1); /* rotation rate: not reported, or a non-rotating medium */
	return reply(command, data, sizeof(data));
}

static enum scsi_step page_provisioning(struct scsi_command *command)
{
	uint8_t data[8] = { 0, 0xb2, 0, 4 };
	if (command->device->can_discard) {
		data[5] = 0xe0; /* LBPU, LBPWS, LBPWS10 */
		if (command->device->discard_zeroes)
			data[5] |= 0x04; /* LBPRZ */
		data[6] = 0x02;		 /* thin provisioned */
	}
	return reply(command, data, sizeof(data));
}

static enum scsi_step groups_answered(struct scsi_command *command, int result)
{
	const struct scsi_port_groups *groups = result ? NULL : &command->query.port_groups;
	return command->cdb[1] & 1 ? identification_answer(command, groups) : standard_answer(command, groups);
}

static enum scsi_step identity_answered(struct scsi_command *command, int result)
{
	scsi_identity_take(command, result);
	if (command->cdb[1] & 1 && command->cdb[2] == 0x80)
		return page_serial(command);
	return scsi_ask(command, SCSI_ASK_PORT_GROUPS, groups_answered);
}

enum scsi_step scsi_start_inquiry(struct scsi_command *command)
{
	const uint8_t *cdb = command->cdb;
	if (cdb[1] & 0x02)
		return scsi_invalid_cdb(command, 1, 1); /* CMDDT, obsolete */
	if (!(cdb[1] & 1)) {
		if (cdb[2])
			return scsi_invalid_cdb(command, 2, -1);
		return scsi_ask(command, SCSI_ASK_IDENTITY, identity_answered);
	}
	switch (cdb[2]) {
	case 0x00:
		return page_supported(command);
	case 0x80:
	case 0x83:
		return scsi_ask(command, SCSI_ASK_IDENTITY, identity_answered);
	case 0xb0:
		return page_limits(command);
	case 0xb1:
		return page_characteristics(command);
	case 0xb2:
		return page_provisioning(command);
	default:
		return scsi_invalid_cdb(command, 2, -1);
	}
}
