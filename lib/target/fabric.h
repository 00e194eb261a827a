/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Where backstores are exported: FABRIC/WWN/tpgt_N/lun/lun_N/LINK -> core/HBA/NAME in configfs. */

#include <stdbool.h>
#include <stddef.h>

#include "target/backstore.h"
#include "target/files.h"

enum fabric { FABRIC_LOOP, FABRIC_VHOST, FABRIC_ISCSI, FABRIC_OTHER };

struct export
{
	enum fabric fabric;
	char folder[32]; /* the fabric's, in configfs */
	char wwn[224];	 /* "naa.…", "iqn.…" */
	unsigned tpgt, lun;
	char link[BACKSTORE_NAME_MAX]; /* the symbolic link's name */
	char address[32];	       /* loop: "HOST:CHANNEL:TARGET", else empty */
	struct backstore_id backstore;
};

struct exports {
	struct export *items;
	size_t count;
};

/* All exports of user backstores by all fabrics. */
int exports_read(const struct target_root *root, struct exports *ret);
void exports_free(struct exports *exports);

/* The configfs folder of a fabric that lunkit exports through. */
const char *fabric_folder(enum fabric fabric);

/*
 * FABRIC_LOOP or FABRIC_VHOST: a target of its own with one LUN, 0. Loads the module. Leaves nothing behind on failure. wwn and nexus: "naa." and 16 hex digits.
 */
int fabric_export(const struct target_root *root, enum fabric fabric, const struct backstore_id *backstore, const char *wwn,
		  const char *nexus, struct export *ret, struct lunkit_error *err);
/* -EBUSY: a VM uses the target. Changes nothing. */
int fabric_check_unused(const struct target_root *root, const struct export *export, struct lunkit_error *err);
/* Takes the LUN away; with_target: also its group and target, as far as they are empty then. */
int fabric_unexport(const struct target_root *root, const struct export *export, bool with_target, struct lunkit_error *err);
