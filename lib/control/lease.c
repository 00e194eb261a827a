/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/lease.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#define STEP_MS 50
/* For a lunkitd that lives (it may be ending), and for one that is dead. */
#define LIVE_PATIENCE_MS 1000
#define DEAD_PATIENCE_MS 20000
#define RELEASE_MS 1000

static int open_lock(const char *directory, const char *name)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

/* Whose lock it is, as it wrote. 0: unknown. */
static pid_t lock_owner(int fd)
{
	char text[16] = "";
	ssize_t length = pread(fd, text, sizeof(text) - 1, 0);
	text[length > 0 ? length : 0] = '\0';
	return atoi(text);
}

/* A process that was killed is a zombie, or not to be found, while threads of it are still in the kernel. */
static bool is_dead(pid_t pid)
{
	char path[64], text[512];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	ssize_t length = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[length > 0 ? length : 0] = '\0';
	const char *name_end = strrchr(text, ')'); /* the name may hold anything */
	return name_end && (name_end[1] == ' ') && (name_end[2] == 'Z' || name_end[2] == 'X');
}

static bool lock_patiently(int fd, void (*release)(void *argument), void *argument)
{
	for (unsigned waited = 0;; waited += STEP_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		bool dead = is_dead(lock_owner(fd));
		if (waited >= (dead ? DEAD_PATIENCE_MS : LIVE_PATIENCE_MS))
			return false;
		if (dead && waited % RELEASE_MS == 0) {
			log_warning("a lunkitd that was killed is not gone yet: ending what it waits for in the kernel");
			release(argument);
		}
		usleep(STEP_MS * 1000);
	}
}

int lease_take(const char *runtime_directory, void (*release)(void *argument), void *argument, int *ret_fd, struct lunkit_error *err)
{
	int fd = open_lock(runtime_directory, "lunkitd.lock");
	if (fd < 0)
		return lunkit_error_set(err, fd, "cannot open %s/lunkitd.lock: %s", runtime_directory, strerror(-fd));
	if (!lock_patiently(fd, release, argument)) {
		pid_t owner = lock_owner(fd);
		bool dead = is_dead(owner);
		close(fd);
		if (dead) {
			lunkit_error_set(err, EBUSY, "a lunkitd that was killed (process %d) still hangs in the kernel", (int)owner);
			return lunkit_error_hint(
				err, "see: cat /proc/%d/task/*/stack; if nothing helps, the machine has to be booted again", (int)owner);
		}
		lunkit_error_set(err, EBUSY, "another lunkitd runs already (process %d)", (int)owner);
		return lunkit_error_hint(err, "stop it first: systemctl stop lunkitd");
	}
	char text[16];
	int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)length, 0) != length)
		log_warning("cannot write %s/lunkitd.lock: %s", runtime_directory, strerror(errno));
	*ret_fd = fd;
	return 0;
}

int lease_for_worker(const char *runtime_directory, int *ret_fd)
{
	int fd = open_lock(runtime_directory, "workers.lock");
	if (fd < 0)
		return fd;
	if (flock(fd, LOCK_SH | LOCK_NB) < 0) {
		int code = errno;
		close(fd);
		return -code;
	}
	*ret_fd = fd;
	return 0;
}

static bool holds_lock(int process, const struct stat *lock)
{
	int fds = openat(process, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fds < 0 ? NULL : fdopendir(fds);
	if (!folder) {
		if (fds >= 0)
			close(fds);
		return false;
	}
	bool found = false;
	const struct dirent *entry;
	while (!found && (entry = readdir(folder))) {
		char target[PATH_MAX];
		struct stat status;
		ssize_t length = readlinkat(fds, entry->d_name, target, sizeof(target) - 1);
		if (length <= 0)
			continue;
		target[length] = '\0';
		/* looking at the name first keeps stat() away from files of a dead network file system */
		found = strstr(target, "workers.lock") && fstatat(fds, entry->d_name, &status, 0) == 0 && status.st_dev == lock->st_dev &&
			status.st_ino == lock->st_ino;
	}
	closedir(folder);
	return found;
}

static void kill_holders(const struct stat *lock)
{
	DIR *processes = opendir("/proc");
	if (!processes)
		return;
	const struct dirent *entry;
	while ((entry = readdir(processes))) {
		if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
			continue;
		/* The pidfd first: then what /proc says is about that process or about none. */
		int pidfd = (int)syscall(SYS_pidfd_open, atoi(entry->d_name), 0);
		int process = openat(dirfd(processes), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (pidfd >= 0 && process >= 0 && holds_lock(process, lock)) {
			log_warning("worker %s of a former lunkitd does not end and is killed", entry->d_name);
			syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		}
		if (process >= 0)
			close(process);
		if (pidfd >= 0)
			close(pidfd);
	}
	closedir(processes);
}

static bool nobody_holds(int fd, unsigned timeout_ms)
{
	for (unsigned waited = 0;; waited += STEP_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			flock(fd, LOCK_UN);
			return true;
		}
		if (waited >= timeout_ms)
			return false;
		usleep(STEP_MS * 1000);
	}
}

int lease_await_workers(const char *runtime_directory, unsigned timeout_ms, struct lunkit_error *err)
{
	int fd = open_lock(runtime_directory, "workers.lock");
	struct stat lock;
	if (fd < 0 || fstat(fd, &lock) < 0) {
		int code = fd < 0 ? -fd : errno;
		if (fd >= 0)
			close(fd);
		return lunkit_error_set(err, code, "cannot open %s/workers.lock: %s", runtime_directory, strerror(code));
	}
	if (!nobody_holds(fd, 0)) {
		log_info("waiting for workers of a former lunkitd to finish");
		if (!nobody_holds(fd, timeout_ms))
			kill_holders(&lock);
	}
	bool gone = nobody_holds(fd, 10000);
	close(fd);
	if (gone)
		return 0;
	lunkit_error_set(err, EBUSY, "workers of a former lunkitd can't be ended, maybe because their storage hangs");
	return lunkit_error_hint(err, "see `ps -C lunkit-worker -o pid,stat,wchan:32,args`; lunkitd starts once they are gone");
}
