/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Backstores and exports in a made-up configfs: plain folders and files, so that every write can be read back. */
#include <errno.h>
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

#include "target/backstore.h"
#include "target/fabric.h"

static char folder[64];
static struct target_root root;

static int setup(void **state)
{
	(void)state;
	static char configfs[80], sys[80];
	strcpy(folder, "/tmp/test_configfs.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(configfs, sizeof(configfs), "%s/target", folder);
	snprintf(sys, sizeof(sys), "%s/sys", folder);
	root = (struct target_root){ .configfs = configfs, .sys = sys, .dev = folder, .proc = folder };
	mkdir(configfs, 0755);
	mkdir(sys, 0755);
	char path[128];
	snprintf(path, sizeof(path), "%s/core", configfs);
	return mkdir(path, 0755);
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

__attribute__((format(printf, 1, 2))) static void make_folders(const char *format, ...)
{
	char path[512], command[1100];
	va_list args;
	va_start(args, format);
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	snprintf(command, sizeof(command), "mkdir -p '%s/%s'", folder, path);
	assert_int_equal(system(command), 0);
}

static void put(const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s/%s", folder, path);
	FILE *file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_names(void **state)
{
	(void)state;
	char long_name[65];
	memset(long_name, 'a', 64);
	long_name[64] = '\0';
	assert_true(backstore_name_is_valid("disk1-3f2a9c1e"));
	assert_true(backstore_name_is_valid("A_b.c"));
	assert_false(backstore_name_is_valid(""));
	assert_false(backstore_name_is_valid(".."));
	assert_false(backstore_name_is_valid("-x"));
	assert_false(backstore_name_is_valid("a/b"));
	assert_false(backstore_name_is_valid("a b"));
	assert_false(backstore_name_is_valid(long_name));
	assert_true(backstore_name_is_valid(long_name + 1));
}

static void test_uio_names(void **state)
{
	(void)state;
	struct backstore_id id = { .hba = 7 };
	assert_int_equal(backstore_parse_uio("tcm-user/12/disk/raw//a/b", &id), 0);
	assert_int_equal(id.hba, 12);
	assert_string_equal(id.name, "disk");
	id.hba = 7;
	static const char *const bad[] = { "",
					   "uio",
					   "tcm-user/",
					   "tcm-user/x/disk/raw",
					   "tcm-user/-1/d/r",
					   "tcm-user/1//raw/",
					   "tcm-user/12",
					   "tcm-user/99999999999/d/r",
					   "tcm-user/4294967296/d/r" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(backstore_parse_uio(bad[i], &id), -EINVAL);
		assert_int_equal(id.hba, 7);
	}
}

static void test_find_and_read(void **state)
{
	(void)state;
	struct backstore_id id;
	struct backstore_info info;
	make_folders("target/core/fileio_0/disk");
	make_folders("target/core/user_3/disk/attrib");
	make_folders("target/core/user_3/disk/wwn");
	put("target/core/fileio_0/disk/enable", "1\n");
	assert_int_equal(backstore_find(&root, "disk", &id), -ENOENT);
	put("target/core/user_3/disk/enable", "1\n");
	put("target/core/user_3/disk/attrib/dev_size", "1048576\n");
	put("target/core/user_3/disk/attrib/hw_block_size", "4096\n");
	put("target/core/user_3/disk/attrib/emulate_write_cache", "1\n");
	put("target/core/user_3/disk/wwn/vpd_unit_serial", "T10 VPD Unit Serial Number: 3f2a-1\n");
	put("target/core/user_3/disk/wwn/vendor_id", "LIO-ORG\n");
	assert_int_equal(backstore_find(&root, "disk", &id), 0);
	assert_int_equal(id.hba, 3);
	assert_int_equal(backstore_read(&root, &id, &info), 0);
	assert_true(info.enabled && info.write_cache);
	assert_int_equal(info.size, 1048576);
	assert_int_equal(info.block_size, 4096);
	assert_int_equal(info.max_sectors, 0);
	assert_string_equal(info.serial, "3f2a-1");
	assert_string_equal(info.vendor, "LIO-ORG");
	assert_string_equal(info.product, "");
	id.hba = 4;
	assert_int_equal(backstore_read(&root, &id, &info), -ENOENT);
}

/* A made-up configfs has no control file in a new folder: creating has to fail there and leave nothing. */
static void test_create_undoes(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct backstore_id id = { .hba = 99 };
	struct backstore_config config = { .dev_config = "raw//a", .size = 4096, .block_size = 512, .serial = "1" };
	make_folders("target/core/user_0/other");
	make_folders("target/core/iblock_1/third");
	assert_int_equal(backstore_create(&root, "disk", &config, &id, &err), -ENOENT);
	assert_string_not_equal(err.message, "");
	assert_int_equal(id.hba, 99);
	assert_false(file_exists("%s/core/user_2", root.configfs)); /* 0 and 1 are taken, by whatever kind */
	assert_true(file_exists("%s/core/user_0/other", root.configfs));
	assert_int_equal(backstore_create(&root, "a/b", &config, &id, &err), -EINVAL);
	put("target/core/user_0/other/enable", "1");
	assert_int_equal(backstore_create(&root, "other", &config, &id, &err), -EEXIST);
}

static void export_make(const char *fabric, const char *wwn, unsigned lun, const char *link, const char *backstore)
{
	char from[512], to[256];
	make_folders("target/%s/%s/tpgt_1/lun/lun_%u", fabric, wwn, lun);
	snprintf(from, sizeof(from), "%s/target/%s/%s/tpgt_1/lun/lun_%u/%s", folder, fabric, wwn, lun, link);
	snprintf(to, sizeof(to), "../../../../../../target/core/%s", backstore);
	assert_int_equal(symlink(to, from), 0);
}

static void test_exports(void **state)
{
	(void)state;
	struct exports exports;
	make_folders("target/loopback/discovery_auth");
	make_folders("target/loopback/naa.5001/fabric_statistics");
	make_folders("target/iscsi/iqn.2003-01.org:x/tpgt_2/lun");
	export_make("loopback", "naa.5001", 0, "disk", "user_3/disk");
	put("target/loopback/naa.5001/tpgt_1/address", "4:0:1\n");
	export_make("iscsi", "iqn.2003-01.org:x", 5, "ab12", "user_3/disk");
	export_make("iscsi", "iqn.2003-01.org:x", 6, "cd34", "fileio_1/other");
	export_make("sbp", "1", 0, "x", "user_4/y");
	assert_int_equal(exports_read(&root, &exports), 0);
	assert_int_equal(exports.count, 3);
	const struct export *iscsi = &exports.items[0], *loop = &exports.items[1], *other = &exports.items[2];
	assert_int_equal(iscsi->fabric, FABRIC_ISCSI);
	assert_int_equal(iscsi->lun, 5);
	assert_string_equal(iscsi->link, "ab12");
	assert_string_equal(iscsi->address, "");
	assert_int_equal(loop->fabric, FABRIC_LOOP);
	assert_string_equal(loop->wwn, "naa.5001");
	assert_string_equal(loop->address, "4:0:1");
	assert_int_equal(loop->backstore.hba, 3);
	assert_string_equal(loop->backstore.name, "disk");
	assert_int_equal(other->fabric, FABRIC_OTHER);
	assert_string_equal(other->folder, "sbp");
	exports_free(&exports);
	assert_int_equal(exports.count, 0);
}

static void test_export_undoes(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct backstore_id id = { .hba = 0, .name = "disk" };
	struct export export = { .tpgt = 42 };
	make_folders("sys/module/tcm_loop");
	make_folders("target/core/user_0/disk");
	/* no nexus file appears in a plain folder */
	assert_true(fabric_export(&root, FABRIC_LOOP, &id, "naa.5001405123456789", "naa.5001405123456780", &export, &err) < 0);
	assert_int_equal(export.tpgt, 42);
	assert_non_null(strstr(err.message, "disk"));
	assert_false(file_exists("%s/loopback/naa.5001405123456789", root.configfs));
	/* A target that holds nothing is in nobody's way. */
	make_folders("target/loopback/naa.5001405123456789");
	assert_int_equal(fabric_export(&root, FABRIC_LOOP, &id, "naa.5001405123456789", "naa.5001405123456780", &export, &err), -ENOENT);
	assert_false(file_exists("%s/loopback/naa.5001405123456789", root.configfs));
	export_make("loopback", "naa.5001405123456789", 3, "other", "fileio_2/other");
	assert_int_equal(fabric_export(&root, FABRIC_LOOP, &id, "naa.5001405123456789", "naa.5001405123456780", &export, &err), -EEXIST);
	assert_true(file_exists("%s/loopback/naa.5001405123456789/tpgt_1/lun/lun_3", root.configfs));
	assert_int_equal(fabric_remove_empty(&root, FABRIC_LOOP, "naa.5001405123456789"), -ENOTEMPTY);
	assert_int_equal(fabric_remove_empty(&root, FABRIC_LOOP, "naa.5001405000000000"), 0);
}

static void test_fabric_names(void **state)
{
	(void)state;
	char target[FABRIC_WWN_MAX], nexus[FABRIC_WWN_MAX], again[FABRIC_WWN_MAX];
	fabric_names("0123456789abcdef01234567", target, nexus);
	assert_string_equal(target, "naa.5001405012345678");
	assert_string_equal(nexus, "naa.50014059abcdef01");
	fabric_names("X", target, nexus);
	fabric_names("X", again, nexus);
	assert_string_equal(target, again);
	fabric_names("Y", again, nexus);
	assert_string_not_equal(target, again);
}

static void test_leftover_backstore(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct backstore_id id;
	const struct backstore_config config = { .dev_config = "raw//x", .serial = "s" };
	make_folders("target/core/user_3/disk");
	put("target/core/user_3/disk/enable", "1\n");
	assert_int_equal(backstore_create(&root, "disk", &config, &id, &err), -EEXIST);
	/* configfs removes a folder with its files; a plain one stays, and so does the answer */
	put("target/core/user_3/disk/enable", "0\n");
	assert_int_equal(backstore_create(&root, "disk", &config, &id, &err), -EEXIST);
	assert_true(file_exists("%s/core/user_3/disk/enable", root.configfs));
}

static void test_unexport(void **state)
{
	(void)state;
	struct exports exports;
	export_make("loopback", "naa.5001", 0, "disk", "user_3/disk");
	export_make("loopback", "naa.5001", 1, "disk", "user_4/more");
	assert_int_equal(exports_read(&root, &exports), 0);
	assert_int_equal(exports.count, 2);
	assert_int_equal(fabric_unexport(&root, &exports.items[0], true, NULL), 0);
	assert_false(file_exists("%s/loopback/naa.5001/tpgt_1/lun/lun_0", root.configfs));
	/* its target has another LUN: it stays */
	assert_true(file_exists("%s/loopback/naa.5001/tpgt_1/lun/lun_1", root.configfs));
	assert_int_equal(fabric_unexport(&root, &exports.items[0], true, NULL), 0);
	exports_free(&exports);
}

static void test_files(void **state)
{
	(void)state;
	char text[8] = "old";
	uint64_t value = 5;
	struct names names = { 0 };
	put("number", " 12\n");
	assert_int_equal(file_read_u64(&value, "%s/number", folder), -EINVAL);
	put("number", "12 \n");
	assert_int_equal(file_read_u64(&value, "%s/number", folder), 0);
	assert_int_equal(value, 12);
	put("long", "0123456789");
	assert_int_equal(file_read(text, sizeof(text), "%s/long", folder), -ENOBUFS);
	assert_string_equal(text, "old");
	assert_int_equal(file_read(text, sizeof(text), "%s/none", folder), -ENOENT);
	assert_int_equal(names_read(&names, "%s/none", folder), -ENOENT);
	assert_int_equal(names_add(&names, "b"), 0);
	assert_int_equal(names_add(&names, "a"), 0);
	names_remove(&names, "b");
	assert_false(names_contain(&names, "b"));
	assert_true(names_contain(&names, "a"));
	names_free(&names);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_names),	  TEST(test_uio_names), TEST(test_find_and_read),
		TEST(test_create_undoes), TEST(test_exports),	TEST(test_export_undoes),
		TEST(test_unexport),	  TEST(test_files),	TEST(test_leftover_backstore),
		TEST(test_fabric_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
