/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * raw: the disk is the file or the block device, byte for byte. Nothing in the image is parsed, and nothing is ever guessed from it.
 *
 * Owner: the worker's thread, apart from the functions named work_*. A 4 KiB request is one submission and one completion of the loop;
 * everything else is for the rare cases: a transfer that came out short goes on entry by entry.
 */
#include "raw.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline struct raw_request *begin(struct raw *raw, struct lunkit_request *request)
{
	struct raw_request *r = request->memory;
	r->raw = raw;
	r->request = request;
	return r;
}

/* ---- data ---- */

static void transferred(struct lunkit_io *io, int result);

/* Starts the rest of a transfer: the entry that it stopped in, from there on. */
static void go_on(struct raw_request *r)
{
	struct raw *raw = r->raw;
	const struct lunkit_request *request = r->request;
	uint64_t skip = r->done;
	const struct iovec *iov = request->iov;
	while (skip >= iov->iov_len)
		skip -= iov++->iov_len;
	r->part = (struct iovec){ (char *)iov->iov_base + skip, iov->iov_len - skip };
	if (request->op == LUNKIT_READ)
		lunkit_io_readv(raw->host, &r->work.io, raw->fd, &r->part, 1, request->offset + r->done);
	else
		lunkit_io_writev(raw->host, &r->work.io, raw->fd, &r->part, 1, request->offset + r->done,
				 request->flags & LUNKIT_REQUEST_FUA ? LUNKIT_IO_DSYNC : 0);
}

/* The end of a READ or WRITE. */
static void end_transfer(struct raw_request *r, int result)
{
	if (raw_wants_durable(r->raw, r->request))
		result = raw_synced(r->raw, true, result);
	lunkit_request_done(r->request, result);
}

static void short_transfer(struct raw_request *r, int result)
{
	const struct raw *raw = r->raw;
	if (result == -EINTR || result == -EAGAIN) {
		go_on(r);
		return;
	}
	if (result < 0) {
		end_transfer(r, result);
		return;
	}
	r->done += (unsigned)result;
	/* The file has shrunk under us: nothing came, or a part of a block, which direct I/O gives only at a file's end. */
	bool at_end = result == 0 || (raw->direct && r->done % raw->request_alignment);
	if (r->done == r->request->length)
		end_transfer(r, 0);
	else if (at_end)
		lunkit_request_done(r->request, -EIO);
	else
		go_on(r);
}

static void transferred(struct lunkit_io *io, int result)
{
	struct raw_request *r = (struct raw_request *)io;
	if (__builtin_expect(r->done == 0 && result >= 0 && (uint64_t)result == r->request->length, 1))
		end_transfer(r, 0);
	else
		short_transfer(r, result);
}

static void flushed(struct lunkit_io *io, int result)
{
	struct raw_request *r = (struct raw_request *)io;
	lunkit_request_done(r->request, raw_synced(r->raw, false, result));
}

static void raw_submit(void *state, struct lunkit_request *request)
{
	struct raw *raw = state;
	struct raw_request *r = begin(raw, request);
	if (__builtin_expect(raw->sync_error, 0) && raw_wants_durable(raw, request)) {
		lunkit_request_done(request, raw->sync_error);
		return;
	}
	switch (request->op) {
	case LUNKIT_READ:
		r->done = 0;
		r->work.io.done = transferred;
		lunkit_io_readv(raw->host, &r->work.io, raw->fd, request->iov, request->iov_count, request->offset);
		return;
	case LUNKIT_WRITE:
		r->done = 0;
		r->work.io.done = transferred;
		lunkit_io_writev(raw->host, &r->work.io, raw->fd, request->iov, request->iov_count, request->offset,
				 request->flags & LUNKIT_REQUEST_FUA ? LUNKIT_IO_DSYNC : 0);
		return;
	case LUNKIT_FLUSH:
		r->work.io.done = flushed;
		lunkit_io_fdatasync(raw->host, &r->work.io, raw->fd);
		return;
	case LUNKIT_DISCARD:
		raw_discard(r);
		return;
	case LUNKIT_WRITE_ZEROES:
		raw_write_zeroes(r);
		return;
	case LUNKIT_EXTENTS:
		raw_extents(r);
		return;
	}
	lunkit_request_done(request, -EINVAL);
}

/* ---- open ---- */

static unsigned open_flags(const struct lunkit_params *params)
{
	unsigned flags = params->read_only ? 0 : LUNKIT_FILE_WRITE;
	if (params->look_only)
		return LUNKIT_FILE_UNLOCKED;
	switch (params->cache) {
	case LUNKIT_CACHE_NONE:
		return flags | LUNKIT_FILE_DIRECT;
	case LUNKIT_CACHE_WRITEBACK:
		return flags;
	case LUNKIT_CACHE_WRITETHROUGH:
		return flags | LUNKIT_FILE_DSYNC;
	}
	return flags;
}

static int raw_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	const struct lunkit_option_value *block_size = lunkit_params_option(params, "block-size");
	struct raw *raw = calloc(1, sizeof(*raw));
	if (!raw)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", params->name);
	raw->host = params->host;
	raw->read_only = params->read_only;
	raw->durable = params->cache == LUNKIT_CACHE_WRITETHROUGH;
	snprintf(raw->name, sizeof(raw->name), "%s", params->name);
	unsigned flags = open_flags(params);
	int r = lunkit_file_open(params->host, params->name, flags, &raw->fd, &flags, err);
	if (r < 0) {
		free(raw);
		return r;
	}
	raw->direct = flags & LUNKIT_FILE_DIRECT;
	r = raw_look(raw, params->name, block_size ? strtoull(block_size->value, NULL, 10) : 0, err);
	if (r == 0)
		r = raw_read_size(raw, &raw->size);
	/* A look needs no whole blocks, and no right to use the image. */
	if (r == 0 && !params->look_only)
		r = raw_check_size(raw, raw->size, err);
	if (r < 0) {
		lunkit_file_close(raw->host, raw->fd);
		free(raw);
		return r;
	}
	*ret_state = raw;
	return 0;
}

static void raw_close(void *state)
{
	struct raw *raw = state;
	lunkit_file_close(raw->host, raw->fd);
	free(raw);
}

static void raw_limits(void *state, struct lunkit_limits *limits)
{
	const struct raw *raw = state;
	limits->size = raw->size;
	limits->block_size = raw->block_size;
	limits->physical_block_size = raw->physical_block_size;
	limits->request_alignment = raw->request_alignment;
	limits->memory_alignment = raw->memory_alignment;
	limits->optimal_transfer = raw->optimal_transfer;
	limits->flags = LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_CAN_FUA;
	if (!raw->durable)
		limits->flags |= LUNKIT_NEEDS_FLUSH;
	if (raw->read_only)
		limits->flags |= LUNKIT_READ_ONLY;
	if (raw->rotational)
		limits->flags |= LUNKIT_ROTATIONAL;
	if (raw->is_block)
		limits->max_write_zeroes = RAW_DEVICE_ZEROES_MAX;
	/* A hole in a file reads as zeros; what a device's discard leaves is the device's affair. */
	if (!raw->is_block) {
		limits->flags |= LUNKIT_CAN_EXTENTS | LUNKIT_DISCARD_ZEROES;
		limits->discard_granularity = raw->physical_block_size;
	}
}

static int raw_file(void *state, bool *ret_direct)
{
	const struct raw *raw = state;
	*ret_direct = raw->direct;
	return raw->fd;
}

static const struct lunkit_handler raw_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "raw",
	.description = "a file or block device that holds the disk as it is",
	.reference_help = "PATH",
	.options = raw_options,
	.request_size = sizeof(struct raw_request),
	.open = raw_open,
	.close = raw_close,
	.limits = raw_limits,
	.submit = raw_submit,
	.create = raw_create,
	.info = raw_info,
	.resize = raw_resize,
	.file = raw_file,
};

LUNKIT_HANDLER(raw_handler)
