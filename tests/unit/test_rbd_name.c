/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "rbd.h"

static void names_are_taken_apart(void **state)
{
	(void)state;
	static const struct {
		const char *text, *pool, *namespace, *image, *snapshot;
	} cases[] = {
		{ "rbd/disk", "rbd", "", "disk", "" },
		{ "rbd/room/disk", "rbd", "room", "disk", "" },
		{ "rbd/disk@today", "rbd", "", "disk", "today" },
		{ "p/n/a b.c:d@x y", "p", "n", "a b.c:d", "x y" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rbd_name name;
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		char text[512];
		assert_int_equal(rbd_name_parse(cases[i].text, &name, &err), 0);
		assert_string_equal(name.pool, cases[i].pool);
		assert_string_equal(name.namespace, cases[i].namespace);
		assert_string_equal(name.image, cases[i].image);
		assert_string_equal(name.snapshot, cases[i].snapshot);
		rbd_name_format(&name, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void what_is_no_name_says_why(void **state)
{
	(void)state;
	static const char *const wrong[] = { "",   "disk",    "rbd/",	 "/disk", "a//b",   "a/b/c/d",	"a/b@",
					     "@s", "a/b@c@d", "a/b@c/d", "a@b/c", "a/b\nc", "a/b@c\x7f" };
	char large[400];
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct rbd_name name = { .pool = "untouched" };
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		assert_int_equal(rbd_name_parse(wrong[i], &name, &err), -EINVAL);
		assert_int_equal(err.code, EINVAL);
		assert_true(strlen(err.message) > 0 && strlen(err.hint) > 0);
		assert_string_equal(name.pool, "untouched");
	}
	memset(large, 'x', sizeof(large));
	large[sizeof(large) - 1] = '\0';
	memcpy(large, "rbd/", 4);
	struct rbd_name name;
	assert_int_equal(rbd_name_parse(large, &name, NULL), -EINVAL);
	memcpy(large, "a/b@", 4);
	assert_int_equal(rbd_name_parse(large, &name, NULL), -EINVAL);
}

static void an_option_names_the_snapshot(void **state)
{
	(void)state;
	const struct lunkit_option_value option = { "snapshot", "then", 0 };
	struct lunkit_params params = { .name = "rbd/disk", .options = &option, .option_count = 1 };
	struct rbd_name name;
	assert_int_equal(rbd_name_of(&params, &name, NULL), 0);
	assert_string_equal(name.snapshot, "then");
	params.name = "rbd/disk@now";
	assert_int_equal(rbd_name_of(&params, &name, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_taken_apart),
		cmocka_unit_test(what_is_no_name_says_why),
		cmocka_unit_test(an_option_names_the_snapshot),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
