/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* clone, flatten, export, import: what makes an image of another one, or independent of it. */
#include "cli/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/parse.h"
#include "cli/format.h"
#include "cli/keys.h"
#include "cli/report.h"
#include "cli/verbs.h"

void copy_say_done(const struct cli_arguments *arguments, const char *done, const char *from, const char *to, struct json_object *counts)
{
	char read[FORMAT_MAX], written[FORMAT_MAX];
	uint64_t bytes_read = counts ? json_number(counts, "bytes-read") : 0;
	uint64_t bytes_written = counts ? json_number(counts, "bytes-written") : 0;
	bool both = counts && json_object_object_get_ex(counts, "bytes-written", NULL); /* a stream is only read */
	if (cli_given(arguments, CLI_JSON)) {
		struct json_object *object = json_object_new_object();
		json_object_object_add(object, "image", json_object_new_string(from));
		json_object_object_add(object, "to", json_object_new_string(to));
		if (counts) {
			json_object_object_add(object, "bytes-read", json_object_new_uint64(bytes_read));
			if (both)
				json_object_object_add(object, "bytes-written", json_object_new_uint64(bytes_written));
		}
		json_print(object);
		json_object_put(object);
		return;
	}
	char *printable_from = format_printable(from), *printable_to = format_printable(to);
	printf("%s %s to %s", done, printable_from ? printable_from : "?", printable_to ? printable_to : "?");
	if (both)
		printf(" (%s read, %s written)", format_size(bytes_read, read), format_size(bytes_written, written));
	else if (counts)
		printf(" (%s)", format_size(bytes_read, read));
	printf("\n");
	free(printable_from);
	free(printable_to);
}

/* The options of creating it, less those of every kind. */
static void set_target(struct protocol_job *request, const struct reference *target)
{
	snprintf(request->format, sizeof(request->format), "%s", target->kind);
	snprintf(request->target, sizeof(request->target), "%s", target->name);
	snprintf(request->options, sizeof(request->options), "%s", target->options);
}

/* The image would end up without its snapshots, or as one of them. While it is attached its lock says so. */
static int refuse_itself(const struct reference *image, const char *path, struct lunkit_error *err)
{
	struct stat from, to;
	if (!reference_is_path(image) || stat(image->name, &from) < 0 || stat(path, &to) < 0 || from.st_dev != to.st_dev ||
	    from.st_ino != to.st_ino)
		return 0;
	lunkit_error_set(err, EINVAL, "it can't be replaced by a copy of itself");
	return lunkit_error_hint(err, "name another file");
}

/* Where images are no files, the worker makes the new one, and removes it again when the job fails. */
static int copy_to_storage(struct task *task, const struct reference *target, bool overwrite, struct task_result *ret,
			   struct lunkit_error *err)
{
	if (overwrite)
		return lunkit_error_set(err, EOPNOTSUPP, "--force replaces files only, and '%s' is none", verb_subject(target));
	if (task->attached) {
		lunkit_error_set(err, EOPNOTSUPP, "the image is attached, and its worker makes files only");
		return lunkit_error_hint(err, "take a snapshot and name it: kinds that keep images elsewhere open it beside the disk");
	}
	task->job.target = target;
	return task_run(task, ret, err);
}

int copy_to_image(struct task *task, const struct reference *target, bool overwrite, struct task_result *ret, struct lunkit_error *err)
{
	struct output output;
	struct offline *held = NULL;
	set_target(&task->job.request, target);
	if (!reference_is_path(target))
		return copy_to_storage(task, target, overwrite, ret, err);
	int r = output_open(&output, target->name, overwrite, err);
	if (r < 0)
		return r;
	task->job.fds[0] = output.fd;
	r = overwrite ? refuse_itself(&task->reference, target->name, err) : 0;
	/*
	 * Whoever uses the file would go on with one that has no name any more, and all that he writes would be gone with him; and an image must not lose what it lies
	 * on. So nobody may use it from now on.
	 */
	if (r == 0 && overwrite)
		r = offline_hold(target->name, &held, err);
	if (r == 0)
		r = task_run(task, ret, err);
	if (r == 0) {
		/* made by somebody meanwhile */
		if (overwrite && !held)
			r = offline_hold(target->name, &held, err);
		if (r == 0)
			r = output_finish(&output, err);
		if (r < 0)
			json_object_put(ret->json);
	}
	output_drop(&output);
	offline_release(held);
	return r;
}

/* ---- flatten ---- */

int verb_flatten(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct task_result result;
	const char *image = arguments->operands[0];
	struct task task = {
		.what = "flattening",
		.job = { .use = OFFLINE_WRITE, .request.kind = PROTOCOL_JOB_FLATTEN, .fds = { -1, -1 } },
	};
	if (verb_rate(arguments, &task.job.request.rate, &err) < 0)
		return report_usage(&err);
	int r = task_find(&task, image, arguments, true, &err);
	if (r == 0)
		r = task_run(&task, &result, &err);
	if (r < 0)
		return report_failure("flatten", task_subject(&task, image), &err);
	json_object_put(result.json);
	verb_print_size(arguments, "flattened", image, 0, false, result.size);
	return CLI_OK;
}

/* ---- clone ---- */

/* The parent and its size, when it may be one: as long as the overlay is there, nobody may write to it. */
static int find_parent(struct task *task, struct reference *parent, uint64_t *ret, struct lunkit_error *err)
{
	if (!task->attached) {
		*parent = task->reference;
		return offline_size(parent, ret, err);
	}
	struct json_object *lun = NULL;
	int r = bus_lun(&task->bus, task->path, &lun, err);
	if (r == 0 && !json_is_true(lun, "read-only")) {
		lunkit_error_set(err, EBUSY, "it is attached and may be written to, which would spoil every overlay of it");
		r = lunkit_error_hint(err, "detach it, or attach it with --read-only; --full makes a copy that does not depend on it");
	}
	if (r == 0)
		r = reference_parse(json_string(lun, "image", ""), parent, err);
	if (r == 0)
		*ret = json_number(lun, "size");
	json_object_put(lun);
	return r;
}

static int add_option(struct reference *reference, const char *key, const char *value, struct lunkit_error *err)
{
	char encoded[REFERENCE_OPTIONS_MAX];
	size_t used = strlen(reference->options);
	if (percent_encode(value, encoded, sizeof(encoded)) < 0 || used + strlen(key) + strlen(encoded) + 3 > sizeof(reference->options))
		return lunkit_error_set(err, ENAMETOOLONG, "the options of the new image are too long");
	snprintf(reference->options + used, sizeof(reference->options) - used, "%s%s=%s", used ? ";" : "", key, encoded);
	return 0;
}

/* Where images are no files, a clone names its parent as "NAME@SNAPSHOT", and is reached as that one is unless it says otherwise. */
static int make_storage_clone(const struct reference *parent, struct reference *clone, uint64_t size, struct lunkit_error *err)
{
	char options[REFERENCE_OPTIONS_MAX], name[REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX];
	char *rest = options, *option;
	int r = 0;
	snprintf(options, sizeof(options), "%s", parent->options);
	snprintf(name, sizeof(name), "%s", parent->name);
	bool inherits = !clone->options[0];
	while (r == 0 && (option = strsep(&rest, ";"))) {
		char *value = strchr(option, '=');
		if (!value)
			continue;
		*value++ = '\0';
		percent_decode(value, value, strlen(value) + 1);
		if (strcmp(option, "snapshot") == 0)
			snprintf(name, sizeof(name), "%s@%s", parent->name, value);
		else if (inherits)
			r = add_option(clone, option, value, err);
	}
	if (r == 0)
		r = add_option(clone, "parent", name, err);
	return r < 0 ? r : offline_create(clone, size, NULL, err);
}

static int make_overlay(struct task *task, struct reference *clone, uint64_t *ret_size, struct lunkit_error *err)
{
	struct reference found, *parent = &found;
	uint64_t size = 0;
	if (task->attached && task->job.request.name[0]) {
		lunkit_error_set(err, EOPNOTSUPP, "no overlay can lie on a snapshot");
		return lunkit_error_hint(err, "--full makes a copy of it");
	}
	int r = find_parent(task, parent, &size, err);
	if (r < 0)
		return r;
	if (!reference_is_path(parent) && !reference_is_path(clone) && strcmp(parent->kind, clone->kind) == 0) {
		r = make_storage_clone(parent, clone, size, err);
		if (r == 0)
			*ret_size = size;
		return r;
	}
	bool known = strcmp(parent->kind, "raw") == 0 || strcmp(parent->kind, "qcow2") == 0;
	if (!known || !reference_is_path(parent)) {
		lunkit_error_set(err, EOPNOTSUPP, "no overlay can lie on images of the kind \"%s\"", parent->kind);
		return lunkit_error_hint(err, "--full makes a copy");
	}
	if (strcmp(clone->kind, "qcow2") != 0) {
		lunkit_error_set(err, EOPNOTSUPP, "'%s' can't be an overlay: images of the kind \"%s\" have no backing file", clone->name,
				 clone->kind);
		return lunkit_error_hint(err, "name it qcow2:PATH, or add --full for a copy");
	}
	if (parent->options[0]) {
		lunkit_error_set(err, EINVAL, "an overlay records nothing of its parent's options ('%s')", parent->options);
		return lunkit_error_hint(err, "--full makes a copy, also of a snapshot");
	}
	/* What is new in an overlay is as secret as what it lies on: encrypted under the same key, unless --new-key-file gives it another. */
	bool encrypted = cli_keys()->key.fd >= 0 || cli_keys()->new_key.fd >= 0 || parent->key_file[0];
	if (encrypted && !strstr(clone->options, "encrypt="))
		r = add_option(clone, "encrypt", "luks", err);
	if (r == 0 && encrypted && !clone->key_file[0])
		strcpy(clone->key_file, parent->key_file);
	if (r == 0)
		r = add_option(clone, "backing", parent->name, err);
	if (r == 0)
		r = add_option(clone, "backing-format", parent->kind, err);
	if (r == 0)
		r = offline_create(clone, size, parent->name, err);
	if (r == 0)
		*ret_size = size;
	return r;
}

/* A qcow2 image whose name does not say so would be taken for a raw one the next time, and be destroyed by the first write. */
static int clone_reference(const struct cli_arguments *arguments, const char *to, struct reference *ret, struct lunkit_error *err)
{
	char name[3 * REFERENCE_NAME_MAX];
	size_t kind = kind_length(to);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(to, ";"), to);
	int r = verb_reference_of(to, arguments, true, false, ret, err);
	if (r < 0 || (kind && to[kind] == ':') || reference_kind_by_extension(name))
		return r;
	lunkit_error_set(err, EINVAL, "the name of the new image, '%s', does not say which kind it shall be", name);
	return lunkit_error_hint(err, "name it %.200s.qcow2", name);
}

int verb_clone(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct task_result result;
	struct reference clone;
	const char *image = arguments->operands[0], *to = arguments->operands[1];
	uint64_t size = 0;
	bool full = cli_given(arguments, CLI_FULL);
	struct task task = {
		.what = "cloning",
		.job = { .use = OFFLINE_READ, .request.kind = PROTOCOL_JOB_EXPORT, .fds = { -1, -1 } },
	};
	int r = task_find(&task, image, arguments, false, &err);
	if (r == 0)
		r = clone_reference(arguments, to, &clone, &err);
	struct json_object *unsafe = r == 0 && !task.attached ? verb_unsafe(&task.reference) : NULL;
	if (unsafe)
		report_warning("'%s' belongs to somebody else and is not safe (%s): lunkit check --safety says more", image,
			       json_object_get_string(unsafe));
	json_object_put(unsafe);
	if (r == 0 && full)
		r = copy_to_image(&task, &clone, false, &result, &err);
	else if (r == 0)
		r = make_overlay(&task, &clone, &size, &err);
	task_release(&task);
	if (r < 0)
		return report_failure("clone", task_subject(&task, image), &err);
	if (!full) {
		verb_print_size(arguments, "cloned to", verb_subject(&clone), 0, false, size);
		return CLI_OK;
	}
	copy_say_done(arguments, "cloned", image, verb_subject(&clone), result.json);
	json_object_put(result.json);
	return CLI_OK;
}
