/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the verbs that copy images share. */

#include "cli/options.h"
#include "cli/output.h"
#include "cli/task.h"

/* Says what was done, as JSON or in words. counts: the job's answer, or NULL. */
void copy_say_done(const struct cli_arguments *arguments, const char *done, const char *from, const char *to, struct json_object *counts);
/* Runs the job with a new image as its target, which is there when it was done well, and only then. overwrite: a file that exists is replaced. */
int copy_to_image(struct task *task, const struct reference *target, bool overwrite, struct task_result *ret, struct lunkit_error *err);
