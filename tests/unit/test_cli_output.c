/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/output.h"

static char folder[] = "/tmp/lunkit-output-XXXXXX", path[256], partial[300];

static int set_up(void **state)
{
	(void)state;
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/file", folder);
	snprintf(partial, sizeof(partial), "%s.partial", path);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	unlink(partial);
	return rmdir(folder); /* fails when anything else was left */
}

static void put(const char *text)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void assert_holds(const char *text)
{
	char buffer[64] = "";
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, buffer, sizeof(buffer) - 1), (ssize_t)strlen(text));
	assert_string_equal(buffer, text);
	close(fd);
}

static void has_its_name_at_the_end_only(void **state)
{
	(void)state;
	struct output output;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(output_open(&output, path, false, &err), 0);
	assert_int_equal(write(output.fd, "new", 3), 3);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(output_finish(&output, &err), 0);
	assert_holds("new");
	output_drop(&output);
	assert_holds("new");
}

static void dropped_leaves_nothing(void **state)
{
	(void)state;
	struct output output;
	assert_int_equal(output_open(&output, path, false, NULL), 0);
	output_drop(&output);
	output_drop(&output);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(partial, F_OK), -1);
}

static void replaces_nothing_unasked(void **state)
{
	(void)state;
	struct output output;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	put("old");
	assert_int_equal(output_open(&output, path, false, &err), -EEXIST);
	unlink(path);
	/* one that appears meanwhile */
	assert_int_equal(output_open(&output, path, false, &err), 0);
	put("other");
	assert_int_equal(output_finish(&output, &err), -EEXIST);
	assert_non_null(strstr(err.message, "exists"));
	assert_holds("other");
}

static void replaces_in_one_step(void **state)
{
	(void)state;
	struct output output;
	put("old");
	assert_int_equal(output_open(&output, path, true, NULL), 0);
	assert_int_equal(write(output.fd, "new", 3), 3);
	assert_holds("old");
	assert_int_equal(output_finish(&output, NULL), 0);
	assert_holds("new");
	/* somebody else's partial file is not taken */
	int fd = open(partial, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_int_equal(output_open(&output, path, true, NULL), 0);
	assert_int_equal(output_finish(&output, NULL), -EEXIST);
	assert_int_equal(access(partial, F_OK), 0);
	assert_holds("new");
}

static void refuses_what_is_no_file(void **state)
{
	(void)state;
	struct output output;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(output_open(&output, folder, true, &err), -EINVAL);
	assert_int_equal(output_open(&output, "/nowhere/at/all", false, &err), -ENOENT);
	assert_string_not_equal(err.hint, "");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(has_its_name_at_the_end_only), TEST(dropped_leaves_nothing),  TEST(replaces_nothing_unasked),
		TEST(replaces_in_one_step),	    TEST(refuses_what_is_no_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
