/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The checks against a made-up /proc, /sys, /dev and /lib below a directory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <cmocka.h>

#include "cli/doctor.h"

static char root[] = "/tmp/lunkit-doctor-XXXXXX";
static struct doctor doctor;

/* Makes the file below root with its directories. */
static void put(const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); *at++ = '/') {
		*at = '\0';
		mkdir(full, 0755);
	}
	FILE *file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static int set_up(void **state)
{
	(void)state;
	strcpy(root, "/tmp/lunkit-doctor-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	doctor = (struct doctor){ .findings = json_object_new_array(), .luns = json_object_new_array(), .root = root };
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	char command[64];
	json_object_put(doctor.findings);
	json_object_put(doctor.luns);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

/* The status of the finding whose message has the part; "" when there is none. */
static const char *finding(const char *part)
{
	for (size_t i = 0; i < json_object_array_length(doctor.findings); i++) {
		struct json_object *entry = json_object_array_get_idx(doctor.findings, i);
		if (strstr(json_string(entry, "message", ""), part)) {
			if (strcmp(json_string(entry, "status", ""), "broken") == 0)
				assert_true(json_string(entry, "fix", "")[0]);
			return json_string(entry, "status", "");
		}
	}
	return "";
}

static void modules(void **state)
{
	(void)state;
	struct utsname host;
	char path[256];
	uname(&host);
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", host.release);
	put(path, "kernel/drivers/target/loopback/tcm_loop.ko.xz: kernel/drivers/target/target_core_mod.ko.xz\n"
		  "kernel/x/other.ko: kernel/drivers/vhost/vhost_scsi.ko\n");
	put("/sys/module/target_core_user/refcnt", "1\n");
	doctor_modules(&doctor);
	assert_string_equal(finding("target_core_user is loaded"), "ok");
	assert_string_equal(finding("tcm_loop is there"), "ok");
	assert_string_equal(finding("no module vhost_scsi"), "note"); /* a dependency of another is not the module */
	assert_int_equal(doctor.broken, 0);
}

static void no_modules(void **state)
{
	(void)state;
	doctor_modules(&doctor);
	assert_string_equal(finding("no module target_core_user"), "broken");
	assert_string_equal(finding("no module tcm_loop"), "broken");
	doctor_configfs(&doctor);
	assert_string_equal(finding("no configfs"), "broken");
	put("/sys/kernel/config/empty", "");
	doctor_configfs(&doctor);
	assert_string_equal(finding("not mounted"), "broken");
	assert_int_equal(doctor.broken, 4);
}

static void uio_nodes(void **state)
{
	(void)state;
	put("/sys/class/uio/uio0/name", "tcm-user/0/one/raw//x\n");
	put("/sys/class/uio/uio1/name", "tcm-user/1/two/raw//y\n");
	put("/sys/class/uio/uio2/name", "some-fpga\n");
	put("/dev/uio0", "");
	doctor_uio(&doctor);
	assert_string_equal(finding("1 of 2 TCM-User devices"), "broken");
	put("/dev/uio1", "");
	doctor_uio(&doctor);
	assert_string_equal(finding("2 TCM-User devices, each"), "ok");
}

static void io_uring_switched_off(void **state)
{
	(void)state;
	put("/proc/sys/kernel/io_uring_disabled", "2\n");
	doctor_io_uring(&doctor);
	assert_string_equal(finding("switched off"), "broken");
	put("/proc/sys/kernel/io_uring_disabled", "1\n");
	doctor_io_uring(&doctor);
	assert_string_equal(finding("privileged processes only"), "broken");
}

static void another_daemon(void **state)
{
	(void)state;
	put("/proc/1/comm", "init\n");
	put("/proc/self/comm", "tcmu-runner\n");
	doctor_conflicts(&doctor);
	assert_string_equal(finding("no tcmu-runner"), "ok");
	put("/proc/77/comm", "tcmu-runner\n");
	doctor_conflicts(&doctor);
	assert_string_equal(finding("pid 77"), "broken");
}

static void devices_that_nobody_serves(void **state)
{
	(void)state;
	char handlers[128];
	static const char info[] = "Status: ACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 128\n"
				   "        Config: raw//images/one.raw Size: 1048576 MaxDataAreaMB: 8\n";
	put("/handlers/raw.so", "");
	snprintf(handlers, sizeof(handlers), "%s/handlers", root);
	setenv("LUNKIT_HANDLERS", handlers, 1);
	put("/sys/kernel/config/target/core/user_0/one/info", info);
	put("/sys/kernel/config/target/core/user_1/theirs/info", "Config: glfs/volume/file Size: 1\n");
	put("/sys/kernel/config/target/core/fileio_0/disk/info", info);
	doctor.running = true;
	doctor_devices(&doctor);
	assert_string_equal(finding("nobody serves the device one"), "broken");
	assert_string_equal(finding("theirs"), "");
	assert_int_equal(doctor.broken, 1);

	json_object_array_add(doctor.luns, json_tokener_parse("{\"name\":\"one\",\"state\":\"serving\"}"));
	doctor_devices(&doctor);
	assert_string_equal(finding("is served (1)"), "ok");
	put("/sys/kernel/config/target/core/user_2/half/info", info);
	put("/sys/kernel/config/target/core/user_2/half/enable", "0\n");
	doctor_devices(&doctor);
	assert_string_equal(finding("half of kind raw (user_2) was made but never enabled"), "broken");
	unsetenv("LUNKIT_HANDLERS");
}

static void targets_that_hold_nothing(void **state)
{
	(void)state;
	put("/sys/kernel/config/target/loopback/naa.5001405aaaaaaaaa/tpgt_1/lun/lun_0/disk/enable", "1\n");
	put("/sys/kernel/config/target/loopback/naa.5001405bbbbbbbbb/tpgt_1/lun/lun_0/alua_tg_pt_gp", "");
	put("/sys/kernel/config/target/vhost/naa.5001405ccccccccc/fabric_statistics", "");
	put("/sys/kernel/config/target/loopback/naa.6001405ddddddddd/other", "");
	doctor_targets(&doctor);
	assert_string_equal(finding("naa.5001405aaaaaaaaa"), "");
	assert_string_equal(finding("loopback target naa.5001405bbbbbbbbb holds no LUN"), "note");
	assert_string_equal(finding("vhost target naa.5001405ccccccccc holds no LUN"), "note");
	assert_int_equal(json_object_array_length(doctor.findings), 2);
}

static void workers_without_a_master(void **state)
{
	(void)state;
	put("/proc/50/stat", "50 (lunkit-worker) S 40 50 50 0 -1\n");
	put("/proc/51/stat", "51 (bash) S 1 51 51 0 -1\n");
	doctor_workers(&doctor);
	assert_int_equal(json_object_array_length(doctor.findings), 0);
	put("/proc/52/stat", "52 (lunkit-worker) D 1 52 52 0 -1\n");
	doctor_workers(&doctor);
	assert_string_equal(finding("pid 52"), "note");
}

static void records(void **state)
{
	(void)state;
	char folder[128];
	snprintf(folder, sizeof(folder), "%s/state", root);
	setenv("LUNKIT_STATE_DIR", folder, 1);
	put("/images/there.raw", "");
	put("/state/luns/there.json", "{\"version\":1,\"image\":\"/images/there.raw\"}");
	put("/state/luns/gone.json", "{\"version\":1,\"image\":\"/images/gone.raw;cache=writeback\"}");
	put("/state/luns/net.json", "{\"version\":1,\"image\":\"rbd:pool/image\"}");
	put("/state/luns/bad.json", "{\"version\":1,\"image\":[]}");
	put("/state/luns/.new.new", "{");
	doctor_records(&doctor);
	assert_string_equal(finding("'/images/gone.raw' is missing"), "broken");
	assert_string_equal(finding("bad.json is damaged"), "broken");
	assert_string_equal(finding("2 images are attached at boot"), "ok");
	assert_int_equal(doctor.broken, 2);
	unsetenv("LUNKIT_STATE_DIR");
}

static void few_files(void **state)
{
	(void)state;
	doctor.running = true;
	doctor.daemon = json_tokener_parse("{\"pid\":60,\"luns\":200}");
	put("/proc/60/limits", "Limit                     Soft Limit           Hard Limit           Units     \n"
			       "Max open files            1024                 4096                 files     \n");
	doctor_limits(&doctor);
	assert_string_equal(finding("may open 1024 files, which is little"), "note");
	put("/proc/60/limits", "Max open files            65536                 65536                 files     \n");
	doctor_limits(&doctor);
	assert_string_equal(finding("may open 65536 files, enough"), "ok");
	json_object_put(doctor.daemon);
}

int main(void)
{
#define DOCTOR_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		DOCTOR_TEST(modules),
		DOCTOR_TEST(no_modules),
		DOCTOR_TEST(uio_nodes),
		DOCTOR_TEST(io_uring_switched_off),
		DOCTOR_TEST(another_daemon),
		DOCTOR_TEST(devices_that_nobody_serves),
		DOCTOR_TEST(targets_that_hold_nothing),
		DOCTOR_TEST(workers_without_a_master),
		DOCTOR_TEST(records),
		DOCTOR_TEST(few_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
