/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/modes.h"

static char folder[64];

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_modes.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static void they_are_kept_for_the_device(void **state)
{
	(void)state;
	const struct backstore_id device = { .hba = 3, .name = "disk" }, other = { .hba = 4, .name = "disk" }, dots = { .name = ".." };
	assert_int_equal(modes_load(folder, &device, "abc"), 0);
	modes_store(folder, &device, "abc", 19);
	assert_int_equal(modes_load(folder, &device, "abc"), 19);
	modes_store(folder, &device, "abc", 5);
	assert_int_equal(modes_load(folder, &device, "abc"), 5);
	/* Another device of the same name. */
	assert_int_equal(modes_load(folder, &other, "abc"), 0);
	assert_int_equal(modes_load(folder, &device, "abcd"), 0);
	modes_store(folder, &dots, "a serial with spaces", 3);
	assert_int_equal(modes_load(folder, &dots, "a serial with spaces"), 3);
	modes_forget(folder, &device);
	assert_int_equal(modes_load(folder, &device, "abc"), 0);
	modes_forget(folder, &device);
}

static void what_is_damaged_is_nothing(void **state)
{
	(void)state;
	char path[128];
	const struct backstore_id device = { .hba = 3, .name = "disk" };
	modes_store(folder, &device, "abc", 19);
	snprintf(path, sizeof(path), "%s/modes/.disk", folder);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("3 x abc\n", file);
	fclose(file);
	assert_int_equal(modes_load(folder, &device, "abc"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(they_are_kept_for_the_device, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_damaged_is_nothing, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
