/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "target/disk.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/parse.h"
#include "target/call.h"

int disk_find(const struct target_root *root, const struct export *export, char ret[static DISK_NAME_MAX])
{
	if (!export->address[0])
		return -ENOENT;
	struct names disks;
	int r = names_read(&disks, "%s/bus/scsi/devices/%s:%u/block", root->sys, export->address, export->lun);
	if (r < 0)
		return r;
	r = -ENOENT;
	if (disks.count && strlen(disks.items[0]) < DISK_NAME_MAX) {
		strcpy(ret, disks.items[0]);
		r = 0;
	}
	names_free(&disks);
	return r;
}

int disk_links(const struct target_root *root, const char *disk, struct names *ret)
{
	struct names all, links = { 0 };
	int r = names_read(&all, "%s/disk/by-id", root->dev);
	if (r == -ENOENT) {
		*ret = links;
		return 0;
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < all.count && r == 0; i++) {
		char path[PATH_MAX], target[PATH_MAX];
		if (snprintf(path, sizeof(path), "%s/disk/by-id/%s", root->dev, all.items[i]) >= (int)sizeof(path))
			continue;
		ssize_t length = readlink(path, target, sizeof(target) - 1);
		if (length <= 0)
			continue;
		target[length] = '\0';
		const char *slash = strrchr(target, '/');
		if (strcmp(slash ? slash + 1 : target, disk) == 0)
			r = names_add(&links, all.items[i]);
	}
	names_free(&all);
	if (r < 0) {
		names_free(&links);
		return r;
	}
	*ret = links;
	return 0;
}

int disk_size(const struct target_root *root, const char *disk, uint64_t *ret)
{
	uint64_t sectors, bytes;
	int r = file_read_u64(&sectors, "%s/class/block/%s/size", root->sys, disk);
	if (r < 0)
		return r;
	if (!checked_mul(sectors, 512, &bytes))
		return -ERANGE;
	*ret = bytes;
	return 0;
}

int disk_rescan(const struct target_root *root, const char *disk)
{
	return call_write(root, "1", "%s/class/block/%s/device/rescan", root->sys, disk);
}

int disk_scan(const struct target_root *root, const struct export *export)
{
	unsigned host, channel, target;
	char text[48];
	if (sscanf(export->address, "%u:%u:%u", &host, &channel, &target) != 3)
		return -ENXIO;
	snprintf(text, sizeof(text), "%u %u %u", channel, target, export->lun);
	return call_write(root, text, "%s/class/scsi_host/host%u/scan", root->sys, host);
}

int disk_flush(int fd)
{
	if (fsync(fd) < 0)
		return -errno;
	ioctl(fd, BLKFLSBUF, 0);
	return 0;
}

int disk_set_offline(const struct target_root *root, const char *disk)
{
	return call_write(root, "offline", "%s/class/block/%s/device/state", root->sys, disk);
}

/* A flush that may never return: its thread and whoever waits for it share this, and the last one frees it. */
struct flush {
	pthread_mutex_t lock;
	pthread_cond_t done;
	int fd, result;
	bool finished, abandoned;
};

static void flush_free(struct flush *flush)
{
	pthread_mutex_destroy(&flush->lock);
	pthread_cond_destroy(&flush->done);
	close(flush->fd);
	free(flush);
}

static void *flush_main(void *argument)
{
	struct flush *flush = argument;
	int result = disk_flush(flush->fd);
	pthread_mutex_lock(&flush->lock);
	flush->result = result;
	flush->finished = true;
	bool abandoned = flush->abandoned;
	pthread_cond_signal(&flush->done);
	pthread_mutex_unlock(&flush->lock);
	if (abandoned)
		flush_free(flush);
	return NULL;
}

static struct flush *flush_new(const struct target_root *root, const char *disk)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", root->dev, disk);
	struct flush *flush = calloc(1, sizeof(*flush));
	if (!flush)
		return NULL;
	flush->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (flush->fd < 0) {
		free(flush);
		return NULL;
	}
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&flush->done, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&flush->lock, NULL);
	return flush;
}

int disk_try_flush(const struct target_root *root, const char *disk, unsigned seconds)
{
	struct flush *flush = flush_new(root, disk);
	pthread_t thread;
	if (!flush)
		return -ENODEV;
	if (pthread_create(&thread, NULL, flush_main, flush)) {
		flush_free(flush);
		return -EAGAIN;
	}
	pthread_detach(thread);
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += seconds;
	pthread_mutex_lock(&flush->lock);
	int code = 0;
	while (!flush->finished && code == 0)
		code = pthread_cond_timedwait(&flush->done, &flush->lock, &until);
	bool finished = flush->finished;
	int result = finished ? flush->result : -ETIMEDOUT;
	flush->abandoned = !finished;
	pthread_mutex_unlock(&flush->lock);
	if (finished)
		flush_free(flush);
	return result;
}

/* Device numbers of the disk and its partitions. */
#define DISK_PARTS_MAX 129
struct disk_parts {
	dev_t numbers[DISK_PARTS_MAX];
	char names[DISK_PARTS_MAX][DISK_NAME_MAX];
	size_t count;
};

static void parts_add(const struct target_root *root, struct disk_parts *parts, const char *folder, const char *name)
{
	char text[32];
	unsigned major_number, minor_number;
	if (parts->count == DISK_PARTS_MAX || strlen(name) >= DISK_NAME_MAX ||
	    file_read(text, sizeof(text), "%s/class/block/%s/dev", root->sys, folder) < 0 ||
	    sscanf(text, "%u:%u", &major_number, &minor_number) != 2)
		return;
	strcpy(parts->names[parts->count], name);
	parts->numbers[parts->count++] = makedev(major_number, minor_number);
}

static void parts_read(const struct target_root *root, const char *disk, struct disk_parts *ret)
{
	ret->count = 0;
	parts_add(root, ret, disk, disk);
	struct names children;
	if (names_read(&children, "%s/class/block/%s", root->sys, disk) < 0)
		return;
	for (size_t i = 0; i < children.count; i++)
		if (strncmp(children.items[i], disk, strlen(disk)) == 0)
			parts_add(root, ret, children.items[i], children.items[i]);
	names_free(&children);
}

static const char *parts_find(const struct disk_parts *parts, dev_t number)
{
	for (size_t i = 0; i < parts->count; i++)
		if (parts->numbers[i] == number)
			return parts->names[i];
	return NULL;
}

/* A mount of one of the parts in this process's mount namespace. */
static int check_mounts(const struct target_root *root, const struct disk_parts *parts, struct lunkit_error *err)
{
	char path[PATH_MAX], *line = NULL;
	size_t size = 0;
	int r = 0;
	snprintf(path, sizeof(path), "%s/self/mountinfo", root->proc);
	FILE *file = fopen(path, "re");
	while (file && r == 0 && getline(&line, &size, file) > 0) {
		unsigned major_number, minor_number;
		char where[512];
		if (sscanf(line, "%*u %*u %u:%u %*s %511s", &major_number, &minor_number, where) != 3)
			continue;
		const char *part = parts_find(parts, makedev(major_number, minor_number));
		if (!part)
			continue;
		lunkit_error_set(err, EBUSY, "/dev/%s is mounted on %s", part, where);
		r = lunkit_error_hint(err, "unmount it first: umount %.200s", where);
	}
	free(line);
	if (file)
		fclose(file);
	return r;
}

static int check_holders(const struct target_root *root, const struct disk_parts *parts, struct lunkit_error *err)
{
	for (size_t i = 0; i < parts->count; i++) {
		struct names holders;
		if (names_read(&holders, "%s/class/block/%s/holders", root->sys, parts->names[i]) < 0)
			continue;
		if (holders.count) {
			lunkit_error_set(err, EBUSY, "/dev/%s is used by /dev/%s (LVM, RAID or device-mapper)", parts->names[i],
					 holders.items[0]);
			names_free(&holders);
			return lunkit_error_hint(err, "deactivate what is built on it first (vgchange -an, dmsetup remove, mdadm --stop)");
		}
		names_free(&holders);
	}
	return 0;
}

/* Whether an open file of a process may write. */
static bool opened_for_writing(const struct target_root *root, const char *pid, const char *fd)
{
	char text[1024];
	unsigned flags;
	if (file_read(text, sizeof(text), "%s/%s/fdinfo/%s", root->proc, pid, fd) < 0)
		return false;
	const char *line = strstr(text, "flags:");
	return line && sscanf(line, "flags: %o", &flags) == 1 && (flags & O_ACCMODE) != O_RDONLY;
}

/* The part that one process has open for writing, or NULL. */
static const char *process_holds(const struct target_root *root, const char *pid, const struct disk_parts *parts)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s/fd", root->proc, pid);
	DIR *folder = opendir(path);
	if (!folder)
		return NULL;
	const char *held = NULL;
	const struct dirent *entry;
	while (!held && (entry = readdir(folder))) {
		char target[PATH_MAX];
		ssize_t length = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target) - 1);
		/* only what lives in /dev is looked at closer: stat() on a file of a dead network file system would hang */
		if (length < 5 || strncmp(target, "/dev/", 5) != 0)
			continue;
		struct stat status;
		const char *part = NULL;
		if (fstatat(dirfd(folder), entry->d_name, &status, 0) == 0 && S_ISBLK(status.st_mode))
			part = parts_find(parts, status.st_rdev);
		if (part && opened_for_writing(root, pid, entry->d_name))
			held = part;
	}
	closedir(folder);
	return held;
}

/* A program that only reads (udev's probes do, at any time) loses nothing when the disk goes; one that may write could. */
static int check_open(const struct target_root *root, const struct disk_parts *parts, struct lunkit_error *err)
{
	struct names processes;
	if (names_read(&processes, "%s", root->proc) < 0)
		return 0;
	int r = 0;
	for (size_t i = 0; i < processes.count && r == 0; i++) {
		const char *pid = processes.items[i];
		const char *part = isdigit((unsigned char)pid[0]) ? process_holds(root, pid, parts) : NULL;
		if (!part)
			continue;
		char name[64] = "?";
		file_read(name, sizeof(name), "%s/%s/comm", root->proc, pid);
		lunkit_error_set(err, EBUSY, "/dev/%s is open for writing in %s (process %s)", part, name, pid);
		r = lunkit_error_hint(err, "end that program first");
	}
	names_free(&processes);
	return r;
}

int disk_claim(const struct target_root *root, const char *disk, int *ret_fd, struct lunkit_error *err)
{
	struct disk_parts parts;
	parts_read(root, disk, &parts);
	int r = check_mounts(root, &parts, err);
	if (r == 0)
		r = check_holders(root, &parts, err);
	if (r == 0)
		r = check_open(root, &parts, err);
	if (r < 0)
		return r;
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", root->dev, disk);
	int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	for (int attempt = 0; fd < 0 && errno == EBUSY && attempt < 20; attempt++) { /* a probe of udev's */
		usleep(50000);
		fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	}
	if (fd < 0 && errno == EBUSY) {
		lunkit_error_set(err, EBUSY, "/dev/%s is in use (swap, a mount in another namespace, LVM or RAID)", disk);
		return lunkit_error_hint(err, "see `lsblk /dev/%s` and `cat /proc/swaps`", disk);
	}
	if (fd < 0)
		return lunkit_error_set(err, errno, "cannot open /dev/%s: %s", disk, strerror(errno));
	*ret_fd = fd;
	return 0;
}
