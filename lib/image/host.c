/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What handlers may call: thin names for the loop, the opener and the log. The loop's structs are the handlers' structs by layout. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "image/image.h"
#include "image/lock.h"

#define SAME_MEMBER(a, a_member, b, b_member)                                                                                              \
	_Static_assert(offsetof(struct a, a_member) == offsetof(struct b, b_member), #a " and " #b " differ")
_Static_assert(sizeof(struct lunkit_io) == sizeof(struct loop_op), "lunkit_io is a loop_op");
_Static_assert(sizeof(struct lunkit_work) == sizeof(struct loop_work), "lunkit_work is a loop_work");
SAME_MEMBER(lunkit_io, done, loop_op, done);
SAME_MEMBER(lunkit_io, reserved, loop_op, next);
SAME_MEMBER(lunkit_work, io, loop_work, op);
SAME_MEMBER(lunkit_work, function, loop_work, function);
SAME_MEMBER(lunkit_work, argument, loop_work, argument);
SAME_MEMBER(lunkit_work, reserved, loop_work, next_work);
_Static_assert(LUNKIT_IO_DSYNC == LOOP_DSYNC, "flags pass through");
_Static_assert((int)LUNKIT_LOG_ERROR == (int)LOG_LEVEL_ERROR && (int)LUNKIT_LOG_WARNING == (int)LOG_LEVEL_WARNING &&
		       (int)LUNKIT_LOG_INFO == (int)LOG_LEVEL_INFO && (int)LUNKIT_LOG_DEBUG == (int)LOG_LEVEL_DEBUG,
	       "levels pass through");

void lunkit_io_readv(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count, uint64_t offset)
{
	loop_readv(host->loop, (struct loop_op *)io, fd, iov, count, offset);
}

void lunkit_io_writev(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count, uint64_t offset,
		      unsigned flags)
{
	loop_writev(host->loop, (struct loop_op *)io, fd, iov, count, offset, flags);
}

void lunkit_io_fdatasync(struct lunkit_host *host, struct lunkit_io *io, int fd)
{
	loop_fdatasync(host->loop, (struct loop_op *)io, fd);
}

void lunkit_io_fallocate(struct lunkit_host *host, struct lunkit_io *io, int fd, int mode, uint64_t offset, uint64_t length)
{
	loop_fallocate(host->loop, (struct loop_op *)io, fd, mode, offset, length);
}

void lunkit_io_defer(struct lunkit_host *host, struct lunkit_io *io, int result)
{
	loop_defer(host->loop, (struct loop_op *)io, result);
}

void lunkit_io_listen(struct lunkit_host *host)
{
	loop_listen(host->loop);
}

void lunkit_io_post(struct lunkit_host *host, struct lunkit_io *io, int result)
{
	loop_post(host->loop, (struct loop_op *)io, result);
}

void lunkit_size_changed(struct lunkit_host *host)
{
	if (host->size_changed)
		host->size_changed(host);
}

void lunkit_memo(struct lunkit_host *host, const char *text)
{
	if (host->memo)
		host->memo(host, text);
}

_Static_assert(sizeof(struct lunkit_alarm) == sizeof(struct loop_alarm), "lunkit_alarm is a loop_alarm");
SAME_MEMBER(lunkit_alarm, ring, loop_alarm, ring);

void lunkit_alarm_set(struct lunkit_host *host, struct lunkit_alarm *alarm, uint64_t ns)
{
	loop_alarm_set(host->loop, (struct loop_alarm *)alarm, ns);
}

void lunkit_alarm_cancel(struct lunkit_host *host, struct lunkit_alarm *alarm)
{
	loop_alarm_cancel(host->loop, (struct loop_alarm *)alarm);
}

void lunkit_work_start(struct lunkit_host *host, struct lunkit_work *work)
{
	loop_offload(host->loop, (struct loop_work *)work);
}

void lunkit_log(enum lunkit_log_level level, const char *format, ...)
{
	char line[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_message((enum log_level)level, "%s", line);
}

static void notice(struct lunkit_host *host, const char *path, const char *what)
{
	snprintf(host->notice, sizeof(host->notice), "%.380s: %s", path, what);
	log_warning("%s", host->notice);
}

/* One chain holds a file once: else it would be its own backing file. */
static int check_chain(struct lunkit_host *host, const struct stat *status, const char *path, struct lunkit_error *err)
{
	struct image_opening *opening = host->opening;
	if (!opening)
		return 0;
	for (const struct image_opening *outer = opening->outer; outer; outer = outer->outer)
		if (outer->has_file && outer->device == (uint64_t)status->st_dev && outer->inode == (uint64_t)status->st_ino) {
			lunkit_error_set(err, ELOOP, "%.500s is used twice in one chain of images: an image cannot lie below itself", path);
			return lunkit_error_hint(err, "Its header names the wrong backing file: `qemu-img rebase -u` changes that.");
		}
	opening->device = (uint64_t)status->st_dev;
	opening->inode = (uint64_t)status->st_ino;
	opening->has_file = true;
	return 0;
}

int lunkit_file_open(struct lunkit_host *host, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err)
{
	int fd;
	if (flags & LUNKIT_FILE_CREATE)
		flags |= LUNKIT_FILE_WRITE;
	unsigned opened = 0;
	int r = host->opener.open(host->opener.argument, path, flags, &fd, &opened, err);
	if (r < 0)
		return r;
	struct stat status;
	bool storage = false;
	if (fstat(fd, &status) < 0)
		r = lunkit_error_set(err, errno, "cannot look at %.500s: %s", path, strerror(errno));
	else
		storage = S_ISREG(status.st_mode) || S_ISBLK(status.st_mode);
	if (r == 0 && storage)
		r = check_chain(host, &status, path, err);
	if (r == 0 && storage && !(flags & LUNKIT_FILE_UNLOCKED))
		r = image_lock_for_use(fd, flags & LUNKIT_FILE_WRITE, path, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	if (r > 0)
		notice(host, path, "this filesystem has no locks: nothing keeps another program from changing the image");
	if (storage && flags & LUNKIT_FILE_DIRECT && !(opened & LUNKIT_FILE_DIRECT))
		notice(host, path, "the filesystem refuses O_DIRECT: the image goes through the page cache");
	/* What whoever made the image left in the page cache */
	if (storage && flags & LUNKIT_FILE_WRITE && opened & LUNKIT_FILE_DIRECT)
		loop_drop_cached(host->loop, fd);
	*ret_fd = fd;
	if (ret_flags)
		*ret_flags = opened;
	return 0;
}

void lunkit_file_close(struct lunkit_host *host, int fd)
{
	(void)host;
	image_unlock_file(fd);
	close(fd);
}

int lunkit_file_claim(struct lunkit_host *host, int fd, uint64_t number, enum lunkit_claim claim)
{
	(void)host;
	return image_claim_part(fd, number, claim);
}

int lunkit_file_remove(struct lunkit_host *host, const char *path, struct lunkit_error *err)
{
	return host->opener.remove(host->opener.argument, path, err);
}
