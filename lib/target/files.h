/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Small files and folders of configfs, sysfs and procfs. Any thread, but not the main one: an attribute may block for as long as the kernel
 * waits for somebody (enable, dev_size), and so may looking into a folder whose neighbour is being removed.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Where the kernel's trees are; tests put others in their place. */
struct target_root {
	const char *configfs; /* /sys/kernel/config/target */
	const char *sys, *dev, *proc;
	const char *numbers_lock; /* the file that rtslib locks while it chooses a backstore's number, or NULL */
	const char *caller;	  /* the program that makes calls which may wait (call.h); NULL: they are made in this process */
};
/* The machine's own, without a caller. */
extern const struct target_root target_root_system;

/* The file's text without white space at its end. Returns its length, -ENOBUFS when it does not fit, -errno. */
__attribute__((format(printf, 3, 4))) int file_read(char *ret, size_t size, const char *format, ...);
__attribute__((format(printf, 2, 3))) int file_read_u64(uint64_t *ret, const char *format, ...);
/* One write() of text. Returns 0 or -errno. */
__attribute__((format(printf, 2, 3))) int file_write(const char *text, const char *format, ...);
__attribute__((format(printf, 1, 2))) bool file_exists(const char *format, ...);
__attribute__((format(printf, 1, 2))) int folder_make(const char *format, ...);
__attribute__((format(printf, 1, 2))) int folder_remove(const char *format, ...);

/* Names in a folder, sorted, without "." and "..", or a list of any other strings. All zero is an empty one. */
struct names {
	char **items;
	size_t count;
};
/* -ENOENT: there is no such folder. */
__attribute__((format(printf, 2, 3))) int names_read(struct names *ret, const char *format, ...);
int names_add(struct names *names, const char *name); /* -ENOMEM */
bool names_contain(const struct names *names, const char *name);
void names_remove(struct names *names, const char *name);
void names_free(struct names *names);

/* Loads a kernel module with modprobe when /sys/module does not have it. */
int module_load(const struct target_root *root, const char *module, struct lunkit_error *err);
