/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An image opened in this process as a worker opens it: the real loop, shim and handler (a shared object), real files. For tests and benchmarks. */

#include "image/image.h"

struct engine {
	struct loop *loop;
	struct lunkit_host host;
	const struct lunkit_handler *handler;
	struct image *image;
	struct image_key key;
};

/* Handlers come from the folder in the environment's LUNKIT_HANDLERS. -errno with the error set. */
int engine_start(struct engine *engine, const char *kind, unsigned depth, uint64_t poll_max_ns, struct lunkit_error *err);
/* The key of the image that is opened next: a file's content. */
int engine_take_key(struct engine *engine, const char *path, struct lunkit_error *err);
int engine_open(struct engine *engine, const struct image_params *params, struct lunkit_error *err);
void engine_close(struct engine *engine);
/* One request from beginning to end. */
int engine_request(struct engine *engine, enum lunkit_op op, unsigned flags, uint64_t offset, void *buffer, uint64_t length);
void engine_stop(struct engine *engine);
