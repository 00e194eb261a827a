/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a power cut may leave of a file: everything that was durable at that moment, and of the rest any part, down to single sectors of
 * 512 bytes, in any combination.
 */

#include "fakehost/fakehost.h"

enum cut_mode { CUT_NOTHING, CUT_EVERYTHING, CUT_SOME, CUT_TORN, CUT_ONE, CUT_ALL_BUT_ONE, CUT_REGION, CUT_FEW };
#define CUT_MODES 8

struct cuts {
	const struct fakehost *fake; /* its log is sealed */
	unsigned file;
	uint8_t *base, *image; /* what is durable for sure up to the last moment asked for; what the cut left */
	uint64_t base_size, image_size, room;
	size_t folded; /* writes that are in base */
};

void cuts_new(struct cuts *cuts, const struct fakehost *fake, unsigned file, const void *content, uint64_t size, uint64_t room);
void cuts_free(struct cuts *cuts);
/* Fills image. Moments must not go back. The same mode and random state give the same image. */
void cuts_make(struct cuts *cuts, uint64_t moment, enum cut_mode mode, uint64_t random);
