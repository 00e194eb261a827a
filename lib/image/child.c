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
