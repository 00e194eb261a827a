/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdbool.h>

/*
 * True for a name below /dev that only root can have made: not below /dev/shm or /dev/mqueue, which anybody may write, and without "." and ".." components
 * or doubled slashes. Links there (/dev/disk/by-id/…, /dev/vg/lv) are the stable names of block devices and are followed when a device is opened, never
 * replaced by the kernel's name, which may mean another disk after a boot.
 */
bool path_is_device_name(const char *path);
/* "/a/b": absolute, and every part a name (not "", "." or ".."), so that what it begins with is where it lies. */
bool path_is_plain(const char *path);
/* True for a plain path that lies below the directory, which is absolute and may end with slashes. */
bool path_is_below(const char *path, const char *directory);
