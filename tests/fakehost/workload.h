/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Random requests to an image on the fake host, many in flight, each checked against the model. What is asked follows from the seed and from
 * what completes when; that follows from the fake host's seed.
 */

#include "fakehost/fakehost.h"
#include "fakehost/model.h"

#define WORKLOAD_SLOTS_MAX 32

struct workload_config {
	uint64_t seed;
	unsigned requests;
	unsigned slots; /* in flight at most; 0: the seed chooses */
	uint32_t cluster_size;
	uint64_t length_max; /* 0: 256 KiB */
	/* Weights; all 0: the seed chooses a mix. */
	unsigned reads, writes, zeroes, discards, flushes;
	bool sequential; /* one after another, in flight one at a time, from the disk's beginning */
	bool no_discard;
	bool errors_expected;	      /* results other than 0 are taken */
	void (*tick)(void *argument); /* between requests; or NULL */
	void *tick_argument;
};

struct workload_result {
	unsigned failed;     /* requests that ended with an error */
	int first_error;     /* of these */
	bool wrong;	     /* data was not what the model allows; text says what */
	unsigned flushed;    /* flushes that succeeded */
	unsigned unexpected; /* errors that were not expected */
	char text[700];
};

/* Drains at the end: nothing is in flight. */
void workload_run(struct fakehost *fake, struct image *image, struct model *model, const struct workload_config *config,
		  struct workload_result *ret);
/* Reads the whole disk and compares. Returns false and sets text. */
bool workload_verify(struct fakehost *fake, struct image *image, const struct model *model, bool after_cut, uint64_t known, uint64_t now,
		     char *text, unsigned size);
