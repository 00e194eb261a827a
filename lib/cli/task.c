/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/progress.h"
#include "cli/verbs.h"

int task_run(struct task *task, struct task_result *ret, struct lunkit_error *err)
{
	struct task_result result = { 0 };
	struct progress progress;
	struct bus bus;
	char *path;
	int r;
	if (task->what) {
		progress_begin(&progress, task->what);
		task->job.progress = progress_update;
		task->job.argument = &progress;
	}
	result.attached = task->image && verb_attached(task->image, &bus, &path);
	if (result.attached) {
		r = bus_job(&bus, path, &task->job, &result, err);
		free(path);
		bus_close(&bus);
	} else {
		r = offline_job(task->reference, &task->job, &result.json, &result.size, err);
	}
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
