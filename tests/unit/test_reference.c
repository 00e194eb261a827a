/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checked.h"
#include "pool/reference.h"

static struct reference parse(const char *text)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	int r = reference_parse(text, &reference, &err);
	if (r < 0)
		fail_msg("'%s': %s", text, err.message);
	assert_int_equal(err.code, 0);
	return reference;
}

static void kinds_and_names(void **state)
{
	(void)state;
	static const struct {
		const char *text, *kind, *name, *options;
	} cases[] = {
		{ "/x/disk.raw", "raw", "/x/disk.raw", "" },
		{ "disk.raw", "raw", "./disk.raw", "" },
		{ "../disk.raw", "raw", "../disk.raw", "" },
		{ "raw:/dev/sdb1", "raw", "/dev/sdb1", "" },
		{ "raw:a:b", "raw", "./a:b", "" },
		{ "./a:b", "raw", "./a:b", "" },
		{ "/a:b", "raw", "/a:b", "" },
		{ "Cap:b", "raw", "./Cap:b", "" },
		{ "qcow2:d.qcow2", "qcow2", "./d.qcow2", "" },
		{ "d.qcow2", "qcow2", "./d.qcow2", "" },
		{ "/a/D.QCOW2;k=v", "qcow2", "/a/D.QCOW2", "k=v" },
		{ "raw:d.qcow2", "raw", "./d.qcow2", "" },
		{ "qcow2:d.raw", "qcow2", "./d.raw", "" },
		{ "d.img", "raw", "./d.img", "" },
		{ ".qcow2", "qcow2", "./.qcow2", "" },
		{ "/a.qcow2/b", "raw", "/a.qcow2/b", "" },
		{ "rbd:pool/image@snap", "rbd", "pool/image@snap", "" },
		{ "lvm:vg/lv;thin=yes;x=a%3bb", "lvm", "vg/lv", "thin=yes;x=a%3Bb" },
		{ "/a%20b%25", "raw", "/a b%", "" },
		{ "/a b", "raw", "/a b", "" },
		{ "/a;k=", "raw", "/a", "k=" },
		{ "averylongkindname:x", "raw", "./averylongkindname:x", "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reference reference = parse(cases[i].text);
		assert_string_equal(reference.kind, cases[i].kind);
		assert_string_equal(reference.name, cases[i].name);
		assert_string_equal(reference.options, cases[i].options);
		assert_int_equal(reference.cache, REFERENCE_CACHE_NONE);
		assert_false(reference.read_only);
	}
}

static void core_options_are_taken_out(void **state)
{
	(void)state;
	struct reference reference = parse("/a;x=1;cache=writethrough;read-only=yes;y=2");
	assert_int_equal(reference.cache, REFERENCE_CACHE_WRITETHROUGH);
	assert_true(reference.read_only);
	assert_string_equal(reference.options, "x=1;y=2");
}

static void bad_ones_say_what(void **state)
{
	(void)state;
	static const struct {
		const char *text, *part;
	} cases[] = {
		{ "", "name is empty" },
		{ ";x=y", "name is empty" },
		{ "raw:", "name is empty" },
		{ "/a%zz", "two hexadecimal" },
		{ "/a%0", "two hexadecimal" },
		{ "/a%00b", "two hexadecimal" },
		{ "/a;", "option is empty" },
		{ "/a;;x=y", "option is empty" },
		{ "/a;word", "'word'" },
		{ "/a;X=1", "'X'" },
		{ "/a;=1", "option's name" },
		{ "/a;x=1;x=2", "'x' is given twice" },
		{ "/a;cache=none;cache=none", "'cache' is given twice" },
		{ "/a;cache=fast", "'fast'" },
		{ "/a;read-only=maybe", "'maybe'" },
		{ "/a;x=%q", "'x'" },
		{ "/a.vmdk", "another format (.vmdk)" },
		{ "b.VHDX;cache=none", "another format (.vhdx)" },
		{ "disk.qcow", "another format (.qcow)" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		struct reference reference, before;
		memset(&reference, 0x5a, sizeof(reference));
		before = reference;
		assert_int_equal(reference_parse(cases[i].text, &reference, &err), -EINVAL);
		assert_int_equal(err.code, EINVAL);
		if (!strstr(err.message, cases[i].part))
			fail_msg("'%s': '%s' does not say '%s'", cases[i].text, err.message, cases[i].part);
		assert_memory_equal(&reference, &before, sizeof(before));
	}
}

static void too_long_is_refused(void **state)
{
	(void)state;
	static char text[8 * 4096];
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	for (size_t length = 1000; length < sizeof(text); length += 997) {
		memset(text, 'a', length);
		text[0] = '/';
		text[length] = '\0';
		assert_int_equal(reference_parse(text, &reference, &err), length < REFERENCE_NAME_MAX ? 0 : -ENAMETOOLONG);
	}
	strcpy(text, "/a;x=");
	memset(text + 5, '%', 3 * 1100);
	for (int i = 0; i < 1100; i++)
		memcpy(text + 5 + 3 * i, "%20", 3);
	text[5 + 3 * 1100] = '\0';
	assert_int_equal(reference_parse(text, &reference, &err), -ENAMETOOLONG);
	text[5 + 3 * 341] = '\0'; /* decoded it fits, encoded it does not */
	assert_int_equal(reference_parse(text, &reference, &err), -ENAMETOOLONG);
	text[5 + 3 * 340] = '\0';
	assert_int_equal(reference_parse(text, &reference, &err), 0);
}

static void writing_gives_one_spelling(void **state)
{
	(void)state;
	static const struct {
		const char *text, *written, *cfgstring;
	} cases[] = {
		{ "/x/a.raw", "/x/a.raw", "/x/a.raw" },
		{ "raw:/x/a.raw;cache=none;read-only=no", "/x/a.raw", "/x/a.raw" },
		{ "/x/a b,c:d;read-only=1;cache=writeback;k=v", "/x/a%20b%2Cc%3Ad;cache=writeback;read-only=yes;k=v",
		  "/x/a%20b%2Cc%3Ad;cache=writeback;read-only=yes;k=v" },
		{ "rbd:pool/image@s", "rbd:pool/image@s", "pool/image@s" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reference reference = parse(cases[i].text);
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		char text[256], cfgstring[REFERENCE_CFGSTRING_MAX];
		assert_int_equal(reference_format(&reference, text, sizeof(text), &err), 0);
		assert_string_equal(text, cases[i].written);
		assert_int_equal(reference_format_cfgstring(&reference, cfgstring, &err), 0);
		assert_string_equal(cfgstring, cases[i].cfgstring);
		struct reference again;
		assert_int_equal(reference_parse_cfgstring(reference.kind, cfgstring, &again, &err), 0);
		assert_memory_equal(&again, &reference, sizeof(again));
		assert_int_equal(reference_format(&reference, text, strlen(cases[i].written), &err), -ENAMETOOLONG);
	}
}

static void the_kernel_keeps_255_bytes(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference = { .kind = "raw" };
	char cfgstring[REFERENCE_CFGSTRING_MAX] = "untouched";
	memset(reference.name, 'a', 251);
	reference.name[0] = '/';
	assert_int_equal(reference_format_cfgstring(&reference, cfgstring, &err), 0);
	assert_int_equal(strlen("raw/") + strlen(cfgstring), 255);
	strcat(reference.name, "a");
	strcpy(cfgstring, "untouched");
	assert_int_equal(reference_format_cfgstring(&reference, cfgstring, &err), -ENAMETOOLONG);
	assert_string_equal(cfgstring, "untouched");
	assert_int_not_equal(err.hint[0], '\0');
}

static void cfgstrings_name_absolute_paths(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	assert_int_equal(reference_parse_cfgstring("raw", "disk.raw", &reference, &err), -EINVAL);
	assert_non_null(strstr(err.message, "absolute"));
	assert_int_equal(reference_parse_cfgstring("raw", "./disk.raw", &reference, &err), -EINVAL);
	assert_int_equal(reference_parse_cfgstring("lvm", "vg/lv", &reference, &err), 0);
	assert_int_equal(reference_parse_cfgstring("", "/x", &reference, &err), -EINVAL);
	assert_int_equal(reference_parse_cfgstring("Raw", "/x", &reference, &err), -EINVAL);
	assert_int_equal(reference_parse_cfgstring("raw/", "/x", &reference, &err), -EINVAL);
}

static char directory[PATH_MAX];

static int make_directory(void **state)
{
	(void)state;
	char template[] = "/tmp/lunkit-reference-XXXXXX", path[PATH_MAX];
	if (!mkdtemp(template) || !realpath(template, directory) || chdir(directory) < 0)
		return -1;
	snprintf(path, sizeof(path), "%.4000s/file", directory);
	FILE *file = fopen(path, "w");
	return file && fclose(file) == 0 && symlink("file", "link") == 0 && symlink(".", "here") == 0 && symlink("gone", "dangling") == 0
		       ? 0
		       : -1;
}

static int remove_directory(void **state)
{
	(void)state;
	return unlink("file") < 0 || unlink("link") < 0 || unlink("here") < 0 || unlink("dangling") < 0 || chdir("/") < 0 ||
			       rmdir(directory) < 0
		       ? -1
		       : 0;
}

static void paths_are_resolved(void **state)
{
	(void)state;
	static const struct {
		const char *text, *name;
		bool must_exist;
		int result;
		const char *part;
	} cases[] = {
		{ "file", "file", true, 0, NULL },
		{ "link", "file", true, 0, NULL },
		{ "here/here/link", "file", true, 0, NULL },
		{ "new", "new", false, 0, NULL },
		{ "here/new", "new", false, 0, NULL },
		{ "link", "file", false, 0, NULL },
		{ "dangling", "dangling", false, 0, NULL }, /* creating it then fails: it exists */
		{ "dangling", NULL, true, -ENOENT, "dangling" },
		{ "new", NULL, true, -ENOENT, "does not exist" },
		{ "missing/new", NULL, false, -ENOENT, "missing" },
		{ "new/", NULL, false, -EISDIR, "directory" },
		{ "file/new", NULL, false, -ENOTDIR, "file/new" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reference reference = parse(cases[i].text);
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		assert_int_equal(reference_resolve(&reference, cases[i].must_exist, &err), cases[i].result);
		assert_int_equal(err.code, -cases[i].result);
		if (cases[i].result < 0) {
			if (!strstr(err.message, cases[i].part))
				fail_msg("'%s': '%s' does not say '%s'", cases[i].text, err.message, cases[i].part);
			continue;
		}
		char expected[2 * PATH_MAX];
		snprintf(expected, sizeof(expected), "%s/%s", directory, cases[i].name);
		assert_string_equal(reference.name, expected);
		assert_true(reference_is_path(&reference));
	}
}

static void names_are_not_resolved(void **state)
{
	(void)state;
	struct reference reference = parse("rbd:file");
	assert_false(reference_is_path(&reference));
	assert_int_equal(reference_resolve(&reference, true, NULL), 0);
	assert_string_equal(reference.name, "file");
}

static void configuration_lies_beside_what_options_name(void **state)
{
	(void)state;
	struct reference reference = parse("rbd:p/i;conf=/a/b%20c/x.conf;id=me;keyring=/root.key;other=../y;z=/d/e");
	char **folders = reference_config(&reference);
	assert_non_null(folders);
	assert_string_equal(folders[0], "/etc/ceph");
	assert_string_equal(folders[1], "/a/b c");
	assert_string_equal(folders[2], "/d");
	assert_null(folders[3]);
	free(folders);
	reference = parse("raw:/x/y;conf=/a/b");
	assert_null(reference_config(&reference));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kinds_and_names),
		cmocka_unit_test(core_options_are_taken_out),
		cmocka_unit_test(bad_ones_say_what),
		cmocka_unit_test(too_long_is_refused),
		cmocka_unit_test(writing_gives_one_spelling),
		cmocka_unit_test(the_kernel_keeps_255_bytes),
		cmocka_unit_test(cfgstrings_name_absolute_paths),
		cmocka_unit_test_setup_teardown(paths_are_resolved, make_directory, remove_directory),
		cmocka_unit_test(names_are_not_resolved),
		cmocka_unit_test(configuration_lies_beside_what_options_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
