/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the sources of this folder share: the one struct control. Main thread. */

#include <systemd/sd-event.h>

#include "base/list.h"
#include "control/control.h"
#include "control/handlers.h"
#include "control/settings.h"
#include "control/task.h"
#include "host/process.h"
#include "target/events.h"
#include "target/files.h"
#include "target/queue.h"

#define FAILURES_MAX 16
#define SECOND UINT64_C(1000000)

/* Something that went wrong where nobody could be told at once; shown by status until the same name works. */
struct failure {
	char name[64];
	struct lunkit_error err;
};

struct survey_run;

struct control {
	struct control_config config;
	const struct settings *settings;
	struct target_root root;
	sd_event *event;
	sd_event_source *queue_source, *stop_timer;
	struct queue queue;
	struct tasks *short_tasks; /* each ends soon, unless the kernel hangs */
	struct tasks *long_tasks;  /* attach and detach: these wait for others */
	struct target_events *events;
	struct worker_config worker;
	struct handlers handlers;
	unsigned live_workers;
	uint64_t start_time; /* CLOCK_REALTIME, microseconds */

	struct list luns; /* struct lun */
	uint64_t last_lun;
	struct list jobs; /* struct job, also those that have ended lately; oldest first */
	uint64_t last_job;
	struct list attaches; /* struct attach, under way */
	struct list detaches; /* struct detach, under way */
	struct names records; /* names with a record */
	struct failure failures[FAILURES_MAX];
	unsigned failure_count;

	struct survey_run *survey; /* the one under way */
	struct list survey_next;   /* waiters that want one that starts later */
	uint64_t survey_time;	   /* CLOCK_MONOTONIC of the last one's start; 0: never or outdated */

	bool refresh_suspended;

	bool target_ready, stopping;
	void (*stopped)(void *argument);
	void *stopped_argument;
};

/*
 * Whether a LUN of this name is being made or removed at this moment. Neither begins while the other is under way: configfs lets a device's removal wait for its being
 * enabled and lets nobody open its files meanwhile, which being enabled needs.
 */
bool attach_is_under_way(const struct control *control, const char *name);
bool detach_is_under_way(const struct control *control, const char *name);

/* Remembers (and logs) a failure, or forgets it when err is NULL. */
void control_note_failure(struct control *control, const char *name, const struct lunkit_error *err);
const struct lunkit_error *control_find_failure(const struct control *control, const char *name);

/* One shot after usec; *source is replaced. */
void control_timer(struct control *control, sd_event_source **source, uint64_t usec, sd_event_time_handler_t handler, void *userdata);
uint64_t control_now(const struct control *control);

/* malloc that ends the process when there is no memory: a daemon that has promised an answer can't go on without one, and the next one finds the devices. */
void *control_alloc(size_t size);
char *control_strdup(const char *text);

/* Called when a worker or a task has ended: whether a shutdown is complete. */
void control_check_stopped(struct control *control);
