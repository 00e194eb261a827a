/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A job on an image, wherever it is worked on: by the worker of its LUN, asked for through lunkitd, or by a worker of our own. */

#include <json-c/json.h>

#include "cli/bus.h"
#include "cli/offline.h"

struct task {
	const char *image;		   /* as it was typed */
	const struct reference *reference; /* what it means */
	const char *what;		   /* for progress: "checking"; NULL: none is shown */
	struct offline_job job;		   /* progress is filled in */
};

struct task_result {
	struct json_object *json; /* the answer, or NULL */
	uint64_t size;		  /* of the image, at the end */
	bool attached;
};

int task_run(struct task *task, struct task_result *ret, struct lunkit_error *err);
/* A job whose answer is a long text (MAP, SNAPSHOT_LIST): *ret_fd is a memfd that holds it, the caller's. */
int task_run_text(struct task *task, int *ret_fd, struct lunkit_error *err);
/* The text of such a memfd as JSON. */
int task_read_json(int fd, struct json_object **ret, struct lunkit_error *err);

/* bus_job.c: starts the job of a LUN, shows its progress and waits for its end; SIGINT, SIGTERM and SIGHUP cancel it. */
int bus_job(struct bus *bus, const char *path, const struct offline_job *job, struct task_result *ret, struct lunkit_error *err);
