/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Two images over memory, the source and the target of a copy: each with limits, extents and failures that the test chooses, completing when and
 * in which order the test says. What is asked of them is checked and counted.
 */

#include "image_fixture.h"

#define SIDE_MAX ((uint64_t)4 << 20)
#define SIDE_PENDING 256

struct side {
	struct lunkit_limits limits;
	uint8_t *data;
	struct lunkit_extent extents[512]; /* of all the data; none: all allocated */
	unsigned extent_count;
	bool at_once;
	unsigned fail_op;    /* 1 << op */
	unsigned fail_after; /* so many of these succeed first */
	int failure;
	struct lunkit_request *pending[SIDE_PENDING];
	unsigned pending_count, most_pending;
	unsigned count[LUNKIT_OP_COUNT];
	uint64_t bytes[LUNKIT_OP_COUNT], last_offset;
	uint64_t compressed;
	bool durable; /* nothing was changed since the last flush */
	struct image *image;
};

static struct side source_side, target_side;

static uint64_t side_random_state = 1;
__attribute__((unused)) static uint64_t side_random(uint64_t below)
{
	side_random_state = side_random_state * 6364136223846793005u + 1442695040888963407u;
	return (side_random_state >> 33) % below;
}

struct side_request {
	struct side *side;
};

static int side_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	(void)err;
	*ret_state = strcmp(params->name, "source") == 0 ? &source_side : &target_side;
	return 0;
}

static void side_close(void *state)
{
	assert_int_equal(((struct side *)state)->pending_count, 0);
}

static void side_limits(void *state, struct lunkit_limits *limits)
{
	*limits = ((struct side *)state)->limits;
}

static void side_describe(const struct side *side, struct lunkit_request *request)
{
	uint64_t position = request->offset, end = request->offset + request->length;
	request->extent_count = 0;
	if (!side->extent_count) {
		request->extents[request->extent_count++] = (struct lunkit_extent){ position, request->length, LUNKIT_EXTENT_ALLOCATED };
		return;
	}
	for (unsigned i = 0; i < side->extent_count && position < end && request->extent_count < request->extent_capacity; i++) {
		const struct lunkit_extent *extent = &side->extents[i];
		if (extent->offset + extent->length <= position)
			continue;
		uint64_t to = MIN(extent->offset + extent->length, end);
		request->extents[request->extent_count++] = (struct lunkit_extent){ position, to - position, extent->flags };
		position = to;
	}
}

static bool side_knows_zeros(const struct side *side, uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < side->extent_count; i++)
		if (side->extents[i].flags & LUNKIT_EXTENT_ZERO && side->extents[i].offset <= offset &&
		    offset + length <= side->extents[i].offset + side->extents[i].length)
			return true;
	return false;
}

static void side_complete(struct side *side, struct lunkit_request *request)
{
	if (side->fail_op & 1u << request->op && side->fail_after-- == 0) {
		side->fail_op = 0;
		side->last_offset = request->offset;
		lunkit_request_done(request, side->failure);
		return;
	}
	switch (request->op) {
	case LUNKIT_READ:
		assert_false(side_knows_zeros(side, request->offset, request->length));
		iov_copy_to(request->iov, request->iov_count, 0, side->data + request->offset, request->length);
		break;
	case LUNKIT_WRITE:
		side->durable = false;
		if (request->flags & LUNKIT_REQUEST_COMPRESS) {
			uint64_t unit = side->limits.compress_unit, end = request->offset + request->length;
			assert_int_equal(request->offset % unit, 0);
			assert_true(end % unit == 0 || end == side->limits.size);
			side->compressed += request->length;
		}
		iov_copy_from(side->data + request->offset, request->iov, request->iov_count, 0, request->length);
		break;
	case LUNKIT_WRITE_ZEROES:
		side->durable = false;
		memset(side->data + request->offset, 0, request->length);
		break;
	case LUNKIT_EXTENTS:
		side_describe(side, request);
		break;
	case LUNKIT_FLUSH:
		side->durable = true;
		break;
	case LUNKIT_DISCARD:
		fail_msg("a copy discards nothing");
	}
	lunkit_request_done(request, 0);
}

static void side_submit(void *state, struct lunkit_request *request)
{
	struct side *side = state;
	assert_true(side == &target_side || (request->op != LUNKIT_WRITE && request->op != LUNKIT_WRITE_ZEROES));
	side->count[request->op]++;
	side->bytes[request->op] += request->length;
	if (side->at_once) {
		side_complete(side, request);
		return;
	}
	assert_true(side->pending_count < SIDE_PENDING);
	side->pending[side->pending_count++] = request;
	side->most_pending = MAX(side->most_pending, side->pending_count);
}

/* Completes one of the pending requests of either side. False when there is none. */
__attribute__((unused)) static bool side_step(void)
{
	unsigned count = source_side.pending_count + target_side.pending_count;
	if (!count)
		return false;
	unsigned i = (unsigned)side_random(count);
	struct side *side = i < source_side.pending_count ? &source_side : &target_side;
	if (side == &target_side)
		i -= source_side.pending_count;
	struct lunkit_request *request = side->pending[i];
	side->pending[i] = side->pending[--side->pending_count];
	side_complete(side, request);
	return true;
}

static const struct lunkit_handler side_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "side",
	.description = "for tests",
	.request_size = sizeof(struct side_request),
	.open = side_open,
	.close = side_close,
	.limits = side_limits,
	.submit = side_submit,
};

/* A side of that size, filled with the byte; without zeros and no two blocks alike when it is -1. The test may change it, then opens it. */
__attribute__((unused)) static void side_make(struct side *side, uint64_t size, int byte)
{
	uint8_t *data = side->data ? side->data : malloc(SIDE_MAX);
	*side = (struct side){ .data = data, .failure = -EIO };
	side->limits.size = size;
	side->limits.flags = LUNKIT_CAN_EXTENTS | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_NEEDS_FLUSH;
	for (uint64_t i = 0; i < size; i++)
		data[i] = (uint8_t)(byte < 0 ? (int)(i * 31 + i / 512 * 7 + 1) | 1 : byte);
}

__attribute__((unused)) static void side_open_image(struct fixture *fixture, struct side *side)
{
	const struct lunkit_handler *handler;
	const struct image_params params = { .name = side == &source_side ? "source" : "target" };
	struct lunkit_error err;
	assert_int_equal(handler_adopt(&side_handler, &handler, &err), 0);
	if (image_open(&fixture->host, handler, &params, &side->image, &err) < 0)
		fail_msg("%s", err.message);
}

/* Makes a part of the data zeros, or a hole of the source that its extents tell. Ranges come in order. */
__attribute__((unused)) static void side_extent(struct side *side, uint64_t length, unsigned flags)
{
	struct lunkit_extent *last = side->extent_count ? &side->extents[side->extent_count - 1] : NULL;
	uint64_t offset = last ? last->offset + last->length : 0;
	length = MIN(length, side->limits.size - offset);
	if (!length)
		return;
	assert_true(side->extent_count < ARRAY_SIZE(side->extents));
	side->extents[side->extent_count++] = (struct lunkit_extent){ offset, length, flags };
	if (flags & LUNKIT_EXTENT_ZERO)
		memset(side->data + offset, 0, length);
}

__attribute__((unused)) static int side_teardown(void **state)
{
	free(source_side.data);
	free(target_side.data);
	source_side.data = target_side.data = NULL;
	return fixture_teardown(state);
}
