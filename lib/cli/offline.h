/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Work on an image that is not attached: lunkit starts a worker in the caller's own rights, opens for it the one path that was named, and waits. Needs neither
 * lunkitd nor D-Bus. SIGINT, SIGTERM and SIGHUP end the work; what it had made is taken away again.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "pool/reference.h"

int offline_create(const struct reference *reference, uint64_t size, struct lunkit_error *err);
/* Looks only: takes no lock, so that images in use can be looked at. */
int offline_info(const struct reference *reference, struct json_object **ret, struct lunkit_error *err);

struct offline_resize {
	bool adopt, relative, shrink; /* adopt: size is not used; relative: size is added */
	uint64_t size;
};
int offline_resize(const struct reference *reference, const struct offline_resize *resize, uint64_t *ret_before, uint64_t *ret_after,
		   struct lunkit_error *err);
/* What a handler says about itself (DESCRIBE). */
int offline_describe(const char *kind, struct json_object **ret, struct lunkit_error *err);

/* The size that a resize asks for: -EINVAL or -ERANGE with a message. */
int resize_target(const struct offline_resize *resize, uint64_t now, uint64_t *ret, struct lunkit_error *err);
/* RESIZE_* for RESIZE messages, here and on the bus: LUNKIT_RESIZE_SHRINK of handler.h, which this layer does not see. */
#define RESIZE_SHRINK 1u
