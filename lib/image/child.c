/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images below images. A struct lunkit_child, which handlers know by name only, is a whole image with its shim, and a child request is one of its
 * request slots: what is checked, split, bounced and emulated for the image on top is for the ones below it too.
 *
 * Owner: the worker's thread. A child's slot is allocated by the handler once and used again and again, so that reading through a chain allocates
 * nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "image/shim.h"

#define SAME_MEMBER(member)                                                                                                                \
	_Static_assert(offsetof(struct lunkit_child_request, member) == offsetof(struct image_request, member),                            \
		       "a child request begins a slot")
SAME_MEMBER(request);
SAME_MEMBER(done);
SAME_MEMBER(user);

static struct image *image_of(const struct lunkit_child *child)
{
	return (struct image *)child;
}

int lunkit_child_open(const struct lunkit_params *params, const char *kind, const char *name, const char *options, unsigned flags,
		      struct lunkit_child **ret, struct lunkit_error *err)
{
	const struct lunkit_handler *handler = handler_find(kind);
	if (!handler) {
		lunkit_error_set(err, ENOENT, "%.300s: there is no handler for images of the kind \"%.32s\"", name, kind);
		return lunkit_error_hint(err, "Is lunkit installed completely?");
	}
	if (params->depth + 1 >= LUNKIT_DEPTH_MAX) {
		lunkit_error_set(err, ELOOP, "%.300s: more than %u images lie on top of each other", name, LUNKIT_DEPTH_MAX);
		return lunkit_error_hint(err, "Flatten one of the images in between.");
	}
	const struct image_params child = {
		.name = name,
		.options = options,
		.cache = params->cache,
		.read_only = params->read_only || flags & LUNKIT_CHILD_READ_ONLY,
		.look_only = params->look_only,
		.depth = params->depth + 1,
	};
	return image_open(params->host, handler, &child, (struct image **)ret, err);
}

void lunkit_child_close(struct lunkit_child *child)
{
	image_close(image_of(child));
}

bool lunkit_child_busy(struct lunkit_child *child)
{
	return image_is_busy(image_of(child));
}

const struct lunkit_limits *lunkit_child_limits(const struct lunkit_child *child)
{
	return image_limits(image_of(child));
}

struct lunkit_child_request *lunkit_child_request_new(struct lunkit_child *child)
{
	struct image_request *request = malloc(image_request_size(image_of(child)));
	if (request)
		image_request_init(image_of(child), request);
	return (struct lunkit_child_request *)request;
}

void lunkit_child_request_free(struct lunkit_child_request *request)
{
	free(request);
}

void lunkit_child_submit(struct lunkit_child *child, struct lunkit_child_request *request)
{
	image_submit(image_of(child), (struct image_request *)request);
}

/* ---- a child that a handler makes, or whose header it has ---- */

int lunkit_child_create(const struct lunkit_params *params, const char *kind, const char *name, const char *options, uint64_t size,
			struct lunkit_error *err)
{
	const struct lunkit_handler *handler = handler_find(kind);
	if (!handler) {
		lunkit_error_set(err, ENOENT, "%.300s: there is no handler for images of the kind \"%.32s\"", name, kind);
		return lunkit_error_hint(err, "Is lunkit installed completely?");
	}
	const struct image_params child = {
		.name = name, .options = options, .cache = params->cache, .size = size, .depth = params->depth + 1
	};
	return image_create(params->host, handler, &child, err);
}

/* Direct I/O on a few bytes goes through memory that is aligned for every device. */
#define BLOCKING_ALIGNMENT ((uint64_t)4096)

struct blocking {
	int fd;
	uint64_t from, to; /* what is moved, aligned */
	void *memory;
};

static int blocking_begin(struct image *image, size_t length, uint64_t offset, struct blocking *ret)
{
	bool direct = false;
	int fd = image->handler->file ? image->handler->file(image->state, &direct) : -1;
	if (fd < 0)
		return -EOPNOTSUPP;
	if (!range_within(offset, length, image->limits.size))
		return -ERANGE;
	*ret = (struct blocking){ .fd = fd, .from = offset, .to = offset + length };
	if (!direct)
		return 0;
	ret->from = align_down(offset, BLOCKING_ALIGNMENT);
	ret->to = align_up(offset + length, BLOCKING_ALIGNMENT);
	if (ret->to >
	    image->limits.size) /* the last bytes of a file that is no multiple of it; whole units of its own, as the limits say */
		ret->to = image->limits.size;
	ret->memory = aligned_alloc(BLOCKING_ALIGNMENT, align_up(ret->to - ret->from, BLOCKING_ALIGNMENT));
	return ret->memory ? 0 : -ENOMEM;
}

int lunkit_child_read(struct lunkit_child *child, void *buffer, size_t length, uint64_t offset)
{
	struct image *image = image_of(child);
	struct blocking io;
	int r = blocking_begin(image, length, offset, &io);
	if (r < 0)
		return r;
	r = lunkit_file_read(image->host, io.fd, io.memory ? io.memory : buffer, io.to - io.from, io.from);
	if (r == 0 && io.memory)
		memcpy(buffer, (char *)io.memory + (offset - io.from), length);
	free(io.memory);
	return r;
}

int lunkit_child_write(struct lunkit_child *child, const void *buffer, size_t length, uint64_t offset)
{
	struct image *image = image_of(child);
	struct blocking io;
	int r = image_is_read_only(image) ? -EROFS : blocking_begin(image, length, offset, &io);
	if (r < 0)
		return r;
	bool whole = io.from == offset && io.to == offset + length;
	if (io.memory && !whole)
		r = lunkit_file_read(image->host, io.fd, io.memory, io.to - io.from, io.from);
	if (io.memory)
		memcpy((char *)io.memory + (offset - io.from), buffer, length);
	if (r == 0)
		r = lunkit_file_write(image->host, io.fd, io.memory ? io.memory : buffer, io.to - io.from, io.from);
	free(io.memory);
	return r;
}

int lunkit_child_sync(struct lunkit_child *child)
{
	struct image *image = image_of(child);
	bool direct;
	int fd = image->handler->file ? image->handler->file(image->state, &direct) : -1;
	return fd < 0 ? -EOPNOTSUPP : lunkit_file_sync(image->host, fd);
}

struct child_resize {
	struct image_job job; /* first */
	struct lunkit_job *outer;
	void (*done)(void *user, int result);
	void *user;
};

static void child_resized(struct image_job *job, int result)
{
	struct child_resize *resize = (struct child_resize *)job;
	if (result < 0)
		*lunkit_job_error(resize->outer) = job->err;
	resize->done(resize->user, result);
	free(resize);
}

void lunkit_child_resize(struct lunkit_child *child, struct lunkit_job *job, uint64_t size, unsigned flags,
			 void (*done)(void *user, int result), void *user)
{
	struct child_resize *resize = calloc(1, sizeof(*resize));
	if (!resize) {
		done(user, lunkit_error_set(lunkit_job_error(job), ENOMEM, "%s: not enough memory", image_name(image_of(child))));
		return;
	}
	resize->job.done = child_resized;
	resize->outer = job;
	resize->done = done;
	resize->user = user;
	image_resize(image_of(child), &resize->job, size, flags);
}

int lunkit_child_info(struct lunkit_child *child, struct lunkit_info *info, struct lunkit_error *err)
{
	struct image *image = image_of(child);
	return image->handler->info ? image->handler->info(image->state, info, err) : 0;
}
