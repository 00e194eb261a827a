/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The disks (/dev/sdX) that this host has of its own loop exports. Not on the main thread. */

#include <stdint.h>

#include "target/fabric.h"
#include "target/files.h"

#define DISK_NAME_MAX 32

/* The disk's name ("sda") of a loop export. -ENOENT: it is not there (yet). */
int disk_find(const struct target_root *root, const struct export *export, char ret[static DISK_NAME_MAX]);
/* Names in /dev/disk/by-id that lead to the disk itself. */
int disk_links(const struct target_root *root, const char *disk, struct names *ret);
/* Bytes. */
int disk_size(const struct target_root *root, const char *disk, uint64_t *ret);
int disk_rescan(const struct target_root *root, const char *disk);
/* Looks again for the disk of an export: the first look, which the export itself takes, may have found nobody who answered. -ENXIO: not FABRIC_LOOP. */
int disk_scan(const struct target_root *root, const struct export *export);

/*
 * -EBUSY, with a message that says by whom, when the disk or a partition is mounted, is swap, belongs to another device or is open for writing. On success *ret_fd, to be
 * closed by the caller, keeps mounts and other exclusive users away.
 */
int disk_claim(const struct target_root *root, const char *disk, int *ret_fd, struct lunkit_error *err);
/* Writes back what the page cache holds and the disk's own cache. fd: of disk_claim(). */
int disk_flush(int fd);
/* The same for a disk that others use and that may not answer: gives up after seconds. -ETIMEDOUT, or -errno. */
int disk_try_flush(const struct target_root *root, const char *disk, unsigned seconds);
/* The kernel sends it nothing any more, so that its removal does not wait for answers. */
int disk_set_offline(const struct target_root *root, const char *disk);
