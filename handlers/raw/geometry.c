/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the storage is, as the disk shows it: blocks, alignments, and sizes that fit them. */
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "raw.h"

static bool is_power_of_two(unsigned value)
{
	return value && !(value & (value - 1));
}

int raw_look(struct raw *raw, const char *path, uint64_t wanted_block_size, struct lunkit_error *err)
{
	struct lunkit_file_geometry geometry = { .struct_size = sizeof(geometry) };
	int r = lunkit_file_look(raw->host, raw->fd, path, raw->direct, &geometry, err);
	if (r < 0)
		return r;
	raw->is_block = geometry.is_block;
	raw->direct = geometry.direct;
	raw->rotational = geometry.rotational;
	raw->optimal_transfer = geometry.optimal_transfer;
	raw->request_alignment = geometry.offset_alignment;
	raw->memory_alignment = geometry.memory_alignment;
	raw->block_size = (unsigned)wanted_block_size;
	if (!raw->block_size && (geometry.block_size == 512 || geometry.block_size == 4096))
		raw->block_size = geometry.block_size;
	if (!raw->block_size)
		raw->block_size = 512;
	raw->physical_block_size = is_power_of_two(geometry.physical_block_size) ? geometry.physical_block_size : 0;
	if (raw->physical_block_size < raw->block_size)
		raw->physical_block_size = raw->block_size;
	return 0;
}

int raw_read_size(const struct raw *raw, uint64_t *ret_size)
{
	struct stat status;
	uint64_t size;
	if (raw->is_block) {
		if (ioctl(raw->fd, BLKGETSIZE64, &size) < 0)
			return -errno;
	} else {
		if (fstat(raw->fd, &status) < 0)
			return -errno;
		size = (uint64_t)status.st_size;
	}
	*ret_size = size;
	return 0;
}

int raw_check_size(const struct raw *raw, uint64_t size, struct lunkit_error *err)
{
	if (size == 0) {
		lunkit_error_set(err, EINVAL, "%.300s is empty: there is no disk in it", raw->name);
		return lunkit_error_hint(err, "Create an image with a size: lunkit create.");
	}
	if (size % raw->block_size) {
		uint64_t whole = size / raw->block_size * raw->block_size + raw->block_size;
		lunkit_error_set(err, EINVAL, "%.300s holds %" PRIu64 " bytes, which is not a multiple of the block size, %u", raw->name,
				 size, raw->block_size);
		return lunkit_error_hint(err, "`truncate -s %" PRIu64 "` adds what is missing to the last block.", whole);
	}
	if (size % raw->request_alignment) {
		lunkit_error_set(err, EINVAL, "%.300s holds %" PRIu64 " bytes; direct I/O needs a multiple of %u there", raw->name, size,
				 raw->request_alignment);
		return lunkit_error_hint(err, "Use cache=writeback, or make the file a multiple of that long.");
	}
	return 0;
}
