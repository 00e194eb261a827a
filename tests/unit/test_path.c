/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/path.h"

static void test_device_names(void **state)
{
	(void)state;
	static const char *const good[] = { "/dev/sda", "/dev/disk/by-id/wwn-0x5", "/dev/vg/lv", "/dev/shmoo", "/dev/..a" };
	static const char *const bad[] = { "/dev",
					   "/dev/",
					   "/dev/shm/disk",
					   "/dev/mqueue/x",
					   "/dev/../etc/passwd",
					   "/dev/disk/../../etc/passwd",
					   "/dev/disk/..",
					   "/dev/./sda",
					   "/dev//sda",
					   "/dev/sda/",
					   "dev/sda",
					   "/deva/sda",
					   "" };
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(path_is_device_name(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(path_is_device_name(bad[i]));
}

static void test_below(void **state)
{
	(void)state;
	static const struct {
		const char *path, *directory;
		bool is;
	} cases[] = {
		{ "/a/b", "/a", true },	    { "/a/b/c", "/a", true },  { "/a/b", "/a/", true },	 { "/a/b", "/a//", true },
		{ "/a", "/", true },	    { "/a", "//", true },      { "/a", "/a", false },	 { "/ab", "/a", false },
		{ "/a/../b", "/a", false }, { "/a/b/.", "/a", false }, { "/a//b", "/a", false }, { "/a/b/", "/a", false },
		{ "a/b", "a", false },	    { "/a/b", "", false },     { "/", "/", false },	 { "", "/", false },
		{ "/b/a/c", "/a", false },  { "/a/..b", "/a", true },  { "/a/b", "a", false },	 { "/a/", "/a", false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (path_is_below(cases[i].path, cases[i].directory) != cases[i].is)
			fail_msg("%s below %s", cases[i].path, cases[i].directory);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_device_names), cmocka_unit_test(test_below) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
