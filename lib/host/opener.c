/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Opening paths for a worker. This runs with the starter's rights (root in lunkitd) for a process that may have been taken over by an image, so it trusts
 * nothing of the request but compares it with the policy: the path, byte for byte, and what may be done to it; files that it may read besides, by where
 * they lie. Symbolic links were resolved when the user
 * named the image; one that appears later is refused (openat2, RESOLVE_NO_SYMLINKS), so that whoever can write the folder can't lead us elsewhere. Names of
 * devices below /dev are links that only root makes; they are followed, and have to end at a block device.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/path.h"
#include "host/process.h"

/* LUNKIT_FILE_* of handler.h, which this layer does not see. */
#define FILE_WRITE 1u
#define FILE_DIRECT 2u
#define FILE_CREATE 4u
#define FILE_DSYNC 8u
#define FILE_KNOWN 31u

static int open_resolved(const char *path, int flags, mode_t mode)
{
	struct open_how how = { .flags = (unsigned)flags, .mode = flags & O_CREAT ? mode : 0, .resolve = RESOLVE_NO_MAGICLINKS };
	bool device = path_is_device_name(path);
	if (!device)
		how.resolve |= RESOLVE_NO_SYMLINKS;
	int fd = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	if (fd < 0 && errno == ENOSYS)
		fd = open(path, flags | (device ? 0 : O_NOFOLLOW), mode);
	return fd;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFCHR:
		return "a character device";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFLNK:
		return "a symbolic link";
	default:
		return "neither a file nor a block device";
	}
}

static int explain_open_failure(const char *path, int code, uint32_t flags, struct lunkit_error *err)
{
	if (code == EISDIR) {
		lunkit_error_set(err, code, "cannot open image '%s': it is a directory", path);
		return lunkit_error_hint(err, "name a file in it");
	}
	if (code == ENXIO) {
		lunkit_error_set(err, EINVAL, "cannot open image '%s': it is a socket, a pipe or a device without a medium", path);
		return lunkit_error_hint(err, "name a regular file or a block device");
	}
	lunkit_error_set(err, code, "cannot %s image '%s': %s", flags & FILE_CREATE ? "create" : "open", path, strerror(code));
	switch (code) {
	case ENOENT:
		return flags & FILE_CREATE ? lunkit_error_hint(err, "make its folder first")
					   : lunkit_error_hint(err, "make it with: lunkit create '%.150s' --size SIZE", path);
	case EEXIST:
		return lunkit_error_hint(err, "choose another name, or remove the file first");
	case EACCES:
	case EPERM:
		return lunkit_error_hint(err, "check the permissions of the file and of the folders above it");
	case EROFS:
		return lunkit_error_hint(err, "the filesystem is mounted read-only: open the image with --read-only");
	case ETXTBSY:
		return lunkit_error_hint(err, "a program is running from it, or it is in use as swap");
	case ELOOP:
		return lunkit_error_hint(err, "a symbolic link has appeared in the path since it was named: name the file again");
	default:
		return -code;
	}
}

static bool is_sibling(const char *path, const char *image)
{
	const char *slash = strrchr(image, '/'), *other = strrchr(path, '/');
	return slash && *image == '/' && other - path == slash - image && strncmp(path, image, (size_t)(slash - image)) == 0;
}

/* What an overlay may read below itself. A device's folder is /dev: what lies beside it there are other people's disks. */
static bool may_read(const struct opener_policy *policy, const char *path)
{
	if (!policy->path || !path_is_plain(path))
		return false;
	if (!policy->no_siblings && !path_is_device_name(policy->path) && is_sibling(path, policy->path))
		return true;
	for (const char *const *directory = policy->directories; directory && *directory; directory++)
		if (path_is_below(path, *directory))
			return true;
	return false;
}

static bool is_config(const struct opener_policy *policy, const char *path)
{
	for (const char *const *folder = policy->config; folder && *folder; folder++)
		if (path_is_below(path, *folder))
			return true;
	return false;
}

static int open_config(const char *path, int *ret_fd, struct lunkit_error *err)
{
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &status) < 0) {
		int code = errno;
		if (fd >= 0)
			close(fd);
		return lunkit_error_set(err, code, "cannot read '%s': %s", path, strerror(code));
	}
	if (!S_ISREG(status.st_mode)) {
		close(fd);
		return lunkit_error_set(err, EINVAL, "cannot read '%s': it is %s", path,
					S_ISBLK(status.st_mode) ? "a device" : type_name(status.st_mode));
	}
	*ret_fd = fd;
	return 0;
}

/*
 * A block device that is to be written is claimed for us alone: nobody may write below a mounted filesystem or a volume manager, and neither may be set
 * up on it while it is an image. The claim belongs to the opening, so *fd is replaced. -EAGAIN, as for a lock: the last I/O of a worker that has died may hold it yet.
 */
static int claim_device(const char *path, int mode, int *fd, struct lunkit_error *err)
{
	char self[32];
	snprintf(self, sizeof(self), "/proc/self/fd/%d", *fd);
	int claimed = open(self, mode | O_EXCL);
	if (claimed < 0 && errno == EBUSY) {
		lunkit_error_set(err, EAGAIN, "device '%s' is in use: it is mounted, or part of another device", path);
		return lunkit_error_hint(err, "lsblk '%.200s' shows by what; unmount it first, or use --read-only", path);
	}
	if (claimed < 0)
		return lunkit_error_set(err, errno, "cannot claim device '%s': %s", path, strerror(errno));
	close(*fd);
	*fd = claimed;
	return 0;
}

/* A worker that makes an image has no business with a file that was there before. */
static bool was_created(const struct opener_policy *policy)
{
	return policy->ret_created && *policy->ret_created;
}

/*
 * Whoever may write the folder may give the image's name to another file at any time. A disk in use would then have other contents all at once, under the filesystem that is
 * mounted from it.
 */
static int check_identity(const struct opener_policy *policy, int fd, struct lunkit_error *err)
{
	struct statx status;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_BTIME, &status) < 0)
		return lunkit_error_set(err, errno, "cannot look at image '%s': %s", policy->path, strerror(errno));
	if (!S_ISREG(status.stx_mode) || !(status.stx_mask & STATX_BTIME))
		return 0;
	const struct opener_identity *old = policy->identity;
	struct opener_identity new = {
		.known = true,
		.inode = status.stx_ino,
		.birth_seconds = status.stx_btime.tv_sec,
		.birth_ns = status.stx_btime.tv_nsec,
	};
	if (!old->known)
		*policy->identity = new;
	else if (old->inode != new.inode || old->birth_seconds != new.birth_seconds || old->birth_ns != new.birth_ns) {
		lunkit_error_set(err, ESTALE, "'%s' is another file now than the one that was attached", policy->path);
		return lunkit_error_hint(err, "put the file that was attached back, or detach it");
	}
	return 0;
}

/* Opens by policy; *ret_flags are those of the request that hold for the fd. */
static int opener_open(const struct opener_policy *policy, const struct protocol_open *request, int *ret_fd, uint32_t *ret_flags,
		       struct lunkit_error *err)
{
	uint32_t flags = request->flags;
	bool write = flags & (FILE_WRITE | FILE_CREATE);
	bool is_image = policy->path && strcmp(request->path, policy->path) == 0;
	if (!is_image && !write && is_config(policy, request->path)) {
		*ret_flags = 0;
		return open_config(request->path, ret_fd, err);
	}
	if (!is_image && policy->config) {
		lunkit_error_set(err, EACCES, "cannot open '%s': it is not a file that belongs to this image", request->path);
		return lunkit_error_hint(err, "name the file itself, as an absolute path, in an option of the image");
	}
	if (!is_image && (write || !may_read(policy, request->path))) {
		lunkit_error_set(err, EACCES, "cannot open '%s': it is not a file of this image", request->path);
		return lunkit_error_hint(err,
					 "besides the image itself, only files in its folder may be read, and those in folders that the "
					 "configuration allows for backing files");
	}
	if ((flags & ~FILE_KNOWN) || (write && !policy->may_write) || ((flags & FILE_CREATE) && !policy->may_create))
		return lunkit_error_set(err, EACCES, "cannot open '%s': the image was not opened for that", request->path);

	if (policy->may_create && write && !(flags & FILE_CREATE) && !was_created(policy)) {
		lunkit_error_set(err, EEXIST, "cannot write '%s': it was there before", request->path);
		return lunkit_error_hint(err, "choose another name, or remove the file first");
	}

	/* O_NONBLOCK: a pipe must not hold us up */
	int mode = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (flags & FILE_CREATE ? O_CREAT | O_EXCL : 0) |
		   (flags & FILE_DSYNC ? O_DSYNC : 0);
	int fd = open_resolved(request->path, mode | (flags & FILE_DIRECT ? O_DIRECT : 0), 0600);
	if (fd < 0 && errno == EINVAL && (flags & FILE_DIRECT)) {
		flags &= ~FILE_DIRECT;
		if (flags & FILE_CREATE)
			unlink(request->path); /* some filesystems create the file and then refuse O_DIRECT; O_EXCL says that it was ours */
		fd = open_resolved(request->path, mode, 0600);
	}
	if (fd < 0)
		return explain_open_failure(request->path, errno, flags, err);
	if (policy->ret_created && (flags & FILE_CREATE))
		*policy->ret_created = true;

	struct stat status;
	int r = 0;
	if (fstat(fd, &status) < 0)
		r = lunkit_error_set(err, errno, "cannot look at image '%s': %s", request->path, strerror(errno));
	else if (!S_ISBLK(status.st_mode) && (!S_ISREG(status.st_mode) || path_is_device_name(request->path))) {
		lunkit_error_set(err, S_ISDIR(status.st_mode) ? EISDIR : EINVAL, "cannot open image '%s': it is %s", request->path,
				 type_name(status.st_mode));
		r = lunkit_error_hint(err, "name a regular file or a block device");
	} else if (S_ISBLK(status.st_mode) && write && (r = claim_device(request->path, mode, &fd, err)) < 0) {
		/* said already */
	} else if (is_image && policy->identity && (r = check_identity(policy, fd, err)) < 0) {
		/* said already */
	} else if (fcntl(fd, F_SETFL, flags & FILE_DIRECT ? O_DIRECT : 0) < 0) {
		r = lunkit_error_set(err, errno, "cannot use image '%s': %s", request->path, strerror(errno));
	}
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	*ret_flags = flags;
	return 0;
}

static int opener_remove(const struct opener_policy *policy, const struct protocol_open *request, struct lunkit_error *err)
{
	if (!policy->path || strcmp(request->path, policy->path) != 0 || !policy->may_create || !was_created(policy))
		return lunkit_error_set(err, EACCES, "cannot remove '%s': it was not made by this worker", request->path);
	if (unlink(request->path) < 0)
		return lunkit_error_set(err, errno, "cannot remove '%s': %s", request->path, strerror(errno));
	if (policy->ret_created)
		*policy->ret_created = false;
	return 0;
}

void opener_handle(const struct opener_policy *policy, const struct protocol_packet *request, struct protocol_packet *ret_answer)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int fd = -1;
	uint32_t flags = 0;
	int r = request->message.type == PROTOCOL_REMOVE ? opener_remove(policy, &request->message.open, &err)
							 : opener_open(policy, &request->message.open, &fd, &flags, &err);
	protocol_set_result(&ret_answer->message, PROTOCOL_ANSWER, request->message.id, r, r < 0 ? &err : NULL);
	ret_answer->message.result.flags = flags;
	ret_answer->fds[0] = fd;
	ret_answer->fds[1] = ret_answer->fds[2] = -1;
	ret_answer->fd_count = fd >= 0 ? 1 : 0;
}

int opener_answer(const struct opener_policy *policy, int socket, const struct protocol_packet *request)
{
	struct protocol_packet answer;
	opener_handle(policy, request, &answer);
	int r = protocol_send(socket, &answer);
	protocol_close_fds(&answer);
	return r;
}
