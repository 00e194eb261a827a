/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A look ("run") copies the names of the LUNs, works on its own memory, and its results are moved into the LUNs that still exist. Who wants facts that are newer than
 * now waits for the next run that starts.
 */
#include "control/survey.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/lun.h"
#include "control/state.h"
#include "target/disk.h"
#include "target/fabric.h"

#define BRIEF_AGE SECOND
#define BRIEF_WAIT_NS 300000000L

struct survey_waiter {
	struct list node;
	void (*done)(void *argument);
	void *argument;
};

struct survey_entry {
	uint64_t lun;
	struct backstore_id backstore;
	struct lun_facts facts;
};

struct survey_run {
	struct task task;
	struct control *control;
	struct target_root root;
	struct list waiters;
	uint64_t start;
	struct survey_entry *entries;
	size_t count;
	/* for control_refresh_briefly() */
	pthread_mutex_t lock;
	pthread_cond_t finished_condition;
	bool finished;
	bool applied, waited; /* main thread's; waited: control_refresh_briefly() has, in vain */
};

void survey_wwn(const char *serial, char ret[static 33])
{
	size_t used = (size_t)sprintf(ret, "6001405");
	for (; *serial && used < 32; serial++)
		if (isxdigit((unsigned char)*serial))
			ret[used++] = (char)tolower((unsigned char)*serial);
	while (used < 32)
		ret[used++] = '0';
	ret[used] = '\0';
}

static const char *fabric_word(enum fabric fabric)
{
	switch (fabric) {
	case FABRIC_LOOP:
		return "loop";
	case FABRIC_VHOST:
		return "vhost";
	case FABRIC_ISCSI:
		return "iscsi";
	case FABRIC_OTHER:
		break;
	}
	return "other";
}

static void add_disk(const struct target_root *root, const struct export *export, struct lun_facts *facts)
{
	char disk[DISK_NAME_MAX], path[64];
	struct names links;
	if (disk_find(root, export, disk) < 0)
		return;
	snprintf(path, sizeof(path), "/dev/%s", disk);
	names_add(&facts->devices, path);
	if (disk_links(root, disk, &links) < 0)
		return;
	for (size_t i = 0; i < links.count; i++) {
		char *link = NULL;
		if (asprintf(&link, "/dev/disk/by-id/%s", links.items[i]) > 0)
			names_add(&facts->links, link);
		free(link);
	}
	names_free(&links);
}

void survey_look(const struct target_root *root, const struct exports *exports, const struct backstore_id *backstore,
		 struct lun_facts *facts)
{
	struct backstore_info info = { 0 };
	*facts = (struct lun_facts){ .fabric = "none" };
	backstore_read_identity(root, backstore, &info);
	strcpy(facts->serial, info.serial);
	for (size_t i = 0; i < exports->count; i++) {
		const struct export *export = &exports->items[i];
		if (!backstore_id_equal(&export->backstore, backstore))
			continue;
		char *text = NULL;
		const char *word = fabric_word(export->fabric);
		if (asprintf(&text, "%s %s", export->fabric == FABRIC_OTHER ? export->folder : word, export->wwn) > 0)
			names_add(&facts->exports, text);
		free(text);
		if (facts->exports.count == 1)
			facts->fabric = word;
		else if (strcmp(facts->fabric, word) != 0)
			facts->fabric = "mixed";
		if (export->fabric == FABRIC_LOOP)
			add_disk(root, export, facts);
	}
}

static void survey_work(struct task *task)
{
	struct survey_run *run = (struct survey_run *)task;
	struct exports exports = { 0 };
	exports_read(&run->root, &exports);
	for (size_t i = 0; i < run->count; i++)
		survey_look(&run->root, &exports, &run->entries[i].backstore, &run->entries[i].facts);
	exports_free(&exports);
	pthread_mutex_lock(&run->lock);
	run->finished = true;
	pthread_cond_signal(&run->finished_condition);
	pthread_mutex_unlock(&run->lock);
}

void survey_take(struct lun *lun, struct lun_facts *facts)
{
	lun_facts_free(&lun->facts);
	lun->facts = *facts;
	if (lun->facts.serial[0])
		strcpy(lun->serial, lun->facts.serial);
	else
		strcpy(lun->facts.serial, lun->serial);
	survey_wwn(lun->facts.serial, lun->facts.wwn);
}

/* Main thread, after work has finished. */
static void survey_apply(struct survey_run *run)
{
	if (run->applied)
		return;
	run->applied = true;
	run->control->survey_time = run->start;
	for (size_t i = 0; i < run->count; i++) {
		struct lun *lun = lun_by_id(run->control, run->entries[i].lun);
		if (!lun) {
			lun_facts_free(&run->entries[i].facts);
			continue;
		}
		survey_take(lun, &run->entries[i].facts);
	}
}

static void survey_begin(struct control *control);

static void survey_done(struct task *task)
{
	struct survey_run *run = (struct survey_run *)task;
	struct control *control = run->control;
	survey_apply(run);
	control->survey = NULL;
	if (!list_empty(&control->survey_next))
		survey_begin(control);
	for (struct list *node; (node = list_pop(&run->waiters));) {
		struct survey_waiter *waiter = list_entry(node, struct survey_waiter, node);
		waiter->done(waiter->argument);
		free(waiter);
	}
	pthread_mutex_destroy(&run->lock);
	pthread_cond_destroy(&run->finished_condition);
	free(run->entries);
	free(run);
}

static void survey_begin(struct control *control)
{
	struct survey_run *run = control_alloc(sizeof(*run));
	run->task.work = survey_work;
	run->task.done = survey_done;
	run->control = control;
	run->root = control->root;
	run->start = control_now(control);
	list_init(&run->waiters);
	for (struct list *node; (node = list_pop(&control->survey_next));)
		list_add_tail(&run->waiters, node);
	size_t count = 0;
	list_for_each (node, &control->luns)
		count++;
	run->entries = control_alloc((count + 1) * sizeof(*run->entries));
	list_for_each (node, &control->luns) {
		const struct lun *lun = list_entry(node, struct lun, node);
		run->entries[run->count].lun = lun->id;
		run->entries[run->count++].backstore = lun->backstore;
	}
	pthread_mutex_init(&run->lock, NULL);
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&run->finished_condition, &attributes);
	pthread_condattr_destroy(&attributes);
	control->survey = run;
	tasks_start(control->short_tasks, &run->task);
}

void control_refresh(struct control *control, void (*done)(void *argument), void *argument)
{
	struct survey_waiter *waiter = control_alloc(sizeof(*waiter));
	waiter->done = done;
	waiter->argument = argument;
	list_add_tail(&control->survey_next, &waiter->node);
	if (!control->survey)
		survey_begin(control);
}

void control_refresh_briefly(struct control *control)
{
	uint64_t now = control_now(control);
	if (control->refresh_suspended || (control->survey && control->survey->waited))
		return;
	if (control->survey_time && now - control->survey_time < BRIEF_AGE)
		return;
	if (!control->survey)
		survey_begin(control);
	struct survey_run *run = control->survey;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += BRIEF_WAIT_NS;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&run->lock);
	int code = 0;
	while (!run->finished && code == 0)
		code = pthread_cond_timedwait(&run->finished_condition, &run->lock, &until);
	bool finished = run->finished;
	pthread_mutex_unlock(&run->lock);
	if (finished)
		survey_apply(run);
	else
		run->waited = true; /* it hangs with the kernel: not again */
}

void control_suspend_refresh(struct control *control, bool suspended)
{
	control->refresh_suspended = suspended;
}
