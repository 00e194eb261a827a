/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Who serves: lunkitd, who is in its way, and what it needs around it. */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/doctor.h"
#include "cli/offline.h"
#include "host/process.h"
#include "pool/bus.h"

#define FILES_PER_LUN 12 /* lunkitd's: uio, image, socket, pidfd, the worker's start, and room */

/* The first process whose name is comm, or 0. */
static pid_t find_process(const struct doctor *doctor, const char *comm)
{
	DIR *directory = opendir(doctor_path(doctor, "/proc"));
	pid_t found = 0;
	for (struct dirent *entry; directory && !found && (entry = readdir(directory));) {
		char path[300], name[64];
		snprintf(path, sizeof(path), "/proc/%.200s/comm", entry->d_name);
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' && doctor_read_line(doctor, path, name, sizeof(name)) &&
		    strcmp(name, comm) == 0)
			found = (pid_t)atoi(entry->d_name);
	}
	if (directory)
		closedir(directory);
	return found;
}

/* "unreachable" and "refuses us" differ in what to do about them. */
static void explain_silence(struct doctor *doctor)
{
	struct json_object *status = NULL;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	pid_t pid = find_process(doctor, "lunkitd");
	int r = doctor->bus.bus ? bus_status(&doctor->bus, &status, &err) : -ENOTCONN;
	json_object_put(status);
	if (!doctor->bus.bus)
		doctor_add(doctor, DOCTOR_BROKEN, "lunkitd", "systemctl start dbus", "there is no system D-Bus to reach lunkitd by");
	else if (r == -EACCES)
		doctor_add(doctor, DOCTOR_NOTE, "lunkitd", err.hint, "%s: what only it knows is not checked", err.message);
	else if (pid)
		doctor_add(doctor, DOCTOR_BROKEN, "lunkitd", "journalctl -u lunkitd; systemctl restart lunkitd",
			   "lunkitd runs (pid %d) but does not answer: %s", (int)pid, err.message);
	else
		doctor_add(doctor, DOCTOR_BROKEN, "lunkitd", "systemctl enable --now lunkitd", "lunkitd does not run");
}

void doctor_daemon(struct doctor *doctor)
{
	if (!doctor->running) {
		explain_silence(doctor);
		return;
	}
	const char *version = json_string(doctor->daemon, "version", "?"), *problem;
	if (strcmp(version, LUNKIT_VERSION) == 0)
		doctor_add(doctor, DOCTOR_OK, "lunkitd", NULL, "lunkitd %s runs, with %" PRIu64 " LUN%s", version,
			   json_number(doctor->daemon, "luns"), json_number(doctor->daemon, "luns") == 1 ? "" : "s");
	else
		doctor_add(doctor, DOCTOR_NOTE, "lunkitd", "systemctl restart lunkitd", "lunkitd is of version %s, lunkit of %s", version,
			   LUNKIT_VERSION);
	if (!json_is_true(doctor->daemon, "kernel-target"))
		doctor_add(doctor, DOCTOR_BROKEN, "lunkitd", "journalctl -u lunkitd", "lunkitd has no connection to the kernel target");
	for (size_t i = 0; (problem = json_string_at(doctor->daemon, "problems", i)); i++) {
		char text[1024];
		snprintf(text, sizeof(text), "%s", problem);
		char *fix = strchr(text, '\n');
		if (fix)
			*fix++ = '\0';
		doctor_add(doctor, DOCTOR_NOTE, "problem", fix ? fix : "journalctl -u lunkitd", "lunkitd says: %s", text);
	}
	for (size_t i = 0; i < json_object_array_length(doctor->luns); i++) {
		struct json_object *lun = json_object_array_get_idx(doctor->luns, i);
		char fix[256];
		const char *name = json_string(lun, "name", "?");
		if (strcmp(json_string(lun, "state", ""), "held") != 0)
			continue;
		snprintf(fix, sizeof(fix), "mend the cause, then lunkit detach %.64s and attach the image again", name);
		doctor_add(doctor, DOCTOR_BROKEN, "held", fix, "LUN %s is held: %s", name,
			   json_string(lun, "reason", "no reason is given"));
	}
}

void doctor_conflicts(struct doctor *doctor)
{
	pid_t pid = find_process(doctor, "tcmu-runner");
	if (pid)
		doctor_add(doctor, DOCTOR_BROKEN, "tcmu-runner", "systemctl disable --now tcmu-runner",
			   "tcmu-runner runs (pid %d): it and lunkitd answer each other's kernel events, so only one of them may",
			   (int)pid);
	else
		doctor_add(doctor, DOCTOR_OK, "tcmu-runner", NULL, "no tcmu-runner is in the way");
}

/* Whom lunkitd's workers become when its configuration names nobody else. */
static void check_user(struct doctor *doctor)
{
	if (!getpwnam("lunkit"))
		doctor_add(doctor, DOCTOR_NOTE, "user", "systemd-sysusers",
			   "there is no user lunkit: workers run as nobody, unless worker-user in lunkit.conf names one");
	if (!getgrnam("lunkit"))
		doctor_add(doctor, DOCTOR_NOTE, "group", "systemd-sysusers", "there is no group lunkit: only root may attach");
}

void doctor_permissions(struct doctor *doctor)
{
	check_user(doctor);
	struct group *group = getgrnam("lunkit");
	gid_t groups[NGROUPS_MAX];
	int count = getgroups(NGROUPS_MAX, groups);
	bool member = false;
	for (int i = 0; group && i < count; i++)
		member = member || groups[i] == group->gr_gid;
	if (geteuid() == 0)
		doctor_add(doctor, DOCTOR_OK, "permission", NULL, "you are root: you may attach and detach");
	else if (member || (group && getegid() == group->gr_gid))
		doctor_add(doctor, DOCTOR_OK, "permission", NULL, "you are in group lunkit: you may attach and detach");
	else
		doctor_add(doctor, DOCTOR_NOTE, "permission", "sudo, or usermod -aG lunkit USER and log in again",
			   "you are neither root nor in group lunkit: you may create, resize and look at images, but not attach them");
}

void doctor_handlers(struct doctor *doctor)
{
	struct worker_config config;
	worker_config_default(&config);
	DIR *directory = opendir(config.handlers);
	unsigned good = 0;
	for (struct dirent *entry; directory && (entry = readdir(directory));) {
		char kind[REFERENCE_KIND_MAX];
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		struct json_object *description = NULL;
		size_t length = strlen(entry->d_name);
		if (length <= 3 || strcmp(entry->d_name + length - 3, ".so") != 0 || length - 3 >= sizeof(kind))
			continue;
		snprintf(kind, sizeof(kind), "%.*s", (int)(length - 3), entry->d_name);
		if (offline_describe(kind, &description, &err) == 0) {
			good++;
			doctor_add(doctor, DOCTOR_OK, "handler", NULL, "handler %s: %s", kind, json_string(description, "description", ""));
		} else {
			doctor_add(doctor, DOCTOR_BROKEN, "handler", err.hint[0] ? err.hint : "install the handler's package again",
				   "handler %s can't be used: %s", kind, err.message);
		}
		json_object_put(description);
	}
	if (directory)
		closedir(directory);
	if (!good)
		doctor_add(doctor, DOCTOR_BROKEN, "handler", "install lunkit completely", "there is no usable handler in %s",
			   config.handlers);
}

void doctor_targetcli(struct doctor *doctor)
{
	static const char *const places[] = { "/usr/bin/targetcli", "/usr/sbin/targetcli", "/usr/local/bin/targetcli" };
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (access(doctor_path(doctor, places[i]), X_OK) == 0) {
			doctor_add(doctor, DOCTOR_OK, "targetcli", NULL, "targetcli is installed");
			return;
		}
	doctor_add(doctor, DOCTOR_NOTE, "targetcli", "apt install targetcli-fb",
		   "targetcli is not installed: iSCSI exports need it, disks of this host don't");
}

void doctor_limits(struct doctor *doctor)
{
	char path[64], line[256];
	unsigned long soft = 0;
	pid_t pid = doctor->running ? (pid_t)json_number(doctor->daemon, "pid") : 0;
	if (pid <= 0)
		return;
	snprintf(path, sizeof(path), "/proc/%d/limits", (int)pid);
	FILE *file = fopen(doctor_path(doctor, path), "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Max open files %lu", &soft) == 1)
			break;
	if (file)
		fclose(file);
	if (!soft)
		return;
	uint64_t luns = json_number(doctor->daemon, "luns");
	if (soft < FILES_PER_LUN * (luns + 8))
		doctor_add(doctor, DOCTOR_NOTE, "limits", "systemctl edit lunkitd, and set LimitNOFILE= in [Service]",
			   "lunkitd may open %lu files, which is little for %" PRIu64 " LUNs", soft, luns);
	else
		doctor_add(doctor, DOCTOR_OK, "limits", NULL, "lunkitd may open %lu files, enough for %lu LUNs", soft,
			   soft / FILES_PER_LUN);
}
