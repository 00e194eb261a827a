/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image_fake.h"

#include <signal.h>
#include <sys/wait.h>

#define ALL_ABLE (LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_CAN_FUA | LUNKIT_CAN_EXTENTS | LUNKIT_NEEDS_FLUSH)

static int finish_slot(struct slot *slot)
{
	while (!slot->calls)
		assert_true(fake_step());
	return slot->result;
}

/* ---- a random load against a flat model ---- */

enum { SLOTS = 24, BUFFER = 40 << 10 };

struct load {
	struct slot slot;
	enum lunkit_op op;
	uint64_t begin, end;
	bool busy;
	char *buffer, *expected;
};

static bool is_free_range(const struct load *loads, uint64_t begin, uint64_t end, bool writes)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (loads[i].busy && (writes || loads[i].op != LUNKIT_READ) && begin < loads[i].end && loads[i].begin < end)
			return false;
	return true;
}

/* Cuts the buffer into pieces, some of them oddly aligned; the memory between them is left out. */
static unsigned cut(struct load *load, uint64_t length)
{
	unsigned count = 0;
	char *at = load->buffer + (fake_random(2) ? fake_random(700) : 0);
	for (uint64_t left = length; left; count++) {
		uint64_t part = count == 31 ? left : 1 + fake_random(fake_random(4) ? 2048 : (unsigned)left);
		if (fake_random(2))
			part = align_up(part, 512);
		part = MIN(part, left);
		load->slot.iov[count] = (struct iovec){ at, part };
		at += part + (fake_random(3) ? 0 : 512);
		left -= part;
	}
	return count;
}

static void start_random(struct load *loads, struct load *load, char *model)
{
	static const enum lunkit_op ops[] = { LUNKIT_READ, LUNKIT_READ, LUNKIT_WRITE, LUNKIT_WRITE, LUNKIT_WRITE, LUNKIT_WRITE_ZEROES };
	uint64_t length = 1 + fake_random(fake_random(3) ? 3000 : 20000), offset = fake_random((unsigned)(FAKE_SIZE - length));
	if (fake_random(3) == 0) {
		offset = align_down(offset, 4096);
		length = MAX(align_down(length, 4096), 4096);
	}
	load->op = ops[fake_random(ARRAY_SIZE(ops))];
	if (!is_free_range(loads, offset, offset + length, load->op != LUNKIT_READ))
		return;
	unsigned count = cut(load, length);
	load->begin = offset;
	load->end = offset + length;
	load->busy = true;
	memset(load->buffer, (int)fake_random(256), BUFFER);
	if (load->op == LUNKIT_READ) {
		memcpy(load->expected, model + offset, length);
	} else if (load->op == LUNKIT_WRITE) {
		for (unsigned i = 0; i < BUFFER; i += 5)
			load->buffer[i] = (char)fake_random(256);
		iov_copy_from(model + offset, load->slot.iov, count, 0, length);
	} else {
		memset(model + offset, 0, length);
	}
	slot_submit(&load->slot, load->op, load->op != LUNKIT_READ && fake_random(4) == 0 ? LUNKIT_REQUEST_FUA : 0, offset, length, count);
}

static void run_load(struct fixture *fixture, const struct lunkit_limits *limits, bool at_once, unsigned fail_every, unsigned rounds)
{
	struct image *image = fake_image(fixture, limits);
	fake.at_once = at_once;
	fake.fail_every = fail_every;
	char *model = malloc(FAKE_SIZE);
	memcpy(model, fake.data, FAKE_SIZE);
	struct load *loads = calloc(SLOTS, sizeof(*loads));
	for (unsigned i = 0; i < SLOTS; i++) {
		slot_init(image, &loads[i].slot);
		loads[i].buffer = aligned_alloc(4096, BUFFER);
		loads[i].expected = malloc(BUFFER);
	}
	for (unsigned busy = 0, round = 0; round < rounds || busy; round++) {
		if (round < rounds && !loads[round % SLOTS].busy)
			start_random(loads, &loads[round % SLOTS], model);
		fake_step();
		busy = 0;
		for (unsigned i = 0; i < SLOTS; i++) {
			struct load *load = &loads[i];
			busy += load->busy;
			if (!load->busy || !load->slot.calls)
				continue;
			assert_int_equal(load->slot.calls, 1);
			assert_true(load->slot.result == 0 || (fail_every && load->slot.result == -EIO));
			const struct lunkit_request *request = &load->slot.request->request;
			size_t at;
			if (load->op == LUNKIT_READ && !fail_every)
				assert_true(iov_equal(request->iov, request->iov_count, 0, load->expected, request->length, &at));
			load->busy = false;
		}
	}
	assert_int_equal(image_in_flight(image), 0);
	if (!fail_every)
		assert_memory_equal(model, fake.data, FAKE_SIZE);
	for (unsigned i = 0; i < SLOTS; i++) {
		slot_free(&loads[i].slot);
		free(loads[i].buffer);
		free(loads[i].expected);
	}
	free(loads);
	free(model);
	image_close(image);
}

static const struct lunkit_limits odd_limits = {
	.flags = LUNKIT_NEEDS_FLUSH,
	.request_alignment = 4096,
	.memory_alignment = 512,
	.max_iov = 2,
	.max_transfer = 12 << 10,
};

static void neighbours_in_a_block_survive(void **state)
{
	run_load(*state, &odd_limits, false, 0, 20000);
}

static void neighbours_survive_when_the_handler_completes_at_once(void **state)
{
	run_load(*state, &odd_limits, true, 0, 5000);
}

static void neighbours_survive_with_native_zeroes(void **state)
{
	struct lunkit_limits limits = odd_limits;
	limits.flags = ALL_ABLE;
	limits.max_write_zeroes = 8192;
	limits.max_iov = 0;
	run_load(*state, &limits, false, 0, 5000);
}

static void nothing_is_in_the_way_without_alignment(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE };
	run_load(*state, &limits, false, 0, 5000);
}

static void failures_complete_once_and_leave_nothing(void **state)
{
	run_load(*state, &odd_limits, false, 5, 10000);
	run_load(*state, &odd_limits, true, 3, 3000);
}

/* ---- single things ---- */

static void aligned_requests_go_straight(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE, .request_alignment = 512, .memory_alignment = 512 };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	char *buffer = aligned_alloc(4096, 4096);
	slot.iov[0] = (struct iovec){ buffer, 4096 };
	slot_submit(&slot, LUNKIT_READ, 0, 8192, 4096, 1);
	assert_ptr_equal(fake.pending[0], &slot.request->request);
	assert_int_equal(image_in_flight(image), 1);
	assert_int_equal(finish_slot(&slot), 0);
	assert_memory_equal(buffer, fake.data + 8192, 4096);
	slot_submit(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 0, 4096, 1);
	assert_ptr_equal(fake.pending[0], &slot.request->request);
	assert_int_equal(fake.pending[0]->flags, LUNKIT_REQUEST_FUA);
	assert_int_equal(finish_slot(&slot), 0);
	assert_int_equal(image_in_flight(image), 0);
	free(buffer);
	slot_free(&slot);
	image_close(image);
}

static int submit_at_once(struct slot *slot, enum lunkit_op op, unsigned flags, uint64_t offset, uint64_t length)
{
	static char buffer[65536];
	slot->iov[0] = (struct iovec){ buffer, length };
	slot_submit(slot, op, flags, offset, length, 1);
	assert_int_equal(slot->calls, 1);
	return slot->result;
}

static void wrong_requests_are_refused(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	assert_int_equal(submit_at_once(&slot, LUNKIT_READ, 0, FAKE_SIZE - 512, 1024), -ERANGE);
	assert_int_equal(submit_at_once(&slot, LUNKIT_READ, 0, UINT64_MAX - 511, 1024), -ERANGE);
	assert_int_equal(submit_at_once(&slot, LUNKIT_DISCARD, 0, 512, UINT64_MAX), -ERANGE);
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE, 8, 0, 512), -EINVAL);
	assert_int_equal(submit_at_once(&slot, LUNKIT_READ, LUNKIT_REQUEST_FUA, 0, 512), -EINVAL);
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_MAY_DISCARD, 0, 512), -EINVAL);
	assert_int_equal(submit_at_once(&slot, (enum lunkit_op)77, 0, 0, 512), -EINVAL);
	slot.request->request.extent_capacity = 0;
	assert_int_equal(submit_at_once(&slot, LUNKIT_EXTENTS, 0, 0, 512), -EINVAL);
	/* The list does not hold what the length says. */
	slot.iov[0].iov_len = 511;
	slot_submit(&slot, LUNKIT_READ, 0, 0, 512, 1);
	assert_int_equal(slot.result, -EINVAL);
	/* Nothing at all is done at once. */
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE, 0, FAKE_SIZE, 0), 0);
	assert_int_equal(submit_at_once(&slot, LUNKIT_READ, 0, 7, 0), 0);
	assert_int_equal(fake.recorded, 0);
	slot_free(&slot);
	image_close(image);
}

static void a_read_only_image_refuses_writes(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE | LUNKIT_READ_ONLY };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	assert_true(image_is_read_only(image));
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE, 0, 0, 512), -EROFS);
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE_ZEROES, 0, 0, 512), -EROFS);
	assert_int_equal(submit_at_once(&slot, LUNKIT_DISCARD, 0, 0, 512), -EROFS);
	assert_int_equal(submit_at_once(&slot, LUNKIT_FLUSH, 0, 0, 0), 0);
	assert_int_equal(fake.recorded, 0);
	fake.at_once = true;
	assert_int_equal(submit_at_once(&slot, LUNKIT_READ, 0, 0, 512), 0);
	slot_free(&slot);
	image_close(image);
}

/* Also where the handler finds out late that it can't zero. */
static void zeros_that_are_written_have_a_limit(void **state)
{
	struct lunkit_limits limits = { .flags = ALL_ABLE };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	assert_true(image_limits(image)->max_write_zeroes == UINT64_MAX);
	fake.at_once = true;
	fake.refuse = 1u << LUNKIT_WRITE_ZEROES;
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE_ZEROES, 0, 0, 4096), 0);
	assert_int_equal(image_limits(image)->max_write_zeroes, 32 << 20);
	slot_free(&slot);
	image_close(image);

	limits.flags &= ~LUNKIT_CAN_WRITE_ZEROES;
	image = fake_image(*state, &limits);
	assert_int_equal(image_limits(image)->max_write_zeroes, 32 << 20);
	image_close(image);
	limits.max_write_zeroes = 1 << 20;
	image = fake_image(*state, &limits);
	assert_int_equal(image_limits(image)->max_write_zeroes, 1 << 20);
	image_close(image);
}

static void fua_is_a_flush_behind_the_write(void **state)
{
	const struct lunkit_limits limits = { .flags = LUNKIT_NEEDS_FLUSH };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	char buffer[512] = { 1 };
	slot.iov[0] = (struct iovec){ buffer, sizeof(buffer) };
	slot_submit(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 0, sizeof(buffer), 1);
	assert_int_equal(fake.recorded, 1); /* no flush before the write is done */
	assert_int_equal(fake.record[0], LUNKIT_WRITE);
	assert_true(fake_step());
	assert_int_equal(slot.calls, 0);
	assert_int_equal(fake.record[1], LUNKIT_FLUSH);
	assert_true(fake_step());
	assert_int_equal(slot.calls, 1);
	/* A write that fails is not flushed, and a flush that fails fails the write. */
	fake.fail_every = 1;
	slot_submit(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 0, sizeof(buffer), 1);
	assert_int_equal(finish_slot(&slot), -EIO);
	assert_int_equal(fake.recorded, 3);
	fake.fail_every = fake.submitted + 2;
	slot_submit(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 0, sizeof(buffer), 1);
	assert_int_equal(finish_slot(&slot), -EIO);
	assert_int_equal(fake.recorded, 5);
	slot_free(&slot);
	image_close(image);
}

static void nothing_volatile_needs_no_flush(void **state)
{
	const struct lunkit_limits limits = { 0 };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	fake.at_once = true;
	assert_int_equal(submit_at_once(&slot, LUNKIT_FLUSH, 0, 0, 0), 0);
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 0, 512), 0);
	assert_int_equal(fake.recorded, 1);
	assert_int_equal(fake.record_flags[0], 0);
	slot_free(&slot);
	image_close(image);
}

static void zeroes_that_the_handler_cannot_are_written(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE, .request_alignment = 512 };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	fake.at_once = true;
	fake.refuse = 1u << LUNKIT_WRITE_ZEROES;
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE_ZEROES, LUNKIT_REQUEST_MAY_DISCARD, 100, 30000), 0);
	for (uint64_t i = 100; i < 30100; i++)
		assert_int_equal(fake.data[i], 0);
	assert_int_equal(fake.data[99], (char)(99 * 31));
	assert_false(image_limits(image)->flags & LUNKIT_CAN_WRITE_ZEROES);
	fake.recorded = 0;
	assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE_ZEROES, 0, 0, 512), 0);
	assert_int_equal(fake.record[0], LUNKIT_WRITE); /* not asked again */
	slot_free(&slot);
	image_close(image);
}

static void long_zeroes_do_not_pile_up_on_the_stack(void **state)
{
	const struct lunkit_limits limits = { .max_transfer = 512, .request_alignment = 512 };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	fake.at_once = true;
	for (int i = 0; i < 200; i++)
		assert_int_equal(submit_at_once(&slot, LUNKIT_WRITE_ZEROES, 0, 0, FAKE_SIZE), 0);
	assert_int_equal(fake.longest, 512);
	slot_free(&slot);
	image_close(image);
}

static void discards_shrink_to_whole_units(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE, .request_alignment = 4096, .max_discard = 10000 };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	fake.at_once = true;
	assert_int_equal(submit_at_once(&slot, LUNKIT_DISCARD, 0, 100, 4096), 0);
	assert_int_equal(fake.recorded, 0);
	assert_int_equal(submit_at_once(&slot, LUNKIT_DISCARD, 0, 100, 30000), 0);
	assert_int_equal(fake.recorded, 3);
	assert_int_equal(fake.longest, 8192);
	fake.refuse = 1u << LUNKIT_DISCARD;
	assert_int_equal(submit_at_once(&slot, LUNKIT_DISCARD, 0, 0, 16384), 0);
	assert_false(image_limits(image)->flags & LUNKIT_CAN_DISCARD);
	slot_free(&slot);
	image_close(image);
}

static void extents_cover_what_was_asked(void **state)
{
	const struct lunkit_limits limits = { .flags = ALL_ABLE, .request_alignment = 4096 };
	struct image *image = fake_image(*state, &limits);
	struct slot slot;
	slot_init(image, &slot);
	fake.at_once = true;
	struct lunkit_extent extents[4];
	slot.request->request.extents = extents;
	slot.request->request.extent_capacity = 4;
	assert_int_equal(submit_at_once(&slot, LUNKIT_EXTENTS, 0, 1000, 10000), 0);
	assert_int_equal(slot.request->request.extent_count, 2);
	assert_int_equal(extents[0].offset, 1000);
	assert_int_equal(extents[0].offset + extents[0].length, extents[1].offset);
	assert_int_equal(extents[1].offset + extents[1].length, 11000);
	assert_int_equal(extents[0].flags, LUNKIT_EXTENT_ZERO);
	fake.refuse = 1u << LUNKIT_EXTENTS;
	assert_int_equal(submit_at_once(&slot, LUNKIT_EXTENTS, 0, 1000, 10000), 0);
	assert_int_equal(slot.request->request.extent_count, 1);
	assert_int_equal(extents[0].flags, LUNKIT_EXTENT_ALLOCATED);
	assert_int_equal(extents[0].length, 10000);
	slot_free(&slot);
	image_close(image);
}

static void impossible_limits_are_refused(void **state)
{
	struct fixture *fixture = *state;
	static const struct lunkit_limits bad[] = {
		{ .size = 1000 },
		{ .size = FAKE_SIZE, .block_size = 1024 },
		{ .size = FAKE_SIZE, .request_alignment = 3 },
		{ .size = FAKE_SIZE, .request_alignment = 128 << 10 },
		{ .size = FAKE_SIZE, .memory_alignment = 12 },
		{ .size = FAKE_SIZE, .physical_block_size = 5000 },
		{ .size = FAKE_SIZE, .request_alignment = 4096, .max_transfer = 512 },
		{ .size = FAKE_SIZE - 512, .request_alignment = 4096 },
		{ .size = FAKE_SIZE, .flags = 1u << 30 },
		{ .size = UINT64_MAX - 511 },
		{ .size = 0 },
	};
	const struct lunkit_handler *handler;
	const struct image_params params = { .name = "fake" };
	assert_int_equal(handler_adopt(&fake_handler, &handler, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lunkit_error err;
		struct image *image = NULL;
		fake.limits = bad[i];
		int r = image_open(&fixture->host, handler, &params, &image, &err);
		if (r >= 0)
			fail_msg("limits %zu were accepted", i);
		assert_null(image);
		assert_int_equal(err.code, -r);
		assert_non_null(strstr(err.message, "fake"));
	}
}

/* ---- a handler that breaks the rules ---- */

static int ends_how(void (*function)(struct fixture *), struct fixture *fixture)
{
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		freopen("/dev/null", "w", stderr);
		signal(SIGABRT, SIG_DFL);
		function(fixture);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void complete_twice(struct fixture *fixture)
{
	const struct lunkit_limits limits = { 0 };
	struct image *image = fake_image(fixture, &limits);
	struct slot slot;
	char buffer[512];
	slot_init(image, &slot);
	slot.iov[0] = (struct iovec){ buffer, sizeof(buffer) };
	slot_submit(&slot, LUNKIT_READ, 0, 0, sizeof(buffer), 1);
	struct lunkit_request *request = fake.pending[0];
	lunkit_request_done(request, 0);
	lunkit_request_done(request, 0);
}

static void submit_twice(struct fixture *fixture)
{
	const struct lunkit_limits limits = { 0 };
	struct image *image = fake_image(fixture, &limits);
	struct slot slot;
	char buffer[512];
	slot_init(image, &slot);
	slot.iov[0] = (struct iovec){ buffer, sizeof(buffer) };
	slot_submit(&slot, LUNKIT_READ, 0, 0, sizeof(buffer), 1);
	slot_submit(&slot, LUNKIT_READ, 0, 0, sizeof(buffer), 1);
}

static void completing_twice_ends_the_worker(void **state)
{
	assert_int_equal(ends_how(complete_twice, *state), SIGABRT);
	assert_int_equal(ends_how(submit_twice, *state), SIGABRT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(neighbours_in_a_block_survive),
		TEST(neighbours_survive_when_the_handler_completes_at_once),
		TEST(neighbours_survive_with_native_zeroes),
		TEST(nothing_is_in_the_way_without_alignment),
		TEST(failures_complete_once_and_leave_nothing),
		TEST(aligned_requests_go_straight),
		TEST(wrong_requests_are_refused),
		TEST(a_read_only_image_refuses_writes),
		TEST(zeros_that_are_written_have_a_limit),
		TEST(fua_is_a_flush_behind_the_write),
		TEST(nothing_volatile_needs_no_flush),
		TEST(zeroes_that_the_handler_cannot_are_written),
		TEST(long_zeroes_do_not_pile_up_on_the_stack),
		TEST(discards_shrink_to_whole_units),
		TEST(extents_cover_what_was_asked),
		TEST(impossible_limits_are_refused),
		TEST(completing_twice_ends_the_worker),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	fake_free();
	return r;
}
