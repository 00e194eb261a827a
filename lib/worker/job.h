/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Jobs: the long control operations on an image, asked for by JOB messages (host/protocol.h), on the worker's thread beside the I/O of its LUN. One at a
 * time, since they would get into each other's way; MAP and SNAPSHOT_LIST only look, and go beside others.
 */

#include <stdbool.h>

#include "image/image.h"
#include "worker/link.h"

struct job;

struct jobs {
	struct link *link;
	struct lunkit_host *host;
	struct image *image;
	const struct protocol_start *start; /* how the image was opened */
	bool has_lun;			    /* it is attached: its content changes under jobs, and nothing may block for long */
	void (*idle)(void *argument);	    /* the last job has ended */
	void *argument;
	/* below: the jobs' own */
	struct list running;
	bool exclusive; /* one that works on the image runs, or a resize does */
	const char *target;
	int target_fd; /* what opening target gives; -1: there is none */
};

void jobs_init(struct jobs *jobs);
/* Before the sandbox: handlers of what an export makes. target_kind: besides those of files, or "". */
int jobs_load_handlers(const char *directory, const char *target_kind, struct lunkit_error *err);
/* The opener of the host: target is answered here, everything else by the starter. argument: the jobs. */
int jobs_open(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err);
int jobs_remove(void *argument, const char *path, struct lunkit_error *err);

/* Takes the packet's descriptors. */
void jobs_start(struct jobs *jobs, struct protocol_packet *packet);
void jobs_cancel(struct jobs *jobs, uint32_t id);
void jobs_cancel_all(struct jobs *jobs);
void jobs_set_rate(struct jobs *jobs, uint32_t id, uint64_t rate);
bool jobs_are_running(const struct jobs *jobs);
/* -EBUSY while an exclusive job runs; else nothing else that is exclusive starts until jobs_release(). */
int jobs_claim(struct jobs *jobs, struct lunkit_error *err);
void jobs_release(struct jobs *jobs);
/* The exclusive job that runs: its word for status and how far it is. NULL: none. */
const char *jobs_current(const struct jobs *jobs, uint64_t *ret_done, uint64_t *ret_total);
