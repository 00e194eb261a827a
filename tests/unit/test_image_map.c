/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is where: runs that cover the range, merged. */
#include "image_sides.h"

#include "image/map.h"

struct probe {
	struct image_map map; /* first member */
	int calls, result;
	struct lunkit_extent runs[512];
	unsigned count;
};

static void note_run(struct image_map *map, const struct lunkit_extent *run)
{
	struct probe *probe = (struct probe *)map;
	assert_true(probe->count < ARRAY_SIZE(probe->runs));
	assert_true(run->length > 0);
	if (probe->count) {
		const struct lunkit_extent *last = &probe->runs[probe->count - 1];
		assert_int_equal(run->offset, last->offset + last->length);
		assert_true(run->flags != last->flags);
	}
	probe->runs[probe->count++] = *run;
}

static void mapped(struct image_map *map, int result)
{
	struct probe *probe = (struct probe *)map;
	probe->calls++;
	probe->result = result;
}

static int map(struct fixture *fixture, struct probe *probe, uint64_t offset, uint64_t length)
{
	side_open_image(fixture, &source_side);
	probe->calls = 0;
	probe->count = 0;
	probe->map.run = note_run;
	probe->map.done = mapped;
	image_map_start(source_side.image, &probe->map, offset, length);
	while (side_step())
		;
	assert_int_equal(probe->calls, 1);
	assert_int_equal(-probe->result, probe->map.err.code);
	image_close(source_side.image);
	return probe->result;
}

static struct probe probe;

static void test_merged(void **state)
{
	for (int at_once = 0; at_once < 2; at_once++) {
		side_make(&source_side, SIDE_MAX, -1);
		source_side.at_once = at_once;
		for (unsigned i = 0; i < 300; i++)
			side_extent(&source_side, 512 * (1 + side_random(8)), (unsigned)side_random(4));
		side_extent(&source_side, SIDE_MAX, LUNKIT_EXTENT_ALLOCATED);
		for (unsigned i = 0; i < 20; i++) {
			uint64_t offset = i ? side_random(SIDE_MAX) : 0, length = i ? 1 + side_random(SIDE_MAX - offset) : 0;
			uint64_t end = length ? offset + length : SIDE_MAX;
			assert_int_equal(map(*state, &probe, offset, length), 0);
			assert_int_equal(probe.runs[0].offset, offset);
			const struct lunkit_extent *last = &probe.runs[probe.count - 1];
			assert_int_equal(last->offset + last->length, end);
			/* Each byte is what the extents say. */
			unsigned run = 0;
			for (unsigned j = 0; j < source_side.extent_count; j++) {
				const struct lunkit_extent *extent = &source_side.extents[j];
				uint64_t at = MAX(extent->offset, offset);
				if (at >= MIN(extent->offset + extent->length, end))
					continue;
				while (probe.runs[run].offset + probe.runs[run].length <= at)
					run++;
				assert_int_equal(probe.runs[run].flags, extent->flags);
				assert_true(probe.runs[run].offset + probe.runs[run].length >= MIN(extent->offset + extent->length, end));
			}
		}
	}
}

static void test_failures(void **state)
{
	side_make(&source_side, SIDE_MAX, -1);
	for (unsigned i = 0; i < 400; i++)
		side_extent(&source_side, 512, i % 4);
	side_extent(&source_side, SIDE_MAX, LUNKIT_EXTENT_ALLOCATED);
	assert_int_equal(map(*state, &probe, 1, SIDE_MAX), -ERANGE);
	assert_int_equal(map(*state, &probe, SIDE_MAX + 1, 0), -ERANGE);
	assert_int_equal(map(*state, &probe, SIDE_MAX, 0), 0);
	assert_int_equal(probe.count, 0);
	for (unsigned after = 0; after < 3; after++) {
		source_side.fail_op = 1u << LUNKIT_EXTENTS;
		source_side.fail_after = after;
		assert_int_equal(map(*state, &probe, 0, 0), -EIO);
		assert_non_null(strstr(probe.map.err.message, "source"));
	}
	probe.map.cancelled = true;
	assert_int_equal(map(*state, &probe, 0, 0), -ECANCELED);
	probe.map.cancelled = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_merged, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_failures, fixture_setup, side_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
