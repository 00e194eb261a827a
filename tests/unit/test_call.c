/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Each call in this process and through the program: they do the same and fail with the same errors. */
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

#include "target/call.h"

static char folder[64];

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_call.XXXXXX");
	return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	return rmdir(folder); /* the tests remove what they make */
}

static void check_calls(const char *caller)
{
	const struct target_root root = { .configfs = folder, .caller = caller };
	char path[128], text[16] = "", target[128];
	snprintf(path, sizeof(path), "%s/file with spaces; $(x)", folder);
	assert_int_equal(call_write(&root, "1", "%s", path), -ENOENT);
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(call_write(&root, "dev_size=1, 2", "%s/%s", folder, strrchr(path, '/') + 1), 0);
	assert_int_equal(pread(fd, text, sizeof(text), 0), 13);
	assert_memory_equal(text, "dev_size=1, 2", 13);
	close(fd);
	assert_int_equal(call_rmdir(&root, "%s", path), -ENOTDIR);
	assert_int_equal(call_symlink(&root, "../x", path), -EEXIST);
	assert_int_equal(call_unlink(&root, path), 0);
	assert_int_equal(call_unlink(&root, path), -ENOENT);
	assert_int_equal(call_symlink(&root, "../x", path), 0);
	ssize_t length = readlink(path, target, sizeof(target));
	assert_int_equal(length, 4);
	assert_memory_equal(target, "../x", 4);
	assert_int_equal(call_unlink(&root, path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(call_rmdir(&root, "%s", path), 0);
}

static void in_this_process(void **state)
{
	(void)state;
	check_calls(NULL);
}

static void by_the_program(void **state)
{
	(void)state;
	check_calls(CALLER);
}

static void without_a_program(void **state)
{
	(void)state;
	const struct target_root root = { .configfs = folder, .caller = "/does/not/exist" };
	assert_int_equal(call_unlink(&root, "/x"), -ENOENT);
}

static void wrong_arguments(void **state)
{
	(void)state;
	assert_int_equal(call_perform("write", "/dev/null", NULL), EINVAL);
	assert_int_equal(call_perform("rmdir", "/x", "y"), EINVAL);
	assert_int_equal(call_perform("exec", "/x", "y"), EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(in_this_process, setup, teardown),
		cmocka_unit_test_setup_teardown(by_the_program, setup, teardown),
		cmocka_unit_test_setup_teardown(without_a_program, setup, teardown),
		cmocka_unit_test(wrong_arguments),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
