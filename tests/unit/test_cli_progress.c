/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/progress.h"

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)

static void lines(void **state)
{
	(void)state;
	static const struct {
		uint64_t done, total, first, elapsed;
		const char *line;
	} cases[] = {
		{ 0, 100 * MIB, 0, 0, "  0%  0 B of 100 MiB, 0 B/s" },
		{ 50 * MIB, 100 * MIB, 0, 5 * SECOND, " 50%  50 MiB of 100 MiB, 10 MiB/s, 5 s left" },
		{ 50 * MIB, 100 * MIB, 40 * MIB, 5 * SECOND, " 50%  50 MiB of 100 MiB, 2 MiB/s, 25 s left" }, /* taken up again */
		{ 50 * MIB, 100 * MIB, 0, SECOND / 2, " 50%  50 MiB of 100 MiB, 100 MiB/s" },		      /* too early to say */
		{ 100 * MIB, 100 * MIB, 0, 10 * SECOND, "100%  100 MiB of 100 MiB, 10 MiB/s" },
		{ 200 * MIB, 100 * MIB, 0, 10 * SECOND, "100%  200 MiB of 100 MiB, 20 MiB/s" },
		{ 5 * MIB, 100 * MIB, 10 * MIB, SECOND, "  5%  5 MiB of 100 MiB, 0 B/s" }, /* backwards */
		{ 7, 0, 0, SECOND, "  0%  7 B of 0 B, 7 B/s" },
		{ UINT64_MAX / 2, UINT64_MAX, 0, SECOND, " 50%  7.9 EiB of 15.9 EiB, 8 EiB/s, 1 s left" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char line[256];
		assert_string_equal(progress_line(cases[i].done, cases[i].total, cases[i].first, cases[i].elapsed, line, sizeof(line)),
				    cases[i].line);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(lines) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
