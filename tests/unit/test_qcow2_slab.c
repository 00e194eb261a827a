/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slab.h"

#define MANY 1500

static size_t resident_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long size, resident;
	assert_non_null(file);
	assert_int_equal(fscanf(file, "%lu %lu", &size, &resident), 2);
	fclose(file);
	return resident * 4096;
}

static void pieces_are_aligned_and_apart(void **state)
{
	(void)state;
	static const size_t sizes[] = { 512, 4096, 65536 };
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		struct slabs slabs;
		uint8_t *pieces[MANY];
		slabs_init(&slabs, sizes[s]);
		for (unsigned i = 0; i < MANY; i++) {
			pieces[i] = slabs_take(&slabs);
			assert_non_null(pieces[i]);
			assert_int_equal((uintptr_t)pieces[i] % sizes[s], 0);
			memset(pieces[i], (int)(i % 251), sizes[s]);
		}
		for (unsigned i = 0; i < MANY; i++) {
			assert_int_equal(pieces[i][0], i % 251);
			assert_int_equal(pieces[i][sizes[s] - 1], i % 251);
		}
		for (unsigned i = 0; i < MANY; i++)
			slabs_give(&slabs, pieces[(i * 7) % MANY]);
		assert_int_equal(slabs.count, 1);
		slabs_destroy(&slabs);
		assert_int_equal(slabs.count, 0);
	}
}

static void what_is_given_is_taken_again(void **state)
{
	(void)state;
	struct slabs slabs;
	void *pieces[MANY];
	slabs_init(&slabs, 4096);
	for (unsigned i = 0; i < MANY; i++)
		pieces[i] = slabs_take(&slabs);
	size_t count = slabs.count;
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = round; i < MANY; i += 3)
			slabs_give(&slabs, pieces[i]);
		for (unsigned i = round; i < MANY; i += 3)
			pieces[i] = slabs_take(&slabs);
		assert_int_equal(slabs.count, count);
	}
	slabs_give(&slabs, NULL);
	slabs_destroy(&slabs);
}

static void memory_goes_back(void **state)
{
	(void)state;
	struct slabs slabs;
	void *pieces[500];
	slabs_init(&slabs, 4096);
	for (unsigned i = 0; i < 500; i++)
		memset(pieces[i] = slabs_take(&slabs), 1, 4096);
	size_t before = resident_bytes();
	for (unsigned i = 10; i < 500; i++)
		slabs_give(&slabs, pieces[i]);
	slabs_trim(&slabs);
	assert_true(resident_bytes() + 400 * (size_t)4096 < before);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(*(uint8_t *)pieces[i], 1);
	for (unsigned i = 0; i < 10; i++)
		slabs_give(&slabs, pieces[i]);
	slabs_trim(&slabs);
	assert_int_equal(slabs.count, 0);
	slabs_destroy(&slabs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_are_aligned_and_apart),
		cmocka_unit_test(what_is_given_is_taken_again),
		cmocka_unit_test(memory_goes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
