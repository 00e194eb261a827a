/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/kind.h"

static void test_kinds(void **state)
{
	(void)state;
	static const char *const good[] = { "raw", "qcow2", "a", "a23456789012345" };
	static const char *const bad[] = { "", "2raw", "Raw", "raw ", "raw-2", "r\303\244w", "a234567890123456", ".", "raw:" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(kind_is_name(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(kind_is_name(bad[i]));
	assert_int_equal(kind_length("qcow2:/a"), 5);
	assert_int_equal(kind_length("raw.so"), 3);
	assert_int_equal(kind_length("/a"), 0);
	assert_int_equal(kind_length("a234567890123456:x"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_kinds) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
