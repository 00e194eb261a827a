/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel has to have: the target's modules, configfs, uio, io_uring. */
#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/doctor.h"

#define CONFIGFS_SUPER_MAGIC 0x62656570 /* fs/configfs/mount.c */

/* True when the file, one of depmod's lists, names the module's object: "…/NAME.ko", maybe with a suffix of compression. */
static bool list_has_module(const struct doctor *doctor, const char *list, const char *module)
{
	struct utsname host;
	char path[512], object[64], line[4096];
	if (uname(&host) < 0)
		return false;
	snprintf(path, sizeof(path), "/lib/modules/%s/%s", host.release, list);
	snprintf(object, sizeof(object), "/%s.ko", module);
	FILE *file = fopen(doctor_path(doctor, path), "re");
	if (!file)
		return false;
	bool found = false;
	while (!found && fgets(line, sizeof(line), file)) {
		const char *end = strstr(line, object), *colon = strchr(line, ':');
		found = end && (!colon || end < colon);
	}
	fclose(file);
	return found;
}

void doctor_modules(struct doctor *doctor)
{
	static const struct {
		const char *name, *purpose;
		bool needed;
	} modules[] = {
		{ "target_core_user", "serves images", true },
		{ "tcm_loop", "makes disks of this host, --fabric loop", true },
		{ "vhost_scsi", "makes disks of VMs, --fabric vhost", false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		const char *name = modules[i].name;
		char path[64], fix[64];
		snprintf(path, sizeof(path), "/sys/module/%s", name);
		snprintf(fix, sizeof(fix), "modprobe %s", name);
		if (access(doctor_path(doctor, path), F_OK) == 0 || list_has_module(doctor, "modules.builtin", name))
			doctor_add(doctor, DOCTOR_OK, "module", NULL, "kernel module %s is loaded (it %s)", name, modules[i].purpose);
		else if (list_has_module(doctor, "modules.dep", name))
			doctor_add(doctor, doctor->running && modules[i].needed ? DOCTOR_BROKEN : DOCTOR_OK, "module",
				   doctor->running && modules[i].needed ? fix : NULL,
				   "kernel module %s is there and will be loaded when it is needed (it %s)", name, modules[i].purpose);
		else
			doctor_add(doctor, modules[i].needed ? DOCTOR_BROKEN : DOCTOR_NOTE, "module",
				   "boot a kernel that has it; on Debian the package linux-image-amd64 (the \"cloud\" kernels lack it)",
				   "this kernel has no module %s (it %s)", name, modules[i].purpose);
	}
}

void doctor_configfs(struct doctor *doctor)
{
	struct statfs status;
	bool mounted = statfs(doctor_path(doctor, "/sys/kernel/config"), &status) == 0 && status.f_type == CONFIGFS_SUPER_MAGIC;
	if (mounted)
		doctor_add(doctor, DOCTOR_OK, "configfs", NULL, "configfs is mounted");
	else if (access(doctor_path(doctor, "/sys/kernel/config"), F_OK) < 0)
		doctor_add(doctor, DOCTOR_BROKEN, "configfs", "modprobe configfs", "the kernel has no configfs");
	else
		doctor_add(doctor, DOCTOR_BROKEN, "configfs", "mount -t configfs configfs /sys/kernel/config",
			   "configfs is not mounted at /sys/kernel/config");
}

/* Each TCM-User device is a uio device; without udev (a container, a chroot) it has no node. */
void doctor_uio(struct doctor *doctor)
{
	DIR *directory = opendir(doctor_path(doctor, "/sys/class/uio"));
	unsigned ours = 0, lost = 0;
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		char path[300], name[256];
		snprintf(path, sizeof(path), "/sys/class/uio/%.200s/name", entry->d_name);
		if (strncmp(entry->d_name, "uio", 3) != 0 || !doctor_read_line(doctor, path, name, sizeof(name)) ||
		    strncmp(name, "tcm-user/", 9) != 0)
			continue;
		ours++;
		snprintf(path, sizeof(path), "/dev/%.200s", entry->d_name);
		lost += access(doctor_path(doctor, path), F_OK) < 0;
	}
	if (directory)
		closedir(directory);
	if (lost)
		doctor_add(doctor, DOCTOR_BROKEN, "uio", "start udev (systemctl start systemd-udevd), then udevadm trigger -s uio",
			   "%u of %u TCM-User devices have no node /dev/uio*", lost, ours);
	else
		doctor_add(doctor, DOCTOR_OK, "uio", NULL, "%u TCM-User device%s, each with its /dev/uio node", ours, ours == 1 ? "" : "s");
}

void doctor_io_uring(struct doctor *doctor)
{
	char value[32];
	if (doctor_read_line(doctor, "/proc/sys/kernel/io_uring_disabled", value, sizeof(value)) && strcmp(value, "0") != 0) {
		doctor_add(doctor, DOCTOR_BROKEN, "io_uring", "sysctl kernel.io_uring_disabled=0, and in /etc/sysctl.d to keep it",
			   strcmp(value, "2") == 0
				   ? "io_uring is switched off (kernel.io_uring_disabled=%s)"
				   : "io_uring is for privileged processes only (kernel.io_uring_disabled=%s), and workers are none",
			   value);
		return;
	}
	/* Bad arguments on purpose: a kernel that lets us use io_uring complains of them, and makes nothing. */
	struct io_uring_params params = { .flags = ~0u };
	int fd = (int)syscall(SYS_io_uring_setup, 0, &params), code = errno;
	if (fd >= 0)
		close(fd);
	if (fd < 0 && code == ENOSYS)
		doctor_add(doctor, DOCTOR_BROKEN, "io_uring", "boot a kernel of version 5.11 or later that has CONFIG_IO_URING",
			   "this kernel has no io_uring");
	else if (fd < 0 && (code == EPERM || code == EACCES))
		doctor_add(doctor, DOCTOR_BROKEN, "io_uring", "allow it in the container's seccomp profile", "io_uring is forbidden here");
	else
		doctor_add(doctor, DOCTOR_OK, "io_uring", NULL, "io_uring is available");
}
