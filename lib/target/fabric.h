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

/* The WWNs of target and initiator: OpenIB's NAA 5001405 and 9 hex digits each, of the serial number, so that they stay the same. */
#define FABRIC_WWN_MAX 32
void fabric_names(const char *serial, char target[static FABRIC_WWN_MAX], char nexus[static FABRIC_WWN_MAX]);

/*
 * FABRIC_LOOP or FABRIC_VHOST: a target of its own with one LUN, 0. Loads the module. Leaves nothing behind on failure. wwn and nexus: of fabric_names(). A target
 * of that name that holds nothing is replaced; -EEXIST: it holds something.
 */
int fabric_export(const struct target_root *root, enum fabric fabric, const struct backstore_id *backstore, const char *wwn,
		  const char *nexus, struct export *ret, struct lunkit_error *err);
bool fabric_export_exists(const struct target_root *root, const struct export *export);
/* Removes a target that holds nothing. 0 also when there is none; -ENOTEMPTY. */
int fabric_remove_empty(const struct target_root *root, enum fabric fabric, const char *wwn);
/* -EBUSY: a VM uses the target. Changes nothing. */
int fabric_check_unused(const struct target_root *root, const struct export *export, struct lunkit_error *err);
/* Takes the LUN away; with_target: also its group and target, as far as they are empty then. */
int fabric_unexport(const struct target_root *root, const struct export *export, bool with_target, struct lunkit_error *err);
