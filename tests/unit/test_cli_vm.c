/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/vm.h"

#define LOOP                                                                                                                               \
	"\"name\":\"disk-1\",\"devices\":[\"/dev/sda\"],\"device-links\":[\"/dev/disk/by-id/wwn-0x6001\"],\"exports\":[\"loop naa.5001\"]"
#define VHOST "\"name\":\"disk-1\",\"devices\":[],\"device-links\":[],\"exports\":[\"loop naa.5001\",\"vhost naa.5002\"]"

static int print(const char *json, const char *fabric, const char *form, char **ret)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct json_object *lun = json_tokener_parse(json);
	size_t size;
	FILE *file = open_memstream(ret, &size);
	assert_non_null(lun);
	int r = vm_print(file, lun, fabric, form, &err);
	fclose(file);
	json_object_put(lun);
	assert_int_equal(r, -err.code);
	return r;
}

static void expect(const char *json, const char *fabric, const char *form, const char *expected)
{
	char *text;
	assert_int_equal(print(json, fabric, form, &text), 0);
	assert_string_equal(text, expected);
	free(text);
}

static void qemu(void **state)
{
	(void)state;
	expect("{" LOOP "}", "loop", "qemu",
	       "-drive file=/dev/disk/by-id/wwn-0x6001,format=raw,if=none,id=lunkit-disk-1,cache=none,aio=io_uring,discard=unmap\n"
	       "-device virtio-blk-pci,drive=lunkit-disk-1\n");
	expect("{" LOOP ",\"read-only\":true}", "loop", "qemu",
	       "-drive "
	       "file=/dev/disk/by-id/wwn-0x6001,format=raw,if=none,id=lunkit-disk-1,cache=none,aio=io_uring,discard=unmap,readonly=on\n"
	       "-device virtio-blk-pci,drive=lunkit-disk-1\n");
	expect("{" VHOST "}", "vhost", "qemu", "-device vhost-scsi-pci,id=lunkit-disk-1,wwpn=naa.5002\n");
}

static void libvirt(void **state)
{
	(void)state;
	expect("{" LOOP ",\"read-only\":true}", "loop", "libvirt",
	       "<disk type='block' device='disk'>\n"
	       "  <driver name='qemu' type='raw' cache='none' io='io_uring' discard='unmap'/>\n"
	       "  <source dev='/dev/disk/by-id/wwn-0x6001'/>\n"
	       "  <target dev='vda' bus='virtio'/>\n"
	       "  <readonly/>\n"
	       "</disk>\n");
	expect("{" VHOST "}", "vhost", "libvirt",
	       "<hostdev mode='subsystem' type='scsi_host'>\n"
	       "  <source protocol='vhost' wwpn='naa.5002'/>\n"
	       "</hostdev>\n");
}

static void what_is_not_there_is_an_error(void **state)
{
	(void)state;
	static const struct {
		const char *json, *fabric;
		int result;
	} cases[] = {
		{ "{" LOOP "}", "vhost", -ENOENT },
		{ "{" VHOST "}", "loop", -ENOENT },
		{ "{}", "loop", -ENOENT },
		{ "{\"name\":\"a b\",\"devices\":[\"/dev/sda\"]}", "loop", -EPROTO },
		{ "{\"name\":\"a\",\"devices\":[\"/dev/x'/>\"]}", "loop", -EPROTO },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (int form = 0; form < 2; form++) {
			char *text;
			assert_int_equal(print(cases[i].json, cases[i].fabric, form ? "qemu" : "libvirt", &text), cases[i].result);
			assert_string_equal(text, "");
			free(text);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(qemu),
		cmocka_unit_test(libvirt),
		cmocka_unit_test(what_is_not_there_is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
