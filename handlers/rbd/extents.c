/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which parts of the image hold data. librbd tells it for a range by asking each object, which blocks: on a helper thread, a piece of the range after the other, until the
 * range ends or the caller's room. What is not reported reads as zeros; what a clone has from its parent is reported, and counts as data.
 */
#include <errno.h>

#include "base/checked.h"
#include "rbd.h"

#define PIECE ((uint64_t)1 << 30)
/* What the callback ends the walk with when there is no room; no error that librbd has. */
#define FULL (-EXFULL)

struct walk {
	struct lunkit_request *request;
	uint64_t position; /* described up to here */
};

/* Adds a run that begins at walk->position; touching runs that are alike become one. */
static int add(struct walk *walk, uint64_t end, unsigned flags)
{
	struct lunkit_request *request = walk->request;
	struct lunkit_extent *last = request->extent_count ? &request->extents[request->extent_count - 1] : NULL;
	if (end <= walk->position)
		return 0;
	if (last && last->flags == flags) {
		last->length += end - walk->position;
	} else {
		if (request->extent_count == request->extent_capacity)
			return FULL;
		request->extents[request->extent_count++] =
			(struct lunkit_extent){ .offset = walk->position, .length = end - walk->position, .flags = flags };
	}
	walk->position = end;
	return 0;
}

static int reported(uint64_t offset, size_t length, int exists, void *argument)
{
	struct walk *walk = argument;
	uint64_t stop = walk->request->offset + walk->request->length, end = MIN(offset + length, stop);
	if (!exists || end <= walk->position)
		return 0;
	int r = add(walk, MIN(offset, stop), LUNKIT_EXTENT_ZERO);
	return r < 0 ? r : add(walk, end, LUNKIT_EXTENT_ALLOCATED);
}

static int work(void *argument)
{
	struct rbd_request *r = argument;
	struct walk walk = { r->request, r->request->offset };
	uint64_t at = r->request->offset, stop = at + r->request->length;
	r->request->extent_count = 0;
	while (at < stop) {
		uint64_t piece = MIN(PIECE, stop - at);
		int result = rbd_diff_iterate2(r->rbd->image, NULL, at, piece, 1, 0, reported, &walk);
		at += piece;
		if (result == 0)
			result = add(&walk, at, LUNKIT_EXTENT_ZERO);
		if (result == FULL)
			return 0;
		if (result < 0)
			return result;
	}
	return 0;
}

static void done(struct lunkit_io *io, int result)
{
	rbd_request_end((struct rbd_request *)io, result);
}

void rbd_extents(struct rbd_request *r)
{
	r->work = (struct lunkit_work){ .io.done = done, .function = work, .argument = r };
	lunkit_work_start(r->rbd->host, &r->work);
}
