/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A real lunkit-worker on a stand-in's ring. */

#include "host/process.h"
#include "image/handler.h"
#include "standin/standin.h"

struct standin_worker {
	struct worker_process process;
	struct opener_policy policy;
	uint64_t size; /* of the image */
	char notice[512];
};

struct standin_image {
	const char *kind, *name, *options; /* options: "" for none */
	enum lunkit_cache cache;
	bool read_only, write_cache;
	uint32_t block_size, modes;
};

/* LUNKIT_WORKER and LUNKIT_HANDLERS say where the program and the modules are. 0, or -errno with err. */
int standin_worker_start(struct standin_worker *worker, struct standin *standin, const struct standin_image *image,
			 struct lunkit_error *err);
/* Drains it and waits. Returns waitpid's status. */
int standin_worker_stop(struct standin_worker *worker);
/* SIGKILL, and waits. */
void standin_worker_kill(struct standin_worker *worker);
/* Seconds of processor time that the worker has used so far. */
void standin_worker_times(const struct standin_worker *worker, double *ret_user, double *ret_system);
