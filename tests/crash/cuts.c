/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     the log, by effect:   w w w w w w w w w w w w │ w w        │: the moment of the cut
 *                           └──────┬──────┘ └──┬──┘
 *                    folded into base: durable  from the first that is not durable: each one whole, in part or not at all
 *
 * Writes that were submitted but had not taken effect yet may be there too.
 */
#include "crash/cuts.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define SECTOR 512u
/* How far behind the moment a write that was submitted before it can be in the order of effects. */
#define IN_FLIGHT_MAX 512

void cuts_new(struct cuts *cuts, const struct fakehost *fake, unsigned file, const void *content, uint64_t size, uint64_t room)
{
	*cuts = (struct cuts){ .fake = fake, .file = file, .base_size = size, .room = room };
	cuts->base = calloc(1, room);
	cuts->image = calloc(1, room);
	if (!cuts->base || !cuts->image || size > room)
		abort();
	memcpy(cuts->base, content, size);
}

void cuts_free(struct cuts *cuts)
{
	free(cuts->base);
	free(cuts->image);
}

static void set_size(uint8_t *data, uint64_t *size, uint64_t wanted)
{
	if (wanted < *size)
		memset(data + wanted, 0, *size - wanted);
	*size = wanted;
}

/* The part [from, to) of a write, relative to its beginning. */
static void apply_part(const struct cuts *cuts, const struct fakehost_write *write, uint64_t from, uint64_t to, uint8_t *data,
		       uint64_t *size)
{
	uint64_t begin = write->offset + from, end = write->offset + to;
	if (write->change == FAKEHOST_ZEROS && write->keep_size)
		end = MIN(end, *size);
	if (begin >= end)
		return;
	if (end > cuts->room)
		abort();
	if (end > *size)
		*size = end;
	if (write->change == FAKEHOST_DATA)
		memcpy(data + begin, write->data + from, end - begin);
	else
		memset(data + begin, 0, end - begin);
}

static void apply(const struct cuts *cuts, const struct fakehost_write *write, uint8_t *data, uint64_t *size)
{
	if (write->change == FAKEHOST_SIZE) {
		if (write->length > cuts->room)
			abort();
		set_size(data, size, write->length);
	} else {
		apply_part(cuts, write, 0, write->length, data, size);
	}
}

static void apply_torn(const struct cuts *cuts, const struct fakehost_write *write, uint64_t *random, uint8_t *data, uint64_t *size)
{
	if (write->change == FAKEHOST_SIZE || write->length <= SECTOR) {
		if (fakehost_below(random, 2))
			apply(cuts, write, data, size);
		return;
	}
	bool prefix = fakehost_below(random, 2);
	uint64_t cut = align_down(fakehost_below(random, write->length), SECTOR);
	for (uint64_t at = 0; at < write->length; at += SECTOR)
		if (prefix ? at < cut : fakehost_below(random, 2))
			apply_part(cuts, write, at, MIN(at + SECTOR, write->length), data, size);
}

static bool is_candidate(const struct cuts *cuts, const struct fakehost_write *write, uint64_t moment)
{
	return write->file == cuts->file && write->submitted <= moment;
}

static void fold(struct cuts *cuts, uint64_t moment)
{
	const struct fakehost *fake = cuts->fake;
	for (; cuts->folded < fake->write_count; cuts->folded++) {
		const struct fakehost_write *write = &fake->writes[cuts->folded];
		if (write->file != cuts->file)
			continue;
		if (write->durable > moment)
			return;
		apply(cuts, write, cuts->base, &cuts->base_size);
	}
}

void cuts_make(struct cuts *cuts, uint64_t moment, enum cut_mode mode, uint64_t random)
{
	const struct fakehost *fake = cuts->fake;
	fold(cuts, moment);
	if (cuts->image_size > cuts->base_size)
		memset(cuts->image + cuts->base_size, 0, cuts->image_size - cuts->base_size);
	memcpy(cuts->image, cuts->base, cuts->base_size);
	cuts->image_size = cuts->base_size;
	size_t end = cuts->folded;
	unsigned candidates = 0;
	for (size_t i = cuts->folded, behind = 0; i < fake->write_count && behind < IN_FLIGHT_MAX; i++) {
		const struct fakehost_write *write = &fake->writes[i];
		behind += write->effected > moment;
		if (!is_candidate(cuts, write, moment))
			continue;
		candidates += write->durable > moment;
		end = i + 1;
	}
	unsigned chosen = candidates ? (unsigned)fakehost_below(&random, candidates) : 0, n = 0;
	/* Writes to one part of the file: data but no metadata, one table but not another. */
	uint64_t region = fakehost_below(&random, MAX(cuts->base_size, 1u)), reach = 4096ull << fakehost_below(&random, 8);
	for (size_t i = cuts->folded; i < end; i++) {
		const struct fakehost_write *write = &fake->writes[i];
		if (!is_candidate(cuts, write, moment))
			continue;
		bool take = write->durable <= moment;
		if (!take) {
			bool is_chosen = n++ == chosen;
			bool in_region = write->offset < region + reach && region < write->offset + write->length;
			switch (mode) {
			case CUT_NOTHING:
				break;
			case CUT_EVERYTHING:
				take = true;
				break;
			case CUT_SOME:
				take = fakehost_below(&random, 2);
				break;
			case CUT_TORN:
				apply_torn(cuts, write, &random, cuts->image, &cuts->image_size);
				break;
			case CUT_ONE:
				take = is_chosen;
				break;
			case CUT_ALL_BUT_ONE:
				take = !is_chosen;
				break;
			case CUT_REGION:
				take = in_region;
				break;
			case CUT_FEW:
				take = fakehost_below(&random, 8) == 0;
				break;
			}
		}
		if (take)
			apply(cuts, write, cuts->image, &cuts->image_size);
	}
}
