/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The files: bytes in memory, what happens to them, the log of it, and faults. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/iov.h"
#include "fakehost/internal.h"

#define SIZE_DEFAULT ((uint64_t)256 << 20)
#define SECTOR 512u

struct fakehost_file *fakehost_find(struct fakehost *fake, const char *path)
{
	for (unsigned i = 0; i < fake->file_count; i++)
		if (!fake->files[i]->removed && strcmp(fake->files[i]->path, path) == 0)
			return fake->files[i];
	return NULL;
}

static void resize(struct fakehost_file *file, uint64_t size)
{
	if (ftruncate(file->fd, (off_t)size) < 0)
		fakehost_broken("cannot give %s %llu bytes: %s", file->path, (unsigned long long)size, strerror(errno));
	file->size = size;
}

static uint64_t size_max(const struct fakehost *fake)
{
	return fake->config.size_max ? fake->config.size_max : SIZE_DEFAULT;
}

struct fakehost_file *fakehost_add(struct fakehost *fake, const char *path, const void *content, uint64_t size)
{
	struct fakehost_file *file = calloc(1, sizeof(*file));
	if (!file || fake->file_count == FAKEHOST_FILES_MAX || strlen(path) >= sizeof(file->path))
		fakehost_broken("no room for the file %s", path);
	strcpy(file->path, path);
	file->capacity = fake->config.block ? size : UINT64_MAX;
	file->index = fake->file_count;
	file->fd = memfd_create("fakehost", MFD_CLOEXEC);
	file->data = mmap(NULL, size_max(fake), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file->fd, 0);
	if (file->fd < 0 || file->data == MAP_FAILED)
		fakehost_broken("no memory for the file %s", path);
	fake->files[fake->file_count++] = file;
	fakehost_set(fake, file, content, size);
	return file;
}

void fakehost_set(struct fakehost *fake, struct fakehost_file *file, const void *content, uint64_t size)
{
	if (size > size_max(fake))
		fakehost_broken("%s would be too large", file->path);
	if (!content)
		resize(file, 0);
	resize(file, size);
	if (content)
		memcpy(file->data, content, size);
}

/* ---- faults ---- */

void fakehost_arm(struct fakehost *fake, const struct fakehost_fault *fault)
{
	fake->fault = *fault;
	fake->io_count = fake->fault_hits = 0;
}

/* 0, or the error; *ret_short when less than asked is to be moved. */
static int inject(struct fakehost *fake, const struct fakehost_file *file, enum fakehost_op op, bool *ret_short)
{
	const struct fakehost_fault *fault = &fake->fault;
	*ret_short = false;
	if (!(fault->ops & 1u << op) || (fault->file && fault->file != file->index + 1))
		return 0;
	uint64_t n = ++fake->io_count;
	if (!fault->nth || n < fault->nth || (n > fault->nth && !fault->sticky))
		return 0;
	fake->fault_hits++;
	*ret_short = fault->error == 0;
	return fault->error;
}

/* A part of length, in sectors, never nothing unless there is only one. */
static uint64_t shorten(struct fakehost *fake, uint64_t length)
{
	uint64_t sectors = length / SECTOR;
	return sectors < 2 ? length : (1 + fakehost_below(&fake->random, sectors - 1)) * SECTOR;
}

/* ---- the log ---- */

static size_t record(struct fakehost *fake, const struct fakehost_write *write)
{
	if (!fake->config.record)
		return 0;
	if (fake->write_count == fake->write_room) {
		fake->write_room = fake->write_room ? fake->write_room * 2 : 256;
		fake->writes = realloc(fake->writes, fake->write_room * sizeof(*fake->writes));
		if (!fake->writes)
			fakehost_broken("no memory for the log");
	}
	struct fakehost_write *entry = &fake->writes[fake->write_count++];
	*entry = *write;
	entry->effected = fakehost_moment(fake);
	entry->completed = entry->durable = UINT64_MAX;
	return fake->write_count;
}

static size_t record_data(struct fakehost *fake, struct fakehost_file *file, uint64_t offset, uint64_t length, bool dsync,
			  uint64_t submitted)
{
	if (!fake->config.record || !length)
		return 0;
	struct fakehost_write write = { .change = FAKEHOST_DATA,
					.file = file->index,
					.dsync = dsync,
					.offset = offset,
					.length = length,
					.data = malloc(length),
					.submitted = submitted };
	if (!write.data)
		fakehost_broken("no memory for the log");
	memcpy(write.data, file->data + offset, length);
	return record(fake, &write);
}

void fakehost_complete_write(struct fakehost *fake, size_t write, int result)
{
	/* A failed write may be durable or not, as any other, but no flush makes it so. */
	if (write && result >= 0)
		fake->writes[write - 1].completed = fakehost_moment(fake);
}

void fakehost_complete_sync(struct fakehost *fake, struct fakehost_file *file, uint64_t submitted, int result)
{
	if (!fake->config.record || result < 0)
		return;
	if (fake->sync_count == fake->sync_room) {
		fake->sync_room = fake->sync_room ? fake->sync_room * 2 : 64;
		fake->syncs = realloc(fake->syncs, fake->sync_room * sizeof(*fake->syncs));
		if (!fake->syncs)
			fakehost_broken("no memory for the log");
	}
	fake->syncs[fake->sync_count++] =
		(struct fakehost_sync){ .file = file->index, .submitted = submitted, .completed = fakehost_moment(fake) };
}

static int by_effect(const void *a, const void *b)
{
	const struct fakehost_write *x = a, *y = b;
	return x->effected < y->effected ? -1 : x->effected > y->effected;
}

void fakehost_seal(struct fakehost *fake)
{
	for (size_t i = 0; i < fake->write_count; i++) {
		struct fakehost_write *write = &fake->writes[i];
		write->durable = write->dsync ? write->completed : UINT64_MAX;
		for (size_t k = 0; k < fake->sync_count && write->completed != UINT64_MAX; k++) {
			const struct fakehost_sync *sync = &fake->syncs[k];
			if (sync->file == write->file && sync->submitted >= write->completed)
				write->durable = MIN(write->durable, sync->completed);
		}
	}
	qsort(fake->writes, fake->write_count, sizeof(*fake->writes), by_effect);
}

void fakehost_clear_log(struct fakehost *fake)
{
	for (size_t i = 0; i < fake->write_count; i++)
		free(fake->writes[i].data);
	fake->write_count = fake->sync_count = 0;
}

/* ---- what happens ---- */

int fakehost_do_read(struct fakehost *fake, struct fakehost_file *file, const struct iovec *iov, unsigned count, uint64_t offset)
{
	bool is_short;
	uint64_t length = iov_length(iov, count);
	int r = inject(fake, file, FAKEHOST_READ, &is_short);
	if (r < 0)
		return r;
	if (is_short)
		length = shorten(fake, length);
	if (offset >= file->size)
		return 0;
	length = MIN(length, file->size - offset);
	iov_copy_to(iov, count, 0, file->data + offset, length);
	return (int)length;
}

int fakehost_do_write(struct fakehost *fake, struct fakehost_file *file, const struct iovec *iov, unsigned count, uint64_t offset,
		      bool dsync, uint64_t submitted, size_t *ret_write)
{
	bool is_short;
	uint64_t length = iov_length(iov, count), end;
	*ret_write = 0;
	int r = inject(fake, file, FAKEHOST_WRITE, &is_short);
	if (r < 0) /* anything from nothing to all of it may be there */
		length = fakehost_below(&fake->random, length / SECTOR + 1) * SECTOR;
	if (is_short)
		length = shorten(fake, length);
	if (!checked_add(offset, length, &end) || end > size_max(fake))
		return -EFBIG;
	if (end > file->capacity) {
		length = file->capacity > offset ? file->capacity - offset : 0;
		length -= length % SECTOR;
		end = offset + length;
		if (!length)
			r = -ENOSPC;
	}
	if (length) {
		if (end > file->size)
			resize(file, end);
		iov_copy_from(file->data + offset, iov, count, 0, length);
		*ret_write = record_data(fake, file, offset, length, dsync, submitted);
	}
	return r < 0 ? r : (int)length;
}

int fakehost_do_allocate(struct fakehost *fake, struct fakehost_file *file, int mode, uint64_t offset, uint64_t length, uint64_t submitted,
			 size_t *ret_write)
{
	bool is_short;
	uint64_t end;
	*ret_write = 0;
	int r = inject(fake, file, FAKEHOST_ALLOCATE, &is_short);
	if (r < 0)
		return r;
	if (length == 0 || !checked_add(offset, length, &end) || end > INT64_MAX)
		return -EINVAL;
	if (end > size_max(fake))
		return -EFBIG;
	bool keep = mode & FALLOC_FL_KEEP_SIZE, zeros = false;
	switch (mode & ~FALLOC_FL_KEEP_SIZE) {
	case 0:
		break;
	case FALLOC_FL_PUNCH_HOLE:
		if (!keep)
			return -EOPNOTSUPP;
		zeros = true;
		break;
	case FALLOC_FL_ZERO_RANGE:
		zeros = true;
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (end > file->capacity && !(mode & FALLOC_FL_PUNCH_HOLE))
		return -ENOSPC;
	if (!keep && end > file->size)
		resize(file, end);
	if (zeros && offset < file->size)
		memset(file->data + offset, 0, MIN(end, file->size) - offset);
	if (zeros || !keep)
		*ret_write = record(fake, &(struct fakehost_write){ .change = zeros ? FAKEHOST_ZEROS : FAKEHOST_SIZE,
								    .file = file->index,
								    .offset = offset,
								    .length = zeros ? length : file->size,
								    .keep_size = keep,
								    .submitted = submitted });
	return 0;
}

int fakehost_do_truncate(struct fakehost *fake, struct fakehost_file *file, uint64_t size, uint64_t submitted, size_t *ret_write)
{
	bool is_short;
	*ret_write = 0;
	int r = inject(fake, file, FAKEHOST_TRUNCATE, &is_short);
	if (r < 0)
		return r;
	if (fake->config.block)
		fakehost_broken("the device %s is truncated", file->path);
	if (size > size_max(fake))
		return -EFBIG;
	resize(file, size);
	*ret_write = record(
		fake, &(struct fakehost_write){ .change = FAKEHOST_SIZE, .file = file->index, .length = size, .submitted = submitted });
	return 0;
}

int fakehost_do_sync(struct fakehost *fake, struct fakehost_file *file)
{
	bool is_short;
	return inject(fake, file, FAKEHOST_SYNC, &is_short);
}
