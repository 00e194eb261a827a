/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The control process's middle: one main thread that owns all state and never blocks, the TCMU thread (target/events.c), and tasks for what may block. Everything
 * comes together in the main thread's event loop: the queue's eventfd, the workers' sockets and pidfds, timers, and the bus, which lib/daemon adds.
 */
#include "control/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "control/lun.h"
#include "control/record.h"
#include "control/state.h"

#define SHORT_TASKS_MAX 128
#define LONG_TASKS_MAX 16
#define STOP_STEP (SECOND / 20)
#define STOP_LIMIT (40 * SECOND)
#define DRAIN_SECONDS 30

void *control_alloc(size_t size)
{
	void *memory = calloc(1, size);
	if (!memory) {
		log_error("out of memory");
		abort();
	}
	return memory;
}

char *control_strdup(const char *text)
{
	char *copy = control_alloc(strlen(text) + 1);
	strcpy(copy, text);
	return copy;
}

uint64_t control_now(const struct control *control)
{
	uint64_t now;
	if (sd_event_now(control->event, CLOCK_MONOTONIC, &now) < 0)
		now = 0;
	return now ? now : 1;
}

void control_timer(struct control *control, sd_event_source **source, uint64_t usec, sd_event_time_handler_t handler, void *userdata)
{
	*source = sd_event_source_disable_unref(*source);
	if (sd_event_add_time_relative(control->event, source, CLOCK_MONOTONIC, usec, 0, handler, userdata) < 0) {
		log_error("cannot make a timer");
		abort();
	}
}

/* ---- failures ---- */

static void failure_remove(struct control *control, unsigned index)
{
	control->failure_count--;
	memmove(&control->failures[index], &control->failures[index + 1], (control->failure_count - index) * sizeof(control->failures[0]));
}

void control_note_failure(struct control *control, const char *name, const struct lunkit_error *err)
{
	for (unsigned i = 0; i < control->failure_count; i++)
		if (strncmp(control->failures[i].name, name, sizeof(control->failures[i].name) - 1) == 0) {
			failure_remove(control, i);
			break;
		}
	if (!err)
		return;
	if (control->failure_count == FAILURES_MAX)
		failure_remove(control, 0);
	struct failure *failure = &control->failures[control->failure_count++];
	snprintf(failure->name, sizeof(failure->name), "%.63s", name);
	failure->err = *err;
	log_error("%s: %s", name, err->message);
}

const struct lunkit_error *control_find_failure(const struct control *control, const char *name)
{
	for (unsigned i = 0; i < control->failure_count; i++)
		if (strncmp(control->failures[i].name, name, sizeof(control->failures[i].name) - 1) == 0)
			return &control->failures[i].err;
	return NULL;
}

/* ---- events ---- */

static void receive(struct target_event *event, void *argument)
{
	struct control *control = argument;
	if (event->type == TARGET_STARTED) {
		control->target_ready = true;
		target_event_answer(event, 0);
		control->config.target_ready(control->config.argument);
		list_for_each (node, &control->luns) {
			struct lun *lun = list_entry(node, struct lun, node);
			if (lun->state == LUN_SERVING && lun->size != lun->image_size)
				lun_size_adjust(lun);
			lun_take_over(lun);
		}
	} else if (event->type == TARGET_FAILED) {
		struct lunkit_error err = event->err;
		target_event_answer(event, 0);
		control->config.target_failed(control->config.argument, &err);
	} else {
		lun_handle_event(control, event);
	}
}

static int on_queue(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct control *control = userdata;
	(void)source;
	(void)fd;
	(void)events;
	queue_run(&control->queue);
	return 0;
}

int control_new(const struct control_config *config, struct control **ret, struct lunkit_error *err)
{
	struct control *control = control_alloc(sizeof(*control));
	control->config = *config;
	control->settings = config->settings;
	control->root = config->root;
	control->event = config->event;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	control->start_time = (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec / 1000;
	list_init(&control->luns);
	list_init(&control->jobs);
	list_init(&control->attaches);
	list_init(&control->detaches);
	list_init(&control->survey_next);
	worker_config_default(&control->worker);
	if (control->settings->handlers[0])
		control->worker.handlers = control->settings->handlers;
	int r = record_list(control->settings->state_directory, &control->records);
	if (r < 0)
		log_warning("cannot read the records in %s/luns: %s", control->settings->state_directory, strerror(-r));

	if ((r = queue_init(&control->queue)) < 0 || (r = tasks_new(&control->queue, SHORT_TASKS_MAX, &control->short_tasks)) < 0 ||
	    (r = tasks_new(&control->queue, LONG_TASKS_MAX, &control->long_tasks)) < 0 ||
	    (r = sd_event_add_io(control->event, &control->queue_source, control->queue.fd, EPOLLIN, on_queue, control)) < 0)
		return lunkit_error_set(err, r, "cannot start lunkitd's threads: %s", strerror(-r));
	/* What the kernel waits for comes first. */
	sd_event_source_set_priority(control->queue_source, SD_EVENT_PRIORITY_NORMAL - 10);
	r = handlers_start(control, err);
	if (r < 0)
		return r;
	*ret = control;
	return 0;
}

int control_start(struct control *control, struct lunkit_error *err)
{
	struct target_events_config config = {
		.root = control->root,
		.queue = &control->queue,
		.receive = receive,
		.argument = control,
		.handlers = control->handlers.items,
		.handler_count = control->handlers.count,
	};
	return target_events_start(&config, &control->events, err);
}

/* ---- stopping ---- */

static bool is_quiet(const struct control *control)
{
	return control->live_workers == 0 && tasks_pending(control->long_tasks) == 0 && list_empty(&control->attaches);
}

void control_check_stopped(struct control *control)
{
	if (!control->stopping || !control->stopped || !is_quiet(control))
		return;
	void (*stopped)(void *argument) = control->stopped;
	control->stopped = NULL;
	stopped(control->stopped_argument);
}

static int on_stop_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct control *control = userdata;
	static const uint64_t limit_steps = STOP_LIMIT / STOP_STEP;
	static uint64_t steps;
	(void)usec;
	if (++steps > limit_steps && control->stopped) {
		log_warning("stopping although %u workers and %u operations have not ended", control->live_workers,
			    tasks_pending(control->long_tasks));
		void (*stopped)(void *argument) = control->stopped;
		control->stopped = NULL;
		stopped(control->stopped_argument);
		return 0;
	}
	sd_event_source_set_time_relative(source, STOP_STEP);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	control_check_stopped(control);
	return 0;
}

void control_stop(struct control *control, void (*stopped)(void *argument), void *argument)
{
	if (control->stopping)
		return;
	control->stopping = true;
	control->stopped = stopped;
	control->stopped_argument = argument;
	list_for_each (node, &control->luns)
		lun_drain(list_entry(node, struct lun, node), DRAIN_SECONDS);
	control_timer(control, &control->stop_timer, STOP_STEP, on_stop_timer, control);
}

/* ---- tables ---- */

void control_for_each(struct control *control, void (*each)(struct lun *lun, void *argument), void *argument)
{
	list_for_each_safe (node, &control->luns) {
		struct lun *lun = list_entry(node, struct lun, node);
		if (lun->visible)
			each(lun, argument);
	}
}

struct lun *control_lun_by_name(struct control *control, const char *name)
{
	list_for_each (node, &control->luns) {
		struct lun *lun = list_entry(node, struct lun, node);
		if (strcmp(lun->backstore.name, name) == 0)
			return lun;
	}
	return NULL;
}

const char *control_handler(const struct control *control, size_t index, const char **ret_description)
{
	if (index >= control->handlers.count)
		return NULL;
	if (ret_description)
		*ret_description = control->handlers.items[index].description;
	return control->handlers.items[index].kind;
}

static void add_problem(struct names *problems, const char *name, const struct lunkit_error *err)
{
	char *text = NULL;
	if (asprintf(&text, "%s: %s%s%s", name, err->message, err->hint[0] ? "; to do: " : "", err->hint) > 0)
		names_add(problems, text);
	free(text);
}

void control_get_status(struct control *control, struct control_status *ret)
{
	*ret = (struct control_status){
		.start_time = control->start_time,
		.kernel_target = control->target_ready,
		.workers = control->live_workers,
	};
	for (size_t i = 0; i < control->handlers.count; i++)
		names_add(&ret->handlers, control->handlers.items[i].kind);
	list_for_each (node, &control->luns) {
		const struct lun *lun = list_entry(node, struct lun, node);
		ret->luns += lun->visible;
		if (lun->state == LUN_HELD)
			add_problem(&ret->problems, lun->backstore.name, &lun->reason);
	}
	for (unsigned i = 0; i < control->failure_count; i++)
		add_problem(&ret->problems, control->failures[i].name, &control->failures[i].err);
}
