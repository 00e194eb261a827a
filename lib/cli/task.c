/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/task.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/parse.h"
#include "cli/progress.h"
#include "cli/verbs.h"

/* The value of ";snapshot=" among a LUN's options, where it can't be an option of opening it. */
static int take_snapshot(struct task *task, const char *operand, struct lunkit_error *err)
{
	static const char key[] = "snapshot=";
	struct reference reference;
	int r = reference_parse(operand, &reference, err);
	if (r < 0)
		return r;
	char *found = strstr(reference.options, key);
	while (found && found != reference.options && found[-1] != ';')
		found = strstr(found + 1, key);
	if (!found)
		return 0;
	*strchrnul(found, ';') = '\0';
	if (percent_decode(found + strlen(key), found, REFERENCE_OPTIONS_MAX) < 0 || !found[0] || strlen(found) >= PROTOCOL_SNAPSHOT_MAX)
		return lunkit_error_set(err, EINVAL, "'%s' has no snapshot's name", operand);
	if (task->job.request.kind != PROTOCOL_JOB_EXPORT) {
		lunkit_error_set(err, EOPNOTSUPP, "a snapshot of an attached image can only be exported");
		return lunkit_error_hint(err, "detach it first, or export the snapshot");
	}
	strcpy(task->job.request.name, found);
	return 0;
}

int task_find(struct task *task, const char *operand, const struct cli_arguments *arguments, bool with_options, struct lunkit_error *err)
{
	char plain[3 * REFERENCE_NAME_MAX];
	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(operand, ";"), operand);
	task->found = true;
	task->attached = verb_attached(plain, &task->bus, &task->path);
	if (!task->attached)
		return verb_reference_of(operand, arguments, with_options, true, &task->reference, err);
	int r = take_snapshot(task, operand, err);
	if (r < 0)
		task_release(task);
	return r;
}

const char *task_subject(const struct task *task, const char *operand)
{
	return verb_subject_or(&task->reference, operand);
}

void task_release(struct task *task)
{
	if (!task->attached)
		return;
	free(task->path);
	bus_close(&task->bus);
	task->attached = false;
	task->path = NULL;
}

int task_run(struct task *task, struct task_result *ret, struct lunkit_error *err)
{
	struct task_result result = { 0 };
	struct progress progress;
	int r;
	if (task->what) {
		progress_begin(&progress, task->what);
		task->job.progress = progress_update;
		task->job.argument = &progress;
	}
	if (task->attached)
		r = bus_job(&task->bus, task->path, &task->job, &result, err);
	else
		r = offline_job(task->found ? &task->reference : NULL, &task->job, &result.json, &result.size, err);
	task_release(task);
	if (task->what)
		progress_end(&progress);
	if (r < 0) {
		json_object_put(result.json);
		return r;
	}
	*ret = result;
	return 0;
}

int task_run_text(struct task *task, int *ret_fd, struct lunkit_error *err)
{
	struct task_result result;
	int fd = memfd_create("lunkit", MFD_CLOEXEC);
	if (fd < 0)
		return lunkit_error_set(err, errno, "cannot make a memory file: %s", strerror(errno));
	task->job.fds[0] = fd;
	task->job.fds[1] = -1;
	int r = task_run(task, &result, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	json_object_put(result.json);
	*ret_fd = fd;
	return 0;
}

int task_read_json(int fd, struct json_object **ret, struct lunkit_error *err)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return lunkit_error_set(err, errno, "cannot read the worker's answer: %s", strerror(errno));
	char *text = status.st_size ? mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
	struct json_object *json = NULL;
	if (text != MAP_FAILED) {
		struct json_tokener *tokener = json_tokener_new();
		if (tokener && status.st_size <= INT32_MAX)
			json = json_tokener_parse_ex(tokener, text, (int)status.st_size);
		if (tokener)
			json_tokener_free(tokener);
		munmap(text, (size_t)status.st_size);
	}
	if (!json_object_is_type(json, json_type_array)) {
		json_object_put(json);
		return lunkit_error_set(err, EPROTO, "the worker's answer makes no sense");
	}
	*ret = json;
	return 0;
}
