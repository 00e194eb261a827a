/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     loopback/naa.5001405…/tpgt_1/nexus                 the initiator's name, made by writing it
 *                                 /address               HOST:CHANNEL:TARGET of the SCSI host that the target is
 *                                 /lun/lun_0/NAME -> core/user_N/NAME       makes the disk; removing it removes the disk
 *     vhost/naa.5001405…/tpgt_1/…                        the same without address; QEMU finds it by the target's name
 */
#include "target/fabric.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/parse.h"
#include "target/call.h"

static const struct {
	const char *folder, *module;
} fabrics[] = {
	[FABRIC_LOOP] = { "loopback", "tcm_loop" },
	[FABRIC_VHOST] = { "vhost", "vhost_scsi" },
	[FABRIC_ISCSI] = { "iscsi", "iscsi_target_mod" },
	[FABRIC_OTHER] = { "", "" },
};

const char *fabric_folder(enum fabric fabric)
{
	return fabrics[fabric].folder;
}

static enum fabric fabric_classify(const char *folder)
{
	for (size_t i = 0; i < ARRAY_SIZE(fabrics); i++)
		if (strcmp(fabrics[i].folder, folder) == 0)
			return (enum fabric)i;
	return FABRIC_OTHER;
}

/* The number behind prefix, for "tpgt_1" and "lun_0". */
static bool parse_numbered(const char *text, const char *prefix, unsigned *ret)
{
	uint64_t value;
	size_t length = strlen(prefix);
	if (strncmp(text, prefix, length) != 0 || parse_u64(text + length, &value) < 0 || value > UINT32_MAX)
		return false;
	*ret = (unsigned)value;
	return true;
}

/* The user backstore that a LUN's link leads to: "…/core/user_N/NAME". */
static bool link_backstore(const char *path, struct backstore_id *ret)
{
	char target[PATH_MAX];
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length <= 0)
		return false;
	target[length] = '\0';
	char *name = strrchr(target, '/');
	if (!name)
		return false;
	*name++ = '\0';
	char *hba = strrchr(target, '/');
	hba = hba ? hba + 1 : target;
	struct backstore_id id = { 0 };
	if (!parse_numbered(hba, "user_", &id.hba) || strlen(name) >= sizeof(id.name))
		return false;
	strcpy(id.name, name);
	*ret = id;
	return true;
}

static int exports_add(struct exports *exports, const struct export *export)
{
	struct export *items = reallocarray(exports->items, exports->count + 1, sizeof(*items));
	if (!items)
		return -ENOMEM;
	exports->items = items;
	items[exports->count++] = *export;
	return 0;
}

/* The links of one LUN. */
static int read_lun(const struct target_root *root, struct export *export, struct exports *exports)
{
	struct names links;
	int r = names_read(&links, "%s/%s/%s/tpgt_%u/lun/lun_%u", root->configfs, export->folder, export->wwn, export->tpgt, export->lun);
	if (r < 0)
		return 0; /* it is being removed */
	for (size_t i = 0; i < links.count && r == 0; i++) {
		char path[PATH_MAX];
		int length = snprintf(path, sizeof(path), "%s/%s/%s/tpgt_%u/lun/lun_%u/%s", root->configfs, export->folder, export->wwn,
				      export->tpgt, export->lun, links.items[i]);
		if (length < 0 || (size_t)length >= sizeof(path) || strlen(links.items[i]) >= sizeof(export->link) ||
		    !link_backstore(path, &export->backstore))
			continue;
		strcpy(export->link, links.items[i]);
		export->address[0] = '\0';
		if (export->fabric == FABRIC_LOOP)
			file_read(export->address, sizeof(export->address), "%s/%s/%s/tpgt_%u/address", root->configfs, export->folder,
				  export->wwn, export->tpgt);
		r = exports_add(exports, export);
	}
	names_free(&links);
	return r;
}

static int read_group(const struct target_root *root, struct export *export, struct exports *exports)
{
	struct names luns;
	if (names_read(&luns, "%s/%s/%s/tpgt_%u/lun", root->configfs, export->folder, export->wwn, export->tpgt) < 0)
		return 0;
	int r = 0;
	for (size_t i = 0; i < luns.count && r == 0; i++)
		if (parse_numbered(luns.items[i], "lun_", &export->lun))
			r = read_lun(root, export, exports);
	names_free(&luns);
	return r;
}

static int read_fabric(const struct target_root *root, const char *folder, struct exports *exports)
{
	struct export export = { .fabric = fabric_classify(folder) };
	struct names targets, groups;
	if (strlen(folder) >= sizeof(export.folder) || names_read(&targets, "%s/%s", root->configfs, folder) < 0)
		return 0;
	strcpy(export.folder, folder);
	int r = 0;
	for (size_t i = 0; i < targets.count && r == 0; i++) {
		if (strcmp(targets.items[i], "discovery_auth") == 0 || strlen(targets.items[i]) >= sizeof(export.wwn) ||
		    names_read(&groups, "%s/%s/%s", root->configfs, folder, targets.items[i]) < 0)
			continue;
		strcpy(export.wwn, targets.items[i]);
		for (size_t j = 0; j < groups.count && r == 0; j++)
			if (parse_numbered(groups.items[j], "tpgt_", &export.tpgt))
				r = read_group(root, &export, exports);
		names_free(&groups);
	}
	names_free(&targets);
	return r;
}

int exports_read(const struct target_root *root, struct exports *ret)
{
	struct exports exports = { 0 };
	struct names folders;
	int r = names_read(&folders, "%s", root->configfs);
	if (r < 0)
		return r;
	for (size_t i = 0; i < folders.count && r == 0; i++)
		if (strcmp(folders.items[i], "core") != 0)
			r = read_fabric(root, folders.items[i], &exports);
	names_free(&folders);
	if (r < 0) {
		exports_free(&exports);
		return r;
	}
	*ret = exports;
	return 0;
}

void exports_free(struct exports *exports)
{
	free(exports->items);
	*exports = (struct exports){ 0 };
}

static int group_write(const struct target_root *root, const struct export *export, const char *file, const char *text)
{
	return call_write(root, text, "%s/%s/%s/tpgt_%u/%s", root->configfs, export->folder, export->wwn, export->tpgt, file);
}

/* Whether a LUN of the group has a backstore of any kind. -errno when that can't be seen. */
static int group_is_used(const struct target_root *root, const struct export *export)
{
	struct names luns;
	int r = names_read(&luns, "%s/%s/%s/tpgt_%u/lun", root->configfs, export->folder, export->wwn, export->tpgt);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	bool used = false;
	for (size_t i = 0; i < luns.count && !used; i++) {
		char path[PATH_MAX], target[PATH_MAX];
		struct names links;
		if (names_read(&links, "%s/%s/%s/tpgt_%u/lun/%s", root->configfs, export->folder, export->wwn, export->tpgt,
			       luns.items[i]) < 0)
			continue;
		for (size_t j = 0; j < links.count && !used; j++)
			used = snprintf(path, sizeof(path), "%s/%s/%s/tpgt_%u/lun/%s/%s", root->configfs, export->folder, export->wwn,
					export->tpgt, luns.items[i], links.items[j]) < (int)sizeof(path) &&
			       readlink(path, target, sizeof(target)) > 0;
		names_free(&links);
	}
	names_free(&luns);
	return used;
}

/* With its LUNs that have no backstore. */
static void group_remove(const struct target_root *root, const struct export *export)
{
	struct names luns;
	if (names_read(&luns, "%s/%s/%s/tpgt_%u/lun", root->configfs, export->folder, export->wwn, export->tpgt) == 0) {
		for (size_t i = 0; i < luns.count; i++)
			call_rmdir(root, "%s/%s/%s/tpgt_%u/lun/%s", root->configfs, export->folder, export->wwn, export->tpgt,
				   luns.items[i]);
		names_free(&luns);
	}
	group_write(root, export, "nexus", "NULL");
	call_rmdir(root, "%s/%s/%s/tpgt_%u", root->configfs, export->folder, export->wwn, export->tpgt);
}

int fabric_remove_empty(const struct target_root *root, enum fabric fabric, const char *wwn)
{
	struct export export = { .fabric = fabric };
	snprintf(export.folder, sizeof(export.folder), "%s", fabric_folder(fabric));
	snprintf(export.wwn, sizeof(export.wwn), "%s", wwn);
	struct names groups;
	int r = names_read(&groups, "%s/%s/%s", root->configfs, export.folder, wwn);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (size_t i = 0; i < groups.count && r == 0; i++)
		if (parse_numbered(groups.items[i], "tpgt_", &export.tpgt))
			r = group_is_used(root, &export);
	for (size_t i = 0; i < groups.count && r == 0; i++)
		if (parse_numbered(groups.items[i], "tpgt_", &export.tpgt))
			group_remove(root, &export);
	names_free(&groups);
	if (r != 0)
		return r < 0 ? r : -ENOTEMPTY;
	return call_rmdir(root, "%s/%s/%s", root->configfs, export.folder, wwn);
}

/* How far fabric_export() has come, and so what has to be undone. */
enum export_stage { STAGE_NONE, STAGE_TARGET, STAGE_GROUP };

static void export_undo(const struct target_root *root, const struct export *export, enum export_stage stage)
{
	switch (stage) {
	case STAGE_GROUP:
		group_remove(root, export);
		/* fall through */
	case STAGE_TARGET:
		call_rmdir(root, "%s/%s/%s", root->configfs, export->folder, export->wwn);
		/* fall through */
	case STAGE_NONE:
		break;
	}
}

static int export_link(const struct target_root *root, const struct export *export, const struct backstore_id *backstore)
{
	char from[PATH_MAX], to[PATH_MAX];
	if (snprintf(to, sizeof(to), "%s/core/user_%u/%s", root->configfs, backstore->hba, backstore->name) >= (int)sizeof(to) ||
	    snprintf(from, sizeof(from), "%s/%s/%s/tpgt_%u/lun/lun_%u/%s", root->configfs, export->folder, export->wwn, export->tpgt,
		     export->lun, export->link) >= (int)sizeof(from))
		return -ENAMETOOLONG;
	return call_symlink(root, to, from);
}

/* *stage is always how far it came. */
static int export_build(const struct target_root *root, const struct export *export, const char *nexus, enum export_stage *stage)
{
	int r = folder_make("%s/%s", root->configfs, export->folder);
	if (r < 0 && r != -EEXIST)
		return r;
	r = folder_make("%s/%s/%s", root->configfs, export->folder, export->wwn);
	if (r < 0)
		return r;
	*stage = STAGE_TARGET;
	r = folder_make("%s/%s/%s/tpgt_%u", root->configfs, export->folder, export->wwn, export->tpgt);
	if (r < 0)
		return r;
	*stage = STAGE_GROUP;
	r = group_write(root, export, "nexus", nexus);
	if (r < 0)
		return r;
	r = folder_make("%s/%s/%s/tpgt_%u/lun/lun_%u", root->configfs, export->folder, export->wwn, export->tpgt, export->lun);
	if (r < 0)
		return r;
	return export_link(root, export, &export->backstore);
}

int fabric_export(const struct target_root *root, enum fabric fabric, const struct backstore_id *backstore, const char *wwn,
		  const char *nexus, struct export *ret, struct lunkit_error *err)
{
	struct export export = { .fabric = fabric, .tpgt = 1, .lun = 0, .backstore = *backstore };
	snprintf(export.folder, sizeof(export.folder), "%s", fabric_folder(fabric));
	snprintf(export.wwn, sizeof(export.wwn), "%s", wwn);
	snprintf(export.link, sizeof(export.link), "%s", backstore->name);
	int r = module_load(root, fabrics[fabric].module, err);
	if (r < 0)
		return r;
	enum export_stage stage = STAGE_NONE;
	r = export_build(root, &export, nexus, &stage);
	/* A target of this name that holds nothing is what an export that was killed has left. */
	if (r == -EEXIST && stage == STAGE_NONE && fabric_remove_empty(root, fabric, wwn) == 0)
		r = export_build(root, &export, nexus, &stage);
	if (r < 0) {
		export_undo(root, &export, stage);
		lunkit_error_set(err, r, "cannot export '%s' as %s %s: %s", backstore->name, export.folder, wwn, strerror(-r));
		if (r == -EEXIST)
			return lunkit_error_hint(err, "another target has this name: see `targetcli ls /%s`", export.folder);
		return r;
	}
	if (fabric == FABRIC_LOOP)
		file_read(export.address, sizeof(export.address), "%s/%s/%s/tpgt_%u/address", root->configfs, export.folder, export.wwn,
			  export.tpgt);
	*ret = export;
	return 0;
}

bool fabric_export_exists(const struct target_root *root, const struct export *export)
{
	return file_exists("%s/%s/%s/tpgt_%u/lun/lun_%u/%s", root->configfs, export->folder, export->wwn, export->tpgt, export->lun,
			   export->link);
}

void fabric_names(const char *serial, char target[static FABRIC_WWN_MAX], char nexus[static FABRIC_WWN_MAX])
{
	char digits[18];
	size_t count = 0;
	uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a, for serials that have too few digits */
	for (const char *c = serial; *c; c++) {
		hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001b3);
		if (isxdigit((unsigned char)*c) && count < sizeof(digits))
			digits[count++] = (char)tolower((unsigned char)*c);
	}
	for (; count < sizeof(digits); count++, hash = hash * UINT64_C(6364136223846793005) + 1)
		digits[count] = "0123456789abcdef"[hash >> 60];
	snprintf(target, FABRIC_WWN_MAX, "naa.5001405%.9s", digits);
	snprintf(nexus, FABRIC_WWN_MAX, "naa.5001405%.9s", digits + 9);
}

int fabric_check_unused(const struct target_root *root, const struct export *export, struct lunkit_error *err)
{
	if (export->fabric != FABRIC_VHOST)
		return 0;
	/* The group has a LUN, so that it can't be removed; but configfs says first whether somebody depends on it: a VM's vhost device does. */
	int r = call_rmdir(root, "%s/%s/%s/tpgt_%u", root->configfs, export->folder, export->wwn, export->tpgt);
	if (r != -EBUSY)
		return 0;
	lunkit_error_set(err, EBUSY, "a VM uses '%s' through vhost %s", export->backstore.name, export->wwn);
	return lunkit_error_hint(err, "remove the disk from the VM, or stop the VM, first");
}

int fabric_unexport(const struct target_root *root, const struct export *export, bool with_target, struct lunkit_error *err)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/%s/%s/tpgt_%u/lun/lun_%u/%s", root->configfs, export->folder, export->wwn, export->tpgt,
		     export->lun, export->link) >= (int)sizeof(path))
		return lunkit_error_set(err, ENAMETOOLONG, "the path of export %s is too long", export->wwn);
	int r = call_unlink(root, path);
	if (r < 0 && r != -ENOENT)
		return lunkit_error_set(err, r, "cannot remove '%s' from %s %s: %s", export->backstore.name, export->folder, export->wwn,
					strerror(-r));
	r = call_rmdir(root, "%s/%s/%s/tpgt_%u/lun/lun_%u", root->configfs, export->folder, export->wwn, export->tpgt, export->lun);
	if (r < 0 && r != -ENOENT)
		return lunkit_error_set(err, r, "cannot remove LUN %u of %s %s: %s", export->lun, export->folder, export->wwn,
					strerror(-r));
	struct names luns;
	if (with_target && names_read(&luns, "%s/%s/%s/tpgt_%u/lun", root->configfs, export->folder, export->wwn, export->tpgt) == 0) {
		if (luns.count == 0)
			export_undo(root, export, STAGE_GROUP);
		names_free(&luns);
	}
	return 0;
}
