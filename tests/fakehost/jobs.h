/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Jobs beside a workload: snapshots taken, deleted and gone back to, flattening, shrinking and growing again. What each snapshot holds is read when it has
 * been taken, and must be what the model allows for that time.
 */

#include "fakehost/fakehost.h"
#include "fakehost/model.h"

#define JOBS_CREATE 1u
#define JOBS_DELETE 2u
#define JOBS_REVERT 4u
#define JOBS_FLATTEN 8u
#define JOBS_SHRINK 16u
#define JOBS_SNAPSHOTS 7u

#define JOBS_SNAPSHOTS_MAX 64
struct jobs_snapshot {
	char name[32];
	uint64_t *tags;
	uint64_t created, deleted; /* moments: it is there for sure from … until */
};

struct jobs {
	struct fakehost *fake;
	struct image *image;
	const struct lunkit_handler *handler;
	const struct image_params *params;
	struct model *model;
	unsigned kinds, running; /* running: one of them, or 0 */
	unsigned often;		 /* one in so many ticks */
	uint64_t random, began;
	struct image_job job;
	bool ended, errors_expected;
	int result;
	uint32_t op; /* of the model */
	unsigned which, snapshot_count, snapshots_there, done, failed;
	int error; /* the last that one failed with, other than too narrow refcounts */
	struct jobs_snapshot snapshots[JOBS_SNAPSHOTS_MAX];
	bool wrong;
	char text[700];
};

/* Reads the snapshots that the image has. Returns false and sets text when that fails. */
bool jobs_init(struct jobs *jobs, struct fakehost *fake, struct image *image, const struct lunkit_handler *handler,
	       const struct image_params *params, struct model *model, unsigned kinds, uint64_t seed);
/* From time to time: ends what has ended, may start another. */
void jobs_tick(void *jobs);
/* The disk smaller, and as it was before; its end is zeros then. */
void jobs_smaller(struct jobs *jobs);
void jobs_as_before(struct jobs *jobs);
/* Until none runs. */
void jobs_finish(struct jobs *jobs);
void jobs_free(struct jobs *jobs);
/* Opens the image as that snapshot, and compares. */
bool jobs_verify(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params,
		 const struct jobs_snapshot *snapshot, uint64_t sectors, char *text, unsigned size);
