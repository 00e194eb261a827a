/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the kernel target's events mean for the LUN table. Main thread. Every event is answered exactly once: here, or by lun.c when the worker has said what is needed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/lun.h"
#include "control/state.h"

static int parse_device(const struct target_event *event, struct lun *lun, struct lunkit_error *err)
{
	char kind[REFERENCE_KIND_MAX];
	const char *slash = strchr(event->cfgstring, '/');
	size_t length = slash ? (size_t)(slash - event->cfgstring) : 0;
	if (length == 0 || length >= sizeof(kind))
		return lunkit_error_set(err, EINVAL, "'%s' is not KIND/IMAGE", event->cfgstring);
	memcpy(kind, event->cfgstring, length);
	kind[length] = '\0';
	const struct handlers *handlers = &lun->control->handlers;
	bool known = false;
	for (size_t i = 0; i < handlers->count; i++)
		known = known || strcmp(handlers->items[i].kind, kind) == 0;
	if (!known) { /* libtcmu also takes a beginning of a kind for the kind */
		lunkit_error_set(err, ENOENT, "there is no handler '%s'", kind);
		return strcmp(kind, "qcow") == 0
			       ? lunkit_error_hint(err, "tcmu-runner's qcow is qcow2 or raw here; lunkitd(8) says how to change it")
			       : -ENOENT;
	}
	int r = reference_parse_cfgstring(kind, slash + 1, &lun->reference, err);
	if (r < 0)
		return r;
	return settings_check_allowed(lun->control->settings, &lun->reference, err);
}

static char *format_image(const struct reference *reference)
{
	char text[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX + 64];
	if (reference_format(reference, text, sizeof(text), NULL) < 0)
		snprintf(text, sizeof(text), "%s:%s", reference->kind, reference->name);
	return control_strdup(text);
}

static void handle_added(struct control *control, struct target_event *event)
{
	struct lun *lun = control_alloc(sizeof(*lun));
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lun->control = control;
	lun->key = KEY_NONE;
	lun->id = ++control->last_lun;
	lun->device = event->device;
	lun->backstore = event->backstore;
	lun->ring_length = event->ring_length;
	lun->uio_fd = event->uio_fd;
	event->uio_fd = -1;
	lun->size = event->info.size;
	lun->block_size = event->info.block_size ? event->info.block_size : 512;
	lun->max_sectors = event->info.max_sectors;
	lun->facts.fabric = "none";
	lun->persistent = names_contain(&control->records, lun->backstore.name);
	list_init(&lun->waiters);
	list_add_tail(&control->luns, &lun->node);
	bool existing = event->existing;
	if (!existing)
		lun->added = event;

	int r = parse_device(event, lun, &err);
	attach_take_key(control, lun->backstore.name, &lun->key);
	if (r < 0)
		snprintf(lun->reference.name, sizeof(lun->reference.name), "?");
	lun->image = format_image(&lun->reference);
	lun->write_cache = existing ? event->info.write_cache : lun->reference.cache != REFERENCE_CACHE_WRITETHROUGH;
	if (event->info.serial[0])
		strcpy(lun->serial, event->info.serial);
	else
		reference_serial(&lun->reference, lun->serial);
	strcpy(lun->facts.serial, lun->serial);
	if (existing)
		lun->memory = memory_load(control->settings->runtime_directory, &lun->backstore, lun->serial);
	if (r == 0 && control->stopping)
		r = lunkit_error_set(&err, ESHUTDOWN, "lunkitd is stopping");
	if (r < 0 && existing)
		lun_hold(lun, &err);
	else if (r < 0)
		lun_refuse(lun, &err);
	else {
		if (existing)
			lun_show(lun); /* lun_take_over() starts its worker */
		else
			lun_start_worker(lun);
	}
	if (existing)
		target_event_answer(event, 0);
}

static void handle_write_cache(struct lun *lun, struct target_event *event)
{
	bool changed = lun->write_cache != event->write_cache;
	lun->write_cache = event->write_cache;
	target_event_answer(event, 0);
	if (changed) {
		log_info("%s: write cache turned %s", lun->backstore.name, lun->write_cache ? "on" : "off");
		lun_replace_worker(lun);
	}
}

static void handle_cfgstring(struct lun *lun, struct target_event *event)
{
	struct reference reference;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	/* Other contents under the same disk would be a catastrophe for whoever has it mounted; the same value comes from restoring a configuration. */
	const char *rest = strchr(event->cfgstring, '/');
	char kind[REFERENCE_KIND_MAX] = "";
	if (rest && (size_t)(rest - event->cfgstring) < sizeof(kind))
		memcpy(kind, event->cfgstring, (size_t)(rest - event->cfgstring));
	int r = rest ? reference_parse_cfgstring(kind, rest + 1, &reference, &err) : -EINVAL;
	bool same = r == 0 && strcmp(reference.kind, lun->reference.kind) == 0 && strcmp(reference.name, lun->reference.name) == 0 &&
		    strcmp(reference.options, lun->reference.options) == 0 && reference.cache == lun->reference.cache &&
		    reference.read_only == lun->reference.read_only;
	if (!same)
		log_error("%s: its image or options can't be changed while it is attached: detach it and attach it again",
			  lun->backstore.name);
	target_event_answer(event, same ? 0 : -EOPNOTSUPP);
}

void lun_handle_event(struct control *control, struct target_event *event)
{
	if (event->type == TARGET_ADDED) {
		handle_added(control, event);
		return;
	}
	struct lun *lun = lun_by_device(control, event->device);
	if (!lun || lun->state == LUN_STOPPING) {
		target_event_answer(event, event->type == TARGET_REMOVED ? 0 : -ENODEV);
		return;
	}
	switch (event->type) {
	case TARGET_REMOVED:
		lun->removed = event;
		lun_stop(lun);
		return;
	case TARGET_SIZE:
		lun_size_event(lun, event);
		return;
	case TARGET_WRITE_CACHE:
		handle_write_cache(lun, event);
		return;
	case TARGET_CFGSTRING:
		handle_cfgstring(lun, event);
		return;
	case TARGET_ADDED:
	case TARGET_STARTED:
	case TARGET_FAILED:
		break;
	}
	target_event_answer(event, -EOPNOTSUPP);
}
