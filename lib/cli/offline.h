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
#include "host/protocol.h"
#include "pool/reference.h"

/* parent: an image of another folder that the new one lies on, or NULL. */
int offline_create(const struct reference *reference, uint64_t size, const char *parent, struct lunkit_error *err);
/* Looks only: takes no lock, so that images in use can be looked at. */
int offline_info(const struct reference *reference, struct json_object **ret, struct lunkit_error *err);

struct offline_resize {
	bool adopt, relative, shrink; /* adopt: size is not used; relative: size is added */
	uint64_t size;
};
int offline_resize(const struct reference *reference, const struct offline_resize *resize, uint64_t *ret_before, uint64_t *ret_after,
		   struct lunkit_error *err);
/* How an image is opened for a job: LOOK takes no lock, READ keeps writers away, WRITE everybody. */
enum offline_use { OFFLINE_LOOK, OFFLINE_READ, OFFLINE_WRITE };
struct offline_job {
	enum offline_use use;
	bool locked; /* opened for a key operation only: no key is needed for that */
	struct protocol_job request;
	const struct reference *target;					 /* what the job makes, when it is no file; or NULL */
	int fds[2];							 /* that go with it; -1: none. They stay the caller's */
	void (*progress)(void *argument, uint64_t done, uint64_t total); /* or NULL */
	void *argument;
};
/*
 * Opens the image, runs one job, closes it again. reference NULL: the job needs no image (IMPORT). *ret_json is the answer's text, or NULL when it has none;
 * *ret_size is the image's size at the end; either may be NULL. Interrupted, the job is cancelled and ends in order.
 */
int offline_job(const struct reference *reference, const struct offline_job *job, struct json_object **ret_json, uint64_t *ret_size,
		struct lunkit_error *err);
/* Opens the image for reading, so that nobody may write to it, and tells its size. */
int offline_size(const struct reference *reference, uint64_t *ret, struct lunkit_error *err);
/*
 * Keeps everybody from the file, whatever it holds, until offline_release(). Somebody uses it: the error says so. *ret is NULL where there is nothing to keep anybody
 * from: no such file, or none that could be a disk.
 */
struct offline;
int offline_hold(const char *path, struct offline **ret, struct lunkit_error *err);
void offline_release(struct offline *offline); /* takes NULL */
/* lib/image/safety.h */
int offline_inspect(const struct reference *reference, struct json_object **ret, struct lunkit_error *err);

/* What a handler says about itself (DESCRIBE). */
int offline_describe(const char *kind, struct json_object **ret, struct lunkit_error *err);

/* The size that a resize asks for: -EINVAL or -ERANGE with a message. */
int resize_target(const struct offline_resize *resize, uint64_t now, uint64_t *ret, struct lunkit_error *err);
/* RESIZE_* for RESIZE messages, here and on the bus: LUNKIT_RESIZE_SHRINK of handler.h, which this layer does not see. */
#define RESIZE_SHRINK 1u
