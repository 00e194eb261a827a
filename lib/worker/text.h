/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Long answers, as JSON text into a regular file (a memfd) of the starter's: written in pieces, so that they cost the worker no memory however long they are.
 *     lunkit_map        [{"offset", "length", "data", "zero", "allocated", "backing"}, …]   data: stored, and not known to be zeros; backing: content comes from below
 *     lunkit_snapshots  [{"id", "name", "size", "time" (UTC, ISO 8601), "time-ns" (since 1970), "vm-state-size", "protected"}, …]
 */

#include <stdint.h>

#include "image/image.h"

struct text {
	int fd; /* the caller's */
	int result;
	uint64_t offset;
	size_t used;
	unsigned items;
	char buffer[16384];
};

/* -EINVAL: not a regular file. */
int text_begin(struct text *text, int fd);
void text_add_run(struct text *text, const struct lunkit_extent *run);
void text_add_snapshot(struct text *text, const struct lunkit_snapshot *snapshot, bool is_protected);
/* Ends the array. Returns the first error. */
int text_end(struct text *text);
