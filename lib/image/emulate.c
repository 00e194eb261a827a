/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a handler can't do, done with what it can: zeros by writing them, FUA by a flush behind the write; and the plain operations' steps. */
#include <errno.h>

#include "base/checked.h"
#include "base/log.h"
#include "image/shim.h"

enum step emulate_flush_after(struct image_request *request, int *ret_result)
{
	struct image_shim *shim = request->shim;
	if (!shim->flush_after || !(request->image->limits.flags & LUNKIT_NEEDS_FLUSH)) {
		*ret_result = 0;
		return STEP_DONE;
	}
	return step_flush(request, 0, ret_result);
}

enum step emulate_send_zeroes(struct image_request *request, uint64_t left)
{
	const struct image *image = request->image;
	struct image_shim *shim = request->shim;
	struct lunkit_request *sub = &shim->sub;
	sub->flags = shim->flush_after ? 0 : request->request.flags & LUNKIT_REQUEST_FUA;
	if (image->limits.flags & LUNKIT_CAN_WRITE_ZEROES) {
		sub->op = LUNKIT_WRITE_ZEROES;
		sub->flags |= request->request.flags & LUNKIT_REQUEST_MAY_DISCARD;
		sub->iov = NULL;
		sub->iov_count = 0;
		shim->piece = MIN(left, image->limits.max_write_zeroes);
	} else {
		sub->op = LUNKIT_WRITE;
		shim->piece = MIN(MIN(left, image->limits.max_transfer), ZEROES_SIZE);
		shim->slice[0] = (struct iovec){ image->zeroes, shim->piece };
		sub->iov = shim->slice;
		sub->iov_count = 1;
	}
	sub->offset = shim->position;
	sub->length = shim->piece;
	return shim_send(request, PHASE_PIECE);
}

enum step step_flush(struct image_request *request, int result, int *ret_result)
{
	struct lunkit_request *sub = &request->shim->sub;
	if (request->shim->phase == PHASE_FLUSH) {
		*ret_result = result;
		return STEP_DONE;
	}
	sub->op = LUNKIT_FLUSH;
	sub->flags = 0;
	sub->offset = sub->length = 0;
	sub->iov = NULL;
	sub->iov_count = 0;
	return shim_send(request, PHASE_FLUSH);
}

/* A hint: the whole units inside the range, and a handler that can't after all is no failure. */
enum step step_discard(struct image_request *request, int result, int *ret_result)
{
	struct image *image = request->image;
	struct image_shim *shim = request->shim;
	struct lunkit_request *sub = &shim->sub;
	uint64_t alignment = image->request_mask + 1;
	if (result == -EOPNOTSUPP) {
		image_drop_flag(image, LUNKIT_CAN_DISCARD);
		result = 0;
		shim->position = shim->end;
		shim->piece = 0;
	}
	shim->position = align_up(shim->position + shim->piece, alignment);
	uint64_t end = align_down(shim->end, alignment);
	if (result != 0 || shim->position >= end) {
		*ret_result = result;
		return STEP_DONE;
	}
	shim->piece = MIN(end - shim->position, image->limits.max_discard);
	sub->op = LUNKIT_DISCARD;
	sub->flags = 0;
	sub->offset = shim->position;
	sub->length = shim->piece;
	sub->iov = NULL;
	sub->iov_count = 0;
	return shim_send(request, PHASE_PIECE);
}

/* The handler's answer, cut to what was asked. False when it is not one that the interface allows. */
static bool take_extents(struct image_request *request)
{
	struct lunkit_request *user = &request->request;
	const struct lunkit_request *sub = &request->shim->sub;
	uint64_t position = sub->offset, sub_end = sub->offset + sub->length, end = user->offset + user->length;
	if (sub->extent_count == 0 || sub->extent_count > user->extent_capacity)
		return false;
	unsigned used = 0;
	for (unsigned i = 0; i < sub->extent_count; i++) {
		struct lunkit_extent extent = user->extents[i];
		if (extent.offset != position || extent.length == 0 || extent.length > sub_end - position ||
		    extent.flags & ~(LUNKIT_EXTENT_ALLOCATED | LUNKIT_EXTENT_ZERO))
			return false;
		position += extent.length;
		uint64_t from = MAX(extent.offset, user->offset), to = MIN(position, end);
		if (from < to)
			user->extents[used++] = (struct lunkit_extent){ from, to - from, extent.flags };
	}
	if (used == 0) {
		/* No more than what lies before the range was told: nothing is known of the rest. */
		user->extents[used++] = (struct lunkit_extent){ user->offset, user->length, LUNKIT_EXTENT_ALLOCATED };
	}
	user->extent_count = used;
	return true;
}

enum step step_extents(struct image_request *request, int result, int *ret_result)
{
	struct image *image = request->image;
	struct image_shim *shim = request->shim;
	struct lunkit_request *user = &request->request, *sub = &shim->sub;
	if (shim->phase == PHASE_PIECE) {
		if (result == -EOPNOTSUPP) {
			image_drop_flag(image, LUNKIT_CAN_EXTENTS);
			user->extents[0] = (struct lunkit_extent){ user->offset, user->length, LUNKIT_EXTENT_ALLOCATED };
			user->extent_count = 1;
			result = 0;
		} else if (result == 0 && !take_extents(request)) {
			log_error("%s: the handler described extents that cannot be", image->name);
			result = -EIO;
		}
		*ret_result = result;
		return STEP_DONE;
	}
	uint64_t alignment = image->request_mask + 1;
	sub->op = LUNKIT_EXTENTS;
	sub->flags = 0;
	sub->offset = align_down(user->offset, alignment);
	sub->length = align_up(user->offset + user->length, alignment) - sub->offset;
	sub->iov = NULL;
	sub->iov_count = 0;
	sub->extents = user->extents;
	sub->extent_capacity = user->extent_capacity;
	sub->extent_count = 0;
	return shim_send(request, PHASE_PIECE);
}
