/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * REPORT TARGET PORT GROUPS and SET TARGET PORT GROUPS (SPC-4 6.39, 6.45). Owner: the worker's thread.
 *
 * The groups live in the kernel target's configuration; the control process reads and writes them there. SET asks for them first, so that
 * it can check the whole list (group known, explicit access allowed, state supported) before anything is changed.
 */

#include <errno.h>

#include "scsi/command.h"

#define GROUP_LENGTH_MAX (8 + 4 * SCSI_PORTS_MAX)

static unsigned group_count(const struct scsi_port_groups *groups)
{
	return MIN(groups->count, (unsigned)SCSI_PORT_GROUPS_MAX);
}

static enum scsi_step report_answered(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail_question(command, result);
	const struct scsi_port_groups *groups = &command->query.port_groups;
	bool extended = command->cdb[1] >> 5 == 1;
	uint8_t data[8 + SCSI_PORT_GROUPS_MAX * GROUP_LENGTH_MAX];
	unsigned length = extended ? 8 : 4;
	memset(data, 0, 8);
	if (extended) {
		data[4] = 0x10;
		data[5] = (uint8_t)MIN(groups->transition_seconds, 255u);
	}
	for (unsigned at = 0; at < group_count(groups); at++) {
		const struct scsi_port_group *group = &groups->groups[at];
		unsigned ports = MIN(group->port_count, (uint16_t)SCSI_PORTS_MAX);
		uint8_t *to = data + length;
		memset(to, 0, 8);
		to[0] = (uint8_t)((group->preferred ? 0x80 : 0) | (group->access_state & 0x0f));
		to[1] = group->supported_states;
		put_be16(to + 2, group->id);
		to[5] = group->access_status;
		to[7] = (uint8_t)ports;
		length += 8;
		for (unsigned port = 0; port < ports; port++) {
			put_be32(data + length, group->ports[port]);
			length += 4;
		}
	}
	put_be32(data, length - 4);
	return scsi_reply(command, data, length, get_be32(command->cdb + 6));
}

enum scsi_step scsi_start_report_port_groups(struct scsi_command *command)
{
	if (command->cdb[1] >> 5 > 1)
		return scsi_invalid_cdb(command, 1, 7); /* PARAMETER DATA FORMAT */
	return scsi_ask(command, SCSI_ASK_PORT_GROUPS, report_answered);
}

/* ---- SET ---------------------------------------------------------------------------------------------------------------------------------- */

static enum scsi_step set_answered(struct scsi_command *command, int result)
{
	if (!result)
		return scsi_good(command);
	if (result == -EAGAIN || result == -EBUSY || result == -ENOMEM)
		return scsi_fail_question(command, result);
	return scsi_check(command, SENSE_HARDWARE_ERROR, CODE_SET_PORT_GROUPS_FAILED);
}

/* Whether an initiator may ask for the state of this group: bit n of T_SUP … AO_SUP (SPC-4 table 284). */
static bool state_allowed(const struct scsi_port_group *group, uint8_t state)
{
	switch (state) {
	case 0x0: /* active/optimized */
	case 0x1: /* active/non-optimized */
	case 0x2: /* standby */
	case 0x3: /* unavailable */
		return group->supported_states & 1u << state;
	default:
		return false;
	}
}

static enum scsi_step set_check(struct scsi_command *command, int result)
{
	if (result)
		return scsi_fail_question(command, result);
	struct scsi_port_groups *groups = &command->query.port_groups;
	unsigned length = get_be32(command->cdb + 6), wanted = 0;
	struct scsi_port_group changed[SCSI_PORT_GROUPS_MAX];
	bool any_explicit = false;
	for (unsigned at = 0; at < group_count(groups); at++)
		any_explicit |= (groups->groups[at].access_type & 2) != 0;
	if (!any_explicit)
		return scsi_invalid_cdb(command, 1, 4);
	for (unsigned offset = 4; offset < length; offset += 4) {
		uint8_t raw[4];
		iov_copy_from(raw, command->iov, command->iov_count, offset, sizeof(raw));
		uint16_t id = get_be16(raw + 2);
		const struct scsi_port_group *group = NULL;
		for (unsigned at = 0; at < group_count(groups); at++)
			if (groups->groups[at].id == id)
				group = &groups->groups[at];
		if (!group)
			return scsi_invalid_list(command, offset + 2, -1);
		for (unsigned at = 0; at < wanted; at++)
			if (changed[at].id == id)
				return scsi_invalid_list(command, offset + 2, -1); /* twice */
		if (!(group->access_type & 2) || !state_allowed(group, raw[0] & 0x0f))
			return scsi_invalid_list(command, offset, 3);
		changed[wanted] = *group;
		changed[wanted++].access_state = raw[0] & 0x0f;
	}
	memcpy(groups->groups, changed, wanted * sizeof(changed[0]));
	groups->count = wanted;
	return scsi_ask(command, SCSI_ASK_SET_PORT_GROUPS, set_answered);
}

enum scsi_step scsi_start_set_port_groups(struct scsi_command *command)
{
	uint32_t length = get_be32(command->cdb + 6);
	if (!length)
		return scsi_good(command);
	if (length < 8 || length % 4 || length > 4 + 4 * SCSI_PORT_GROUPS_MAX || command->data_length < length)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
	return scsi_ask(command, SCSI_ASK_PORT_GROUPS, set_check);
}
