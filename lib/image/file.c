/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the storage is: a file or a device, how large, and what direct I/O asks of offsets and memory; and blocking I/O on it, for the moments
 * when an image does not serve requests. Called on the worker's thread and on its helper threads: no state but the descriptor.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "image/image.h"

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
	return is_power_of_two(value) && value <= ALIGNMENT_MAX;
}

static unsigned u32_at(const void *base, size_t offset)
{
	unsigned value;
	memcpy(&value, (const char *)base + offset, sizeof(value));
	return value;
}

/* The kernel tells, since 6.1, for some filesystems and for devices. False when it doesn't; an offset alignment of 0: no direct I/O. */
static bool ask_kernel(int fd, unsigned *ret_memory, unsigned *ret_offset)
{
	struct statx status;
	memset(&status, 0, sizeof(status));
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) < 0 || !(status.stx_mask & STATX_DIOALIGN))
		return false;
	unsigned memory = u32_at(&status, STATX_DIO_MEM_OFFSET), offset = u32_at(&status, STATX_DIO_OFFSET_OFFSET);
	if (offset && (!is_alignment(memory) || !is_alignment(offset)))
		return false;
	*ret_memory = memory;
	*ret_offset = offset;
	return true;
}

/* The smallest unit that can be read. An empty file tells nothing: then the largest usual one. */
static unsigned probe(int fd)
{
	static const unsigned units[] = { 512, 1024, 2048, 4096 };
	char *memory = aligned_alloc(8192, 8192);
	unsigned found = 4096;
	for (unsigned i = 0; memory && i < ARRAY_SIZE(units); i++) {
		ssize_t n = pread(fd, memory + units[i], units[i], 0);
		if (n > 0) {
			found = units[i];
			break;
		}
	}
	free(memory);
	return found;
}

static void find_alignment(int fd, const char *path, struct lunkit_file_geometry *geometry)
{
	geometry->offset_alignment = geometry->memory_alignment = 1;
	if (!geometry->direct)
		return;
	unsigned memory, offset;
	if (!ask_kernel(fd, &memory, &offset)) {
		memory = offset = probe(fd);
	} else if (offset == 0) {
		log_warning("%s: the filesystem has no direct I/O for this file: the image goes through the page cache", path);
		geometry->direct = false;
		return;
	}
	geometry->offset_alignment = offset;
	geometry->memory_alignment = memory;
}

static int look_at_device(int fd, struct lunkit_file_geometry *geometry)
{
	int logical = 0;
	unsigned physical = 0, optimal = 0;
	unsigned short rotational = 0;
	if (ioctl(fd, BLKGETSIZE64, &geometry->size) < 0)
		return -errno;
	if (ioctl(fd, BLKSSZGET, &logical) == 0 && logical > 0)
		geometry->block_size = (unsigned)logical;
	if (ioctl(fd, BLKPBSZGET, &physical) == 0 && is_alignment(physical))
		geometry->physical_block_size = physical;
	if (ioctl(fd, BLKIOOPT, &optimal) == 0)
		geometry->optimal_transfer = optimal;
	if (ioctl(fd, BLKROTATIONAL, &rotational) == 0)
		geometry->rotational = rotational;
	return 0;
}

int lunkit_file_look(struct lunkit_host *host, int fd, const char *path, bool direct, struct lunkit_file_geometry *ret,
		     struct lunkit_error *err)
{
	(void)host;
	struct stat status;
	struct lunkit_file_geometry geometry = { .direct = direct };
	if (fstat(fd, &status) < 0)
		return lunkit_error_set(err, errno, "cannot look at %.300s: %s", path, strerror(errno));
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
		lunkit_error_set(err, S_ISDIR(status.st_mode) ? EISDIR : EINVAL, "%.300s is %s, not a disk image", path,
				 type_name(status.st_mode));
		return lunkit_error_hint(err, "Name a regular file or a block device.");
	}
	geometry.is_block = S_ISBLK(status.st_mode);
	geometry.size = (uint64_t)status.st_size;
	int r = geometry.is_block ? look_at_device(fd, &geometry) : 0;
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot read the size: %s", path, strerror(-r));
	if (!geometry.is_block && is_alignment((unsigned)status.st_blksize))
		geometry.physical_block_size = (unsigned)status.st_blksize;
	find_alignment(fd, path, &geometry);
	geometry.struct_size = ret->struct_size;
	memcpy(ret, &geometry, MIN(ret->struct_size, sizeof(geometry)));
	return 0;
}

/* ---- blocking I/O ---- */

int lunkit_file_read(struct lunkit_host *host, int fd, void *buffer, size_t length, uint64_t offset)
{
	(void)host;
	for (size_t done = 0; done < length;) {
		ssize_t n = pread(fd, (char *)buffer + done, length - done, (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0) {
			memset((char *)buffer + done, 0, length - done);
			return 0;
		}
		if (n > 0)
			done += (size_t)n;
		/* Direct I/O stops inside a block only at the file's end, and can't go on there. */
		if (n > 0 && done < length && done % 512) {
			memset((char *)buffer + done, 0, length - done);
			return 0;
		}
	}
	return 0;
}

int lunkit_file_write(struct lunkit_host *host, int fd, const void *buffer, size_t length, uint64_t offset)
{
	(void)host;
	for (size_t done = 0; done < length;) {
		ssize_t n = pwrite(fd, (const char *)buffer + done, length - done, (off_t)(offset + done));
		if (n == 0)
			return -EIO;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	}
	return 0;
}

int lunkit_file_truncate(struct lunkit_host *host, int fd, uint64_t size)
{
	(void)host;
	return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

int lunkit_file_allocate(struct lunkit_host *host, int fd, int mode, uint64_t offset, uint64_t length)
{
	(void)host;
	int r;
	do
		r = fallocate(fd, mode, (off_t)offset, (off_t)length);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int lunkit_file_sync(struct lunkit_host *host, int fd)
{
	(void)host;
	return fdatasync(fd) < 0 ? -errno : 0;
}
