/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Attaching again what --persist recorded, at boot: each record is an attach of its own, and what fails is told with its name. Main thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/lun.h"
#include "control/record.h"
#include "control/state.h"

struct restore {
	struct control *control;
	unsigned waiting;
	struct names names, errors;
	void (*done)(void *argument, const struct names *names, const struct names *errors);
	void *argument;
};

struct restore_entry {
	struct restore *restore;
	char name[64];
};

static void restore_release(struct restore *restore)
{
	if (--restore->waiting)
		return;
	restore->done(restore->argument, &restore->names, &restore->errors);
	names_free(&restore->names);
	names_free(&restore->errors);
	free(restore);
}

static void restore_attached(void *argument, struct lun *lun, const struct lunkit_error *err)
{
	struct restore_entry *entry = argument;
	if (lun) {
		names_add(&entry->restore->names, entry->name);
	} else {
		char *text = NULL;
		control_note_failure(entry->restore->control, entry->name, err);
		if (asprintf(&text, "%s: %s%s%s", entry->name, err->message, err->hint[0] ? "\n" : "", err->hint) > 0)
			names_add(&entry->restore->errors, text);
		free(text);
	}
	restore_release(entry->restore);
	free(entry);
}

static void restore_one(struct restore *restore, const char *name)
{
	struct record record;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct attach_options options = { .cache = ATTACH_CACHE_UNSET };
	struct restore_entry *entry = control_alloc(sizeof(*entry));
	entry->restore = restore;
	snprintf(entry->name, sizeof(entry->name), "%s", name);
	restore->waiting++;
	if (record_read(restore->control->settings->state_directory, name, &record, &err) < 0 ||
	    attach_fabric_parse(record.fabric, &options.fabric, &err) < 0) {
		restore_attached(entry, NULL, &err);
		return;
	}
	strcpy(options.name, record.name);
	strcpy(options.serial, record.serial);
	options.block_size = record.block_size;
	/* The record has the cache mode as it was: none is written as nothing, and must not become today's default. */
	struct reference reference;
	if (reference_parse(record.image, &reference, NULL) == 0)
		options.cache = (int)reference.cache;
	control_attach(restore->control, record.image, &options, restore_attached, entry);
}

void control_restore(struct control *control, void (*done)(void *argument, const struct names *names, const struct names *errors),
		     void *argument)
{
	struct restore *restore = control_alloc(sizeof(*restore));
	restore->control = control;
	restore->done = done;
	restore->argument = argument;
	restore->waiting = 1;
	for (size_t i = 0; i < control->records.count; i++)
		if (!control_lun_by_name(control, control->records.items[i]))
			restore_one(restore, control->records.items[i]);
	restore_release(restore);
}
