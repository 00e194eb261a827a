/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * MODE SENSE and MODE SELECT (6, 10): SPC-4 6.11 to 6.14 and 7.5, SBC-3 6.5. Owner: the worker's thread.
 *
 *     parameter list: header 4 or 8 │ block descriptor 0, 8 or 16 │ page: code, length, … │ page …
 *
 * Pages: caching (08: WCE may be changed where the image has a volatile cache) and control (0A: D_SENSE and SWP may be changed). They have
 * no subpages and are not saved. MODE SELECT checks the whole list before it changes anything. It raises no unit attention: an entry of the
 * command ring does not say which initiator sent it, and the one that did the change must not get it.
 */

#include "scsi/command.h"

#define PAGE_CACHING 0x08
#define PAGE_CONTROL 0x0a
#define PAGE_ALL 0x3f
#define CACHING_LENGTH 20
#define CONTROL_LENGTH 12
#define SELECT_MAX 255 /* longer than any list that is right */

enum page_control { PC_CURRENT, PC_CHANGEABLE, PC_DEFAULT, PC_SAVED };

struct mode_values {
	bool write_cache, descriptor_sense, software_write_protect;
};

static struct mode_values values_get(const struct scsi_device *device, enum page_control control)
{
	switch (control) {
	case PC_CURRENT:
	case PC_SAVED:
		break;
	case PC_CHANGEABLE:
		return (struct mode_values){ device->write_cache_default, true, true };
	case PC_DEFAULT:
		return (struct mode_values){ device->write_cache_default, false, false };
	}
	return (struct mode_values){ device->write_cache, device->descriptor_sense, device->software_write_protect };
}

static unsigned caching_put(uint8_t *to, const struct scsi_device *device, enum page_control control)
{
	memset(to, 0, CACHING_LENGTH);
	to[0] = PAGE_CACHING;
	to[1] = CACHING_LENGTH - 2;
	if (values_get(device, control).write_cache)
		to[2] |= 0x04;
	return CACHING_LENGTH;
}

static unsigned control_put(uint8_t *to, const struct scsi_device *device, enum page_control control)
{
	struct mode_values values = values_get(device, control);
	memset(to, 0, CONTROL_LENGTH);
	to[0] = PAGE_CONTROL;
	to[1] = CONTROL_LENGTH - 2;
	if (values.descriptor_sense)
		to[2] |= 0x04;
	if (values.software_write_protect)
		to[4] |= 0x08;
	if (control != PC_CHANGEABLE) {
		to[2] |= 0x02;		      /* GLTSD: nothing is logged */
		to[3] |= 0x10;		      /* commands may be reordered without restriction */
		put_be16(to + 8, UINT16_MAX); /* busy for an unlimited time */
	}
	return CONTROL_LENGTH;
}

static unsigned block_descriptor_put(uint8_t *to, const struct scsi_device *device, bool long_lba)
{
	if (long_lba) {
		memset(to, 0, 16);
		put_be64(to, device->blocks);
		put_be32(to + 12, device->block_size);
		return 16;
	}
	put_be32(to, (uint32_t)MIN(device->blocks, (uint64_t)UINT32_MAX));
	to[4] = 0;
	put_be24(to + 5, device->block_size);
	return 8;
}

enum scsi_step scsi_start_mode_sense(struct scsi_command *command)
{
	const struct scsi_device *device = command->device;
	const uint8_t *cdb = command->cdb;
	bool six = cdb[0] == 0x1a, long_lba = !six && cdb[1] & 0x10;
	enum page_control control = cdb[2] >> 6;
	uint8_t page = cdb[2] & 0x3f, subpage = cdb[3];
	if (control == PC_SAVED)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_SAVING_NOT_SUPPORTED);
	if (page != PAGE_CACHING && page != PAGE_CONTROL && page != PAGE_ALL)
		return scsi_invalid_cdb(command, 2, 5);
	if (subpage != 0 && subpage != 0xff)
		return scsi_invalid_cdb(command, 3, -1);

	uint8_t data[8 + 16 + CACHING_LENGTH + CONTROL_LENGTH] = { 0 };
	unsigned header = six ? 4 : 8, descriptor = 0, length;
	if (!(cdb[1] & 0x08))
		descriptor = block_descriptor_put(data + header, device, long_lba);
	length = header + descriptor;
	if (page == PAGE_CACHING || page == PAGE_ALL)
		length += caching_put(data + length, device, control);
	if (page == PAGE_CONTROL || page == PAGE_ALL)
		length += control_put(data + length, device, control);

	uint8_t specific = 0x10; /* DPOFUA */
	if (device->read_only || device->software_write_protect)
		specific |= 0x80;
	if (six) {
		data[0] = (uint8_t)(length - 1);
		data[2] = specific;
		data[3] = (uint8_t)descriptor;
		return scsi_reply(command, data, length, cdb[4]);
	}
	put_be16(data, (uint16_t)(length - 2));
	data[3] = specific;
	data[4] = long_lba && descriptor ? 1 : 0;
	put_be16(data + 6, (uint16_t)descriptor);
	return scsi_reply(command, data, length, get_be16(cdb + 7));
}

/* ---- MODE SELECT ------------------------------------------------------------------------------------------------------------------------ */

struct select_list {
	uint8_t data[SELECT_MAX];
	unsigned length;
};

/* Checks the header and the block descriptor. False when the command is done. */
static bool select_header(struct scsi_command *command, const struct select_list *list, bool six, unsigned *ret_at, enum scsi_step *ret)
{
	const struct scsi_device *device = command->device;
	const uint8_t *data = list->data;
	unsigned header = six ? 4 : 8;
	if (list->length < header) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
		return false;
	}
	unsigned descriptor = six ? data[3] : get_be16(data + 6);
	bool long_lba = !six && data[4] & 1;
	if (data[six ? 1 : 2]) {
		*ret = scsi_invalid_list(command, six ? 1 : 2, -1); /* medium type */
		return false;
	}
	if (descriptor && descriptor != (long_lba ? 16u : 8u)) {
		*ret = scsi_invalid_list(command, six ? 3 : 6, -1);
		return false;
	}
	if (descriptor > list->length - header) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
		return false;
	}
	if (descriptor) {
		const uint8_t *from = data + header;
		uint64_t blocks = long_lba ? get_be64(from) : get_be32(from);
		uint64_t all = long_lba ? UINT64_MAX : UINT32_MAX;
		uint32_t block_size = long_lba ? get_be32(from + 12) : get_be24(from + 5);
		if (blocks && blocks != all && blocks != device->blocks) {
			*ret = scsi_invalid_list(command, header, -1);
			return false;
		}
		if (block_size != device->block_size) {
			*ret = scsi_invalid_list(command, header + (long_lba ? 12 : 5), -1);
			return false;
		}
	}
	*ret_at = header + descriptor;
	return true;
}

/* Checks the page at offset at and takes its values. False when the command is done. */
static bool select_page(struct scsi_command *command, const struct select_list *list, unsigned at, unsigned *ret_next,
			struct mode_values *values, enum scsi_step *ret)
{
	const struct scsi_device *device = command->device;
	const uint8_t *page = list->data + at;
	uint8_t current[CACHING_LENGTH], changeable[CACHING_LENGTH];
	unsigned length, left = list->length - at;
	if (left < 2) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
		return false;
	}
	if (page[0] & 0x40) {
		*ret = scsi_invalid_list(command, at, 6); /* SPF: there are no subpages */
		return false;
	}
	switch (page[0] & 0x3f) {
	case PAGE_CACHING:
		length = caching_put(current, device, PC_CURRENT);
		caching_put(changeable, device, PC_CHANGEABLE);
		break;
	case PAGE_CONTROL:
		length = control_put(current, device, PC_CURRENT);
		control_put(changeable, device, PC_CHANGEABLE);
		break;
	default:
		*ret = scsi_invalid_list(command, at, 5);
		return false;
	}
	if (page[1] != length - 2) {
		*ret = scsi_invalid_list(command, at + 1, -1);
		return false;
	}
	if (left < length) {
		*ret = scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
		return false;
	}
	for (unsigned byte = 2; byte < length; byte++) {
		unsigned wrong = (unsigned)(page[byte] ^ current[byte]) & ~(unsigned)changeable[byte] & 0xff;
		if (wrong) {
			*ret = scsi_invalid_list(command, at + byte, 31 - __builtin_clz(wrong));
			return false;
		}
	}
	if ((page[0] & 0x3f) == PAGE_CACHING) {
		values->write_cache = page[2] & 0x04;
	} else {
		values->descriptor_sense = page[2] & 0x04;
		values->software_write_protect = page[4] & 0x08;
	}
	*ret_next = at + length;
	return true;
}

enum scsi_step scsi_start_mode_select(struct scsi_command *command)
{
	struct scsi_device *device = command->device;
	const uint8_t *cdb = command->cdb;
	bool six = cdb[0] == 0x15;
	unsigned length = six ? cdb[4] : get_be16(cdb + 7), at;
	enum scsi_step end;
	if (!(cdb[1] & 0x10))
		return scsi_invalid_cdb(command, 1, 4); /* PF: vendor-specific lists are not known */
	if (cdb[1] & 0x01)
		return scsi_invalid_cdb(command, 1, 0); /* SP: nothing is saved */
	if (!length)
		return scsi_good(command);
	struct select_list list;
	if (length > sizeof(list.data) || command->data_length < length)
		return scsi_check(command, SENSE_ILLEGAL_REQUEST, CODE_LIST_LENGTH_ERROR);
	list.length = length;
	iov_copy_from(list.data, command->iov, command->iov_count, 0, length);

	struct mode_values values = values_get(device, PC_CURRENT);
	if (!select_header(command, &list, six, &at, &end))
		return end;
	while (at < length)
		if (!select_page(command, &list, at, &at, &values, &end))
			return end;

	bool cache_off = device->write_cache && !values.write_cache;
	device->write_cache = values.write_cache;
	device->descriptor_sense = values.descriptor_sense;
	device->software_write_protect = values.software_write_protect;
	/* What is in the cache while it is switched off becomes durable (SBC-3 6.5.5). */
	return cache_off ? scsi_flush(command, scsi_finish) : scsi_good(command);
}
