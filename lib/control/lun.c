/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The LUN table follows the kernel target's events, whoever made the device, and each LUN has at most one worker:
 *
 *     ADDED ──> STARTING ──READY──> SERVING <──READY── RESTARTING <──┐
 *                  │ failed                  │ worker died       │ pause  │
 *                  v                         └──> block, reset ──┘        │ lun_retry()
 *               answered with the error            too often ──> HELD ────┘
 *     REMOVED ──> STOPPING: the worker drains, the event is answered when it is gone
 *
 * A device that is being enabled has to be answered: the image's size is put into it first. A device that was there when lunkitd started is answered at once, since the kernel
 * keeps its commands until a worker comes, and 64 of them then start side by side, once libtcmu is through (lun_take_over()). libtcmu has reset such a device's ring and lets commands
 * come again, while the I/O of a worker that was killed may still be on its way into the ring's data pages: so the device is blocked and reset once more, and served only by a worker that
 * holds the image's lock.
 *
 * A worker that dies leaves the ring as it was. block_dev=1 stops new commands, reset_ring=1 ends those in flight with BUSY, which initiators retry, then a new worker starts and
 * block_dev=0 lets commands come. The old worker's last I/O may still be on its way to the disk; it holds the image's lock until then, and the new worker's open() fails with
 * EAGAIN: that is waited for, not counted as a death.
 *
 * A held LUN is unblocked after reset_ring=2: what is in flight ends with an error at once, and what comes later fails after cmd_time_out (30 s unless it was changed), so that
 * no initiator hangs for ever; where cmd_time_out is 0, the ring is reset again from time to time.
 */
#include "control/lun.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "control/state.h"

#define READY_SECONDS 30
#define DRAIN_SECONDS 10
#define SETTLE_SECONDS 10
#define HELD_RESET (30 * SECOND)

static void lun_worker_ended(void *argument, const struct lunkit_error *failure);

const char *lun_state_name(enum lun_state state)
{
	switch (state) {
	case LUN_STARTING:
		return "starting";
	case LUN_SERVING:
		return "serving";
	case LUN_RESTARTING:
		return "restarting";
	case LUN_HELD:
		return "held";
	case LUN_STOPPING:
		return "stopping";
	}
	return "unknown";
}

void lun_facts_free(struct lun_facts *facts)
{
	names_free(&facts->exports);
	names_free(&facts->devices);
	names_free(&facts->links);
}

struct lun *lun_by_id(struct control *control, uint64_t id)
{
	list_for_each (node, &control->luns) {
		struct lun *lun = list_entry(node, struct lun, node);
		if (lun->id == id)
			return lun;
	}
	return NULL;
}

struct lun *lun_by_device(struct control *control, uint64_t device)
{
	list_for_each (node, &control->luns) {
		struct lun *lun = list_entry(node, struct lun, node);
		if (lun->device == device)
			return lun;
	}
	return NULL;
}

struct lun *lun_by_reference(struct control *control, const struct reference *reference)
{
	list_for_each (node, &control->luns) {
		struct lun *lun = list_entry(node, struct lun, node);
		if (strcmp(lun->reference.kind, reference->kind) == 0 && strcmp(lun->reference.name, reference->name) == 0)
			return lun;
	}
	return NULL;
}

pid_t lun_worker_pid(const struct lun *lun)
{
	return lun->channel ? channel_pid(lun->channel) : 0;
}

/* ---- actions on the device, on a task's thread ---- */

enum lun_action {
	ACTION_RESET,  /* block, then end what is in flight with BUSY */
	ACTION_SERVE,  /* unblock */
	ACTION_FAIL,   /* end what is in flight with an error, and unblock */
	ACTION_SETTLE, /* before the device is enabled: size, write cache, TMR notification */
};

struct action_task {
	struct task task;
	struct control *control;
	uint64_t lun;
	struct target_root root;
	struct backstore_id backstore;
	enum lun_action action;
	uint64_t size;
	bool write_cache;
	int result;
};

static void action_work(struct task *task)
{
	struct action_task *action = (struct action_task *)task;
	const struct target_root *root = &action->root;
	const struct backstore_id *id = &action->backstore;
	switch (action->action) {
	case ACTION_RESET:
		action->result = backstore_write(root, id, "action/block_dev", 1);
		if (action->result == 0)
			action->result = backstore_write(root, id, "action/reset_ring", 1);
		return;
	case ACTION_SERVE:
		action->result = backstore_write(root, id, "action/block_dev", 0);
		return;
	case ACTION_FAIL:
		action->result = backstore_write(root, id, "action/reset_ring", 2);
		backstore_write(root, id, "action/block_dev", 0);
		return;
	case ACTION_SETTLE:
		if (action->size)
			action->result = backstore_write(root, id, "attrib/dev_size", action->size);
		if (action->result == 0)
			action->result = backstore_write(root, id, "attrib/emulate_write_cache", action->write_cache);
		backstore_write(root, id, "attrib/tmr_notification", 1); /* kernels before 5.9 have none */
		return;
	}
}

static void action_done(struct task *task);

static void lun_act(struct lun *lun, enum lun_action action, uint64_t size)
{
	struct action_task *task = control_alloc(sizeof(*task));
	task->task.work = action_work;
	task->task.done = action_done;
	task->control = lun->control;
	task->lun = lun->id;
	task->root = lun->control->root;
	task->backstore = lun->backstore;
	task->action = action;
	task->size = size;
	task->write_cache = lun->write_cache;
	if (action == ACTION_RESET)
		lun->blocked = true;
	tasks_start(lun->control->short_tasks, &task->task);
}

/* ---- settling ---- */

static void lun_settled(struct lun *lun, bool gone, const struct lunkit_error *err)
{
	struct list waiters;
	list_init(&waiters);
	for (struct list *node; (node = list_pop(&lun->waiters));)
		list_add_tail(&waiters, node);
	for (struct list *node; (node = list_pop(&waiters));) {
		struct lun_waiter *waiter = list_entry(node, struct lun_waiter, node);
		waiter->settled(waiter, gone ? NULL : lun, err);
	}
}

static void lun_free(struct lun *lun)
{
	struct lunkit_error gone = LUNKIT_ERROR_INIT;
	lunkit_error_set(&gone, ENODEV, "LUN '%s' was removed", lun->backstore.name);
	list_remove(&lun->node);
	if (lun->visible)
		lun->control->config.lun_removed(lun->control->config.argument, lun);
	lun_settled(lun, true, &gone);
	sd_event_source_disable_unref(lun->timer);
	lun_watch_end(lun);
	channel_free(lun->channel);
	if (lun->uio_fd >= 0)
		close(lun->uio_fd);
	lun_facts_free(&lun->facts);
	key_free(&lun->key);
	free(lun->image);
	free(lun);
}

void lun_show(struct lun *lun)
{
	if (lun->visible)
		return;
	lun->visible = true;
	lun->control->config.lun_added(lun->control->config.argument, lun);
}

static void lun_remember(const struct lun *lun)
{
	memory_store(lun->control->settings->runtime_directory, &lun->backstore, lun->serial, &lun->memory);
}

static void lun_serve(struct lun *lun)
{
	bool first = lun->state == LUN_STARTING;
	lun->state = LUN_SERVING;
	lun->reason = LUNKIT_ERROR_INIT;
	lun->control->survey_time = 0;
	supervise_serving(&lun->supervise);
	control_note_failure(lun->control, lun->backstore.name, NULL);
	if (first)
		log_info("%s: serving %s, %llu bytes", lun->backstore.name, lun->image, (unsigned long long)lun->size);
	else
		log_info("%s: serving again", lun->backstore.name);
	lun_remember(lun);
	lun_show(lun);
	lun_watch(lun);
	if (lun->blocked) {
		lun->blocked = false;
		lun_act(lun, ACTION_SERVE, 0);
	}
	struct lunkit_error none = LUNKIT_ERROR_INIT;
	lun_settled(lun, false, &none);
	if (lun->control->target_ready && lun->image_size != lun->size)
		lun_size_adjust(lun);
}

/* The device could not be started while the kernel waits for it: it will not exist. */
void lun_refuse(struct lun *lun, const struct lunkit_error *err)
{
	struct target_event *added = lun->added;
	lun->added = NULL;
	control_note_failure(lun->control, lun->backstore.name, err);
	target_event_answer(added, err->code ? -err->code : -EIO);
	struct control *control = lun->control;
	lun_free(lun);
	control_check_stopped(control);
}

static int on_held(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct lun *lun = userdata;
	(void)usec;
	lun_act(lun, ACTION_FAIL, 0);
	sd_event_source_set_time_relative(source, HELD_RESET);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

void lun_hold(struct lun *lun, const struct lunkit_error *err)
{
	lun->state = LUN_HELD;
	lun->reason = *err;
	lun->blocked = false;
	lunkit_error_hint(&lun->reason, "once the cause is removed, attach the image again: lunkit attach '%.160s'", lun->image);
	log_error("%s: held, its commands fail: %s", lun->backstore.name, err->message);
	lun_act(lun, ACTION_FAIL, 0);
	control_timer(lun->control, &lun->timer, HELD_RESET, on_held, lun);
	lun_show(lun);
	lun_settled(lun, false, &lun->reason);
}

/* ---- workers ---- */

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct lun *lun = userdata;
	(void)source;
	(void)usec;
	lun_start_worker(lun);
	return 0;
}

/* Blocks the device, ends what is in flight with BUSY, and starts a worker once that is done and usec have passed. */
static void lun_restart_after(struct lun *lun, uint64_t usec)
{
	lun->state = LUN_RESTARTING;
	/* Armed first, and off: action_done() lets it run. */
	control_timer(lun->control, &lun->timer, usec, on_pause_over, lun);
	sd_event_source_set_enabled(lun->timer, SD_EVENT_OFF);
	lun_act(lun, ACTION_RESET, 0);
}

/* What happens after a worker, or the attempt to start one, has failed. */
static void lun_recover(struct lun *lun, const struct lunkit_error *failure)
{
	if (lun->added) {
		lun_refuse(lun, failure);
		return;
	}
	if (lun->control->stopping) {
		control_check_stopped(lun->control);
		return;
	}
	/* A key that no longer fits is read again: it may have been changed where it is kept. */
	if (failure->code == EACCES && lun->reference.key_file[0])
		key_free(&lun->key);
	uint64_t pause = 0, now = control_now(lun->control);
	bool busy = !lun->was_ready && failure->code == EAGAIN;
	enum supervise_verdict verdict = busy ? supervise_busy(&lun->supervise, now, &pause) : supervise_died(&lun->supervise, now, &pause);
	if (!busy)
		log_warning("%s: %s", lun->backstore.name, failure->message);
	switch (verdict) {
	case SUPERVISE_HOLD:
		lun_hold(lun, failure);
		return;
	case SUPERVISE_RESTART:
		lun->reason = *failure;
		lun_restart_after(lun, pause);
		return;
	}
}

void lun_stop(struct lun *lun)
{
	lun->state = LUN_STOPPING;
	lun->timer = sd_event_source_disable_unref(lun->timer);
	if (lun->channel) {
		/* The kernel has no command left: there is only the image to be flushed and closed. */
		channel_drain(lun->channel, DRAIN_SECONDS);
	} else {
		struct lunkit_error none = LUNKIT_ERROR_INIT;
		lun_worker_ended(lun, &none);
	}
}

static void lun_worker_ended(void *argument, const struct lunkit_error *failure)
{
	struct lun *lun = argument;
	channel_free(lun->channel);
	lun->channel = NULL;
	switch (lun->state) {
	case LUN_STOPPING: {
		struct target_event *removed = lun->removed;
		struct control *control = lun->control;
		log_info("%s: removed", lun->backstore.name);
		memory_forget(control->settings->runtime_directory, &lun->backstore);
		lun_free(lun);
		target_event_answer(removed, 0);
		control_check_stopped(control);
		return;
	}
	case LUN_HELD:
		return;
	case LUN_STARTING:
	case LUN_SERVING:
	case LUN_RESTARTING:
		break;
	}
	if (lun->replacing && failure->code == 0) {
		/* It drained: nothing is in flight, and the ring is as it should be. */
		lun->replacing = false;
		if (!lun->control->stopping)
			lun_start_worker(lun);
		else
			control_check_stopped(lun->control);
		return;
	}
	lun->replacing = false;
	struct lunkit_error why = *failure;
	if (!why.code)
		lunkit_error_set(&why, EIO, "the worker ended unexpectedly");
	lun_recover(lun, &why);
}

static int check_size(const struct lun *lun, uint64_t size, struct lunkit_error *err)
{
	/* one that serves already goes on */
	if (lun->added && settings_check_size(lun->control->settings, size, err) < 0)
		return -EFBIG;
	if (size >= lun->block_size && size % lun->block_size == 0)
		return 0;
	lunkit_error_set(err, EINVAL, "image %s has %llu bytes, not a multiple of its LUN's block size %u", lun->image,
			 (unsigned long long)size, lun->block_size);
	return lunkit_error_hint(err, "make it fit: truncate -s '%%%u' '%.160s'", lun->block_size, lun->reference.name);
}

static void ignore_reply(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	(void)argument;
	(void)reply;
	(void)err;
}

/* Somebody removes the device while it is being enabled: configfs lets nobody open its files then, and the removal waits until the enabling has failed. */
static int on_settle_late(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct lun *lun = userdata;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	(void)source;
	(void)usec;
	lunkit_error_set(&err, ETIMEDOUT, "cannot configure backstore '%s': it is being removed", lun->backstore.name);
	lun_refuse(lun, &err);
	return 0;
}

static void lun_worker_ready(void *argument, const struct protocol_ready *ready)
{
	struct lun *lun = argument;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (lun->state == LUN_STOPPING || lun->state == LUN_HELD)
		return;
	lun->was_ready = true;
	lun->read_only = lun->reference.read_only || (ready->flags & PROTOCOL_READ_ONLY);
	snprintf(lun->notice, sizeof(lun->notice), "%s", ready->notice);
	if (ready->notice[0])
		log_warning("%s: %s", lun->backstore.name, ready->notice);
	if (check_size(lun, ready->size, &err) < 0) {
		lun->was_ready = false; /* it never served */
		channel_fail(lun->channel, &err);
		return;
	}
	lun->image_size = ready->size;
	if (lun->added) {
		if (lun->size && lun->size != ready->size)
			log_warning("%s: the size given, %llu, is not the image's: it becomes %llu", lun->backstore.name,
				    (unsigned long long)lun->size, (unsigned long long)ready->size);
		lun_act(lun, ACTION_SETTLE, lun->size != ready->size ? ready->size : 0);
		control_timer(lun->control, &lun->timer, SETTLE_SECONDS * SECOND, on_settle_late, lun);
		return;
	}
	/* The disk keeps its size until the kernel, and with it the initiators, know the new one. */
	if (lun->size < lun->image_size)
		lun_call(lun, PROTOCOL_CAPACITY, lun->size, 0, 10, ignore_reply, NULL);
	lun_serve(lun);
}

static void lun_worker_notice(void *argument, const char *text)
{
	struct lun *lun = argument;
	snprintf(lun->notice, sizeof(lun->notice), "%.*s", (int)sizeof(lun->notice) - 1, text);
	log_warning("%s: %s", lun->backstore.name, lun->notice);
}

static void lun_worker_modes(void *argument, uint32_t modes)
{
	struct lun *lun = argument;
	lun->memory.modes = modes;
	lun_remember(lun);
}

static void lun_worker_memo(void *argument, const char *text)
{
	struct lun *lun = argument;
	snprintf(lun->memo, sizeof(lun->memo), "%s", text);
}

static void lun_worker_size_changed(void *argument)
{
	lun_adopt_size(argument);
}

static void lun_worker_ask(void *argument, uint32_t id, const struct protocol_query *query)
{
	lun_query(argument, id, query);
}

static void fill_start(const struct lun *lun, struct protocol_packet *packet)
{
	*packet = (struct protocol_packet){ .fds = { lun->uio_fd, -1, -1 }, .fd_count = 1 };
	packet->message.type = PROTOCOL_START_LUN;
	struct protocol_start *start = &packet->message.start;
	snprintf(start->kind, sizeof(start->kind), "%s", lun->reference.kind);
	snprintf(start->name, sizeof(start->name), "%s", lun->reference.name);
	snprintf(start->options, sizeof(start->options), "%s", lun->reference.options);
	snprintf(start->label, sizeof(start->label), "%.63s", lun->backstore.name);
	snprintf(start->serial, sizeof(start->serial), "%s", lun->serial);
	snprintf(start->memo, sizeof(start->memo), "%s", lun->memo);
	start->ring_offset = 0;
	start->ring_length = lun->ring_length;
	start->ring_word = 4;
	start->flags = (lun->reference.read_only ? PROTOCOL_READ_ONLY : 0) | (lun->write_cache ? PROTOCOL_WRITE_CACHE : 0);
	start->cache = lun->reference.cache;
	start->modes = lun->memory.modes;
	start->block_size = lun->block_size;
	start->max_transfer_blocks = lun->max_sectors;
	start->uid = lun->control->settings->uid;
	start->gid = lun->control->settings->gid;
}

void lun_start_worker(struct lun *lun)
{
	struct control *control = lun->control;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct channel_config config = {
		.event = control->event,
		.tasks = control->short_tasks,
		.worker = &control->worker,
		.runtime_directory = control->settings->runtime_directory,
		.label = lun->backstore.name,
		.path = reference_is_path(&lun->reference) ? lun->reference.name : NULL,
		.directories = handlers_backing(control, lun->reference.kind),
		.config = reference_config(&lun->reference),
		.identity = &lun->memory.identity,
		.may_write = !lun->reference.read_only,
		.count = &control->live_workers,
		.ready = lun_worker_ready,
		.ask = lun_worker_ask,
		.notice = lun_worker_notice,
		.modes = lun_worker_modes,
		.memo = lun_worker_memo,
		.size_changed = lun_worker_size_changed,
		.ended = lun_worker_ended,
		.argument = lun,
	};
	lun->was_ready = false;
	lun->generation++;
	lun->timer = sd_event_source_disable_unref(lun->timer);
	if ((lun->key.fd < 0 && control_open_key(&lun->reference, &lun->key, &err) < 0) || channel_new(&config, &lun->channel, &err) < 0) {
		lun_recover(lun, &err);
		return;
	}
	struct protocol_packet packet;
	fill_start(lun, &packet);
	key_add_to_start(&lun->key, &packet);
	channel_start(lun->channel, &packet, lun->key.fd >= 0 ? KEY_READY_SECONDS : READY_SECONDS);
}

static void action_done(struct task *task)
{
	struct action_task *action = (struct action_task *)task;
	struct lun *lun = lun_by_id(action->control, action->lun);
	if (lun && action->result < 0)
		log_warning("%s: cannot write to the device's configfs folder: %s", lun->backstore.name, strerror(-action->result));
	if (lun && action->action == ACTION_RESET && lun->state == LUN_RESTARTING && !lun->channel && lun->timer)
		sd_event_source_set_enabled(lun->timer, SD_EVENT_ONESHOT);
	if (lun && action->action == ACTION_SETTLE && lun->added) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		lun->timer = sd_event_source_disable_unref(lun->timer);
		if (action->result < 0) {
			lunkit_error_set(&err, action->result, "cannot configure backstore '%s': %s", lun->backstore.name,
					 strerror(-action->result));
			lun_refuse(lun, &err);
		} else if (lun->channel) {
			struct target_event *added = lun->added;
			lun->added = NULL;
			lun->size = lun->image_size;
			if (target_event_answer(added, 0))
				lun_serve(lun);
			else
				lun_free(lun); /* the kernel was told that it failed */
		}
	}
	free(action);
}

void lun_retry(struct lun *lun, struct lun_waiter *waiter)
{
	list_add_tail(&lun->waiters, &waiter->node);
	if (lun->state != LUN_HELD)
		return;
	log_info("%s: trying again", lun->backstore.name);
	supervise_forgive(&lun->supervise);
	lun_restart_after(lun, 0);
}

void lun_take_over(struct lun *lun)
{
	if (lun->state == LUN_STARTING && !lun->channel && !lun->added)
		lun_restart_after(lun, 0);
}

void lun_replace_worker(struct lun *lun)
{
	if (!lun->channel || lun->replacing)
		return;
	lun->replacing = true;
	if (lun->state == LUN_SERVING)
		lun->state = LUN_RESTARTING;
	channel_drain(lun->channel, DRAIN_SECONDS);
}

void lun_drain(struct lun *lun, unsigned seconds)
{
	if (lun->channel)
		channel_drain(lun->channel, seconds);
}
