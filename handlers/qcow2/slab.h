/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Buffers of one size, many of them, in memory that can be given back: see slab.c. Owner: the worker's thread. */

#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct slabs {
	size_t piece;	  /* bytes of a buffer, and what it is aligned to */
	struct list room; /* slabs with a free piece, those that were made first in front */
	struct list full;
	size_t count;
};

/* piece: a power of two from 512 to 64 KiB. */
void slabs_init(struct slabs *slabs, size_t piece);
/* Not cleared; NULL without memory. */
void *slabs_take(struct slabs *slabs);
void slabs_give(struct slabs *slabs, void *piece); /* takes NULL */
/* Gives the system the memory of pieces that nobody has. */
void slabs_trim(struct slabs *slabs);
/* Everything, whoever has it. */
void slabs_destroy(struct slabs *slabs);
