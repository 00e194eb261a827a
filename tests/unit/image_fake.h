/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A handler over memory with limits, abilities and a temper that the test chooses. It checks every promise of the interface, completes
 * when and in which order the test says, and keeps a record of what it was asked.
 */

#include "image_fixture.h"

#define FAKE_SIZE ((uint64_t)256 << 10)
#define FAKE_PENDING_MAX 256

static struct fake {
	struct lunkit_limits limits;
	bool at_once;	     /* completes inside submit */
	unsigned fail_every; /* each nth request fails with -EIO; 0: none */
	unsigned refuse;     /* operations (1 << op) answered with -EOPNOTSUPP */
	char *data;
	struct lunkit_request *pending[FAKE_PENDING_MAX];
	unsigned pending_count, submitted;
	enum lunkit_op record[FAKE_PENDING_MAX];
	unsigned record_flags[FAKE_PENDING_MAX], recorded;
	uint64_t longest;
	uint64_t resized;
} fake;

static uint64_t fake_random_state = 1;
__attribute__((unused)) static unsigned fake_random(unsigned below)
{
	fake_random_state = fake_random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((fake_random_state >> 33) % below);
}

static int fake_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	(void)params;
	(void)err;
	*ret_state = &fake;
	return 0;
}

static void fake_close(void *state)
{
	assert_ptr_equal(state, &fake);
	assert_int_equal(fake.pending_count, 0);
}

static void fake_limits(void *state, struct lunkit_limits *limits)
{
	(void)state;
	*limits = fake.limits;
}

static void fake_check(const struct lunkit_request *request)
{
	const struct lunkit_limits *limits = &fake.limits;
	uint64_t alignment = MAX(limits->request_alignment, 1u), memory = MAX(limits->memory_alignment, 1u);
	assert_int_equal(request->offset % alignment, 0);
	assert_int_equal(request->length % alignment, 0);
	assert_true(range_within(request->offset, request->length, limits->size));
	switch (request->op) {
	case LUNKIT_READ:
	case LUNKIT_WRITE:
		assert_true(request->length > 0);
		assert_true(request->iov_count > 0 && request->iov_count <= (limits->max_iov ? limits->max_iov : 1024));
		assert_int_equal(iov_length(request->iov, request->iov_count), request->length);
		assert_true(iov_is_aligned(request->iov, request->iov_count, memory));
		assert_true(!limits->max_transfer || request->length <= limits->max_transfer);
		break;
	case LUNKIT_FLUSH:
		assert_true(limits->flags & LUNKIT_NEEDS_FLUSH);
		break;
	case LUNKIT_DISCARD:
		assert_true(limits->flags & LUNKIT_CAN_DISCARD);
		assert_true(!limits->max_discard || request->length <= limits->max_discard);
		break;
	case LUNKIT_WRITE_ZEROES:
		assert_true(limits->flags & LUNKIT_CAN_WRITE_ZEROES);
		assert_true(!limits->max_write_zeroes || request->length <= limits->max_write_zeroes);
		break;
	case LUNKIT_EXTENTS:
		assert_true(limits->flags & LUNKIT_CAN_EXTENTS);
		break;
	}
	if (request->op == LUNKIT_READ)
		assert_int_equal(request->flags, 0);
	if (request->flags & LUNKIT_REQUEST_FUA)
		assert_true(limits->flags & LUNKIT_CAN_FUA);
	memset(request->memory, 0xee, 40);
}

/* Data moves when the request completes: what runs side by side takes effect in a random order. */
static void fake_complete(struct lunkit_request *request)
{
	fake.submitted++;
	if (fake.fail_every && fake.submitted % fake.fail_every == 0) {
		lunkit_request_done(request, -EIO);
		return;
	}
	if (fake.refuse & 1u << request->op) {
		lunkit_request_done(request, -EOPNOTSUPP);
		return;
	}
	uint64_t half;
	switch (request->op) {
	case LUNKIT_READ:
		iov_copy_to(request->iov, request->iov_count, 0, fake.data + request->offset, request->length);
		break;
	case LUNKIT_WRITE:
		iov_copy_from(fake.data + request->offset, request->iov, request->iov_count, 0, request->length);
		break;
	case LUNKIT_WRITE_ZEROES:
		memset(fake.data + request->offset, 0, request->length);
		break;
	case LUNKIT_EXTENTS:
		half = align_down(request->length / 2, MAX(fake.limits.request_alignment, 1u));
		request->extent_count = 0;
		if (half && request->extent_capacity > 1)
			request->extents[request->extent_count++] = (struct lunkit_extent){ request->offset, half, LUNKIT_EXTENT_ZERO };
		else
			half = 0;
		request->extents[request->extent_count++] =
			(struct lunkit_extent){ request->offset + half, request->length - half, LUNKIT_EXTENT_ALLOCATED };
		break;
	case LUNKIT_FLUSH:
	case LUNKIT_DISCARD:
		break;
	}
	lunkit_request_done(request, 0);
}

static void fake_submit(void *state, struct lunkit_request *request)
{
	(void)state;
	fake_check(request);
	if (fake.recorded < FAKE_PENDING_MAX) {
		fake.record[fake.recorded] = request->op;
		fake.record_flags[fake.recorded++] = request->flags;
	}
	fake.longest = MAX(fake.longest, request->length);
	if (fake.at_once) {
		fake_complete(request);
		return;
	}
	assert_true(fake.pending_count < FAKE_PENDING_MAX);
	fake.pending[fake.pending_count++] = request;
}

/* Completes one of the pending requests. False when there is none. */
__attribute__((unused)) static bool fake_step(void)
{
	if (!fake.pending_count)
		return false;
	unsigned i = fake_random(fake.pending_count);
	struct lunkit_request *request = fake.pending[i];
	fake.pending[i] = fake.pending[--fake.pending_count];
	fake_complete(request);
	return true;
}

static void fake_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags)
{
	(void)state;
	(void)flags;
	assert_true(size <= FAKE_SIZE);
	fake.resized = size;
	fake.limits.size = size;
	lunkit_job_progress(job, 1, 1);
	lunkit_job_done(job, 0);
}

static const struct lunkit_option fake_options[] = {
	{ "word", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN, "a word", "one|three" },
	{ "text", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE, "any text", NULL },
	{ "length", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_OPEN, "a size", NULL },
	{ "on", LUNKIT_OPTION_BOOL, LUNKIT_OPTION_OPEN, "a switch", NULL },
	{ 0 },
};

__attribute__((unused)) static const struct lunkit_handler fake_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "fake",
	.description = "for tests",
	.options = fake_options,
	.request_size = 40,
	.open = fake_open,
	.close = fake_close,
	.limits = fake_limits,
	.submit = fake_submit,
	.resize = fake_resize,
};

/* Opens the fake with these limits over a pattern that no two blocks share. */
__attribute__((unused)) static struct image *fake_image(struct fixture *fixture, const struct lunkit_limits *limits)
{
	char *data = fake.data ? fake.data : malloc(FAKE_SIZE);
	fake = (struct fake){ .limits = *limits, .data = data };
	if (!fake.limits.size)
		fake.limits.size = FAKE_SIZE;
	for (uint64_t i = 0; i < FAKE_SIZE; i++)
		data[i] = (char)(i * 31 + i / 512 * 7);
	const struct lunkit_handler *handler;
	const struct image_params params = { .name = "fake" };
	struct lunkit_error err;
	struct image *image;
	assert_int_equal(handler_adopt(&fake_handler, &handler, &err), 0);
	int r = image_open(&fixture->host, handler, &params, &image, &err);
	if (r < 0)
		fail_msg("%s", err.message);
	return image;
}

__attribute__((unused)) static void fake_free(void)
{
	free(fake.data);
	fake.data = NULL;
}
