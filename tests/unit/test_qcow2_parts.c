/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What can be tested of the engine without a file: refcounts of every width, the set of metadata clusters, entries, paths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "qcow2.h"

static void refcounts_of_every_width_stand_side_by_side(void **state)
{
	(void)state;
	for (unsigned order = 0; order <= REFCOUNT_ORDER_MAX; order++) {
		const struct qcow2 q = { .refcount_order = order };
		uint8_t data[512] = { 0 };
		uint64_t model[64] = { 0 }, mask = order == 6 ? UINT64_MAX : ((uint64_t)1 << (1u << order)) - 1;
		for (unsigned i = 0; i < 2000; i++) {
			unsigned at = i * 37 % 64;
			model[at] = (i * 0x9e3779b97f4a7c15u + i) & mask;
			refcount_write(&q, data, at, model[at]);
			for (unsigned k = 0; k < 64; k++)
				assert_true(refcount_read(&q, data, k) == model[k]);
		}
	}
}

static void narrow_refcounts_begin_at_the_least_significant_bit(void **state)
{
	(void)state;
	struct qcow2 q = { .refcount_order = 0 };
	uint8_t data[8] = { 0 };
	refcount_write(&q, data, 9, 1);
	assert_int_equal(data[1], 2);
	q.refcount_order = 2;
	refcount_write(&q, data, 1, 15);
	assert_int_equal(data[0], 0xf0);
	q.refcount_order = 4;
	refcount_write(&q, data, 1, 0x1234);
	assert_int_equal(data[2], 0x12);
}

static void the_set_of_metadata_finds_what_is_in_it(void **state)
{
	(void)state;
	struct qcow2 q = { .cluster_bits = 16, .cluster_size = 65536, .cluster_mask = 65535, .alloc.high_water = UINT64_MAX };
	static bool model[4096];
	uint64_t random = 1;
	memset(model, 0, sizeof(model));
	assert_int_equal(meta_add(&q, 0, 1), 0);
	model[0] = true;
	for (unsigned i = 0; i < 20000; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		uint64_t cluster = (random >> 33) % 4096;
		if (random >> 63) {
			meta_remove(&q, cluster << 16, 1);
			model[cluster] = false;
		} else {
			assert_int_equal(meta_add(&q, cluster << 16, 65536), model[cluster] ? -EEXIST : 0);
			model[cluster] = true;
		}
		if (i % 500 == 0)
			for (unsigned k = 0; k < 4096; k++)
				assert_int_equal(meta_has(&q, k), model[k]);
	}
	for (unsigned k = 0; k < 4096; k++)
		assert_int_equal(meta_has(&q, k), model[k]);
	meta_destroy(&q);
}

static void compressed_entries_say_where_they_are(void **state)
{
	(void)state;
	/* 64 KiB: bits 0 to 53 are the offset, 54 to 61 count further sectors. */
	const struct qcow2 q = { .cluster_bits = 16 };
	uint64_t offset, length;
	map_compressed(&q, L2_COMPRESSED | (uint64_t)3 << 54 | 0x12345, &offset, &length);
	assert_true(offset == 0x12345);
	assert_true(length == 4 * 512 - (0x12345 & 511));
	const struct qcow2 tiny = { .cluster_bits = 9 };
	map_compressed(&tiny, L2_COMPRESSED | (uint64_t)1 << 61 | 0x200, &offset, &length);
	assert_true(offset == 0x200 && length == 1024);
}

static void entries_have_one_kind_each(void **state)
{
	(void)state;
	assert_int_equal(map_classify(0), MAP_UNALLOCATED);
	assert_int_equal(map_classify(L2_ZERO), MAP_ZERO_PLAIN);
	assert_int_equal(map_classify(0x50000 | L2_ZERO), MAP_ZERO_ALLOCATED);
	assert_int_equal(map_classify(ENTRY_COPIED | 0x50000), MAP_NORMAL);
	assert_int_equal(map_classify(L2_COMPRESSED | 0x50001), MAP_COMPRESSED);
}

static void backing_files_are_found_beside_the_image(void **state)
{
	(void)state;
	static const struct {
		const char *image, *backing, *path;
	} cases[] = {
		{ "/a/b/top.qcow2", "base.raw", "/a/b/base.raw" },
		{ "/a/b/top.qcow2", "/c/base.raw", "/c/base.raw" },
		{ "/a/b/top.qcow2", "../base.raw", "/a/base.raw" },
		{ "/a/b/top.qcow2", "./x//../base.raw", "/a/b/base.raw" },
		{ "/a/b/top.qcow2", "../../../../etc/base", "/etc/base" },
		{ "/top.qcow2", "base", "/base" },
		{ "top.qcow2", "base", "base" },
		{ "dir/top.qcow2", "../base", "dir/../base" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *path = backing_path(cases[i].image, cases[i].backing);
		assert_string_equal(path, cases[i].path);
		free(path);
	}
}

static void l1_entries_for_a_size(void **state)
{
	(void)state;
	assert_int_equal(header_l1_entries(0, 16), 0);
	assert_int_equal(header_l1_entries(1, 16), 1);
	assert_int_equal(header_l1_entries((uint64_t)512 << 20, 16), 1);
	assert_int_equal(header_l1_entries(((uint64_t)512 << 20) + 1, 16), 2);
	assert_int_equal(header_l1_entries(32768, 9), 1);
	assert_int_equal(header_l1_entries(INT64_MAX, 21), (uint64_t)INT64_MAX / ((uint64_t)1 << 39) + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refcounts_of_every_width_stand_side_by_side),
		cmocka_unit_test(narrow_refcounts_begin_at_the_least_significant_bit),
		cmocka_unit_test(the_set_of_metadata_finds_what_is_in_it),
		cmocka_unit_test(compressed_entries_say_where_they_are),
		cmocka_unit_test(entries_have_one_kind_each),
		cmocka_unit_test(backing_files_are_found_beside_the_image),
		cmocka_unit_test(l1_entries_for_a_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
