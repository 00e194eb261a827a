/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What is where in an image: EXTENTS over a range, neighbours of one kind put together. Owner: the thread of the loop that the image is on. */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "image/image.h"

#define IMAGE_MAP_BATCH 64

struct image_map {
	/*
	 * Each run once, in order; they touch and cover the range. flags: LUNKIT_EXTENT_*: ALLOCATED is data, ZERO reads as zeros (both: storage that
	 * reads as zeros), neither is a hole whose content comes from below (a backing file).
	 */
	void (*run)(struct image_map *map, const struct lunkit_extent *run);
	/* Exactly once, maybe from inside image_map_start(): 0, or -errno with err set; -ENOMEM, -ERANGE (beyond the image). */
	void (*done)(struct image_map *map, int result);
	bool cancelled; /* set by the user at any time: it ends soon with -ECANCELED */
	struct lunkit_error err;
	/* below: the map's */
	struct image *image;
	struct image_request *request;
	struct lunkit_extent merged, extents[IMAGE_MAP_BATCH];
	uint64_t position, end;
	int result;
	bool running, again;
};

/* length 0: to the image's end. */
void image_map_start(struct image *image, struct image_map *map, uint64_t offset, uint64_t length);
