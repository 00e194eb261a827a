/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Disks of loop exports in a made-up sysfs, and what keeps one from being taken away. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "target/disk.h"

static char folder[64], parts[4][80];
static struct target_root root;

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
	char command[1024], full[1200];
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	snprintf(full, sizeof(full), "cd %s && %s", folder, command);
	assert_int_equal(system(full), 0);
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/test_disk.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	static const char *const names[] = { "configfs", "sys", "dev", "proc" };
	for (int i = 0; i < 4; i++)
		snprintf(parts[i], sizeof(parts[i]), "%s/%s", folder, names[i]);
	root = (struct target_root){ parts[0], parts[1], parts[2], parts[3] };
	run("mkdir -p sys/bus/scsi/devices/4:0:1:0/block/sdq sys/class/block/sdq/sdq1 sys/class/block/sdq1/holders "
	    "sys/class/block/sdq/holders "
	    "sys/class/block/sdq/device dev/disk/by-id proc/self");
	run("echo 131072 >sys/class/block/sdq/size; echo 65:0 >sys/class/block/sdq/dev; echo 65:1 >sys/class/block/sdq1/dev; "
	    ": >proc/self/mountinfo; : >dev/sdq");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	run("rm -rf ../${PWD##*/}");
	return 0;
}

static void test_find(void **state)
{
	(void)state;
	struct export export = { .fabric = FABRIC_LOOP, .address = "4:0:1", .lun = 0 };
	char disk[DISK_NAME_MAX] = "old";
	uint64_t size = 0;
	assert_int_equal(disk_find(&root, &export, disk), 0);
	assert_string_equal(disk, "sdq");
	assert_int_equal(disk_size(&root, disk, &size), 0);
	assert_int_equal(size, 64 << 20);
	strcpy(disk, "old");
	export.lun = 1;
	assert_int_equal(disk_find(&root, &export, disk), -ENOENT);
	export.address[0] = '\0';
	assert_int_equal(disk_find(&root, &export, disk), -ENOENT);
	assert_string_equal(disk, "old");
}

static void test_links(void **state)
{
	(void)state;
	struct names links;
	run("ln -s ../../sdq dev/disk/by-id/wwn-1; ln -s ../../sdq1 dev/disk/by-id/wwn-1-part1; ln -s ../../sdqq dev/disk/by-id/wwn-2; "
	    "ln -s ../../sdq dev/disk/by-id/scsi-1");
	assert_int_equal(disk_links(&root, "sdq", &links), 0);
	assert_int_equal(links.count, 2);
	assert_string_equal(links.items[0], "scsi-1");
	assert_string_equal(links.items[1], "wwn-1");
	names_free(&links);
	run("rm -r dev/disk");
	assert_int_equal(disk_links(&root, "sdq", &links), 0);
	assert_int_equal(links.count, 0);
}

static void test_unused(void **state)
{
	(void)state;
	int fd = -1;
	assert_int_equal(disk_claim(&root, "sdq", &fd, NULL), 0);
	assert_true(fd >= 0);
	close(fd);
}

static void test_mounted(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int fd = -7;
	run("echo '36 35 98:0 / / rw - ext4 /dev/x rw' >proc/self/mountinfo; echo '37 35 65:1 / /mnt/a rw - ext4 /dev/sdq1 rw' "
	    ">>proc/self/mountinfo");
	assert_int_equal(disk_claim(&root, "sdq", &fd, &err), -EBUSY);
	assert_non_null(strstr(err.message, "/dev/sdq1 is mounted on /mnt/a"));
	assert_int_equal(fd, -7);
}

static void test_holder(void **state)
{
	(void)state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int fd = -7;
	run("mkdir sys/class/block/sdq/holders/dm-3");
	assert_int_equal(disk_claim(&root, "sdq", &fd, &err), -EBUSY);
	assert_non_null(strstr(err.message, "dm-3"));
	assert_int_equal(fd, -7);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = { TEST(test_find), TEST(test_links), TEST(test_unused), TEST(test_mounted), TEST(test_holder) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
