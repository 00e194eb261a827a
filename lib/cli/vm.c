/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/vm.h"

#include <errno.h>
#include <string.h>

#include "cli/bus.h"

const char *vm_wwpn(struct json_object *lun)
{
	const char *export;
	for (size_t i = 0; (export = json_string_at(lun, "exports", i)); i++)
		if (strncmp(export, "vhost ", 6) == 0)
			return export + 6;
	return NULL;
}

/* What QEMU's options, a shell's $(…) and XML all take as it is. Every name that udev and LIO make is of this form. */
static int check_plain(const char *text, struct lunkit_error *err)
{
	if (strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._:+-") == strlen(text))
		return 0;
	return lunkit_error_set(err, EPROTO, "the name '%s' can't be printed for a VM: it has special characters", text);
}

static void print_qemu(FILE *file, struct json_object *lun, const char *device, const char *wwpn)
{
	const char *name = json_string(lun, "name", "disk");
	bool read_only = json_is_true(lun, "read-only");
	if (wwpn) {
		fprintf(file, "-device vhost-scsi-pci,id=lunkit-%s,wwpn=%s\n", name, wwpn);
		return;
	}
	fprintf(file, "-drive file=%s,format=raw,if=none,id=lunkit-%s,cache=none,aio=io_uring,discard=unmap%s\n", device, name,
		read_only ? ",readonly=on" : "");
	fprintf(file, "-device virtio-blk-pci,drive=lunkit-%s\n", name);
}

static void print_libvirt(FILE *file, struct json_object *lun, const char *device, const char *wwpn)
{
	if (wwpn) {
		fprintf(file,
			"<hostdev mode='subsystem' type='scsi_host'>\n"
			"  <source protocol='vhost' wwpn='%s'/>\n"
			"</hostdev>\n",
			wwpn);
		return;
	}
	fprintf(file,
		"<disk type='block' device='disk'>\n"
		"  <driver name='qemu' type='raw' cache='none' io='io_uring' discard='unmap'/>\n"
		"  <source dev='%s'/>\n"
		"  <target dev='vda' bus='virtio'/>\n"
		"%s"
		"</disk>\n",
		device, json_is_true(lun, "read-only") ? "  <readonly/>\n" : "");
}

int vm_print(FILE *file, struct json_object *lun, const char *fabric, const char *form, struct lunkit_error *err)
{
	const char *name = json_string(lun, "name", "disk"), *wwpn = NULL, *device = NULL;
	if (strcmp(fabric, "vhost") == 0) {
		wwpn = vm_wwpn(lun);
	} else {
		device = json_string_at(lun, "device-links", 0);
		if (!device)
			device = json_string_at(lun, "devices", 0);
	}
	const char *target = wwpn ? wwpn : device;
	if (!target) {
		lunkit_error_set(err, ENOENT, "it is attached, but not with --fabric %s", fabric);
		return lunkit_error_hint(err, "detach it and attach it again with --fabric %s", fabric);
	}
	int r = check_plain(name, err);
	if (r == 0)
		r = check_plain(target, err);
	if (r < 0)
		return r;
	if (strcmp(form, "qemu") == 0)
		print_qemu(file, lun, device, wwpn);
	else
		print_libvirt(file, lun, device, wwpn);
	return 0;
}
