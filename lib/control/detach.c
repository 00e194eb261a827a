/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finding a LUN by what a person calls it, and detaching it: nothing is changed before everything that uses the disk here has been looked at; then the page cache is written
 * back, the disk and the exports go, and last the device, whose REMOVED event takes the LUN out of the table.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "control/lun.h"
#include "control/record.h"
#include "control/state.h"
#include "target/disk.h"
#include "target/fabric.h"

/* ---- find ---- */

struct find {
	struct task task;
	struct control *control;
	char text[4096], path[PATH_MAX];
	bool is_reference;
	struct reference reference;
	void (*done)(void *argument, struct lun *lun, const struct lunkit_error *err);
	void *argument;
};

static void find_end(struct find *find, struct lun *lun)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (!lun) {
		lunkit_error_set(&err, ENOENT, "'%.400s' is not attached", find->text);
		lunkit_error_hint(&err, "lunkit list shows what is");
	}
	find->done(find->argument, lun, &err);
	free(find);
}

static void find_resolved(struct task *task)
{
	struct find *find = (struct find *)task;
	struct lun *found = NULL;
	list_for_each (node, &find->control->luns) {
		struct lun *lun = list_entry(node, struct lun, node);
		bool device = find->path[0] && names_contain(&lun->facts.devices, find->path);
		bool image = find->is_reference && strcmp(lun->reference.kind, find->reference.kind) == 0 &&
			     strcmp(lun->reference.name, find->reference.name) == 0;
		if (device || image) {
			found = lun;
			break;
		}
	}
	find_end(find, found);
}

static void find_work(struct task *task)
{
	struct find *find = (struct find *)task;
	if (strncmp(find->text, "/dev/", 5) == 0 && !realpath(find->text, find->path))
		find->path[0] = '\0';
	/* The image's file may be gone: its name is looked for as it is then. */
	if (find->is_reference)
		reference_resolve(&find->reference, false, NULL);
}

static void find_refreshed(void *argument)
{
	struct find *find = argument;
	find->task.work = find_work;
	find->task.done = find_resolved;
	tasks_start(find->control->short_tasks, &find->task);
}

void control_find(struct control *control, const char *name, void (*done)(void *argument, struct lun *lun, const struct lunkit_error *err),
		  void *argument)
{
	struct lun *lun = control_lun_by_name(control, name);
	struct find *find = control_alloc(sizeof(*find));
	find->control = control;
	find->done = done;
	find->argument = argument;
	snprintf(find->text, sizeof(find->text), "%s", name);
	if (lun) {
		find_end(find, lun);
		return;
	}
	find->is_reference = reference_parse(name, &find->reference, NULL) == 0;
	control_refresh(control, find_refreshed, find);
}

/* ---- detach ---- */

#define EXPORTS_MAX 64
#define FORCE_FLUSH_SECONDS 10
#define BREAKER_STEP_MS 200

struct detach {
	struct task task;
	struct list node;
	struct control *control;
	uint64_t lun;
	struct target_root root;
	struct backstore_id backstore;
	char name[64], serial[BACKSTORE_SERIAL_MAX], state_directory[PATH_MAX];
	unsigned flags;
	bool forgotten, dead;
	struct lunkit_error err;
	void (*done)(void *argument, const struct lunkit_error *err);
	void *argument;
};

/* One export of the LUN, and its disk if there is one. */
struct detach_item {
	struct export export;
	char disk[DISK_NAME_MAX];
	int fd; /* of disk_claim(), or -1 */
};

bool detach_is_under_way(const struct control *control, const char *name)
{
	list_for_each (node, &control->detaches)
		if (strcmp(list_entry(node, struct detach, node)->name, name) == 0)
			return true;
	return false;
}

static void detach_end(struct detach *detach)
{
	struct control *control = detach->control;
	list_remove(&detach->node);
	control->survey_time = 0;
	if (detach->forgotten) {
		names_remove(&control->records, detach->name);
		struct lun *lun = lun_by_id(control, detach->lun);
		if (lun)
			lun->persistent = false;
	}
	detach->done(detach->argument, &detach->err);
	free(detach);
}

/*
 * A disk whose worker does not answer: the kernel sends a last flush or two when it goes, and would wait for each until its time is over. While it goes, a thread ends
 * whatever is in the ring with an error.
 */
struct breaker {
	pthread_t thread;
	struct target_root root;
	struct backstore_id backstore;
	atomic_bool stop;
	bool running;
};

static void *breaker_main(void *argument)
{
	struct breaker *breaker = argument;
	while (!atomic_load(&breaker->stop)) {
		backstore_write(&breaker->root, &breaker->backstore, "action/reset_ring", 2);
		usleep(BREAKER_STEP_MS * 1000);
	}
	return NULL;
}

static void breaker_start(struct breaker *breaker, const struct detach *detach)
{
	if (breaker->running)
		return;
	breaker->root = detach->root;
	breaker->backstore = detach->backstore;
	breaker->running = pthread_create(&breaker->thread, NULL, breaker_main, breaker) == 0;
}

static void breaker_stop(struct breaker *breaker)
{
	if (!breaker->running)
		return;
	atomic_store(&breaker->stop, true);
	pthread_join(breaker->thread, NULL);
	breaker->running = false;
}

/* What can be saved is; a disk that does not answer must not hold up its own removal. */
static void force(struct detach *detach, const char *disk)
{
	int r = disk_try_flush(&detach->root, disk, FORCE_FLUSH_SECONDS);
	if (r == 0)
		return;
	log_warning("%s: detached by force without a flush of /dev/%s: %s", detach->backstore.name, disk, strerror(-r));
	disk_set_offline(&detach->root, disk);
	detach->dead = true;
}

static int claim(struct detach *detach, struct detach_item *item)
{
	const struct target_root *root = &detach->root;
	if (item->export.fabric != FABRIC_LOOP && item->export.fabric != FABRIC_VHOST) {
		lunkit_error_set(&detach->err, EBUSY, "LUN '%s' is exported by %s %s", detach->backstore.name, item->export.folder,
				 item->export.wwn);
		return lunkit_error_hint(&detach->err, "take it out there first: targetcli /%s/%.120s/tpg%u/luns delete lun%u",
					 item->export.folder, item->export.wwn, item->export.tpgt, item->export.lun);
	}
	if (item->export.fabric == FABRIC_LOOP && disk_find(root, &item->export, item->disk) < 0)
		item->disk[0] = '\0';
	if (detach->flags & DETACH_FORCE) {
		if (item->disk[0])
			force(detach, item->disk);
		return 0;
	}
	int r = fabric_check_unused(root, &item->export, &detach->err);
	if (r < 0 || !item->disk[0])
		return r;
	r = disk_claim(root, item->disk, &item->fd, &detach->err);
	if (r < 0)
		return r;
	r = disk_flush(item->fd);
	if (r < 0) {
		lunkit_error_set(&detach->err, r, "what was written to /dev/%s can't be brought to the image: %s", item->disk,
				 strerror(-r));
		return lunkit_error_hint(&detach->err, "lunkit status says what is wrong; --force detaches and loses it");
	}
	return 0;
}

/* A target that holds nothing else goes with its LUN when lunkit made it; targetcli's own stay. */
static bool is_ours(const struct export *export)
{
	return export->tpgt == 1 && export->lun == 0 && strncmp(export->wwn, "naa.5001405", 11) == 0 &&
	       strcmp(export->link, export->backstore.name) == 0;
}

static int remove_all(struct detach *detach, struct detach_item *items, size_t count)
{
	const struct target_root *root = &detach->root;
	for (size_t i = 0; i < count; i++) {
		/* Taking the export away removes the disk. (Removing the SCSI device first would make tcm_loop lose count of its ports.) */
		int r = fabric_unexport(root, &items[i].export, is_ours(&items[i].export), &detach->err);
		if (items[i].fd >= 0)
			close(items[i].fd);
		items[i].fd = -1;
		if (r < 0)
			return r;
	}
	/* Those that an attach or detach which was killed has left empty */
	char target[FABRIC_WWN_MAX], nexus[FABRIC_WWN_MAX];
	fabric_names(detach->serial, target, nexus);
	fabric_remove_empty(root, FABRIC_LOOP, target);
	fabric_remove_empty(root, FABRIC_VHOST, target);
	int r = backstore_remove(root, &detach->backstore);
	if (r < 0)
		return lunkit_error_set(&detach->err, r, "cannot remove backstore '%s': %s", detach->backstore.name, strerror(-r));
	return 0;
}

static void detach_work(struct task *task)
{
	struct detach *detach = (struct detach *)task;
	struct exports exports = { 0 };
	struct detach_item *items = calloc(EXPORTS_MAX, sizeof(*items));
	size_t count = 0;
	int r = items ? exports_read(&detach->root, &exports) : -ENOMEM;
	if (r < 0)
		lunkit_error_set(&detach->err, r, "cannot look through the kernel target's configuration: %s", strerror(-r));
	for (size_t i = 0; r == 0 && i < exports.count; i++) {
		if (!backstore_id_equal(&exports.items[i].backstore, &detach->backstore))
			continue;
		if (count == EXPORTS_MAX) {
			r = lunkit_error_set(&detach->err, E2BIG, "LUN '%s' has more than %d exports", detach->backstore.name, EXPORTS_MAX);
			break;
		}
		items[count] = (struct detach_item){ .export = exports.items[i], .fd = -1 };
		r = claim(detach, &items[count++]);
	}
	struct breaker breaker = { .running = false };
	if (r == 0 && detach->dead)
		breaker_start(&breaker, detach);
	if (r == 0)
		r = remove_all(detach, items, count);
	breaker_stop(&breaker);
	for (size_t i = 0; i < count; i++)
		if (items[i].fd >= 0)
			close(items[i].fd);
	exports_free(&exports);
	free(items);
	if (r == 0 && !(detach->flags & DETACH_KEEP)) {
		detach->forgotten = record_remove(detach->state_directory, detach->name, &detach->err) == 0;
		if (!detach->forgotten)
			lunkit_error_hint(&detach->err,
					  "it is detached, but comes back at boot: lunkit detach %s once that folder can be written",
					  detach->name);
	}
}

static void forget_work(struct task *task)
{
	struct detach *detach = (struct detach *)task;
	detach->forgotten = record_remove(detach->state_directory, detach->name, &detach->err) == 0;
}

static void detach_worked(struct task *task)
{
	detach_end((struct detach *)task);
}

static void detach_found(void *argument, struct lun *lun, const struct lunkit_error *err)
{
	struct detach *detach = argument;
	detach->task.done = detach_worked;
	const char *under_way = NULL;
	if (lun && (lun->added || attach_is_under_way(detach->control, lun->backstore.name)))
		under_way = "attached";
	else if (lun && detach_is_under_way(detach->control, lun->backstore.name))
		under_way = "detached";
	if (under_way) {
		lunkit_error_set(&detach->err, EBUSY, "LUN '%s' is being %s at this moment", lun->backstore.name, under_way);
		lunkit_error_hint(&detach->err, "try again once it is");
		detach_end(detach);
		return;
	}
	if (lun) {
		list_add_tail(&detach->control->detaches, &detach->node);
		detach->lun = lun->id;
		detach->backstore = lun->backstore;
		snprintf(detach->name, sizeof(detach->name), "%.63s", lun->backstore.name);
		strcpy(detach->serial, lun->serial);
		detach->task.work = detach_work;
		tasks_start(detach->control->long_tasks, &detach->task);
		return;
	}
	if (names_contain(&detach->control->records, detach->name) && !(detach->flags & DETACH_KEEP)) {
		/* Not attached, but it would be at the next boot */
		detach->task.work = forget_work;
		tasks_start(detach->control->short_tasks, &detach->task);
		return;
	}
	detach->err = *err;
	detach_end(detach);
}

void control_detach(struct control *control, const char *name, unsigned flags, void (*done)(void *argument, const struct lunkit_error *err),
		    void *argument)
{
	struct detach *detach = control_alloc(sizeof(*detach));
	list_init(&detach->node);
	detach->control = control;
	detach->root = control->root;
	detach->flags = flags;
	detach->done = done;
	detach->argument = argument;
	snprintf(detach->name, sizeof(detach->name), "%.63s", name);
	strcpy(detach->state_directory, control->settings->state_directory);
	control_find(control, name, detach_found, detach);
}
