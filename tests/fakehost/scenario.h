/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Images to test on, with every shape that QEMU gives them; made by qemu-img and qemu-io, so that no mistake of ours is in them.
 */

#include "fakehost/fakehost.h"
#include "fakehost/jobs.h"

enum scenario_backing { BACKING_NONE, BACKING_RAW, BACKING_QCOW2 };

struct scenario {
	const char *name, *kind;
	uint64_t size;	       /* of the disk, bytes */
	uint32_t cluster_size; /* raw: 0 */
	const char *create;    /* qemu-img create -o, besides the cluster size; or NULL */
	enum scenario_backing backing;
	uint64_t backing_size;
	unsigned written;    /* percent of clusters that hold data first */
	bool compressed;     /* part of it */
	unsigned snapshots;  /* internal ones, taken in between */
	const char *options; /* for the handler's open(), or NULL */
	bool direct, survive;
	unsigned requests; /* for a workload; 0: 250 */
	bool no_discard;
	unsigned jobs;	 /* JOBS_*, beside the workload */
	uint64_t device; /* the image lies on a device of that size, with something else behind it; 0: a file */
};

struct scenario_files {
	uint8_t *image, *backing;
	uint64_t image_size, backing_size;
	uint64_t *tags; /* of the disk's sectors */
};

#define SCENARIO_FOLDER "/images"
extern const struct scenario scenarios[];
extern const unsigned scenario_count;

bool scenario_tools(void);
/* Aborts with what the tools said when they fail. */
void scenario_make(const struct scenario *scenario, uint64_t seed, struct scenario_files *ret);
void scenario_free(struct scenario_files *files);
/* Puts the files on a fake host; the image's own name is scenario_path(). */
struct fakehost_file *scenario_load(const struct scenario *scenario, const struct scenario_files *files, struct fakehost *fake);
const char *scenario_path(const struct scenario *scenario);
/* The handler of that kind, with those that it may open below itself; NULL: not built. */
const struct lunkit_handler *scenario_handler(const char *kind);
/* Runs `qemu-img check` on the bytes. 0: clean, 1: leaks only, 2: corrupt, 3: it can't tell; text says what it printed. repair: "leaks", "all" or NULL. */
int scenario_qemu_check(const struct scenario *scenario, const struct scenario_files *files, const void *image, uint64_t size,
			const char *repair, char *text, unsigned text_size);
