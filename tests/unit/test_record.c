/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/record.h"

static char folder[64], state_folder[80];

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_record.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(state_folder, sizeof(state_folder), "%s/state", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

static const struct record sample = {
	.name = "disk-1", .image = "qcow2:/a b/\"x\";cache=writeback", .fabric = "loop", .serial = "s-1", .block_size = 4096
};

static void put(const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/luns/%s", state_folder, name);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_round_trip(void **state)
{
	(void)state;
	struct record record = { 0 };
	struct names names;
	assert_int_equal(record_list(state_folder, &names), 0);
	assert_int_equal(names.count, 0);
	assert_int_equal(record_write(state_folder, &sample, NULL), 0);
	struct record other = sample;
	strcpy(other.name, "b");
	assert_int_equal(record_write(state_folder, &other, NULL), 0);
	strcpy(other.fabric, "vhost"); /* replaced */
	assert_int_equal(record_write(state_folder, &other, NULL), 0);
	assert_int_equal(record_read(state_folder, "disk-1", &record, NULL), 0);
	assert_memory_equal(&record, &sample, sizeof(record));
	assert_int_equal(record_read(state_folder, "b", &record, NULL), 0);
	assert_string_equal(record.fabric, "vhost");
	assert_int_equal(record_list(state_folder, &names), 0);
	assert_int_equal(names.count, 2);
	assert_string_equal(names.items[0], "b");
	names_free(&names);
	assert_int_equal(record_remove(state_folder, "b", NULL), 0);
	assert_int_equal(record_remove(state_folder, "b", NULL), 0);
	assert_int_equal(record_read(state_folder, "b", &record, NULL), -ENOENT);
	assert_string_equal(record.fabric, "vhost");
}

static void test_names(void **state)
{
	(void)state;
	struct record record = sample;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	strcpy(record.name, "../x");
	assert_int_equal(record_write(state_folder, &record, &err), -EINVAL);
	assert_int_equal(record_read(state_folder, "../x", &record, &err), -EINVAL);
	assert_int_equal(access(state_folder, F_OK), -1);
}

static void test_damaged(void **state)
{
	(void)state;
	struct record record = { .name = "untouched" };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct names names;
	assert_int_equal(record_write(state_folder, &sample, NULL), 0);
	static const char *const bad[] = {
		"",
		"[]",
		"{",
		"{}",
		"{\"version\":2,\"image\":\"/a\",\"fabric\":\"loop\",\"serial\":\"\"}",
		"{\"version\":1,\"image\":5,\"fabric\":\"loop\",\"serial\":\"\"}",
		"{\"version\":1,\"image\":\"/a\",\"fabric\":\"a fabric with a long name\",\"serial\":\"\"}",
		"{\"version\":1,\"image\":\"/a\",\"fabric\":\"loop\",\"serial\":\"\",\"block-size\":-1}",
		"{\"version\":1,\"image\":\"/a\",\"fabric\":\"loop\",\"serial\":\"\",\"block-size\":99999}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		put("disk-1.json", bad[i]);
		assert_int_equal(record_read(state_folder, "disk-1", &record, &err), -EINVAL);
		assert_string_equal(record.name, "untouched");
		assert_string_not_equal(err.hint, "");
	}
	/* what a crash leaves is no record */
	put(".new.new", "x");
	put("notes.txt", "x");
	put("bad name.json", "x");
	assert_int_equal(record_list(state_folder, &names), 0);
	assert_int_equal(names.count, 1);
	names_free(&names);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = { TEST(test_round_trip), TEST(test_names), TEST(test_damaged) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
