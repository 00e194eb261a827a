/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a disk may hold, sector by sector. Each sector of 512 bytes that a test writes is filled with one 64-bit tag: the number of the
 * operation that wrote it and the sector's own number, so that what is read tells where it comes from. Zero is the tag of zeros.
 *
 * The rule: what operation k left in a sector may be seen unless an operation that began after k had ended is known to be done
 * (completed, or durable after a power cut). Operations that overlapped in time may be seen in either order. A discard and a write that failed
 * may have happened or not.
 */

#include <stdbool.h>
#include <stdint.h>

#define MODEL_SECTOR 512u

enum model_kind { MODEL_WRITE, MODEL_ZERO, MODEL_DISCARD, MODEL_RESTORE };
struct model_op {
	enum model_kind kind;
	bool failed;
	const uint64_t *tags;			/* RESTORE: what it leaves, of all sectors; lives as long as the model */
	uint64_t submitted, completed, durable; /* moments; UINT64_MAX: never */
};
struct model_history {
	uint32_t *ops; /* in the order of submission */
	uint32_t count, room;
};
struct model {
	uint64_t sectors;
	uint64_t *initial; /* tags */
	struct model_history *histories;
	struct model_op *ops; /* ops[0] is not used */
	uint32_t op_count, op_room;
};

#define MODEL_POPULATED 0xa0000000u /* numbers of operations before the test */
#define MODEL_BACKING 0xb0000000u

struct model *model_new(const uint64_t *initial, uint64_t sectors);
void model_free(struct model *model);

static inline uint64_t model_tag(uint32_t op, uint64_t sector)
{
	return (uint64_t)op << 32 | (sector + 1);
}
void model_fill(void *buffer, uint32_t op, uint64_t sector, uint64_t count);
/* The tag of a sector's content, or UINT64_MAX when it is not one tag all over. */
uint64_t model_read_tag(const void *content);

uint32_t model_begin(struct model *model, enum model_kind kind, uint64_t sector, uint64_t count, uint64_t moment);
void model_end(struct model *model, uint32_t op, uint64_t moment, bool failed);
/* Everything that completed before the flush was submitted is durable at moment. */
void model_flushed(struct model *model, uint64_t submitted, uint64_t moment);

/* What is known to be done: completed by known (durable by known after a power cut); what may be there: submitted by now. */
bool model_allows(const struct model *model, uint64_t sector, uint64_t tag, bool after_cut, uint64_t known, uint64_t now);
/* Checks a buffer of whole sectors. Returns false and says in text (of size bytes) what is wrong with the first bad one. */
bool model_check(const struct model *model, uint64_t sector, const void *buffer, uint64_t count, bool after_cut, uint64_t known,
		 uint64_t now, char *text, unsigned size);
