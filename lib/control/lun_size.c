/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Three sizes have to agree: the image's (the worker knows), the kernel device's (attrib/dev_size) and what initiators were told (the worker's capacity). The kernel's is
 * written from a task's thread, and the kernel then asks, on the TCMU thread, whether that is right:
 *
 *     lun_resize: worker RESIZE ──> task: write dev_size ──> kernel ──> SIZE event ──> worker CAPACITY ──> answer 0 ──> task: rescan the disks here
 *     targetcli set attribute dev_size=N ────────────────────^  (N has to be the image's size now, or the event is refused)
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "control/lun.h"
#include "control/state.h"
#include "image/handler.h"
#include "target/disk.h"
#include "target/fabric.h"

#define CALL_SECONDS 20
#define RESIZE_SECONDS 60
#define RESCAN_TRIES 200
#define RESCAN_STEP_MS 50

/* ---- requests ---- */

void lun_call(struct lun *lun, enum protocol_type type, uint64_t size, uint32_t flags, unsigned seconds,
	      void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument)
{
	if (!lun->channel || !lun->was_ready) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		lunkit_error_set(&err, ENOTCONN, "LUN '%s' has no worker now: it is %s", lun->backstore.name, lun_state_name(lun->state));
		done(argument, NULL, &err);
		return;
	}
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = type;
	if (type == PROTOCOL_RESIZE || type == PROTOCOL_CAPACITY) {
		packet.message.resize.size = size;
		packet.message.resize.flags = flags;
	}
	channel_call(lun->channel, &packet, seconds, done, argument);
}

struct text_call {
	void (*done)(void *argument, const char *json, const struct lunkit_error *err);
	void *argument;
};

static void text_done(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct text_call *call = argument;
	struct lunkit_error none = LUNKIT_ERROR_INIT;
	if (!reply)
		call->done(call->argument, NULL, err);
	else if (reply->result < 0)
		call->done(call->argument, NULL, &reply->error);
	else
		call->done(call->argument, reply->text_length ? reply->text : "{}", &none);
	free(call);
}

static void lun_text(struct lun *lun, enum protocol_type type,
		     void (*done)(void *argument, const char *json, const struct lunkit_error *err), void *argument)
{
	struct text_call *call = control_alloc(sizeof(*call));
	call->done = done;
	call->argument = argument;
	lun_call(lun, type, 0, 0, CALL_SECONDS, text_done, call);
}

void lun_info(struct lun *lun, void (*done)(void *argument, const char *json, const struct lunkit_error *err), void *argument)
{
	lun_text(lun, PROTOCOL_INFO, done, argument);
}

void lun_statistics(struct lun *lun, void (*done)(void *argument, const char *json, const struct lunkit_error *err), void *argument)
{
	lun_text(lun, PROTOCOL_STATUS, done, argument);
}

/* ---- the disks here ---- */

struct rescan_task {
	struct task task;
	struct target_root root;
	struct backstore_id backstore;
};

static void rescan_once_work(struct task *task)
{
	struct rescan_task *rescan = (struct rescan_task *)task;
	struct exports exports;
	char disk[DISK_NAME_MAX];
	if (exports_read(&rescan->root, &exports) < 0)
		return;
	for (size_t i = 0; i < exports.count; i++)
		if (backstore_id_equal(&exports.items[i].backstore, &rescan->backstore) &&
		    disk_find(&rescan->root, &exports.items[i], disk) == 0)
			disk_rescan(&rescan->root, disk);
	exports_free(&exports);
}

static void rescan_once_done(struct task *task)
{
	free(task);
}

/* Whoever changed the size: Linux looks at a disk's size again only when it is told to. */
static void rescan_disks(struct lun *lun)
{
	struct rescan_task *rescan = control_alloc(sizeof(*rescan));
	rescan->task.work = rescan_once_work;
	rescan->task.done = rescan_once_done;
	rescan->root = lun->control->root;
	rescan->backstore = lun->backstore;
	tasks_start(lun->control->short_tasks, &rescan->task);
}

/* ---- the kernel's question ---- */

struct size_question {
	struct control *control;
	uint64_t lun;
	struct target_event *event;
};

static void question_end(struct size_question *question, int result)
{
	target_event_answer(question->event, result);
	free(question);
}

static void capacity_done(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct size_question *question = argument;
	struct lun *lun = lun_by_id(question->control, question->lun);
	int r = !reply ? -err->code : reply->result;
	if (lun && r < 0)
		log_error("%s: cannot change the size: %s", lun->backstore.name, reply ? reply->error.message : err->message);
	if (lun && r >= 0) {
		lun->size = question->event->size;
		log_info("%s: has %" PRIu64 " bytes now", lun->backstore.name, lun->size);
		control_note_failure(lun->control, lun->backstore.name, NULL);
		rescan_disks(lun);
	}
	question_end(question, r < 0 ? r : 0);
}

static void question_accept(struct size_question *question, struct lun *lun)
{
	lun_call(lun, PROTOCOL_CAPACITY, question->event->size, 0, CALL_SECONDS, capacity_done, question);
}

static void adopt_done(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct size_question *question = argument;
	struct lun *lun = lun_by_id(question->control, question->lun);
	if (!lun || !reply || reply->result < 0) {
		if (lun)
			log_error("%s: cannot change the size: %s", lun->backstore.name, reply ? reply->error.message : err->message);
		question_end(question, !reply ? -err->code : reply->result < 0 ? reply->result : -ENODEV);
		return;
	}
	lun->image_size = reply->value;
	if (question->event->size == lun->image_size) {
		question_accept(question, lun);
		return;
	}
	struct lunkit_error wrong = LUNKIT_ERROR_INIT;
	lunkit_error_set(&wrong, EINVAL, "size %" PRIu64 " is not that of the image %s, which is %" PRIu64, question->event->size,
			 lun->image, lun->image_size);
	lunkit_error_hint(&wrong, "resize the image: lunkit resize %s SIZE", lun->backstore.name);
	control_note_failure(question->control, lun->backstore.name, &wrong);
	question_end(question, -EINVAL);
}

void lun_size_event(struct lun *lun, struct target_event *event)
{
	if (event->size == lun->size) { /* as restoring a configuration does */
		target_event_answer(event, 0);
		return;
	}
	struct size_question *question = control_alloc(sizeof(*question));
	question->control = lun->control;
	question->lun = lun->id;
	question->event = event;
	if (event->size == 0 || event->size % lun->block_size) {
		log_error("%s: size %" PRIu64 " is not a multiple of the block size %u", lun->backstore.name, event->size, lun->block_size);
		question_end(question, -EINVAL);
	} else if (event->size == lun->image_size) {
		question_accept(question, lun);
	} else {
		lun_call(lun, PROTOCOL_RESIZE, 0, 0, CALL_SECONDS, adopt_done, question);
	}
}

/* ---- writing dev_size ---- */

struct size_task {
	struct task task;
	struct control *control;
	uint64_t lun;
	struct target_root root;
	struct backstore_id backstore;
	uint64_t size;
	int result;
};

static void size_work(struct task *task)
{
	struct size_task *size = (struct size_task *)task;
	size->result = backstore_write(&size->root, &size->backstore, "attrib/dev_size", size->size);
}

static void adjust_done(struct task *task)
{
	struct size_task *size = (struct size_task *)task;
	struct lun *lun = lun_by_id(size->control, size->lun);
	if (lun && size->result < 0)
		log_warning("%s: the disk keeps its size of %" PRIu64 " bytes, though the image has %" PRIu64 ": %s", lun->backstore.name,
			    lun->size, size->size, strerror(-size->result));
	free(size);
}

static void size_task_fill(struct size_task *task, struct lun *lun, uint64_t size)
{
	task->control = lun->control;
	task->lun = lun->id;
	task->root = lun->control->root;
	task->backstore = lun->backstore;
	task->size = size;
}

void lun_size_adjust(struct lun *lun)
{
	struct size_task *task = control_alloc(sizeof(*task));
	log_warning("%s: the image has %" PRIu64 " bytes, the disk %" PRIu64 ": the disk is put right", lun->backstore.name,
		    lun->image_size, lun->size);
	size_task_fill(task, lun, lun->image_size);
	task->task.work = size_work;
	task->task.done = adjust_done;
	tasks_start(lun->control->short_tasks, &task->task);
}

/* ---- resize ---- */

struct resize {
	struct size_task size; /* first member */
	void (*done)(void *argument, uint64_t size, const struct lunkit_error *err);
	void *argument;
	struct lunkit_error err;
};

static void resize_end(struct resize *resize)
{
	struct control *control = resize->size.control;
	uint64_t id = resize->size.lun;
	struct lun *lun = lun_by_id(control, id);
	if (lun)
		lun->resizing = false;
	resize->done(resize->argument, resize->size.size, &resize->err);
	free(resize);
	lun = lun_by_id(control, id);
	if (lun && lun->size_changed)
		lun_adopt_size(lun);
}

/* Tells the disks here, and waits until they show the size. */
static void rescan_work(struct task *task)
{
	struct resize *resize = (struct resize *)task;
	const struct target_root *root = &resize->size.root;
	struct exports exports;
	char disk[DISK_NAME_MAX];
	if (exports_read(root, &exports) < 0)
		return;
	for (size_t i = 0; i < exports.count; i++) {
		const struct export *export = &exports.items[i];
		if (!backstore_id_equal(&export->backstore, &resize->size.backstore) || disk_find(root, export, disk) < 0)
			continue;
		uint64_t shown = 0;
		for (unsigned tries = 0; tries < RESCAN_TRIES && shown != resize->size.size; tries++) {
			if (tries % 20 == 0)
				disk_rescan(root, disk);
			if (disk_size(root, disk, &shown) < 0)
				break; /* it was removed */
			if (shown != resize->size.size)
				usleep(RESCAN_STEP_MS * 1000);
		}
		if (shown && shown != resize->size.size) {
			lunkit_error_set(&resize->err, ETIMEDOUT, "the image has %" PRIu64 " bytes now, but /dev/%s still shows %" PRIu64,
					 resize->size.size, disk, shown);
			lunkit_error_hint(&resize->err, "try: echo 1 > /sys/class/block/%s/device/rescan", disk);
		}
	}
	exports_free(&exports);
}

static void rescan_done(struct task *task)
{
	resize_end((struct resize *)task);
}

static void resize_rescan(struct resize *resize)
{
	resize->size.task.work = rescan_work;
	resize->size.task.done = rescan_done;
	tasks_start(resize->size.control->long_tasks, &resize->size.task);
}

static void resize_written(struct task *task)
{
	struct resize *resize = (struct resize *)task;
	if (resize->size.result < 0) {
		lunkit_error_set(&resize->err, resize->size.result,
				 "the image has %" PRIu64 " bytes now, but the kernel target did not take the size: %s", resize->size.size,
				 strerror(-resize->size.result));
		lunkit_error_hint(&resize->err, "see lunkitd's log, and try again with: lunkit resize %.60s --adopt",
				  resize->size.backstore.name);
		resize_end(resize);
		return;
	}
	resize_rescan(resize);
}

/* The image has the new size: the device next. */
static void resize_follow(struct resize *resize, struct lun *lun, uint64_t size)
{
	resize->size.size = lun->image_size = size;
	if (settings_check_size(lun->control->settings, size, &resize->err) < 0) {
		resize_end(resize);
		return;
	}
	if (size == 0 || size % lun->block_size) {
		lunkit_error_set(&resize->err, EINVAL, "image %s has %" PRIu64 " bytes, not a multiple of the LUN's block size %u",
				 lun->image, size, lun->block_size);
		resize_end(resize);
		return;
	}
	if (lun->size == size) {
		resize_rescan(resize);
		return;
	}
	resize->size.task.work = size_work;
	resize->size.task.done = resize_written;
	tasks_start(resize->size.control->short_tasks, &resize->size.task);
}

static void resize_image_done(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct resize *resize = argument;
	struct lun *lun = lun_by_id(resize->size.control, resize->size.lun);
	if (!reply || reply->result < 0 || !lun) {
		resize->err = !reply ? *err : reply->error;
		if (!resize->err.code)
			lunkit_error_set(&resize->err, reply && reply->result < 0 ? reply->result : -ENODEV,
					 "the LUN could not be resized");
		resize_end(resize);
		return;
	}
	resize_follow(resize, lun, reply->value);
}

static void size_adopted(void *argument, uint64_t size, const struct lunkit_error *err)
{
	char *name = argument;
	if (err->code)
		log_error("%s: somebody changed the image's size, and the disk cannot follow: %s", name, err->message);
	else
		log_info("%s: somebody changed the image's size: the disk has %" PRIu64 " bytes now", name, size);
	free(name);
}

void lun_adopt_size(struct lun *lun)
{
	lun->size_changed = lun->resizing;
	/* What the storage has lost is lost, whatever anybody thinks of it. */
	if (!lun->resizing)
		lun_resize(lun, 0, LUNKIT_RESIZE_SHRINK, size_adopted, control_strdup(lun->backstore.name));
}

void lun_follow_size(struct lun *lun, uint64_t size, void (*done)(void *argument, uint64_t size, const struct lunkit_error *err),
		     void *argument)
{
	struct resize *resize = control_alloc(sizeof(*resize));
	size_task_fill(&resize->size, lun, size);
	resize->done = done;
	resize->argument = argument;
	lun->resizing = true;
	resize_follow(resize, lun, size);
}

void lun_resize(struct lun *lun, uint64_t size, uint32_t flags, void (*done)(void *argument, uint64_t size, const struct lunkit_error *err),
		void *argument)
{
	struct resize *resize = control_alloc(sizeof(*resize));
	size_task_fill(&resize->size, lun, size);
	resize->done = done;
	resize->argument = argument;
	if (lun->resizing)
		lunkit_error_set(&resize->err, EBUSY, "LUN '%s' is being resized already", lun->backstore.name);
	else if (size % lun->block_size) {
		lunkit_error_set(&resize->err, EINVAL, "%" PRIu64 " bytes are not a multiple of the LUN's block size %u", size,
				 lun->block_size);
		lunkit_error_hint(&resize->err, "the next size that is: %" PRIu64, align_up(size, lun->block_size));
	} else {
		settings_check_size(lun->control->settings, size, &resize->err);
	}
	if (resize->err.code) {
		done(argument, 0, &resize->err);
		free(resize);
		return;
	}
	lun->resizing = true;
	lun_call(lun, PROTOCOL_RESIZE, size, flags, RESIZE_SECONDS, resize_image_done, resize);
}
