/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The image's file: opening, transfers that are complete, and blocking reads for the moments when no request is served.
 *
 * The engine never mixes sizes: data goes in whole blocks of direct I/O because the requests do, metadata in slices. Where a slice is smaller than such a
 * block (tiny clusters on a disk with 4 KiB sectors) the file goes through the page cache.
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

uint8_t qcow2_zeroes[ZEROES_SIZE] __attribute__((aligned(4096)));

/* ---- transfers ---- */

static void go_on(struct transfer *t)
{
	uint64_t skip = t->moved;
	const struct iovec *iov = t->iov;
	while (skip >= iov->iov_len)
		skip -= iov++->iov_len;
	t->one = (struct iovec){ (char *)iov->iov_base + skip, iov->iov_len - skip };
	if (t->write)
		lunkit_io_writev(t->q->host, &t->io, t->q->fd, &t->one, 1, t->offset + t->moved, 0);
	else
		lunkit_io_readv(t->q->host, &t->io, t->q->fd, &t->one, 1, t->offset + t->moved);
}

/* The file ends here: the rest reads as zeros. */
static void fill_rest(struct transfer *t)
{
	uint64_t skip = t->moved;
	const struct iovec *iov = t->iov;
	for (uint64_t left = t->length - t->moved; left; iov++) {
		if (skip >= iov->iov_len) {
			skip -= iov->iov_len;
			continue;
		}
		uint64_t part = MIN(left, iov->iov_len - skip);
		memset((char *)iov->iov_base + skip, 0, part);
		left -= part;
		skip = 0;
	}
}

static void short_transfer(struct transfer *t, int result)
{
	if (result == -EINTR || result == -EAGAIN) {
		go_on(t);
		return;
	}
	if (result < 0) {
		t->done(t, result);
		return;
	}
	t->moved += (unsigned)result;
	if (t->moved == t->length) {
		t->done(t, 0);
	} else if (t->write) {
		if (result == 0)
			t->done(t, -EIO);
		else
			go_on(t);
	} else if (result == 0 || t->moved % t->q->geometry.offset_alignment) {
		fill_rest(t);
		t->done(t, 0);
	} else {
		go_on(t);
	}
}

static void transferred(struct lunkit_io *io, int result)
{
	struct transfer *t = (struct transfer *)io;
	if (__builtin_expect(t->moved == 0 && result >= 0 && (uint64_t)result == t->length, 1))
		t->done(t, 0);
	else
		short_transfer(t, result);
}

void transfer_start(struct qcow2 *q, struct transfer *t, bool write, const struct iovec *iov, unsigned count, uint64_t offset,
		    uint64_t length)
{
	t->io.done = transferred;
	t->q = q;
	t->iov = iov;
	t->offset = offset;
	t->length = length;
	t->moved = 0;
	t->write = write;
	if (write)
		lunkit_io_writev(q->host, &t->io, q->fd, iov, count, offset, 0);
	else
		lunkit_io_readv(q->host, &t->io, q->fd, iov, count, offset);
}

/* The list of one is kept apart from t->one, which go_on() overwrites: both describe the same buffer's rest. */
static void one_transferred(struct lunkit_io *io, int result)
{
	struct transfer *t = (struct transfer *)io;
	if (result > 0 && (uint64_t)result < t->length - t->moved && (t->write || !((unsigned)result % t->q->geometry.offset_alignment))) {
		t->moved += (unsigned)result;
		t->one.iov_base = (char *)t->one.iov_base + result;
		t->one.iov_len -= (unsigned)result;
	} else if (result >= 0 && !t->write) {
		memset((char *)t->one.iov_base + result, 0, t->one.iov_len - (unsigned)result);
		t->done(t, 0);
		return;
	} else if (result != -EINTR && result != -EAGAIN) {
		bool all = result >= 0 && (uint64_t)result == t->length - t->moved;
		t->done(t, result < 0 ? result : all ? 0 : -EIO);
		return;
	}
	if (t->write)
		lunkit_io_writev(t->q->host, &t->io, t->q->fd, &t->one, 1, t->offset + t->moved, 0);
	else
		lunkit_io_readv(t->q->host, &t->io, t->q->fd, &t->one, 1, t->offset + t->moved);
}

void transfer_start_one(struct qcow2 *q, struct transfer *t, bool write, void *buffer, uint64_t length, uint64_t offset)
{
	t->one = (struct iovec){ buffer, length };
	transfer_start(q, t, write, &t->one, 1, offset, length);
	t->io.done = one_transferred;
}

static void failed(struct lunkit_io *io, int result)
{
	struct transfer *t = (struct transfer *)io;
	t->done(t, result);
}

void transfer_fail(struct qcow2 *q, struct transfer *t, void (*done)(struct transfer *transfer, int result), int result)
{
	t->io.done = failed;
	t->q = q;
	t->done = done;
	lunkit_io_defer(q->host, &t->io, result);
}

/* ---- opening ---- */

static unsigned open_flags(const struct qcow2 *q, const struct lunkit_params *params)
{
	if (params->look_only)
		return LUNKIT_FILE_UNLOCKED;
	return (q->read_only ? 0 : LUNKIT_FILE_WRITE) | (params->cache == LUNKIT_CACHE_NONE ? LUNKIT_FILE_DIRECT : 0);
}

static int open_with(struct qcow2 *q, const struct lunkit_params *params, unsigned flags, struct lunkit_error *err)
{
	unsigned opened;
	int r = lunkit_file_open(params->host, params->name, flags, &q->fd, &opened, q->is_snapshot ? NULL : err);
	/* Who writes the image changes nothing of what a snapshot shows: so it can be read without a lock where somebody does. */
	if (q->is_snapshot && r < 0)
		r = lunkit_file_open(params->host, params->name, flags | (r == -EAGAIN ? LUNKIT_FILE_UNLOCKED : 0), &q->fd, &opened, err);
	if (r < 0)
		return r;
	q->geometry.struct_size = sizeof(q->geometry);
	r = lunkit_file_look(params->host, q->fd, params->name, opened & LUNKIT_FILE_DIRECT, &q->geometry, err);
	if (r < 0) {
		lunkit_file_close(params->host, q->fd);
		return r;
	}
	q->direct = q->geometry.direct;
	q->is_block = q->geometry.is_block;
	return 0;
}

int file_open(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err)
{
	return open_with(q, params, open_flags(q, params), err);
}

int file_reopen_buffered(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err)
{
	/* Closed first: two openings of one file would exclude each other. */
	lunkit_file_close(params->host, q->fd);
	int r = open_with(q, params, open_flags(q, params) & ~LUNKIT_FILE_DIRECT, err);
	if (r < 0)
		q->fd = -1;
	return r;
}

/* ---- blocking I/O ---- */

void *file_buffer(const struct qcow2 *q, size_t length)
{
	size_t alignment = MAX(4096, q->geometry.memory_alignment);
	return aligned_alloc(alignment, align_up(MAX(length, 1), alignment));
}

int file_read(const struct qcow2 *q, void *buffer, size_t length, uint64_t offset)
{
	uint64_t alignment = q->geometry.offset_alignment, from = align_down(offset, alignment), to = align_up(offset + length, alignment);
	if (from == offset && to == offset + length && !((uintptr_t)buffer & (q->geometry.memory_alignment - 1)))
		return lunkit_file_read(q->host, q->fd, buffer, length, offset);
	uint8_t *aligned = file_buffer(q, to - from);
	if (!aligned)
		return -ENOMEM;
	int r = lunkit_file_read(q->host, q->fd, aligned, to - from, from);
	if (r == 0)
		memcpy(buffer, aligned + (offset - from), length);
	free(aligned);
	return r;
}
