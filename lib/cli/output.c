/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE 0600

static void directory_of(const char *path, char *ret, size_t size)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash && slash != path ? (size_t)(slash - path) : 1;
	snprintf(ret, size, "%.*s", (int)length, path);
}

static int exists(const char *path, struct lunkit_error *err)
{
	lunkit_error_set(err, EEXIST, "cannot make '%s': it exists", path);
	return lunkit_error_hint(err, "choose another name, or remove it first; export and key backup replace it with --force");
}

int output_open(struct output *ret, const char *path, bool overwrite, struct lunkit_error *err)
{
	struct output output = { .fd = -1, .overwrite = overwrite };
	char directory[sizeof(output.path)];
	struct stat status;
	if (snprintf(output.path, sizeof(output.path), "%s", path) >= (int)sizeof(output.path) - 16)
		return lunkit_error_set(err, ENAMETOOLONG, "the path '%.200s…' is too long", path);
	if (lstat(path, &status) == 0) {
		if (!overwrite)
			return exists(path, err);
		if (!S_ISREG(status.st_mode)) {
			lunkit_error_set(err, EINVAL, "cannot replace '%s': it is no regular file", path);
			return lunkit_error_hint(err, "name a file; a device is written by: lunkit export IMAGE - | dd of=DEVICE");
		}
	}
	directory_of(path, directory, sizeof(directory));
	output.fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, MODE);
	if (output.fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		snprintf(output.partial, sizeof(output.partial), "%s.partial", output.path);
		output.fd = open(output.partial, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, MODE);
	}
	if (output.fd < 0) {
		int code = errno;
		lunkit_error_set(err, code, "cannot make '%s': %s", output.partial[0] ? output.partial : path, strerror(code));
		return code == ENOENT	? lunkit_error_hint(err, "make its folder first")
		       : code == EEXIST ? lunkit_error_hint(err, "it is left of an export that was killed, or one goes on; remove it then")
					: -code;
	}
	*ret = output;
	return 0;
}

/* linkat() never replaces, so a file that is to be replaced gets a name beside it first. */
static int give_name(struct output *output)
{
	char self[32];
	if (!output->partial[0]) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", output->fd);
		if (!output->overwrite)
			return linkat(AT_FDCWD, self, AT_FDCWD, output->path, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
		snprintf(output->partial, sizeof(output->partial), "%s.partial", output->path);
		if (linkat(AT_FDCWD, self, AT_FDCWD, output->partial, AT_SYMLINK_FOLLOW) < 0) {
			int code = errno;
			output->partial[0] = '\0'; /* that one is not ours */
			return -code;
		}
	}
	if (output->overwrite)
		return rename(output->partial, output->path) < 0 ? -errno : 0;
	if (renameat2(AT_FDCWD, output->partial, AT_FDCWD, output->path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* a filesystem without RENAME_NOREPLACE */
	if (link(output->partial, output->path) < 0)
		return -errno;
	unlink(output->partial);
	return 0;
}

int output_finish(struct output *output, struct lunkit_error *err)
{
	char directory[sizeof(output->path)];
	int r = fsync(output->fd) < 0 ? -errno : give_name(output);
	if (r < 0) {
		if (r == -EEXIST)
			exists(output->path, err);
		else
			lunkit_error_set(err, r, "cannot make '%s': %s", output->path, strerror(-r));
		output_drop(output);
		return r;
	}
	output->partial[0] = '\0';
	directory_of(output->path, directory, sizeof(directory));
	int folder = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder >= 0) {
		fsync(folder); /* a filesystem that can't has done it by now, or never does */
		close(folder);
	}
	output_drop(output);
	return 0;
}

void output_drop(struct output *output)
{
	if (output->fd >= 0)
		close(output->fd);
	if (output->partial[0])
		unlink(output->partial);
	output->fd = -1;
	output->partial[0] = '\0';
}
