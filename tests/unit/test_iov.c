/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/iov.h"

#define COUNT 5

/* abc | | defgh | i | jklmnopq: 17 bytes */
struct fixture {
	char text[18];
	struct iovec iov[COUNT];
};

static struct fixture fixture_make(void)
{
	struct fixture fixture = { .text = "abcdefghijklmnopq" };
	return fixture;
}

static void fixture_point(struct fixture *fixture)
{
	static const size_t lengths[COUNT] = { 3, 0, 5, 1, 8 };
	char *at = fixture->text;
	for (int i = 0; i < COUNT; i++) {
		fixture->iov[i] = (struct iovec){ at, lengths[i] };
		at += lengths[i];
	}
}

static void test_copies_every_part(void **state)
{
	(void)state;
	struct fixture fixture = fixture_make();
	fixture_point(&fixture);
	assert_int_equal(iov_length(fixture.iov, COUNT), 17);
	for (size_t offset = 0; offset <= 18; offset++)
		for (size_t length = 0; length <= 19; length++) {
			char out[20] = "===================";
			size_t expected = offset >= 17 ? 0 : length > 17 - offset ? 17 - offset : length;
			assert_int_equal(iov_copy_from(out, fixture.iov, COUNT, offset, length), expected);
			assert_memory_equal(out, fixture.text + (expected ? offset : 0), expected);
			assert_int_equal(out[expected], '=');
		}
}

static void test_copy_to_and_set(void **state)
{
	(void)state;
	struct fixture fixture = fixture_make();
	fixture_point(&fixture);
	assert_int_equal(iov_copy_to(fixture.iov, COUNT, 2, "12345678", 8), 8);
	assert_string_equal(fixture.text, "ab12345678klmnopq");
	assert_int_equal(iov_set(fixture.iov, COUNT, 15, '.', 10), 2);
	assert_string_equal(fixture.text, "ab12345678klmno..");
}

static void test_finds_the_first_difference(void **state)
{
	(void)state;
	struct fixture fixture = fixture_make();
	fixture_point(&fixture);
	size_t mismatch = 99;
	assert_true(iov_equal(fixture.iov, COUNT, 3, "defghi", 6, &mismatch));
	assert_int_equal(mismatch, 99);
	assert_false(iov_equal(fixture.iov, COUNT, 3, "defghX", 6, &mismatch));
	assert_int_equal(mismatch, 5);
	assert_false(iov_equal(fixture.iov, COUNT, 15, "pqrs", 4, &mismatch)); /* the list ends */
	assert_int_equal(mismatch, 2);
}

static void test_slices(void **state)
{
	(void)state;
	struct fixture fixture = fixture_make();
	fixture_point(&fixture);
	for (size_t offset = 0; offset <= 17; offset++)
		for (size_t length = 0; length <= 17 - offset; length++) {
			struct iovec part[COUNT];
			unsigned entries = iov_slice(part, fixture.iov, COUNT, offset, length);
			assert_in_range(entries, length ? 1 : 0, COUNT);
			assert_int_equal(iov_length(part, entries), length);
			char out[18];
			iov_copy_from(out, part, entries, 0, length);
			assert_memory_equal(out, fixture.text + offset, length);
		}
}

static void test_alignment(void **state)
{
	(void)state;
	struct iovec iov[2] = { { (void *)0x1000, 512 }, { (void *)0x2000, 4096 } };
	assert_true(iov_is_aligned(iov, 2, 512));
	assert_false(iov_is_aligned(iov, 2, 4096));
	iov[1].iov_base = (void *)0x2001;
	assert_false(iov_is_aligned(iov, 2, 512));
	assert_true(iov_is_aligned(iov, 2, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_every_part),
		cmocka_unit_test(test_copy_to_and_set),
		cmocka_unit_test(test_finds_the_first_difference),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_alignment),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
