/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "target/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/parse.h"
#include "target/path.h"

const struct target_root target_root_system = {
	.configfs = "/sys/kernel/config/target",
	.sys = "/sys",
	.dev = "/dev",
	.proc = "/proc",
	.numbers_lock = "/run/rtslib_backstore.lock",
};

static int read_path(const char *path, char *ret, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	size_t used = 0;
	while (used < size) {
		ssize_t got = read(fd, ret + used, size - used);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			int code = errno;
			close(fd);
			return -code;
		}
		if (got == 0)
			break;
		used += (size_t)got;
	}
	close(fd);
	if (used == size)
		return -ENOBUFS;
	while (used && strchr(" \t\r\n", ret[used - 1]))
		used--;
	ret[used] = '\0';
	return (int)used;
}

int file_read(char *ret, size_t size, const char *format, ...)
{
	PATH_FROM(path, format);
	char text[4097];
	int length = read_path(path, text, sizeof(text));
	if (length < 0)
		return length;
	if ((size_t)length >= size)
		return -ENOBUFS;
	memcpy(ret, text, (size_t)length + 1);
	return length;
}

int file_read_u64(uint64_t *ret, const char *format, ...)
{
	PATH_FROM(path, format);
	char text[32];
	int length = read_path(path, text, sizeof(text));
	return length < 0 ? length : parse_u64(text, ret);
}

int file_write(const char *text, const char *format, ...)
{
	PATH_FROM(path, format);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t written;
	do
		written = write(fd, text, strlen(text));
	while (written < 0 && errno == EINTR);
	int code = written < 0 ? errno : 0;
	close(fd);
	return -code;
}

bool file_exists(const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;
	va_start(args, format);
	int length = vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	return length > 0 && (size_t)length < sizeof(path) && access(path, F_OK) == 0;
}

int folder_make(const char *format, ...)
{
	PATH_FROM(path, format);
	return mkdir(path, 0755) < 0 ? -errno : 0;
}

int folder_remove(const char *format, ...)
{
	PATH_FROM(path, format);
	return rmdir(path) < 0 ? -errno : 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int names_read(struct names *ret, const char *format, ...)
{
	PATH_FROM(path, format);
	DIR *folder = opendir(path);
	if (!folder)
		return -errno;
	struct names names = { 0 };
	int r = 0;
	for (;;) {
		errno = 0;
		const struct dirent *entry = readdir(folder);
		if (!entry) {
			r = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = names_add(&names, entry->d_name);
		if (r < 0)
			break;
	}
	closedir(folder);
	if (r < 0) {
		names_free(&names);
		return r;
	}
	if (names.count)
		qsort(names.items, names.count, sizeof(*names.items), compare_names);
	*ret = names;
	return 0;
}

int names_add(struct names *names, const char *name)
{
	char **items = reallocarray(names->items, names->count + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	names->items = items;
	items[names->count] = strdup(name);
	if (!items[names->count])
		return -ENOMEM;
	names->count++;
	return 0;
}

bool names_contain(const struct names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->items[i], name) == 0)
			return true;
	return false;
}

void names_remove(struct names *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (strcmp(names->items[i], name) == 0) {
			free(names->items[i]);
			memmove(&names->items[i], &names->items[i + 1], (names->count - i - 1) * sizeof(*names->items));
			names->count--;
			return;
		}
}

void names_free(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i]);
	free(names->items);
	*names = (struct names){ 0 };
}

int module_load(const struct target_root *root, const char *module, struct lunkit_error *err)
{
	if (file_exists("%s/module/%s", root->sys, module))
		return 0;
	char *argv[] = { (char *)"modprobe", (char *)"-q", (char *)module, NULL };
	char *environment[] = { (char *)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	static const char *const programs[] = { "/usr/sbin/modprobe", "/sbin/modprobe", "/usr/bin/modprobe" };
	pid_t pid = -1;
	int code = ENOENT;
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]) && code == ENOENT; i++)
		code = posix_spawn(&pid, programs[i], NULL, NULL, argv, environment);
	int status = -1;
	if (code == 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	if (code == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	lunkit_error_set(err, ENODEV, "this kernel's module '%s' is not there and can't be loaded", module);
	return lunkit_error_hint(
		err, "use the distribution's kernel (package linux-image-amd64; the cloud kernel may lack it) and install kmod");
}
