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

#include "control/memory.h"

static char folder[64];

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_memory.XXXXXX");
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
	assert_int_equal(memory_load(folder, &device, "abc").modes, 0);
	memory_store(folder, &device, "abc", &(struct memory){ .modes = 19 });
	assert_int_equal(memory_load(folder, &device, "abc").modes, 19);
	memory_store(folder, &device, "abc", &(struct memory){ .modes = 5 });
	assert_int_equal(memory_load(folder, &device, "abc").modes, 5);
	/* Another device of the same name. */
	assert_int_equal(memory_load(folder, &other, "abc").modes, 0);
	assert_int_equal(memory_load(folder, &device, "abcd").modes, 0);
	memory_store(folder, &dots, "a serial with spaces", &(struct memory){ .modes = 3 });
	assert_int_equal(memory_load(folder, &dots, "a serial with spaces").modes, 3);
	memory_forget(folder, &device);
	assert_int_equal(memory_load(folder, &device, "abc").modes, 0);
	memory_forget(folder, &device);
}

static void which_file_it_is_is_kept_too(void **state)
{
	(void)state;
	const struct backstore_id device = { .hba = 3, .name = "disk" };
	struct memory memory = { .identity = { .known = true, .inode = UINT64_MAX, .birth_seconds = -5, .birth_ns = 999999999 } };
	assert_false(memory_load(folder, &device, "").identity.known);
	memory_store(folder, &device, "", &memory);
	struct memory loaded = memory_load(folder, &device, "");
	assert_true(loaded.identity.known);
	assert_true(loaded.identity.inode == UINT64_MAX);
	assert_true(loaded.identity.birth_seconds == -5);
	assert_int_equal(loaded.identity.birth_ns, 999999999);
	assert_false(memory_load(folder, &device, "other").identity.known);
	memory.identity.known = false;
	memory_store(folder, &device, "", &memory);
	assert_false(memory_load(folder, &device, "").identity.known);
}

static void what_is_damaged_is_nothing(void **state)
{
	(void)state;
	char path[128];
	const struct backstore_id device = { .hba = 3, .name = "disk" };
	memory_store(folder, &device, "abc", &(struct memory){ .modes = 19 });
	snprintf(path, sizeof(path), "%s/luns/.disk", folder);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs("3 x abc\n", file);
	fclose(file);
	assert_int_equal(memory_load(folder, &device, "abc").modes, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(they_are_kept_for_the_device, setup, teardown),
		cmocka_unit_test_setup_teardown(which_file_it_is_is_kept_too, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_damaged_is_nothing, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
