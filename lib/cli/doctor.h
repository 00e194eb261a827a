/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* lunkit doctor: findings, and the checks that make them. Each check adds at least one finding, a good one too: it says what was looked at. */

#include <json-c/json.h>

#include "cli/bus.h"

enum doctor_level { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_BROKEN };

struct doctor {
	struct json_object *findings;
	const char *root; /* "" or a directory that stands for / (tests): /proc, /sys, /dev, /lib and /etc are looked for below it */
	struct bus bus;	  /* closed when there is no system bus */
	bool running;	  /* lunkitd is on it and answers us */
	struct json_object *daemon, *luns; /* Status and List, when running */
	unsigned broken;
};

/* check: the finding's key. fix may be NULL. */
__attribute__((format(printf, 5, 6))) void doctor_add(struct doctor *doctor, enum doctor_level level, const char *check, const char *fix,
						      const char *format, ...);

/* kernel */
void doctor_modules(struct doctor *doctor);
void doctor_configfs(struct doctor *doctor);
void doctor_uio(struct doctor *doctor);
void doctor_io_uring(struct doctor *doctor);
/* services */
void doctor_daemon(struct doctor *doctor);
void doctor_conflicts(struct doctor *doctor);
void doctor_permissions(struct doctor *doctor);
void doctor_handlers(struct doctor *doctor);
void doctor_targetcli(struct doctor *doctor);
void doctor_limits(struct doctor *doctor);
/* state */
void doctor_devices(struct doctor *doctor);
void doctor_targets(struct doctor *doctor);
void doctor_workers(struct doctor *doctor);
void doctor_records(struct doctor *doctor);

/* The path below doctor->root, in a static buffer. */
const char *doctor_path(const struct doctor *doctor, const char *path);
/* The first line of a small file, without its end. False when it can't be read. */
bool doctor_read_line(const struct doctor *doctor, const char *path, char *out, size_t size);
