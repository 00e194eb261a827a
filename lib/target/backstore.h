/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A TCM-User device in configfs: core/user_N/NAME. As rtslib does it, each has an HBA folder of its own whose number no other backstore of any kind uses,
 * so that `targetcli ls`, `targetctl save` and `restore` take lunkit's devices for their own.
 */

#include <stdbool.h>
#include <stdint.h>

#include "target/files.h"

#define BACKSTORE_NAME_MAX 256
#define BACKSTORE_SERIAL_MAX 128

struct backstore_id {
	unsigned hba;
	char name[BACKSTORE_NAME_MAX];
};

struct backstore_config {
	const char *dev_config; /* "KIND/REST" */
	uint64_t size;
	uint32_t block_size, max_sectors; /* max_sectors: in blocks */
	uint32_t data_area_mb;
	const char *serial;
	bool write_cache;
	unsigned command_timeout; /* seconds; 0: the kernel's default */
};

/* What configfs says of it. Empty or 0 where it says nothing. */
struct backstore_info {
	bool enabled, write_cache;
	uint64_t size;
	uint32_t block_size, max_sectors;
	char serial[BACKSTORE_SERIAL_MAX];
	char vendor[17], product[33], revision[17];
};

/* "tcm-user/N/NAME/…", the name of a uio device. -EINVAL. */
int backstore_parse_uio(const char *text, struct backstore_id *ret);
/* True for what configfs, targetcli and D-Bus take as a name: 1 to 63 letters, digits, '-', '_' and '.', not starting with '.' or '-'. */
bool backstore_name_is_valid(const char *name);
bool backstore_id_equal(const struct backstore_id *a, const struct backstore_id *b);

/* -ENOENT: there is none of that name. */
int backstore_find(const struct target_root *root, const char *name, struct backstore_id *ret);
int backstore_read(const struct target_root *root, const struct backstore_id *id, struct backstore_info *ret);
/* Only serial, vendor, product and revision: fewer files to open. */
void backstore_read_identity(const struct target_root *root, const struct backstore_id *id, struct backstore_info *ret);

/* Makes and configures it, without enabling it. Leaves nothing behind on failure. One of that name that was never enabled is replaced. */
int backstore_create(const struct target_root *root, const char *name, const struct backstore_config *config, struct backstore_id *ret,
		     struct lunkit_error *err);
/* Blocks until whoever serves TCM-User has answered. */
int backstore_enable(const struct target_root *root, const struct backstore_id *id);
/* Removes it with its ALUA groups and its HBA folder. -EBUSY: it is exported. */
int backstore_remove(const struct target_root *root, const struct backstore_id *id);

int backstore_write(const struct target_root *root, const struct backstore_id *id, const char *file, uint64_t value);
