/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The functions of image/handler.h that lib/image/host.c and lib/image/file.c have in programs: opening, blocking I/O, log. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "fakehost/internal.h"

#define OPENINGS_MAX 160

bool fakehost_verbose;
unsigned fakehost_complaints;
char fakehost_complaint[256];

void fakehost_broken(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("the handler breaks a promise: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	abort();
}

void *fakehost_grow(void *array, unsigned count, unsigned *room, size_t size)
{
	if (count < *room)
		return array;
	*room = *room ? *room * 2 : 64;
	array = realloc(array, *room * size);
	if (!array)
		fakehost_broken("no memory for what is pending");
	return array;
}

uint64_t fakehost_random64(uint64_t *state)
{
	/* splitmix64 */
	uint64_t z = *state += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

struct fakehost *fakehost_new(const struct fakehost_config *config)
{
	struct fakehost *fake = calloc(1, sizeof(*fake));
	if (!fake)
		fakehost_broken("no memory");
	fake->config = *config;
	fake->random = config->seed;
	fake->temper = (unsigned)fakehost_below(&fake->random, 5);
	fake->now_ns = 1000000000;
	fake->openings = calloc(OPENINGS_MAX, sizeof(*fake->openings));
	if (!fake->openings)
		fakehost_broken("no memory");
	fake->host.loop = (struct loop *)fake;
	return fake;
}

void fakehost_free(struct fakehost *fake)
{
	if (!fake)
		return;
	if (fake->pending_count)
		fakehost_broken("%u I/Os are pending at the end", fake->pending_count);
	if (fake->alarm_count)
		fakehost_broken("an alarm is set at the end");
	for (unsigned i = 0; i < fake->opening_count; i++)
		if (fake->openings[i].file)
			fakehost_broken("%s was not closed", fake->openings[i].file->path);
	for (unsigned i = 0; i < fake->file_count; i++) {
		munmap(fake->files[i]->data, fake->config.size_max ? fake->config.size_max : (uint64_t)256 << 20);
		close(fake->files[i]->fd);
		free(fake->files[i]);
	}
	fakehost_clear_log(fake);
	free(fake->openings);
	free(fake->pending);
	free(fake->alarms);
	free(fake->writes);
	free(fake->syncs);
	free(fake);
}

uint64_t fakehost_moment(struct fakehost *fake)
{
	return ++fake->moment;
}

struct fakehost_opening *fakehost_opening(struct fakehost *fake, int fd)
{
	for (unsigned i = 0; i < fake->opening_count; i++)
		if (fake->openings[i].file && fake->openings[i].fd == fd)
			return &fake->openings[i];
	fakehost_broken("I/O on descriptor %d, which is not open", fd);
}

void lunkit_log(enum lunkit_log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (level <= LUNKIT_LOG_WARNING) {
		fakehost_complaints++;
		snprintf(fakehost_complaint, sizeof(fakehost_complaint), "%s", line);
	}
	if (fakehost_verbose)
		fprintf(stderr, "<%d> %s\n", level, line);
}

/* ---- opening ---- */

static int check_chain(struct lunkit_host *host, const struct fakehost_file *file, struct lunkit_error *err)
{
	struct image_opening *opening = host->opening;
	if (!opening)
		return 0;
	for (const struct image_opening *outer = opening->outer; outer; outer = outer->outer)
		if (outer->has_file && outer->inode == file->index)
			return lunkit_error_set(err, ELOOP, "%s is used twice in one chain of images", file->path);
	opening->device = 0;
	opening->inode = file->index;
	opening->has_file = true;
	return 0;
}

int lunkit_file_open(struct lunkit_host *host, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err)
{
	struct fakehost *fake = fakehost_of(host);
	if (fake->serving)
		fakehost_broken("%s is opened while requests are served", path);
	struct fakehost_file *file = fakehost_find(fake, path);
	if (flags & LUNKIT_FILE_CREATE) {
		flags |= LUNKIT_FILE_WRITE;
		if (file)
			return lunkit_error_set(err, EEXIST, "%s exists", path);
		file = fakehost_add(fake, path, NULL, 0);
	}
	if (!file)
		return lunkit_error_set(err, ENOENT, "there is no file %s", path);
	int r = check_chain(host, file, err);
	if (r < 0)
		return r;
	bool locked = !(flags & LUNKIT_FILE_UNLOCKED);
	if (locked && (file->writers || (flags & LUNKIT_FILE_WRITE && file->readers)))
		return lunkit_error_set(err, EAGAIN, "%s is in use", path);
	struct fakehost_opening *opening = NULL;
	for (unsigned i = 0; i < fake->opening_count && !opening; i++)
		if (!fake->openings[i].file)
			opening = &fake->openings[i];
	if (!opening && fake->opening_count < OPENINGS_MAX)
		opening = &fake->openings[fake->opening_count++];
	int fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 3);
	if (!opening || fd < 0)
		fakehost_broken("too many files are open");
	if (!fake->config.direct)
		flags &= ~LUNKIT_FILE_DIRECT;
	*opening = (struct fakehost_opening){ .fd = fd,
					      .file = file,
					      .write = flags & LUNKIT_FILE_WRITE,
					      .dsync = flags & LUNKIT_FILE_DSYNC,
					      .direct = flags & LUNKIT_FILE_DIRECT,
					      .locked = locked };
	file->writers += locked && opening->write;
	file->readers += locked && !opening->write;
	*ret_fd = fd;
	if (ret_flags)
		*ret_flags = flags;
	return 0;
}

void lunkit_file_close(struct lunkit_host *host, int fd)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_opening *opening = fakehost_opening(fake, fd);
	for (unsigned i = 0; i < fake->pending_count; i++)
		if (fake->pending[i].opening.file && fake->pending[i].opening.fd == fd)
			fakehost_broken("%s is closed with I/O in flight", opening->file->path);
	opening->file->writers -= opening->locked && opening->write;
	opening->file->readers -= opening->locked && !opening->write;
	opening->file = NULL;
	close(fd);
}

/* Every opening is one process: nobody is in anybody's way. */
int lunkit_file_claim(struct lunkit_host *host, int fd, uint64_t number, enum lunkit_claim claim)
{
	(void)number;
	(void)claim;
	fakehost_opening(fakehost_of(host), fd);
	return 0;
}

int lunkit_file_remove(struct lunkit_host *host, const char *path, struct lunkit_error *err)
{
	struct fakehost_file *file = fakehost_find(fakehost_of(host), path);
	if (!file)
		return lunkit_error_set(err, ENOENT, "there is no file %s", path);
	file->removed = true;
	return 0;
}

int lunkit_file_look(struct lunkit_host *host, int fd, const char *path, bool direct, struct lunkit_file_geometry *ret,
		     struct lunkit_error *err)
{
	(void)path;
	(void)err;
	struct fakehost *fake = fakehost_of(host);
	const struct fakehost_opening *opening = fakehost_opening(fake, fd);
	unsigned alignment = !direct ? 1 : fake->config.alignment ? fake->config.alignment : 512;
	if (direct && !opening->direct)
		fakehost_broken("%s was not opened with direct I/O", opening->file->path);
	struct lunkit_file_geometry geometry = { .struct_size = ret->struct_size,
						 .size = opening->file->size,
						 .offset_alignment = alignment,
						 .memory_alignment = alignment,
						 .physical_block_size = 4096,
						 .is_block = fake->config.block,
						 .block_size = fake->config.block ? 512 : 0,
						 .direct = direct };
	memcpy(ret, &geometry, MIN(ret->struct_size, sizeof(geometry)));
	return 0;
}

/* ---- blocking I/O ---- */

static struct fakehost_file *blocking(struct fakehost *fake, int fd, bool writes, const void *buffer, uint64_t offset, uint64_t length)
{
	const struct fakehost_opening *opening = fakehost_opening(fake, fd);
	if (fake->serving && !fake->in_work)
		fakehost_broken("blocking I/O on %s while requests are served", opening->file->path);
	if (writes && !opening->write)
		fakehost_broken("a write to %s, which is open for reading", opening->file->path);
	unsigned alignment = fake->config.alignment ? fake->config.alignment : 512;
	if (opening->direct && ((uintptr_t)buffer | offset | length) & (alignment - 1))
		fakehost_broken("direct I/O on %s, %llu bytes at %llu from %p, is not aligned to %u", opening->file->path,
				(unsigned long long)length, (unsigned long long)offset, buffer, alignment);
	return opening->file;
}

int lunkit_file_read(struct lunkit_host *host, int fd, void *buffer, size_t length, uint64_t offset)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_file *file = blocking(fake, fd, false, buffer, offset, length);
	size_t done = 0;
	while (done < length) {
		const struct iovec iov = { (char *)buffer + done, length - done };
		int n = fakehost_do_read(fake, file, &iov, 1, offset + done);
		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	memset((char *)buffer + done, 0, length - done);
	return 0;
}

int lunkit_file_write(struct lunkit_host *host, int fd, const void *buffer, size_t length, uint64_t offset)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_file *file = blocking(fake, fd, true, buffer, offset, length);
	for (size_t done = 0; done < length;) {
		const struct iovec iov = { (void *)((const char *)buffer + done), length - done };
		size_t write;
		int n = fakehost_do_write(fake, file, &iov, 1, offset + done, fakehost_opening(fake, fd)->dsync, fakehost_moment(fake),
					  &write);
		fakehost_complete_write(fake, write, n);
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return 0;
}

int lunkit_file_truncate(struct lunkit_host *host, int fd, uint64_t size)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_file *file = blocking(fake, fd, true, NULL, 0, 0);
	size_t write;
	int r = fakehost_do_truncate(fake, file, size, fakehost_moment(fake), &write);
	fakehost_complete_write(fake, write, r);
	return r;
}

int lunkit_file_allocate(struct lunkit_host *host, int fd, int mode, uint64_t offset, uint64_t length)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_file *file = blocking(fake, fd, true, NULL, 0, 0);
	size_t write;
	int r = fakehost_do_allocate(fake, file, mode, offset, length, fakehost_moment(fake), &write);
	fakehost_complete_write(fake, write, r);
	return r;
}

int lunkit_file_sync(struct lunkit_host *host, int fd)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_file *file = blocking(fake, fd, false, NULL, 0, 0);
	uint64_t submitted = fakehost_moment(fake);
	int r = fakehost_do_sync(fake, file);
	fakehost_complete_sync(fake, file, submitted, r);
	return r;
}
