/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A job on an image, wherever it is worked on: by the worker of its LUN, asked for through lunkitd, or by a worker of our own. */

#include <json-c/json.h>

#include "cli/bus.h"
#include "cli/offline.h"
#include "cli/options.h"

struct task {
	const char *what;	/* for progress: "checking"; NULL: none is shown */
	struct offline_job job; /* progress is filled in */
	/* below: task_find()'s; without it the job needs no image */
	bool found, attached;
	struct reference reference; /* when it is not attached; else its name is empty */
	struct bus bus;
	char *path; /* of the LUN */
};

struct task_result {
	struct json_object *json; /* the answer, or NULL */
	uint64_t size;		  /* of the image, at the end */
};

/*
 * Finds the image that was typed: as a LUN, by any of its names, or else as a reference, to which --option's belong when with_options is set. A snapshot
 * that is named behind a LUN (;snapshot=NAME) becomes the job's.
 */
int task_find(struct task *task, const char *operand, const struct cli_arguments *arguments, bool with_options, struct lunkit_error *err);
/* How messages name it. */
const char *task_subject(const struct task *task, const char *operand);
/* Lets go of the LUN that was found; task_run() has done it. */
void task_release(struct task *task);

/* One run for each task_find(). */
int task_run(struct task *task, struct task_result *ret, struct lunkit_error *err);
/* A job whose answer is a long text (MAP, SNAPSHOT_LIST): *ret_fd is a memfd that holds it, the caller's. */
int task_run_text(struct task *task, int *ret_fd, struct lunkit_error *err);
/* The text of such a memfd as JSON. */
int task_read_json(int fd, struct json_object **ret, struct lunkit_error *err);

/* bus_job.c: starts the job of a LUN, shows its progress and waits for its end; SIGINT, SIGTERM and SIGHUP cancel it. */
int bus_job(struct bus *bus, const char *path, const struct offline_job *job, struct task_result *ret, struct lunkit_error *err);
