/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/handlers.h"
#include "control/survey.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_wwn(void **state)
{
	(void)state;
	char wwn[33];
	survey_wwn("61192ffd-6b36-8280-8db1-96407d632bcc", wwn);
	assert_string_equal(wwn, "600140561192ffd6b3682808db196407"); /* as the kernel shows it in /dev/disk/by-id */
	survey_wwn("", wwn);
	assert_string_equal(wwn, "60014050000000000000000000000000");
	survey_wwn("XYZ-AB", wwn);
	assert_string_equal(wwn, "6001405ab00000000000000000000000");
}

static void test_handlers(void **state)
{
	(void)state;
	char folder[] = "/tmp/test_survey.XXXXXX", command[256];
	struct names kinds;
	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof(command),
		 "cd %s && touch raw.so qcow2.so qcow.so rawx.so .so Big.so lib-x.so note.txt averyveryverylongname.so", folder);
	assert_int_equal(system(command), 0);
	assert_int_equal(handlers_scan(folder, &kinds), 0);
	assert_int_equal(kinds.count, 2); /* libtcmu could not tell qcow2 from qcow */
	assert_string_equal(kinds.items[0], "qcow");
	assert_string_equal(kinds.items[1], "raw");
	names_free(&kinds);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	assert_int_equal(system(command), 0);
	assert_true(handlers_scan(folder, &kinds) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_wwn), cmocka_unit_test(test_handlers) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
