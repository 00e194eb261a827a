/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the verbs that copy images share. */

#include "cli/options.h"
#include "cli/output.h"
#include "cli/task.h"

/* Says what was done, as JSON or in words. counts: the job's answer, or NULL. */
void copy_say_done(const struct cli_arguments *arguments, const char *done, const char *from, const char *to, struct json_object *counts);
/* Fills format, target and options. -EOPNOTSUPP: it is no file. */
int copy_set_target(struct protocol_job *request, const struct reference *target, struct lunkit_error *err);
/* Runs the job with a new file as its target, which is there when it was done well, and only then. */
int copy_to_file(struct task *task, const struct reference *target, bool overwrite, struct task_result *ret, struct lunkit_error *err);
