/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void test_set_takes_both_signs(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(lunkit_error_set(&err, ENOENT, "no %s", "disk"), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	assert_string_equal(err.message, "no disk");
	assert_int_equal(lunkit_error_hint(&err, "make it"), -ENOENT);
	assert_string_equal(err.hint, "make it");
	assert_int_equal(lunkit_error_set(&err, -EIO, "again"), -EIO);
	assert_string_equal(err.hint, "");
	assert_int_equal(lunkit_error_set(NULL, EIO, "nobody reads it"), -EIO);
	assert_int_equal(lunkit_error_hint(NULL, "nor this"), -EIO);
	assert_int_equal(lunkit_error_prefix(NULL, "nor that"), -EIO);
}

static void test_prefix(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, ENOSPC, "disk full");
	assert_int_equal(lunkit_error_prefix(&err, "cannot create '%s'", "a.raw"), -ENOSPC);
	assert_string_equal(err.message, "cannot create 'a.raw': disk full");
}

static void test_long_texts_are_cut(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	char text[2 * LUNKIT_ERROR_MESSAGE_MAX];
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	lunkit_error_set(&err, EIO, "%s", text);
	assert_int_equal(strlen(err.message), LUNKIT_ERROR_MESSAGE_MAX - 1);
	lunkit_error_prefix(&err, "%s", "p");
	assert_int_equal(strlen(err.message), LUNKIT_ERROR_MESSAGE_MAX - 1);
	assert_memory_equal(err.message, "p: x", 4);
	lunkit_error_prefix(&err, "%s", text);
	assert_int_equal(strlen(err.message), LUNKIT_ERROR_MESSAGE_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set_takes_both_signs),
		cmocka_unit_test(test_prefix),
		cmocka_unit_test(test_long_texts_are_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
