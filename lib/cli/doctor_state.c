/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a crash or a hand in configfs may have left: devices that nobody serves, workers without a master, records of images that are gone. */
#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/doctor.h"
#include "cli/offline.h"
#include "host/process.h"
#include "pool/reference.h"

#define TARGET "/sys/kernel/config/target"
#define CORE TARGET "/core"

/* "… Config: KIND/REST Size: …" in a device's info file: the kind, when there is a handler for it here. */
static bool device_is_ours(const struct doctor *doctor, const char *device, char kind[static REFERENCE_KIND_MAX])
{
	struct worker_config config;
	char path[1024], line[1024], module[1024];
	snprintf(path, sizeof(path), "%s/info", device);
	FILE *file = fopen(doctor_path(doctor, path), "re");
	bool found = false;
	while (file && !found && fgets(line, sizeof(line), file)) {
		const char *at = strstr(line, "Config: ");
		size_t length = at ? strcspn(at + 8, "/ ") : 0;
		if (!at || at[8 + length] != '/' || !length || length >= REFERENCE_KIND_MAX)
			continue;
		memcpy(kind, at + 8, length);
		kind[length] = '\0';
		found = true;
	}
	if (file)
		fclose(file);
	worker_config_default(&config);
	snprintf(module, sizeof(module), "%.900s/%s.so", config.handlers, kind);
	return found && access(module, R_OK) == 0;
}

static bool is_listed(const struct doctor *doctor, const char *name)
{
	for (size_t i = 0; i < json_object_array_length(doctor->luns); i++)
		if (strcmp(json_string(json_object_array_get_idx(doctor->luns, i), "name", ""), name) == 0)
			return true;
	return false;
}

static void check_device(struct doctor *doctor, const char *hba, const char *name, unsigned *ours, unsigned *lost)
{
	char device[800], kind[REFERENCE_KIND_MAX] = "", fix[512];
	snprintf(device, sizeof(device), CORE "/%.255s/%.255s", hba, name);
	if (!device_is_ours(doctor, device, kind))
		return;
	++*ours;
	if (doctor->running && is_listed(doctor, name))
		return;
	++*lost;
	char line[16] = "";
	char enable[820];
	snprintf(enable, sizeof(enable), "%s/enable", device);
	if (doctor_read_line(doctor, enable, line, sizeof(line)) && line[0] == '0') {
		snprintf(fix, sizeof(fix), "targetcli /backstores/user:%s delete %.255s; attaching the image again does it too", kind,
			 name);
		doctor_add(doctor, DOCTOR_BROKEN, "device", fix, "the device %s of kind %s (%s) was made but never enabled", name, kind,
			   hba);
		return;
	}
	if (doctor->running)
		snprintf(fix, sizeof(fix), "systemctl restart lunkitd; or remove it: targetcli /backstores/user:%s delete %.255s", kind,
			 name);
	else
		snprintf(fix, sizeof(fix), "systemctl start lunkitd: it takes the device up again");
	doctor_add(doctor, DOCTOR_BROKEN, "device", fix, "nobody serves the device %s of kind %s (%s): its I/O hangs or fails", name, kind,
		   hba);
}

void doctor_devices(struct doctor *doctor)
{
	unsigned ours = 0, lost = 0;
	/* without an answer of lunkitd's that runs, nobody can say which devices are served */
	if (!doctor->running && geteuid() != 0)
		return;
	DIR *core = opendir(doctor_path(doctor, CORE));
	for (struct dirent *hba; core && (hba = readdir(core));) {
		char path[512];
		if (strncmp(hba->d_name, "user_", 5) != 0)
			continue;
		snprintf(path, sizeof(path), CORE "/%.255s", hba->d_name);
		DIR *devices = opendir(doctor_path(doctor, path));
		for (struct dirent *device; devices && (device = readdir(devices));)
			if (device->d_name[0] != '.')
				check_device(doctor, hba->d_name, device->d_name, &ours, &lost);
		if (devices)
			closedir(devices);
	}
	if (core)
		closedir(core);
	if (!lost && ours)
		doctor_add(doctor, DOCTOR_OK, "device", NULL, "each device of ours in the kernel target is served (%u)", ours);
	else if (!lost)
		doctor_add(doctor, DOCTOR_OK, "device", NULL, "no device of ours is in the kernel target");
}

static unsigned count_links(const struct doctor *doctor, const char *target)
{
	char command[512];
	glob_t found;
	snprintf(command, sizeof(command), "%s/tpgt_*/lun/lun_*/*/enable", target);
	unsigned count = glob(doctor_path(doctor, command), 0, NULL, &found) == 0 ? (unsigned)found.gl_pathc : 0;
	if (count)
		globfree(&found);
	return count;
}

/* Targets that hold no LUN: an attach or detach that was killed half way leaves one. */
void doctor_targets(struct doctor *doctor)
{
	static const char *const fabrics[] = { "loopback", "vhost" };
	for (size_t i = 0; i < sizeof(fabrics) / sizeof(fabrics[0]); i++) {
		char path[300], fix[400];
		snprintf(path, sizeof(path), TARGET "/%s", fabrics[i]);
		DIR *targets = opendir(doctor_path(doctor, path));
		for (struct dirent *target; targets && (target = readdir(targets));) {
			if (strncmp(target->d_name, "naa.5001405", 11) != 0)
				continue;
			snprintf(path, sizeof(path), TARGET "/%s/%.200s", fabrics[i], target->d_name);
			if (count_links(doctor, path))
				continue;
			snprintf(fix, sizeof(fix), "targetcli /%s delete %.200s", fabrics[i], target->d_name);
			doctor_add(doctor, DOCTOR_NOTE, "target", fix,
				   "the %s target %s holds no LUN: an interrupted attach may have left it", fabrics[i], target->d_name);
		}
		if (targets)
			closedir(targets);
	}
}

/* A worker is lunkitd's child, or lunkit's. One whose parent is gone has drained and ends soon, unless storage holds it. */
void doctor_workers(struct doctor *doctor)
{
	DIR *directory = opendir(doctor_path(doctor, "/proc"));
	unsigned lost = 0;
	int first = 0;
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		char path[300], line[1024];
		int pid, parent;
		char state;
		snprintf(path, sizeof(path), "/proc/%.200s/stat", entry->d_name);
		if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !doctor_read_line(doctor, path, line, sizeof(line)) ||
		    sscanf(line, "%d (lunkit-worker) %c %d", &pid, &state, &parent) != 3 || parent != 1)
			continue;
		first = first ? first : pid;
		lost++;
	}
	if (directory)
		closedir(directory);
	if (!lost)
		return;
	char fix[128];
	snprintf(fix, sizeof(fix), "wait for its I/O; if it stays, see what it waits for: cat /proc/%d/wchan", first);
	doctor_add(doctor, DOCTOR_NOTE, "worker", fix, "%u worker%s outlived whoever started %s (pid %d%s)", lost, lost == 1 ? "" : "s",
		   lost == 1 ? "it" : "them", first, lost == 1 ? "" : ", …");
}

static const char *record_folder(void)
{
	static char path[1024];
	const char *state = getenv("LUNKIT_STATE_DIR");
	snprintf(path, sizeof(path), "%.1000s/luns", state && state[0] ? state : LUNKIT_STATEDIR);
	return path;
}

/* Records of --persist whose image is a path that is not there. */
void doctor_records(struct doctor *doctor)
{
	DIR *directory = opendir(record_folder());
	unsigned good = 0;
	if (!directory && errno == EACCES)
		doctor_add(doctor, DOCTOR_NOTE, "record", "sudo lunkit doctor", "the records of --persist can be checked by root only");
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		char path[1400], fix[1500];
		size_t length = strlen(entry->d_name);
		struct reference reference;
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		if (entry->d_name[0] == '.' || length <= 5 || strcmp(entry->d_name + length - 5, ".json") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%.255s", record_folder(), entry->d_name);
		snprintf(fix, sizeof(fix), "bring the image back, or forget it: rm %s", path);
		struct json_object *record = json_object_from_file(path);
		const char *image = json_string(record, "image", "");
		if (reference_parse(image, &reference, &err) < 0) {
			snprintf(fix, sizeof(fix), "attach the image again with --persist, or rm %s", path);
			doctor_add(doctor, DOCTOR_BROKEN, "record", fix, "the record %s is damaged: %s", path,
				   record ? err.message : "it is not JSON");
		} else if (reference_is_path(&reference) && access(doctor_path(doctor, reference.name), F_OK) < 0) {
			doctor_add(doctor, DOCTOR_BROKEN, "record", fix, "%.*s is to be attached at boot, but its image '%s' is missing",
				   (int)(length - 5), entry->d_name, reference.name);
		} else {
			good++;
		}
		json_object_put(record);
	}
	if (directory)
		closedir(directory);
	if (good)
		doctor_add(doctor, DOCTOR_OK, "record", NULL, "%u image%s attached at boot", good, good == 1 ? " is" : "s are");
}
