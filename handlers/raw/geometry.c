/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the storage is: a file or a device, how large, and what direct I/O asks of offsets and memory. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raw.h"

#ifndef STATX_DIOALIGN /* Linux 6.1; older C libraries */
#define STATX_DIOALIGN 0x2000u
#endif
/* Where struct statx has stx_dio_mem_align and stx_dio_offset_align: include/uapi/linux/stat.h. */
#define STATX_DIO_MEM_OFFSET 0x98
#define STATX_DIO_OFFSET_OFFSET 0x9c

#define ALIGNMENT_MAX (64u << 10)

static const char *type_name(mode_t mode)
{
	if (S_ISDIR(mode))
		return "a directory";
	if (S_ISFIFO(mode))
		return "a pipe";
	if (S_ISSOCK(mode))
		return "a socket";
	if (S_ISCHR(mode))
		return "a character device";
	return "something else";
}

static bool is_alignment(unsigned value)
{
	return value && !(value & (value - 1)) && value <= ALIGNMENT_MAX;
}

static unsigned u32_at(const void *base, size_t offset)
{
	unsigned value;
	memcpy(&value, (const char *)base + offset, sizeof(value));
	return value;
}

/* The kernel tells, since 6.1, for some filesystems and for devices. False when it doesn't; an offset alignment of 0: no direct I/O. */
static bool ask_kernel(const struct raw *raw, unsigned *ret_memory, unsigned *ret_offset)
{
	struct statx status;
	memset(&status, 0, sizeof(status));
	if (statx(raw->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) < 0 || !(status.stx_mask & STATX_DIOALIGN))
		return false;
	unsigned memory = u32_at(&status, STATX_DIO_MEM_OFFSET), offset = u32_at(&status, STATX_DIO_OFFSET_OFFSET);
	if (offset && (!is_alignment(memory) || !is_alignment(offset)))
		return false;
	*ret_memory = memory;
	*ret_offset = offset;
	return true;
}

/* The smallest unit that can be read. An empty file tells nothing: then the largest usual one. */
static unsigned probe(const struct raw *raw)
{
	static const unsigned units[] = { 512, 1024, 2048, 4096 };
	char *memory = aligned_alloc(8192, 8192);
	unsigned found = 4096;
	for (unsigned i = 0; memory && i < sizeof(units) / sizeof(units[0]); i++) {
		ssize_t n = pread(raw->fd, memory + units[i], units[i], 0);
		if (n > 0) {
			found = units[i];
			break;
		}
	}
	free(memory);
	return found;
}

static void find_alignment(struct raw *raw)
{
	raw->request_alignment = raw->memory_alignment = 1;
	if (!raw->direct)
		return;
	unsigned memory, offset;
	if (!ask_kernel(raw, &memory, &offset)) {
		memory = offset = probe(raw);
	} else if (offset == 0) {
		lunkit_log(LUNKIT_LOG_WARNING, "%s: the filesystem has no direct I/O for this file: the image goes through the page cache",
			   raw->name);
		raw->direct = false;
		return;
	}
	raw->request_alignment = offset;
	raw->memory_alignment = memory;
}

static void look_at_device(struct raw *raw)
{
	int logical = 0;
	unsigned physical = 0, optimal = 0;
	unsigned short rotational = 0;
	if (ioctl(raw->fd, BLKSSZGET, &logical) == 0 && !raw->block_size && (logical == 512 || logical == 4096))
		raw->block_size = (unsigned)logical;
	if (ioctl(raw->fd, BLKPBSZGET, &physical) == 0 && is_alignment(physical))
		raw->physical_block_size = physical;
	if (ioctl(raw->fd, BLKIOOPT, &optimal) == 0)
		raw->optimal_transfer = optimal;
	if (ioctl(raw->fd, BLKROTATIONAL, &rotational) == 0)
		raw->rotational = rotational;
}

int raw_look(struct raw *raw, const char *path, uint64_t wanted_block_size, struct lunkit_error *err)
{
	struct stat status;
	if (fstat(raw->fd, &status) < 0)
		return lunkit_error_set(err, errno, "cannot look at %.300s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
		lunkit_error_set(err, S_ISDIR(status.st_mode) ? EISDIR : EINVAL, "%.300s is %s, not a disk image", path,
				 type_name(status.st_mode));
		return lunkit_error_hint(err, "Name a regular file or a block device.");
	}
	raw->is_block = S_ISBLK(status.st_mode);
	raw->block_size = (unsigned)wanted_block_size;
	if (raw->is_block)
		look_at_device(raw);
	else if (is_alignment((unsigned)status.st_blksize))
		raw->physical_block_size = (unsigned)status.st_blksize;
	if (!raw->block_size)
		raw->block_size = 512;
	if (raw->physical_block_size < raw->block_size)
		raw->physical_block_size = raw->block_size;
	find_alignment(raw);
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
