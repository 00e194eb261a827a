/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What is not UTF-8 becomes question marks, and all else stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/utf8.h"

static void test_texts(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "", "" },
		{ "disk", "disk" },
		{ "B\xc3\xbc"
		  "ro",
		  "B\xc3\xbc"
		  "ro" },
		{ "a\xff"
		  "b",
		  "a?b" },
		{ "cut\xc3", "cut?" },
		{ "\xe2\x82\xac", "\xe2\x82\xac" },
		{ "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
		/* overlong */
		{ "\xc0\xaf", "??" },
		{ "\xf0\x80\x80\x80", "????" },
		/* a surrogate, what is beyond Unicode */
		{ "\xed\xa0\x80", "???" },
		{ "\xf4\x90\x80\x80", "????" },
		/* the quote behind a character that is cut off stays: in JSON it ends the string */
		{ "\"\xe2\x82\"", "\"??\"" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[32];
		strcpy(text, cases[i][0]);
		utf8_make_valid(text);
		assert_string_equal(text, cases[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_texts) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
