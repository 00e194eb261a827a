/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "cli/format.h"
#include "cli/table.h"

static void sizes(void **state)
{
	(void)state;
	static const struct {
		uint64_t bytes;
		const char *text, *exact;
	} cases[] = {
		{ 0, "0 B", "0 B" },
		{ 512, "512 B", "512 B" },
		{ 1023, "1023 B", "1023 B" },
		{ 1024, "1 KiB", "1 KiB (1024 bytes)" },
		{ 1536, "1.5 KiB", "1.5 KiB (1536 bytes)" },
		{ (UINT64_C(10) << 30), "10 GiB", "10 GiB (10737418240 bytes)" },
		{ (UINT64_C(10) << 30) - 1, "9.9 GiB", "9.9 GiB (10737418239 bytes)" },
		{ (UINT64_C(1) << 40) - 1, "1023 GiB", "1023 GiB (1099511627775 bytes)" },
		{ UINT64_MAX, "15.9 EiB", "15.9 EiB (18446744073709551615 bytes)" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char out[FORMAT_MAX];
		assert_string_equal(format_size(cases[i].bytes, out), cases[i].text);
		assert_string_equal(format_size_exact(cases[i].bytes, out), cases[i].exact);
	}
}

static void durations(void **state)
{
	(void)state;
	char out[FORMAT_MAX];
	assert_string_equal(format_duration(0, out), "0 s");
	assert_string_equal(format_duration(59, out), "59 s");
	assert_string_equal(format_duration(60, out), "1 min");
	assert_string_equal(format_duration(3600 + 20 * 60, out), "1 h 20 min");
	assert_string_equal(format_duration(86400 * 12 + 3600 * 4, out), "12 d 4 h");
}

static void nothing_steers_the_terminal(void **state)
{
	(void)state;
	static const struct {
		const char *text, *printable;
		size_t width;
	} cases[] = {
		{ "plain", "plain", 5 },
		{ "a\033[31mb\n\tc\177", "a?[31mb??c?", 11 },
		{ "\xc3\xa4\xe6\x97\xa5", "\xc3\xa4\xe6\x97\xa5", 3 }, /* one and two columns */
		{ "bad\xff\xc3", "bad??", 5 },
		{ "a\xc2\x9b"
		  "31m",
		  "a?31m", 5 }, /* C1 control: CSI */
		{ "y\xe2\x80\xae"
		  "z",
		  "y?z", 3 }, /* right-to-left override */
		{ "", "", 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *printable = format_printable(cases[i].text);
		assert_string_equal(printable, cases[i].printable);
		assert_int_equal(format_width(printable), cases[i].width);
		free(printable);
	}
}

static const struct table_column columns[] = { { "NAME" }, { "IMAGE", .shrinks = true }, { "SIZE", .right = true } };

static char *print(size_t width)
{
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	struct table *table = table_new(columns, ARRAY_SIZE(columns));
	assert_non_null(file);
	assert_non_null(table);
	assert_int_equal(table_add(table, (const char *const[]){ "disk", "/var/lib/images/a/long/way/down/disk.raw", "10 GiB" }), 0);
	assert_int_equal(table_add(table, (const char *const[]){ "a\nb", "", NULL }), 0);
	table_print(table, file, width);
	table_free(table);
	fclose(file);
	return text;
}

static void tables_align(void **state)
{
	(void)state;
	char *text = print(0);
	assert_string_equal(text, "NAME  IMAGE                                       SIZE\n"
				  "disk  /var/lib/images/a/long/way/down/disk.raw  10 GiB\n"
				  "a?b   -                                              -\n");
	free(text);
}

static void tables_fit_the_terminal(void **state)
{
	(void)state;
	for (size_t width = 26; width < 54; width++) {
		char *text = print(width), *rest = text;
		for (char *line; (line = strsep(&rest, "\n"));)
			if (strlen(line) > width)
				fail_msg("'%s' is longer than %zu", line, width);
		free(text);
	}
	char *text = print(40);
	assert_string_equal(text, "NAME  IMAGE                         SIZE\n"
				  "disk  /var/li...ay/down/disk.raw  10 GiB\n"
				  "a?b   -                                -\n");
	free(text);
	text = print(1); /* narrower than can be: as narrow as the rest allows */
	assert_non_null(strstr(text, "10 GiB"));
	free(text);
	table_free(NULL);
}

int main(void)
{
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(durations),
		cmocka_unit_test(nothing_steers_the_terminal),
		cmocka_unit_test(tables_align),
		cmocka_unit_test(tables_fit_the_terminal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
