/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Changes in configfs and sysfs for which the kernel waits: for lunkitd itself (enable, dev_size, removing a device), or for a disk to answer its scan (an export).
 *
 * A thread that waits so can't be killed, and a process that was killed holds all its files, the devices among them, until its last thread is gone: the next lunkitd
 * could not serve the very device that the kernel waits for. So each is made by a process of its own, lunkit-configfs, which holds nothing. A thread of lunkitd waits
 * for it, and dies at once with lunkitd; the next lunkitd ends the kernel's wait.
 *
 * Any thread but the main one. 0 or -errno of the system call.
 */

#include "target/files.h"

__attribute__((format(printf, 3, 4))) int call_write(const struct target_root *root, const char *text, const char *format, ...);
__attribute__((format(printf, 2, 3))) int call_rmdir(const struct target_root *root, const char *format, ...);
int call_symlink(const struct target_root *root, const char *target, const char *path);
int call_unlink(const struct target_root *root, const char *path);

/* What lunkit-configfs does with its arguments: write PATH TEXT, rmdir PATH, symlink PATH TARGET, unlink PATH. 0 or errno; EINVAL for anything else. */
int call_perform(const char *verb, const char *path, const char *argument);
