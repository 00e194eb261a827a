/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Copies between two images over memory. */
#include "image_sides.h"

#include <time.h>

#include "image/copy.h"

#define KIB ((uint64_t)1024)

struct probe {
	struct image_copy copy; /* first member */
	int calls, result;
	uint64_t done, total;
};

static void copied(struct image_copy *copy, int result)
{
	struct probe *probe = (struct probe *)copy;
	probe->calls++;
	probe->result = result;
}

static void progressed(struct image_copy *copy, uint64_t done, uint64_t total)
{
	struct probe *probe = (struct probe *)copy;
	assert_true(done >= probe->done && done <= total);
	probe->done = done;
	probe->total = total;
}

static void begin(struct fixture *fixture, struct probe *probe, const struct image_copy_options *options)
{
	*probe = (struct probe){ .copy = { .done = copied, .progress = progressed } };
	side_open_image(fixture, &source_side);
	side_open_image(fixture, &target_side);
	image_copy_start(fixture->loop, source_side.image, target_side.image, options, &probe->copy);
	assert_int_equal(probe->calls, 0);
}

static void finish(struct fixture *fixture, struct probe *probe)
{
	while (!probe->calls) {
		assert_int_equal(loop_turn(fixture->loop, !source_side.pending_count && !target_side.pending_count), 0);
		side_step();
	}
	assert_int_equal(probe->calls, 1);
	assert_int_equal(-probe->result, probe->copy.err.code);
	assert_int_equal(source_side.pending_count + target_side.pending_count, 0);
	image_close(source_side.image);
	image_close(target_side.image);
}

static int copy(struct fixture *fixture, struct probe *probe, const struct image_copy_options *options)
{
	begin(fixture, probe, options);
	finish(fixture, probe);
	return probe->result;
}

static void assert_copied(const struct probe *probe)
{
	uint64_t size = source_side.limits.size;
	assert_int_equal(probe->result, 0);
	assert_memory_equal(source_side.data, target_side.data, size);
	for (uint64_t i = size; i < target_side.limits.size; i++)
		assert_int_equal(target_side.data[i], 0);
	assert_true(target_side.durable);
	assert_int_equal(probe->done, target_side.limits.size);
	assert_int_equal(probe->total, target_side.limits.size);
}

static void test_plain(void **state)
{
	struct probe probe;
	for (int at_once = 0; at_once < 2; at_once++) {
		side_make(&source_side, SIDE_MAX, -1);
		side_make(&target_side, SIDE_MAX, 0xaa);
		source_side.limits.flags &= ~LUNKIT_CAN_EXTENTS;
		source_side.at_once = target_side.at_once = at_once;
		copy(*state, &probe, &(struct image_copy_options){ .buffer_size = 64 * KIB, .depth = 8 });
		assert_copied(&probe);
		assert_int_equal(probe.copy.bytes_read, SIDE_MAX);
		assert_int_equal(probe.copy.bytes_written, SIDE_MAX);
		assert_int_equal(target_side.count[LUNKIT_WRITE], 64);
		assert_int_equal(target_side.count[LUNKIT_FLUSH], 1);
		if (!at_once)
			assert_int_equal(source_side.most_pending, 8);
	}
}

/* Holes are not read, zeros are not written where there are zeros already. */
static void test_sparse(void **state)
{
	struct probe probe;
	for (int zero = 0; zero < 2; zero++) {
		side_make(&source_side, SIDE_MAX, -1);
		side_make(&target_side, SIDE_MAX, zero ? 0 : 0xaa);
		side_extent(&source_side, 1024 * KIB, LUNKIT_EXTENT_ALLOCATED);
		side_extent(&source_side, 1024 * KIB, LUNKIT_EXTENT_ZERO);
		side_extent(&source_side, 1024 * KIB, LUNKIT_EXTENT_ZERO | LUNKIT_EXTENT_ALLOCATED);
		side_extent(&source_side, 1024 * KIB, 0); /* from below */
		memset(source_side.data + 512 * KIB, 0, 128 * KIB);
		copy(*state, &probe, &(struct image_copy_options){ .target_is_zero = zero });
		assert_copied(&probe);
		assert_int_equal(probe.copy.bytes_read, 2048 * KIB);
		assert_int_equal(probe.copy.bytes_written, (2048 - 128) * KIB);
		assert_int_equal(target_side.bytes[LUNKIT_WRITE_ZEROES], zero ? 0 : (2048 + 128) * KIB);
	}
}

static void make_random(void)
{
	uint64_t size = 512 * (1 + side_random(SIDE_MAX / 512)), more = side_random(2) ? 0 : 512 * side_random((SIDE_MAX - size) / 512 + 1);
	side_make(&source_side, size, -1);
	bool any = side_random(2);
	for (unsigned i = 0; i < 500; i++)
		side_extent(&source_side, any ? 1 + side_random(64 * KIB) : 512 * (1 + side_random(256)), (unsigned)side_random(4));
	side_extent(&source_side, SIDE_MAX, LUNKIT_EXTENT_ALLOCATED);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t offset = side_random(size), length = side_random(100 * KIB);
		memset(source_side.data + offset, 0, MIN(length, size - offset));
	}
	side_make(&target_side, size + more, 0xaa);
	if (side_random(4) == 0)
		source_side.limits.flags &= ~LUNKIT_CAN_EXTENTS, source_side.extent_count = 0;
	source_side.at_once = side_random(3) == 0;
	target_side.at_once = side_random(3) == 0;
	target_side.limits.discard_granularity = 512u << side_random(10);
}

static void test_random(void **state)
{
	struct probe probe;
	for (unsigned i = 0; i < 150; i++) {
		make_random();
		struct image_copy_options options = { .target_is_zero = side_random(2), .depth = (unsigned)side_random(20) };
		options.buffer_size = side_random(2) ? 0 : side_random(400 * KIB);
		if (options.target_is_zero)
			memset(target_side.data, 0, target_side.limits.size);
		if (side_random(3) == 0) {
			target_side.limits.compress_unit = 512u << side_random(12);
			options.compress = true;
		}
		copy(*state, &probe, &options);
		assert_copied(&probe);
		assert_int_equal(target_side.compressed, options.compress ? target_side.bytes[LUNKIT_WRITE] : 0);
		if (options.target_is_zero)
			assert_int_equal(target_side.count[LUNKIT_WRITE_ZEROES], 0);
	}
}

/* Whatever the alignment that the sides want, nothing is bounced or read again. */
static void test_alignment(void **state)
{
	struct probe probe;
	side_make(&source_side, 1000 * 512, -1);
	side_make(&target_side, 126 * 4096, 0xaa);
	side_extent(&source_side, 5 * 512, LUNKIT_EXTENT_ALLOCATED);
	side_extent(&source_side, 77 * 512, LUNKIT_EXTENT_ZERO);
	side_extent(&source_side, SIDE_MAX, LUNKIT_EXTENT_ALLOCATED);
	target_side.limits.request_alignment = target_side.limits.memory_alignment = 4096;
	copy(*state, &probe, NULL);
	assert_copied(&probe);
	assert_int_equal(target_side.count[LUNKIT_READ], 0);
}

static void test_refused(void **state)
{
	struct probe probe;
	side_make(&source_side, 128 * KIB, -1);
	side_make(&target_side, 64 * KIB, 0);
	assert_int_equal(copy(*state, &probe, NULL), -ENOSPC);
	side_make(&target_side, 128 * KIB, 0);
	target_side.limits.flags |= LUNKIT_READ_ONLY;
	assert_int_equal(copy(*state, &probe, NULL), -EROFS);
	side_make(&target_side, 128 * KIB, 0);
	assert_int_equal(copy(*state, &probe, &(struct image_copy_options){ .compress = true }), -EOPNOTSUPP);
	assert_int_equal(target_side.count[LUNKIT_WRITE] + target_side.count[LUNKIT_FLUSH], 0);
	assert_non_null(strstr(probe.copy.err.message, "target"));
}

/* Each request of each side fails once: the error says which one it was, and the copy is over. */
static void test_faults(void **state)
{
	struct probe probe;
	const struct {
		struct side *side;
		enum lunkit_op op;
		const char *text;
	} faults[] = {
		{ &source_side, LUNKIT_READ, "source: cannot read" },
		{ &source_side, LUNKIT_EXTENTS, "source: cannot tell" },
		{ &target_side, LUNKIT_WRITE, "target: cannot write" },
		{ &target_side, LUNKIT_WRITE_ZEROES, "target: cannot zero" },
		{ &target_side, LUNKIT_FLUSH, "target: cannot make the copy durable" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(faults); i++)
		for (unsigned after = 0;; after++) {
			side_make(&source_side, 1024 * KIB, -1);
			side_make(&target_side, 1024 * KIB, 0xaa);
			for (unsigned part = 0; part < 8; part++) {
				side_extent(&source_side, 64 * KIB, LUNKIT_EXTENT_ALLOCATED);
				side_extent(&source_side, 64 * KIB, LUNKIT_EXTENT_ZERO);
			}
			faults[i].side->fail_op = 1u << faults[i].op;
			faults[i].side->fail_after = after;
			faults[i].side->failure = i % 2 ? -EIO : -ENOSPC;
			source_side.at_once = target_side.at_once = after % 2;
			copy(*state, &probe, &(struct image_copy_options){ .depth = 3 });
			if (faults[i].side->fail_op) {
				assert_true(after > 0);
				assert_copied(&probe);
				break;
			}
			assert_int_equal(probe.result, faults[i].side->failure);
			assert_non_null(strstr(probe.copy.err.message, faults[i].text));
			char offset[40];
			snprintf(offset, sizeof(offset), "offset %llu", (unsigned long long)faults[i].side->last_offset);
			if (faults[i].op != LUNKIT_FLUSH)
				assert_non_null(strstr(probe.copy.err.message, offset));
			if (faults[i].op != LUNKIT_FLUSH)
				assert_int_equal(target_side.count[LUNKIT_FLUSH], 0);
		}
}

static void test_cancel(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	for (unsigned stage = 0;; stage++) {
		side_make(&source_side, 512 * KIB, -1);
		side_make(&target_side, 512 * KIB, 0xaa);
		side_extent(&source_side, 256 * KIB, LUNKIT_EXTENT_ALLOCATED);
		side_extent(&source_side, 64 * KIB, LUNKIT_EXTENT_ZERO);
		side_extent(&source_side, SIDE_MAX, LUNKIT_EXTENT_ALLOCATED);
		begin(fixture, &probe, &(struct image_copy_options){ .depth = 2, .buffer_size = 64 * KIB });
		for (unsigned steps = 0; steps < stage && !probe.calls;) {
			assert_int_equal(loop_turn(fixture->loop, !source_side.pending_count && !target_side.pending_count), 0);
			steps += side_step();
		}
		if (probe.calls) {
			finish(fixture, &probe);
			assert_copied(&probe);
			break;
		}
		probe.copy.cancelled = true;
		finish(fixture, &probe);
		/* What was complete by then may as well be so. */
		if (probe.result != 0)
			assert_int_equal(probe.result, -ECANCELED);
		else
			assert_copied(&probe);
		if (stage < 10)
			assert_int_equal(probe.result, -ECANCELED);
	}
}

/* What the shim lets through: whole units, or up to the image's end. */
static void test_compressed_requests(void **state)
{
	struct fixture *fixture = *state;
	static uint8_t data[512 * KIB];
	struct slot slot;
	static const struct {
		uint64_t unit, offset, length;
		int result;
	} cases[] = {
		{ 64 * KIB, 64 * KIB, 64 * KIB, 0 },	     { 64 * KIB, 64 * KIB, 192 * KIB, 0 },
		{ 64 * KIB, 960 * KIB, 64 * KIB + 512, 0 },  { 64 * KIB, 1024 * KIB, 512, 0 },
		{ 64 * KIB, 512, 64 * KIB, -EINVAL },	     { 64 * KIB, 64 * KIB, 64 * KIB - 512, -EINVAL },
		{ 64 * KIB, 1024 * KIB, 64 * KIB, -ERANGE }, { 0, 64 * KIB, 64 * KIB, -EINVAL },
	};
	memset(data, 0x55, sizeof(data));
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		side_make(&target_side, 1024 * KIB + 512, 0);
		target_side.limits.compress_unit = cases[i].unit;
		target_side.limits.max_transfer = 96 * KIB; /* pieces that are no whole units are written plain */
		target_side.at_once = true;
		side_open_image(fixture, &target_side);
		slot_init(target_side.image, &slot);
		assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, LUNKIT_REQUEST_COMPRESS, cases[i].offset, data, cases[i].length),
				 cases[i].result);
		if (cases[i].result == 0)
			assert_memory_equal(target_side.data + cases[i].offset, data, cases[i].length);
		assert_int_equal(target_side.compressed > 0, cases[i].result == 0 && cases[i].length <= 96 * KIB);
		assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, LUNKIT_REQUEST_COMPRESS, 0, data, 64 * KIB), -EINVAL);
		slot_free(&slot);
		image_close(target_side.image);
	}
	static const uint64_t impossible[] = { 1, 256, 3 * 4096, (uint64_t)1 << 40 };
	for (unsigned i = 0; i < ARRAY_SIZE(impossible); i++) {
		const struct lunkit_handler *handler;
		const struct image_params params = { .name = "target" };
		struct lunkit_error err;
		target_side.limits.compress_unit = impossible[i];
		assert_int_equal(handler_adopt(&side_handler, &handler, &err), 0);
		assert_int_equal(image_open(&fixture->host, handler, &params, &target_side.image, &err), -EINVAL);
		assert_non_null(strstr(err.message, "compression"));
	}
}

static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void test_rate(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	side_make(&source_side, 1024 * KIB, -1);
	side_make(&target_side, 1024 * KIB, 0xaa);
	source_side.at_once = target_side.at_once = true;
	begin(fixture, &probe, &(struct image_copy_options){ .buffer_size = 64 * KIB });
	probe.copy.rate = 4096 * KIB;
	uint64_t before = now_ms();
	finish(fixture, &probe);
	assert_copied(&probe);
	/* A quarter of a second, less the last buffer. It may take longer on a busy machine. */
	assert_true(now_ms() - before >= 200);

	/* One byte a second would take days; a higher rate ends it. */
	side_make(&source_side, 1024 * KIB, -1);
	side_make(&target_side, 1024 * KIB, 0xaa);
	source_side.at_once = target_side.at_once = true;
	begin(fixture, &probe, &(struct image_copy_options){ .buffer_size = 64 * KIB });
	probe.copy.rate = 1;
	while (!source_side.bytes[LUNKIT_READ])
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(source_side.bytes[LUNKIT_READ], 64 * KIB);
	probe.copy.rate = 0;
	finish(fixture, &probe);
	assert_copied(&probe);

	/* … and so does cancelling it. */
	side_make(&target_side, 1024 * KIB, 0xaa);
	begin(fixture, &probe, NULL);
	probe.copy.rate = 1;
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	probe.copy.cancelled = true;
	finish(fixture, &probe);
	assert_int_equal(probe.result, -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_plain, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_sparse, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_random, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_alignment, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_refused, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_faults, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_compressed_requests, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_rate, fixture_setup, side_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
