/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * org.lunkit1 without a kernel target: two LUNs that are made up, so that what lunkit asks and shows can be tested anywhere. Runs on the bus of
 * DBUS_SYSTEM_BUS_ADDRESS until it is killed; prints each call with its arguments on standard output.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "pool/bus.h"

struct fake {
	const char *name, *image, *device, *link, *export, *state, *reason;
	bool attached;
};

static struct fake luns[] = {
	{ "loop-1", "/images/one.raw", "/dev/sdx", "/dev/disk/by-id/wwn-0x6001", "loop naa.5001", "serving", "", false },
	{ "vhost-1", "/images/two.raw", NULL, NULL, "vhost naa.5002", "held", "its worker failed 5 times: no space", false },
};

static void lun_path(const struct fake *lun, char **ret)
{
	if (sd_bus_path_encode(BUS_LUN_PREFIX, lun->name, ret) < 0)
		abort();
}

static int append_properties(sd_bus_message *reply, const struct fake *lun)
{
	int r = sd_bus_message_open_container(reply, 'a', "{sv}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "Name", "s", lun->name, "Image", "s",
					  lun->image, "Kind", "s", "raw", "Size", "t", UINT64_C(10) << 30, "BlockSize", "u", 512u,
					  "ReadOnly", "b", 0, "Cache", "s", "none", "State", "s", lun->state, "Reason", "s", lun->reason,
					  "WorkerPid", "u", 4711u);
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "Restarts", "u", 2u, "Fabric", "s",
					  lun->device ? "loop" : "vhost", "Exports", "as", 1, lun->export, "Wwn", "s", "6001", "Serial",
					  "s", "ca73", "Persistent", "b", 1, "Notice", "s",
					  lun->device ? "buffered: O_DIRECT is refused" : "");
	if (r >= 0 && lun->device)
		r = sd_bus_message_append(reply, "{sv}{sv}", "Devices", "as", 1, lun->device, "DeviceLinks", "as", 1, lun->link);
	return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* "key=value" of each entry. */
static int print_options(sd_bus_message *call)
{
	const char *key, *contents, *text;
	int r = sd_bus_message_enter_container(call, 'a', "{sv}"), number;
	uint32_t u;
	uint64_t t;
	while (r >= 0 && (r = sd_bus_message_enter_container(call, 'e', "sv")) > 0) {
		char type;
		if (sd_bus_message_read(call, "s", &key) < 0 || sd_bus_message_peek_type(call, &type, &contents) < 0)
			return -EBADMSG;
		if (contents[0] == 's' && sd_bus_message_read(call, "v", "s", &text) >= 0)
			printf(" %s=%s", key, text);
		else if (contents[0] == 'b' && sd_bus_message_read(call, "v", "b", &number) >= 0)
			printf(" %s=%s", key, number ? "yes" : "no");
		else if (contents[0] == 'u' && sd_bus_message_read(call, "v", "u", &u) >= 0)
			printf(" %s=%u", key, u);
		else if (contents[0] == 't' && sd_bus_message_read(call, "v", "t", &t) >= 0)
			printf(" %s=%llu", key, (unsigned long long)t);
		else if (contents[0] == 'h' && sd_bus_message_read(call, "v", "h", &number) >= 0)
			printf(" %s=descriptor", key);
		r = sd_bus_message_exit_container(call);
	}
	printf("\n");
	fflush(stdout);
	return r < 0 ? r : sd_bus_message_exit_container(call);
}

static struct fake *find(const char *name)
{
	for (size_t i = 0; i < sizeof(luns) / sizeof(luns[0]); i++)
		if (strcmp(luns[i].name, name) == 0 || strcmp(luns[i].image, name) == 0 ||
		    (luns[i].device && strcmp(luns[i].device, name) == 0))
			return &luns[i];
	return NULL;
}

static int reply_path(sd_bus_message *call, const struct fake *lun)
{
	char *path;
	lun_path(lun, &path);
	int r = sd_bus_reply_method_return(call, "o", path);
	free(path);
	return r;
}

static int on_attach(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const char *image;
	(void)user;
	if (sd_bus_message_read(call, "s", &image) < 0)
		return -EBADMSG;
	printf("Attach %s", image);
	if (print_options(call) < 0)
		return -EBADMSG;
	const char *base = strrchr(image, '/');
	struct fake *lun = &luns[base && strncmp(base, "/two", 4) == 0];
	if (base && strncmp(base, "/locked", 7) == 0)
		return sd_bus_error_setf(error, BUS_ERROR_PREFIX "InUse", "image '%s' is locked\nstop the VM", image);
	if (lun->attached)
		return sd_bus_error_setf(error, BUS_ERROR_PREFIX "Exists", "'%s' is attached already as %s", image, lun->name);
	lun->attached = true;
	lun->image = strdup(image);
	return reply_path(call, lun);
}

static int on_detach(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const char *name;
	(void)user;
	if (sd_bus_message_read(call, "s", &name) < 0)
		return -EBADMSG;
	printf("Detach %s", name);
	if (print_options(call) < 0)
		return -EBADMSG;
	if (strcmp(name, "recorded") == 0) /* by attach --persist, and its image is gone */
		return sd_bus_reply_method_return(call, NULL);
	struct fake *lun = find(name);
	if (!lun || !lun->attached)
		return sd_bus_error_setf(error, BUS_ERROR_PREFIX "NotFound", "'%s' is not attached\nlunkit list shows what is", name);
	lun->attached = false;
	return sd_bus_reply_method_return(call, NULL);
}

static int on_find(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const char *name;
	(void)user;
	if (sd_bus_message_read(call, "s", &name) < 0)
		return -EBADMSG;
	struct fake *lun = find(name);
	if (!lun || !lun->attached)
		return sd_bus_error_setf(error, BUS_ERROR_PREFIX "NotFound", "no LUN '%s'", name);
	return reply_path(call, lun);
}

static int on_list(sd_bus_message *call, void *user, sd_bus_error *error)
{
	sd_bus_message *reply;
	(void)user;
	(void)error;
	int r = sd_bus_message_new_method_return(call, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "a{sv}");
	for (size_t i = 0; r >= 0 && i < sizeof(luns) / sizeof(luns[0]); i++)
		if (luns[i].attached)
			r = append_properties(reply, &luns[i]);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r >= 0)
		r = sd_bus_message_send(reply);
	sd_bus_message_unref(reply);
	return r;
}

static int on_restore(sd_bus_message *call, void *user, sd_bus_error *error)
{
	(void)user;
	(void)error;
	return sd_bus_reply_method_return(call, "asas", 1, "loop-1", 1, "cannot attach 'gone': it is missing\nbring it back");
}

static int on_status(sd_bus_message *call, void *user, sd_bus_error *error)
{
	(void)user;
	(void)error;
	return sd_bus_reply_method_return(call, "a{sv}", 8, "version", "s", LUNKIT_VERSION, "pid", "u", (uint32_t)getpid(), "start-time",
					  "t", UINT64_C(1000000), "kernel-target", "b", 1, "handlers", "as", 2, "raw", "null", "luns", "u",
					  2u, "workers", "u", 1u, "problems", "as", 1, "vhost-1 is held");
}

static int on_get_all(sd_bus_message *call, void *user, sd_bus_error *error)
{
	sd_bus_message *reply;
	(void)error;
	int r = sd_bus_message_new_method_return(call, &reply);
	if (r >= 0)
		r = append_properties(reply, user);
	if (r >= 0)
		r = sd_bus_message_send(reply);
	sd_bus_message_unref(reply);
	return r;
}

static int on_info(sd_bus_message *call, void *user, sd_bus_error *error)
{
	(void)user;
	(void)error;
	return sd_bus_reply_method_return(call, "s", "{\"kind\":\"raw\",\"virtual-size\":10737418240,\"direct-io\":true}");
}

static int on_statistics(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const struct fake *lun = user;
	if (strcmp(lun->state, "held") == 0)
		return sd_bus_error_setf(error, BUS_ERROR_PREFIX "Failed", "it has no worker");
	return sd_bus_reply_method_return(call, "s", "{\"commands\":3,\"reads\":2,\"read-bytes\":8192,\"writes\":1,\"write-bytes\":4096}");
}

static int on_resize(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const struct fake *lun = user;
	uint64_t size;
	uint32_t flags;
	(void)error;
	if (sd_bus_message_read(call, "tu", &size, &flags) < 0)
		return -EBADMSG;
	printf("Resize %s %llu %u\n", lun->name, (unsigned long long)size, flags);
	fflush(stdout);
	return sd_bus_reply_method_return(call, "t", size ? size : UINT64_C(11) << 30);
}

/* ---- jobs: each is running when it is looked at first, and at its end then; flatten runs until it is cancelled ---- */

static struct fake_job {
	const char *kind, *result, *error;
	unsigned looks;
	bool cancelled;
} jobs[32];
static unsigned job_count;

static int start_job(sd_bus_message *call, const char *kind, const char *result, const char *error)
{
	char path[64];
	fflush(stdout);
	jobs[job_count % 32] = (struct fake_job){ .kind = kind, .result = result, .error = error };
	snprintf(path, sizeof(path), BUS_JOB_PREFIX "/%u", job_count++ % 32);
	return sd_bus_reply_method_return(call, "o", path);
}

static int append_job(sd_bus_message *reply, struct fake_job *job)
{
	bool endless = strcmp(job->kind, "flatten") == 0;
	const char *state = job->cancelled ? "cancelled" : endless || job->looks++ == 0 ? "running" : job->error ? "failed" : "done";
	return sd_bus_message_append(reply, "a{sv}", 6, "Kind", "s", job->kind, "State", "s", state, "Done", "t", UINT64_C(50), "Total",
				     "t", UINT64_C(100), "Error", "s", job->error ? job->error : "", "Result", "s", job->result);
}

static int on_cancel(sd_bus_message *call, void *user, sd_bus_error *error)
{
	struct fake_job *job = user;
	(void)error;
	job->cancelled = true;
	printf("Cancel %s\n", job->kind);
	fflush(stdout);
	return sd_bus_reply_method_return(call, NULL);
}

static int on_check(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const struct fake *lun = user;
	uint32_t flags;
	if (sd_bus_message_read(call, "u", &flags) < 0)
		return -EBADMSG;
	printf("Check %s %u\n", lun->name, flags);
	if (strcmp(lun->state, "held") == 0)
		return sd_bus_error_setf(error, BUS_ERROR_PREFIX "InUse", "LUN '%s' is busy: flatten is under way\nwait", lun->name);
	return start_job(call, "check", "{\"corruptions\":0,\"leaks\":2,\"first\":\"cluster 7\"}", NULL);
}

static int write_list(sd_bus_message *call, int fd, const char *kind, const char *text)
{
	if (write(fd, text, strlen(text)) < 0)
		return -errno;
	return start_job(call, kind, "", NULL);
}

static int on_map(sd_bus_message *call, void *user, sd_bus_error *error)
{
	uint64_t offset, length;
	int fd;
	(void)user;
	(void)error;
	if (sd_bus_message_read(call, "htt", &fd, &offset, &length) < 0)
		return -EBADMSG;
	printf("Map %llu %llu\n", (unsigned long long)offset, (unsigned long long)length);
	return write_list(call, fd, "map", "[{\"offset\":0,\"length\":512,\"data\":true,\"zero\":false}]\n");
}

static int on_snapshots(sd_bus_message *call, void *user, sd_bus_error *error)
{
	int fd;
	(void)user;
	(void)error;
	if (sd_bus_message_read(call, "h", &fd) < 0)
		return -EBADMSG;
	printf("Snapshots\n");
	return write_list(call, fd, "snapshots", "[{\"name\":\"one\",\"size\":1048576,\"time\":\"2026-01-02T03:04:05Z\"}]\n");
}

static int on_snapshot(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const char *name;
	(void)user;
	(void)error;
	if (sd_bus_message_read(call, "s", &name) < 0)
		return -EBADMSG;
	printf("%s %s\n", sd_bus_message_get_member(call), name);
	return start_job(call, "snapshot", "",
			 strcmp(name, "gone") == 0 ? BUS_ERROR_PREFIX "NotFound\nthere is no snapshot \"gone\"\nlook at the list" : NULL);
}

static int on_flatten(sd_bus_message *call, void *user, sd_bus_error *error)
{
	uint64_t rate;
	(void)user;
	(void)error;
	if (sd_bus_message_read(call, "t", &rate) < 0)
		return -EBADMSG;
	printf("Flatten %llu\n", (unsigned long long)rate);
	return start_job(call, "flatten", "", NULL);
}

static int on_export(sd_bus_message *call, void *user, sd_bus_error *error)
{
	const char *target;
	int fd;
	(void)user;
	(void)error;
	if (sd_bus_message_read(call, "hs", &fd, &target) < 0 || write(fd, "disk\n", 5) != 5)
		return -EBADMSG;
	printf("Export %s", target);
	if (print_options(call) < 0)
		return -EBADMSG;
	bool fails = strstr(target, "fail");
	return start_job(call, "export", "{\"bytes-read\":5,\"bytes-written\":5}",
			 fails ? BUS_ERROR_PREFIX "NoSpace\nno space left" : NULL);
}

static const sd_bus_vtable job_methods[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Cancel", "", "", on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable manager[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Attach", "sa{sv}", "o", on_attach, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Detach", "sa{sv}", "", on_detach, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Find", "s", "o", on_find, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("List", "", "aa{sv}", on_list, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Restore", "", "asas", on_restore, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Status", "", "a{sv}", on_status, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable lun_methods[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Info", "", "s", on_info, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Statistics", "", "s", on_statistics, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Resize", "tu", "t", on_resize, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Check", "u", "o", on_check, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Map", "htt", "o", on_map, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Snapshots", "h", "o", on_snapshots, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SnapshotCreate", "s", "o", on_snapshot, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SnapshotDelete", "s", "o", on_snapshot, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("SnapshotRevert", "s", "o", on_snapshot, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Flatten", "t", "o", on_flatten, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Export", "hsa{sv}", "o", on_export, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

/* GetAll comes before sd-bus' own answer, since a filter sees it first: the properties are not declared one by one. */
static int on_message(sd_bus_message *message, void *user, sd_bus_error *error)
{
	(void)user;
	if (!sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "GetAll"))
		return 0;
	for (unsigned i = 0; i < 32 && jobs[i].kind; i++) {
		char path[64];
		sd_bus_message *reply = NULL;
		snprintf(path, sizeof(path), BUS_JOB_PREFIX "/%u", i);
		if (strcmp(path, sd_bus_message_get_path(message)) != 0)
			continue;
		int r = sd_bus_message_new_method_return(message, &reply);
		if (r >= 0)
			r = append_job(reply, &jobs[i]);
		if (r >= 0)
			r = sd_bus_message_send(reply);
		sd_bus_message_unref(reply);
		return r < 0 ? -EIO : 1;
	}
	for (size_t i = 0; i < sizeof(luns) / sizeof(luns[0]); i++) {
		char *path;
		lun_path(&luns[i], &path);
		bool same = strcmp(path, sd_bus_message_get_path(message)) == 0;
		free(path);
		if (same)
			return on_get_all(message, &luns[i], error) < 0 ? -EIO : 1;
	}
	return 0;
}

int main(void)
{
	sd_bus *bus;
	int r = sd_bus_open_system(&bus);
	if (r >= 0)
		r = sd_bus_add_filter(bus, NULL, on_message, NULL);
	if (r >= 0)
		r = sd_bus_add_object_vtable(bus, NULL, BUS_PATH, BUS_MANAGER_INTERFACE, manager, NULL);
	for (size_t i = 0; r >= 0 && i < sizeof(luns) / sizeof(luns[0]); i++) {
		char *path;
		lun_path(&luns[i], &path);
		r = sd_bus_add_object_vtable(bus, NULL, path, BUS_LUN_INTERFACE, lun_methods, &luns[i]);
		free(path);
	}
	for (unsigned i = 0; r >= 0 && i < 32; i++) {
		char path[64];
		snprintf(path, sizeof(path), BUS_JOB_PREFIX "/%u", i);
		r = sd_bus_add_object_vtable(bus, NULL, path, BUS_JOB_INTERFACE, job_methods, &jobs[i]);
	}
	if (r >= 0)
		r = sd_bus_request_name(bus, BUS_NAME, 0);
	while (r >= 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
	}
	fprintf(stderr, "fake_lunkitd: %s\n", strerror(-r));
	return 1;
}
