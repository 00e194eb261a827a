/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making raw images, changing their size, telling about them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "raw.h"

#define FILL_SIZE ((size_t)1 << 20)

const struct lunkit_option raw_options[] = {
	{ "block-size", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE,
	  "logical block size of the disk (512, or the device's)", "512|4096" },
	{ "preallocation", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE,
	  "off: a sparse file; falloc: storage is reserved; full: it is written with zeros", "off|falloc|full" },
	{ 0 },
};

/* ---- create ---- */

static int write_zeros(int fd, uint64_t size)
{
	char *zeros = calloc(1, FILL_SIZE);
	if (!zeros)
		return -ENOMEM;
	int r = 0;
	for (uint64_t done = 0; done < size && r == 0;) {
		size_t part = size - done < FILL_SIZE ? (size_t)(size - done) : FILL_SIZE;
		ssize_t n = pwrite(fd, zeros, part, (off_t)done);
		if (n > 0)
			done += (uint64_t)n;
		else if (n == 0)
			r = -EIO;
		else if (errno != EINTR)
			r = -errno;
	}
	free(zeros);
	return r;
}

static int fill(int fd, uint64_t size, const char *preallocation)
{
	int r = 0;
	if (strcmp(preallocation, "falloc") == 0)
		r = fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
	else if (strcmp(preallocation, "full") == 0)
		r = write_zeros(fd, size);
	else
		r = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	return r == 0 && fsync(fd) < 0 ? -errno : r;
}

int raw_create(const struct lunkit_params *params, struct lunkit_error *err)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, "preallocation");
	const struct lunkit_option_value *block_size = lunkit_params_option(params, "block-size");
	unsigned unit = block_size ? (unsigned)strtoull(block_size->value, NULL, 10) : 512;
	if (params->size % unit) {
		lunkit_error_set(err, EINVAL, "%.300s: a size of %" PRIu64 " bytes is not a multiple of the block size, %u", params->name,
				 params->size, unit);
		return lunkit_error_hint(err, "The next size that is: %" PRIu64 ".", params->size / unit * unit + unit);
	}
	int fd;
	int r = lunkit_file_open(params->host, params->name, LUNKIT_FILE_CREATE | LUNKIT_FILE_WRITE, &fd, NULL, err);
	if (r < 0)
		return r;
	r = fill(fd, params->size, option ? option->value : "off");
	if (r == 0) {
		lunkit_file_close(params->host, fd);
		return 0;
	}
	/* Removed while it is still locked, so that nobody starts to use it. */
	lunkit_file_remove(params->host, params->name, NULL);
	lunkit_file_close(params->host, fd);
	lunkit_error_set(err, r, "cannot create %.300s with %" PRIu64 " bytes: %s", params->name, params->size, strerror(-r));
	if (r == -ENOSPC || r == -EDQUOT)
		return lunkit_error_hint(err, "Free some space, or leave preallocation off: then storage is taken as it is written.");
	if (r == -EFBIG)
		return lunkit_error_hint(err, "This filesystem does not hold files that large.");
	return r;
}

/* ---- info ---- */

int raw_info(void *state, struct lunkit_info *info, struct lunkit_error *err)
{
	struct raw *raw = state;
	struct stat status;
	if (fstat(raw->fd, &status) < 0)
		return lunkit_error_set(err, errno, "cannot look at %.300s: %s", raw->name, strerror(errno));
	lunkit_info_string(info, "storage", raw->is_block ? "block device" : "file");
	if (!raw->is_block) {
		lunkit_info_bytes(info, "file-size", (uint64_t)status.st_size);
		lunkit_info_bytes(info, "allocated-size",
				  (uint64_t)status.st_blocks * 512); /* stat(2): units of 512 whatever the block size */
	}
	lunkit_info_bool(info, "direct-io", raw->direct);
	return 0;
}

/* ---- resize ---- */

struct resize {
	struct lunkit_work work;
	struct raw *raw;
	struct lunkit_job *job;
	uint64_t size;
	bool truncated; /* what failed, if anything did, was to make it durable */
};

static int work_truncate(void *argument)
{
	struct resize *resize = argument;
	if (ftruncate(resize->raw->fd, (off_t)resize->size) < 0)
		return -errno;
	resize->truncated = true;
	return fdatasync(resize->raw->fd) < 0 ? -errno : 0;
}

static void truncated(struct lunkit_io *io, int result)
{
	struct resize *resize = (struct resize *)io;
	struct lunkit_job *job = resize->job;
	struct raw *raw = resize->raw;
	if (resize->truncated)
		result = raw_synced(raw, false, result);
	if (result == 0)
		raw->size = resize->size;
	else
		lunkit_error_set(lunkit_job_error(job), result, "%.300s: cannot change the size to %" PRIu64 " bytes: %s", raw->name,
				 resize->size, strerror(-result));
	free(resize);
	lunkit_job_done(job, result);
}

/* Takes the size that the storage has; someone else has changed it. */
static int adopt(struct raw *raw, unsigned flags, struct lunkit_error *err)
{
	uint64_t size;
	int r = raw_read_size(raw, &size);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot read the size: %s", raw->name, strerror(-r));
	r = raw_check_size(raw, size, err);
	if (r < 0)
		return r;
	if (size < raw->size && !(flags & LUNKIT_RESIZE_SHRINK)) {
		lunkit_error_set(err, EINVAL, "%.300s has shrunk to %" PRIu64 " bytes from %" PRIu64, raw->name, size, raw->size);
		return lunkit_error_hint(err, "Ask for shrinking explicitly if that was meant.");
	}
	raw->size = size;
	return 0;
}

void raw_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags)
{
	struct raw *raw = state;
	struct lunkit_error *err = lunkit_job_error(job);
	if (size == 0) {
		lunkit_job_done(job, adopt(raw, flags, err));
		return;
	}
	if (size == raw->size) {
		lunkit_job_done(job, 0);
		return;
	}
	if (raw->is_block) {
		lunkit_error_set(err, EOPNOTSUPP, "%.300s is a block device: its size is changed where it was made", raw->name);
		lunkit_error_hint(err, "Resize the device (lvextend, …), then resize the image without a size.");
		lunkit_job_done(job, -EOPNOTSUPP);
		return;
	}
	struct resize *resize = calloc(1, sizeof(*resize));
	if (!resize) {
		lunkit_job_done(job, lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", raw->name));
		return;
	}
	resize->work = (struct lunkit_work){ .io.done = truncated, .function = work_truncate, .argument = resize };
	resize->raw = raw;
	resize->job = job;
	resize->size = size;
	lunkit_work_start(raw->host, &resize->work);
}
