/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Attach: which image (task: symlinks are resolved) -> is it attached? (table) -> can it be opened, how large is it? (a worker of its own) -> a task makes the device, enables
 * it (the event thread and the LUN table see it come), exports it and waits for the disk, undoing all of it in reverse order on failure -> the answer. Two attaches of one image, or of
 * one name, exclude each other through control->attaches. What a lunkitd that was killed in between has left is taken up by the next attach: a device without an export is exported,
 * a backstore that was never enabled and a target that holds nothing are made anew.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "control/lun.h"
#include "control/probe.h"
#include "control/record.h"
#include "control/state.h"
#include "control/survey.h"
#include "target/disk.h"
#include "target/fabric.h"

#define MAX_TRANSFER (1024u * 1024u) /* the kernel's default, 128 sectors, costs a large request sixteen commands */
#define DATA_AREA_MB 256	     /* allocated as it is used; the kernel's default would let one LUN take half of what all may have */
#define DISK_TRIES 1500
#define LINK_TRIES 500
#define TRY_MS 20

struct attach {
	struct task task;
	struct list node;
	struct control *control;
	struct attach_options options;
	struct reference reference;
	char image[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX + 64];
	char name[64], serial[BACKSTORE_SERIAL_MAX];
	bool resolved;
	struct lun_waiter waiter;
	struct key key; /* of an encrypted image, until its LUN has it */

	/* for attach_work() */
	struct target_root root;
	char state_directory[PATH_MAX];
	unsigned command_timeout;
	uint64_t size;
	uint32_t block_size;
	bool enable_failed;
	bool adopt; /* the device is there without an export: what is left of an attach that was killed */
	struct backstore_id backstore;
	struct record earlier;	/* what was recorded under the name before */
	bool recorded;		/* earlier is valid */
	struct lun_facts facts; /* after success */

	struct lunkit_error err;
	void (*done)(void *argument, struct lun *lun, const struct lunkit_error *err);
	void *argument;
};

int attach_fabric_parse(const char *text, enum attach_fabric *ret, struct lunkit_error *err)
{
	static const char *const words[] = { [ATTACH_LOOP] = "loop", [ATTACH_VHOST] = "vhost", [ATTACH_NONE] = "none" };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(words[i], text) == 0) {
			*ret = (enum attach_fabric)i;
			return 0;
		}
	lunkit_error_set(err, EINVAL, "unknown fabric '%.40s'", text);
	return lunkit_error_hint(err,
				 "fabric is one of loop (a disk on this host), vhost (a disk in a VM) and none (targetcli exports it)");
}

static const char *fabric_text(enum attach_fabric fabric)
{
	switch (fabric) {
	case ATTACH_LOOP:
		return "loop";
	case ATTACH_VHOST:
		return "vhost";
	case ATTACH_NONE:
		break;
	}
	return "none";
}

static void attach_end(struct attach *attach, struct lun *lun)
{
	list_remove(&attach->node);
	if (attach->err.code)
		log_warning("cannot attach %s: %s", attach->image, attach->err.message);
	attach->done(attach->argument, attach->err.code ? NULL : lun, &attach->err);
	key_free(&attach->key);
	free(attach);
}

void attach_take_key(struct control *control, const char *name, struct key *ret)
{
	list_for_each (node, &control->attaches) {
		struct attach *attach = list_entry(node, struct attach, node);
		if (!attach->resolved || strcmp(attach->name, name) != 0)
			continue;
		*ret = attach->key;
		attach->key = KEY_NONE;
		return;
	}
}

bool attach_is_under_way(const struct control *control, const char *name)
{
	list_for_each (node, &control->attaches) {
		const struct attach *attach = list_entry(node, struct attach, node);
		if (attach->resolved && strcmp(attach->name, name) == 0)
			return true;
	}
	return false;
}

/* ---- making it, on a task's thread ---- */

static int wait_for_disk(const struct target_root *root, const struct export *export, struct lunkit_error *err)
{
	char disk[DISK_NAME_MAX] = "";
	for (unsigned tries = 0;; tries++) {
		uint64_t size = 0;
		if (disk_find(root, export, disk) == 0 && file_exists("%s/%s", root->dev, disk) && disk_size(root, disk, &size) == 0 &&
		    size)
			break;
		if (!fabric_export_exists(root, export))
			return lunkit_error_set(err, ENODEV, "LUN '%s' was removed while it was being attached", export->backstore.name);
		if (tries == DISK_TRIES) {
			lunkit_error_set(err, ETIMEDOUT, "the disk of '%s' does not appear", export->backstore.name);
			return lunkit_error_hint(err, "the kernel's log says why: dmesg | tail");
		}
		usleep(TRY_MS * 1000);
	}
	if (!file_exists("/run/udev/control"))
		return 0;
	for (unsigned tries = 0; tries < LINK_TRIES; tries++) {
		struct names links;
		if (disk_links(root, disk, &links) < 0)
			return 0;
		bool there = links.count > 0;
		names_free(&links);
		if (there)
			return 0;
		usleep(TRY_MS * 1000);
	}
	log_warning("%s: udev has made no name for %s in /dev/disk/by-id", export->backstore.name, disk);
	return 0;
}

static int attach_export(struct attach *attach, const struct backstore_id *id)
{
	char target[FABRIC_WWN_MAX], nexus[FABRIC_WWN_MAX];
	struct export export;
	struct exports exports = { .items = &export };
	if (attach->options.fabric != ATTACH_NONE) {
		fabric_names(attach->serial, target, nexus);
		enum fabric fabric = attach->options.fabric == ATTACH_LOOP ? FABRIC_LOOP : FABRIC_VHOST;
		int r = fabric_export(&attach->root, fabric, id, target, nexus, &export, &attach->err);
		if (r == 0 && fabric == FABRIC_LOOP) {
			r = wait_for_disk(&attach->root, &export, &attach->err);
			if (r < 0)
				fabric_unexport(&attach->root, &export, true, NULL);
		}
		if (r < 0)
			return r;
		exports.count = 1;
	}
	/* Only this one: a look at all LUNs at the end of each attach would make many of them slow. */
	survey_look(&attach->root, &exports, id, &attach->facts);
	return 0;
}

static int attach_record(struct attach *attach)
{
	struct record record = { .block_size = attach->options.block_size };
	if (!attach->options.persist)
		return 0;
	if (strlen(attach->image) >= sizeof(record.image))
		return lunkit_error_set(&attach->err, ENAMETOOLONG, "the image's reference is too long to be recorded");
	strcpy(record.image, attach->image);
	strcpy(record.name, attach->name);
	strcpy(record.serial, attach->options.serial);
	attach->recorded = record_read(attach->state_directory, attach->name, &attach->earlier, NULL) == 0;
	snprintf(record.fabric, sizeof(record.fabric), "%s", fabric_text(attach->options.fabric));
	return record_write(attach->state_directory, &record, &attach->err);
}

/* The attach has failed: the records are what they were before. */
static void attach_unrecord(struct attach *attach)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (!attach->options.persist)
		return;
	if (attach->recorded)
		record_write(attach->state_directory, &attach->earlier, &err);
	else
		record_remove(attach->state_directory, attach->name, &err);
	if (err.code)
		log_warning("%s: %s", attach->name, err.message);
}

static void refuse_attached(struct attach *attach, const char *name, const char *device)
{
	lunkit_error_set(&attach->err, EEXIST, "%s is attached already, as LUN '%s'%s%s", attach->image, name, *device ? ", " : "", device);
	lunkit_error_hint(&attach->err, "use it, or detach it first: lunkit detach %s", name);
}

enum adopted { ADOPTED_NOT, ADOPTED_OURS, ADOPTED_OTHER };

/* Whether the LUN is exported, and by the target that this attach would have made. */
static enum adopted find_export(struct attach *attach, struct export *ret)
{
	char target[FABRIC_WWN_MAX], nexus[FABRIC_WWN_MAX];
	struct exports exports = { 0 };
	enum adopted found = ADOPTED_NOT;
	fabric_names(attach->serial, target, nexus);
	int r = exports_read(&attach->root, &exports);
	if (r < 0)
		lunkit_error_set(&attach->err, r, "cannot look through the kernel target's configuration: %s", strerror(-r));
	for (size_t i = 0; i < exports.count && found != ADOPTED_OTHER; i++) {
		const struct export *export = &exports.items[i];
		if (!backstore_id_equal(&export->backstore, &attach->backstore))
			continue;
		bool ours = export->fabric == FABRIC_LOOP && attach->options.fabric == ATTACH_LOOP && strcmp(export->wwn, target) == 0;
		found = ours ? ADOPTED_OURS : ADOPTED_OTHER;
		*ret = *export;
	}
	exports_free(&exports);
	return found;
}

/* An export whose disk has not come: whoever was to serve the kernel's first look died. */
static int adopt_export(struct attach *attach, const struct export *export)
{
	char disk[DISK_NAME_MAX];
	struct exports exports = { .items = (struct export *)export, .count = 1 };
	if (disk_find(&attach->root, export, disk) == 0) {
		refuse_attached(attach, attach->name, "");
		return -EEXIST;
	}
	disk_scan(&attach->root, export);
	int r = wait_for_disk(&attach->root, export, &attach->err);
	if (r == 0)
		survey_look(&attach->root, &exports, &attach->backstore, &attach->facts);
	return r;
}

/* The rest of an attach whose device exists. The process that was killed may have left a call behind that makes the export while this looks: hence twice. */
static int adopt(struct attach *attach)
{
	struct export export;
	for (bool again = false;; again = true) {
		switch (find_export(attach, &export)) {
		case ADOPTED_OURS:
			return attach->err.code ? -attach->err.code : adopt_export(attach, &export);
		case ADOPTED_OTHER:
			refuse_attached(attach, attach->name, "");
			return -EEXIST;
		case ADOPTED_NOT:
			break;
		}
		if (attach->err.code)
			return -attach->err.code;
		int r = attach_export(attach, &attach->backstore);
		if (r != -EEXIST || again)
			return r;
		attach->err = LUNKIT_ERROR_INIT;
	}
}

static void adopt_work(struct task *task)
{
	struct attach *attach = (struct attach *)task;
	if (attach_record(attach) < 0)
		return;
	if (adopt(attach) == 0)
		log_info("%s: took up what an interrupted attach had left", attach->name);
	else
		attach_unrecord(attach);
}

static void attach_work(struct task *task)
{
	struct attach *attach = (struct attach *)task;
	char cfgstring[REFERENCE_CFGSTRING_MAX], dev_config[REFERENCE_KIND_MAX + REFERENCE_CFGSTRING_MAX];
	if (reference_format_cfgstring(&attach->reference, cfgstring, &attach->err) < 0)
		return;
	snprintf(dev_config, sizeof(dev_config), "%s/%s", attach->reference.kind, cfgstring);
	struct backstore_config config = {
		.dev_config = dev_config,
		.size = attach->size,
		.block_size = attach->block_size,
		.max_sectors = MAX_TRANSFER / attach->block_size,
		.data_area_mb = DATA_AREA_MB,
		.serial = attach->serial,
		.write_cache = attach->reference.cache != REFERENCE_CACHE_WRITETHROUGH,
		.command_timeout = attach->command_timeout,
	};
	struct backstore_id id;
	/* The record comes first: what was answered with success survives a crash right after. */
	if (attach_record(attach) < 0)
		return;
	if (backstore_create(&attach->root, attach->name, &config, &id, &attach->err) < 0)
		goto forget;
	int r = backstore_enable(&attach->root, &id);
	if (r < 0) {
		attach->enable_failed = true;
		lunkit_error_set(&attach->err, r, "the kernel target did not take backstore '%s': %s", attach->name, strerror(-r));
		goto remove;
	}
	if (attach_export(attach, &id) == 0)
		return;
remove:
	r = backstore_remove(&attach->root, &id);
	if (r < 0)
		log_warning("%s: the backstore of a failed attach can't be removed: %s", attach->name, strerror(-r));
forget:
	attach_unrecord(attach);
}

/* ---- the steps on the main thread ---- */

static void attach_made(struct task *task)
{
	struct attach *attach = (struct attach *)task;
	struct control *control = attach->control;
	if (attach->err.code) {
		const struct lunkit_error *reason = attach->enable_failed ? control_find_failure(control, attach->name) : NULL;
		if (reason)
			attach->err = *reason;
		control_note_failure(control, attach->name, NULL); /* it is told at once */
		attach_end(attach, NULL);
		return;
	}
	struct lun *lun = control_lun_by_name(control, attach->name);
	if (attach->options.persist && !names_contain(&control->records, attach->name))
		names_add(&control->records, attach->name);
	if (lun && attach->options.persist)
		lun->persistent = true;
	if (lun)
		survey_take(lun, &attach->facts);
	else
		lun_facts_free(&attach->facts);
	if (!lun)
		lunkit_error_set(&attach->err, ENODEV, "LUN '%s' was removed while it was being attached", attach->name);
	attach_end(attach, lun);
}

static void attach_probed(void *argument, const struct protocol_ready *ready, const struct lunkit_error *err)
{
	struct attach *attach = argument;
	if (!ready) {
		attach->err = *err;
		attach_end(attach, NULL);
		return;
	}
	attach->size = ready->size;
	attach->block_size = attach->options.block_size;
	if (!attach->block_size)
		attach->block_size = ready->block_size == 4096 ? 4096 : 512;
	if (attach->size < attach->block_size || attach->size % attach->block_size) {
		lunkit_error_set(&attach->err, EINVAL, "image %s has %llu bytes, which is not a multiple of the block size %u",
				 attach->image, (unsigned long long)attach->size, attach->block_size);
		lunkit_error_hint(&attach->err, "make it larger: truncate -s %%%u '%.160s'", attach->block_size, attach->reference.name);
		attach_end(attach, NULL);
		return;
	}
	control_note_failure(attach->control, attach->name, NULL);
	attach->task.work = attach_work;
	attach->task.done = attach_made;
	tasks_start(attach->control->long_tasks, &attach->task);
}

static void attach_retried(struct lun_waiter *waiter, struct lun *lun, const struct lunkit_error *err)
{
	struct attach *attach = (struct attach *)((char *)waiter - offsetof(struct attach, waiter));
	attach->err = *err;
	attach_end(attach, lun);
}

/* The LUN is what was asked for, but for an export. */
static bool can_adopt(const struct attach *attach, const struct lun *lun)
{
	const struct reference *a = &attach->reference, *b = &lun->reference;
	const struct attach_options *options = &attach->options;
	return options->fabric != ATTACH_NONE && lun->facts.devices.count == 0 &&
	       (lun->state == LUN_SERVING || lun->state == LUN_STARTING) && a->read_only == b->read_only && a->cache == b->cache &&
	       strcmp(a->options, b->options) == 0 && strcmp(attach->name, lun->backstore.name) == 0 &&
	       (!options->block_size || options->block_size == lun->block_size) &&
	       (!options->serial[0] || strcmp(options->serial, lun->serial) == 0);
}

/* The image's LUN, or the one that has the name: held is tried again, all else is an error. True when that was the end of it. */
static bool attach_is_there(struct attach *attach)
{
	struct lun *lun = lun_by_reference(attach->control, &attach->reference);
	const char *name = lun ? lun->backstore.name : attach->name;
	if (detach_is_under_way(attach->control, name)) {
		lunkit_error_set(&attach->err, EBUSY, "LUN '%s' is being detached at this moment", name);
		lunkit_error_hint(&attach->err, "try again once it is");
		attach_end(attach, NULL);
		return true;
	}
	if (lun && lun->state == LUN_HELD) {
		if (attach->key.fd >= 0) {
			key_free(&lun->key);
			lun->key = attach->key;
			attach->key = KEY_NONE;
		}
		attach->waiter.settled = attach_retried;
		lun_retry(lun, &attach->waiter);
		return true;
	}
	if (lun && can_adopt(attach, lun)) {
		attach->adopt = true;
		attach->backstore = lun->backstore;
		strcpy(attach->serial, lun->serial);
	} else if (lun) {
		const struct names *devices = &lun->facts.devices;
		refuse_attached(attach, lun->backstore.name, devices->count ? devices->items[0] : "");
	} else if (control_lun_by_name(attach->control, attach->name)) {
		lunkit_error_set(&attach->err, EEXIST, "there is a LUN '%s' already", attach->name);
		lunkit_error_hint(&attach->err, "choose another name with --name");
	}
	list_for_each (node, &attach->control->attaches) {
		const struct attach *other = list_entry(node, struct attach, node);
		if (other == attach || !other->resolved || attach->err.code)
			continue;
		if (strcmp(other->name, attach->name) == 0 || (strcmp(other->reference.kind, attach->reference.kind) == 0 &&
							       strcmp(other->reference.name, attach->reference.name) == 0))
			lunkit_error_set(&attach->err, EBUSY, "image %s is being attached as '%s' at this moment", other->image,
					 other->name);
	}
	if (!attach->err.code)
		return false;
	attach_end(attach, NULL);
	return true;
}

/* A LUN on a LUN's disk: when memory is short, each would wait for the other's writes. */
static bool is_own_disk(struct attach *attach)
{
	list_for_each (node, &attach->control->luns) {
		const struct lun *lun = list_entry(node, struct lun, node);
		if (!names_contain(&lun->facts.devices, attach->reference.name))
			continue;
		lunkit_error_set(&attach->err, EINVAL, "%s is the disk of LUN '%s' itself", attach->reference.name, lun->backstore.name);
		lunkit_error_hint(&attach->err, "use %s, or attach its image %.200s elsewhere", attach->reference.name, lun->image);
		return true;
	}
	return false;
}

static void attach_resolve(struct task *task)
{
	struct attach *attach = (struct attach *)task;
	if (reference_is_path(&attach->reference) && attach->reference.name[0] != '/') {
		lunkit_error_set(&attach->err, EINVAL, "'%s' is not an absolute path", attach->reference.name);
		lunkit_error_hint(&attach->err, "start the path with '/'");
		return;
	}
	if (reference_resolve(&attach->reference, true, &attach->err) == 0 && attach->key.fd < 0)
		control_open_key(&attach->reference, &attach->key, &attach->err);
}

static void attach_resolved(struct task *task)
{
	struct attach *attach = (struct attach *)task;
	if (attach->err.code || reference_format(&attach->reference, attach->image, sizeof(attach->image), &attach->err) < 0 ||
	    settings_check_allowed(attach->control->settings, &attach->reference, &attach->err) < 0) {
		attach_end(attach, NULL);
		return;
	}
	if (attach->options.name[0])
		strcpy(attach->name, attach->options.name);
	else
		reference_backstore(&attach->reference, attach->name);
	if (attach->options.serial[0])
		strcpy(attach->serial, attach->options.serial);
	else
		reference_serial(&attach->reference, attach->serial);
	if (attach_is_there(attach))
		return;
	if (is_own_disk(attach)) {
		attach_end(attach, NULL);
		return;
	}
	attach->resolved = true;
	if (attach->adopt) {
		attach->task.work = adopt_work;
		attach->task.done = attach_made;
		tasks_start(attach->control->long_tasks, &attach->task);
		return;
	}
	probe_start(attach->control, &attach->reference, &attach->key, attach_probed, attach);
}

static bool serial_is_valid(const char *serial)
{
	for (const char *c = serial; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("-_.", *c))
			return false;
	return true;
}

static void check_options(struct control *control, const struct attach_options *options, struct lunkit_error *err)
{
	if (control->stopping)
		lunkit_error_set(err, ESHUTDOWN, "lunkitd is stopping");
	else if (!control->target_ready) {
		lunkit_error_set(err, ENODEV, "this kernel's SCSI target (TCM-User) can't be used");
		lunkit_error_hint(err, "lunkit doctor says what is missing");
	} else if (options->name[0] && !backstore_name_is_valid(options->name)) {
		lunkit_error_set(err, EINVAL, "'%s' can't be a LUN's name", options->name);
		lunkit_error_hint(err, "use letters, digits, '-', '_' and '.', at most 63");
	} else if (options->block_size && options->block_size != 512 && options->block_size != 4096)
		lunkit_error_set(err, EINVAL, "the block size is 512 or 4096, not %u", options->block_size);
	else if (!serial_is_valid(options->serial))
		lunkit_error_set(err, EINVAL, "a serial number has letters, digits, '-', '_' and '.' only");
}

void control_attach(struct control *control, const char *image, const struct attach_options *options,
		    void (*done)(void *argument, struct lun *lun, const struct lunkit_error *err), void *argument)
{
	struct attach *attach = control_alloc(sizeof(*attach));
	attach->control = control;
	attach->key = KEY_NONE;
	attach->options = *options;
	attach->root = control->root;
	attach->command_timeout = control->settings->command_timeout;
	strcpy(attach->state_directory, control->settings->state_directory);
	attach->done = done;
	attach->argument = argument;
	snprintf(attach->image, sizeof(attach->image), "%.1000s", image);
	list_add_tail(&control->attaches, &attach->node);
	check_options(control, options, &attach->err);
	if (attach->err.code || reference_parse(image, &attach->reference, &attach->err) < 0 ||
	    (options->has_key && key_from_fd(options->key_fd, attach->reference.name, &attach->key, &attach->err) < 0)) {
		attach->image[strcspn(attach->image, ";")] = '\0'; /* what is no option may be what nobody is to read */
		attach_end(attach, NULL);
		return;
	}
	if (options->read_only)
		attach->reference.read_only = true;
	if (options->cache != ATTACH_CACHE_UNSET)
		attach->reference.cache = (enum reference_cache)options->cache;
	else if (!strstr(image, ";cache="))
		attach->reference.cache = control->settings->cache;
	attach->task.work = attach_resolve;
	attach->task.done = attach_resolved;
	tasks_start(control->short_tasks, &attach->task);
}
