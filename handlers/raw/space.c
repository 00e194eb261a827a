/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Space: giving it back, zeroing it, asking for it.
 *
 *     write_zeroes:  fallocate(punch or zero range) ─► (punched, but storage was to stay: fallocate to allocate) ─► (FUA: fdatasync) ─► done
 *
 * A filesystem without FALLOC_FL_ZERO_RANGE (tmpfs) punches and allocates instead: what was punched reads as zeros all the time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "raw.h"

/* ---- discard ---- */

static void discarded(struct lunkit_io *io, int result)
{
	lunkit_request_done(((struct raw_request *)io)->request, result == -ENOSYS || result == -ENOTTY ? -EOPNOTSUPP : result);
}

static int work_discard(void *argument)
{
	const struct raw_request *r = argument;
	const uint64_t range[2] = { r->request->offset, r->request->length };
	return ioctl(r->raw->fd, BLKDISCARD, range) < 0 ? -errno : 0;
}

void raw_discard(struct raw_request *r)
{
	r->work.io.done = discarded;
	if (r->raw->is_block) {
		r->work.function = work_discard;
		r->work.argument = r;
		lunkit_work_start(r->raw->host, &r->work);
	} else {
		lunkit_io_fallocate(r->raw->host, &r->work.io, r->raw->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, r->request->offset,
				    r->request->length);
	}
}

/* ---- write_zeroes ---- */

static void zero_range(struct raw_request *r, int mode)
{
	r->mode = mode;
	r->step = RAW_RANGE;
	lunkit_io_fallocate(r->raw->host, &r->work.io, r->raw->fd, mode | FALLOC_FL_KEEP_SIZE, r->request->offset, r->request->length);
}

static void zeroed_range(struct raw_request *r)
{
	struct raw *raw = r->raw;
	bool keep = !(r->request->flags & LUNKIT_REQUEST_MAY_DISCARD);
	if (r->step == RAW_RANGE && r->mode == FALLOC_FL_PUNCH_HOLE && keep && !raw->is_block) {
		r->step = RAW_ALLOCATE;
		lunkit_io_fallocate(raw->host, &r->work.io, raw->fd, FALLOC_FL_KEEP_SIZE, r->request->offset, r->request->length);
	} else if (r->step != RAW_SYNC && raw_wants_durable(raw, r->request)) {
		r->step = RAW_SYNC;
		lunkit_io_fdatasync(raw->host, &r->work.io, raw->fd);
	} else {
		lunkit_request_done(r->request, 0);
	}
}

static void zeroed(struct lunkit_io *io, int result)
{
	struct raw_request *r = (struct raw_request *)io;
	struct raw *raw = r->raw;
	if (r->step == RAW_SYNC)
		result = raw_synced(raw, false, result);
	bool cannot = r->step == RAW_RANGE && (result == -EOPNOTSUPP || result == -ENOSYS);
	if (result == 0) {
		zeroed_range(r);
	} else if (cannot && r->mode == FALLOC_FL_ZERO_RANGE && !raw->is_block && !raw->no_zero_range) {
		raw->no_zero_range = true;
		zero_range(r, FALLOC_FL_PUNCH_HOLE);
	} else if (cannot && r->mode == FALLOC_FL_PUNCH_HOLE && raw->is_block) {
		zero_range(r, FALLOC_FL_ZERO_RANGE); /* a device that can't give storage back can still be zeroed */
	} else {
		lunkit_request_done(r->request, cannot ? -EOPNOTSUPP : result);
	}
}

void raw_write_zeroes(struct raw_request *r)
{
	r->work.io.done = zeroed;
	bool punch = r->request->flags & LUNKIT_REQUEST_MAY_DISCARD || r->raw->no_zero_range;
	zero_range(r, punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

/* ---- extents ---- */

static void extents_found(struct lunkit_io *io, int result)
{
	lunkit_request_done(((struct raw_request *)io)->request, result);
}

/* The extent at position. The file's own idea of its end is not ours: it may grow and shrink meanwhile. */
static int next_extent(int fd, uint64_t position, uint64_t end, struct lunkit_extent *ret)
{
	off_t data = lseek(fd, (off_t)position, SEEK_DATA);
	uint64_t until = end;
	unsigned flags = LUNKIT_EXTENT_ALLOCATED;
	if (data < 0 && errno == ENXIO) {
		flags = LUNKIT_EXTENT_ZERO; /* no data from here to the file's end */
	} else if (data < 0 && errno != EINVAL) {
		return -errno;
	} else if (data > (off_t)position) {
		flags = LUNKIT_EXTENT_ZERO;
		until = (uint64_t)data;
	} else if (data == (off_t)position) {
		off_t hole = lseek(fd, (off_t)position, SEEK_HOLE);
		if (hole > (off_t)position)
			until = (uint64_t)hole;
	}
	if (until > end)
		until = end;
	*ret = (struct lunkit_extent){ position, until - position, flags };
	return 0;
}

static int work_extents(void *argument)
{
	const struct raw_request *r = argument;
	struct lunkit_request *request = r->request;
	uint64_t position = request->offset, end = request->offset + request->length;
	unsigned count = 0;
	while (position < end && count < request->extent_capacity) {
		int result = next_extent(r->raw->fd, position, end, &request->extents[count]);
		if (result < 0)
			return result;
		position += request->extents[count].length;
		count++;
	}
	request->extent_count = count;
	return 0;
}

void raw_extents(struct raw_request *r)
{
	r->work.io.done = extents_found;
	r->work.function = work_extents;
	r->work.argument = r;
	lunkit_work_start(r->raw->host, &r->work);
}
