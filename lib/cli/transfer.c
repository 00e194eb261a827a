/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* export and import: an image's way out of and into lunkit's care. "-" is standard output and input. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/copy.h"
#include "cli/report.h"
#include "cli/verbs.h"

/* A worker can't make a pipe non-blocking itself (its sandbox), and would wait in it. Returns the flags as they were, for restore_flags(); -1: they stay. */
static int make_nonblocking(int fd)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || flags & O_NONBLOCK || fstat(fd, &status) < 0 || (!S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode)))
		return -1;
	return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -1 : flags;
}

static void restore_flags(int fd, int flags)
{
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags);
}

/* With --format the extension says nothing, and may be one that is not known. */
static int file_reference(const struct cli_arguments *arguments, const char *file, bool with_options, struct reference *ret,
			  struct lunkit_error *err)
{
	const char *format = arguments->values[CLI_FORMAT];
	char text[3 * REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX];
	size_t kind = kind_length(file);
	bool said = kind && file[kind] == ':';
	snprintf(text, sizeof(text), "%s%s%s", format && !said ? format : "", format && !said ? ":" : "", file);
	return verb_reference_of(text, arguments, with_options, !with_options, ret, err);
}

/* ---- export ---- */

static int export_stream(const struct cli_arguments *arguments, struct task *task, struct lunkit_error *err)
{
	struct task_result result;
	const char *format = arguments->values[CLI_FORMAT];
	struct stat status;
	if ((format && strcmp(format, "raw") != 0) || cli_given(arguments, CLI_COMPRESS)) {
		lunkit_error_set(err, EOPNOTSUPP, "a pipe gets the disk's content as it is (raw): other formats need a file to go back in");
		return lunkit_error_hint(err, "name a file, or compress behind the pipe: lunkit export IMAGE - | zstd >FILE.zst");
	}
	if (isatty(STDOUT_FILENO)) {
		lunkit_error_set(err, EINVAL, "standard output is a terminal");
		return lunkit_error_hint(err, "lunkit export IMAGE - | PROGRAM, or >FILE");
	}
	if (fstat(STDOUT_FILENO, &status) < 0)
		return lunkit_error_set(err, errno, "cannot write to standard output: %s", strerror(errno));
	snprintf(task->job.request.format, sizeof(task->job.request.format), "raw");
	task->job.request.flags |= PROTOCOL_JOB_STREAM;
	task->job.fds[0] = STDOUT_FILENO;
	int flags = make_nonblocking(STDOUT_FILENO);
	int r = task_run(task, &result, err);
	restore_flags(STDOUT_FILENO, flags);
	if (r == 0)
		json_object_put(result.json);
	return r;
}

int verb_export(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference target;
	struct task_result result;
	const char *image = arguments->operands[0], *file = arguments->operands[1], *format = arguments->values[CLI_FORMAT];
	struct task task = {
		.what = "exporting",
		.job = { .use = OFFLINE_READ, .request.kind = PROTOCOL_JOB_EXPORT, .fds = { -1, -1 } },
	};
	if (verb_rate(arguments, &task.job.request.rate, &err) < 0)
		return report_usage(&err);
	task.job.request.flags = cli_given(arguments, CLI_COMPRESS) ? PROTOCOL_JOB_COMPRESS : 0;
	int r = task_find(&task, image, arguments, false, &err);
	if (r == 0 && strcmp(file, "-") == 0) {
		r = export_stream(arguments, &task, &err);
		task_release(&task);
		return r < 0 ? report_failure("export", task_subject(&task, image), &err) : CLI_OK;
	}
	if (r == 0)
		r = file_reference(arguments, file, true, &target, &err);
	if (r == 0 && format)
		snprintf(target.kind, sizeof(target.kind), "%s", format);
	if (r == 0 && cli_given(arguments, CLI_COMPRESS) && strcmp(target.kind, "qcow2") != 0) {
		lunkit_error_set(&err, EOPNOTSUPP, "images of the kind \"%s\" can't be compressed", target.kind);
		r = lunkit_error_hint(&err, "--format qcow2");
	}
	if (r == 0)
		r = copy_to_image(&task, &target, cli_given(arguments, CLI_FORCE), &result, &err);
	task_release(&task);
	if (r < 0)
		return report_failure("export", task_subject(&task, image), &err);
	copy_say_done(arguments, "exported", image, verb_subject(&target), result.json);
	json_object_put(result.json);
	return CLI_OK;
}

/* ---- import ---- */

/* Whose content is to be used from now on: what in it is not safe has to be trusted in so many words. */
static int require_safety(const struct cli_arguments *arguments, const struct reference *source, struct lunkit_error *err)
{
	struct json_object *report = NULL, *properties = NULL;
	int r = offline_inspect(source, &report, err);
	if (r < 0)
		return r;
	if (json_is_true(report, "safe") || cli_given(arguments, CLI_TRUST) ||
	    !json_object_object_get_ex(report, "properties", &properties))
		goto out;
	for (size_t i = 0; r == 0 && i < json_object_array_length(properties); i++) {
		struct json_object *entry = json_object_array_get_idx(properties, i);
		const char *value = json_string(entry, "value", "");
		if (strcmp(json_string(entry, "verdict", ""), "unsafe") != 0)
			continue;
		lunkit_error_set(err, EPERM, "it is not safe: %s%s%s%s: %s", json_string(entry, "property", "?"), value[0] ? " (" : "",
				 value, value[0] ? ")" : "", json_string(entry, "message", ""));
		r = lunkit_error_hint(err, "lunkit check --safety says more; add --trust when you know where it comes from");
	}
out:
	json_object_put(report);
	return r;
}

static int source_reference(const struct cli_arguments *arguments, const char *file, struct reference *ret, struct lunkit_error *err)
{
	const char *format = arguments->values[CLI_FORMAT];
	char plain[REFERENCE_NAME_MAX];
	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(file, ";"), file);
	int r = file_reference(arguments, file, false, ret, err);
	if (r < 0)
		return r;
	size_t kind = kind_length(file);
	bool said = kind && file[kind] == ':';
	if (format && said && strcmp(format, ret->kind) != 0)
		return lunkit_error_set(err, EINVAL, "'%s' and --format %s contradict each other", file, format);
	if (format)
		snprintf(ret->kind, sizeof(ret->kind), "%s", format);
	else if (!said && !reference_kind_by_extension(plain)) {
		lunkit_error_set(err, EINVAL, "nothing says which format '%s' has, and lunkit never guesses", file);
		return lunkit_error_hint(err, "add --format raw or --format qcow2");
	}
	return 0;
}

/* Whether the new image can become as large as what comes. */
static bool can_grow(const struct reference *target)
{
	bool known = strcmp(target->kind, "raw") == 0 || strcmp(target->kind, "qcow2") == 0;
	return known && !strstr(target->options, "preallocation=");
}

/* How many bytes come, which the new image has to have: what is said, or what the file on standard input holds. 0: that shows when all has come. */
static int input_size(const struct cli_arguments *arguments, const struct reference *target, uint64_t *ret, struct lunkit_error *err)
{
	struct stat status;
	uint64_t size;
	if (arguments->values[CLI_SIZE]) {
		int r = verb_size(arguments->values[CLI_SIZE], &size, err);
		if (r == 0 && !size)
			r = lunkit_error_set(err, EINVAL, "an image of 0 bytes is no disk");
		if (r == 0)
			*ret = size;
		return r;
	}
	off_t at = lseek(STDIN_FILENO, 0, SEEK_CUR);
	if (at >= 0 && fstat(STDIN_FILENO, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > at) {
		*ret = (uint64_t)(status.st_size - at);
		return 0;
	}
	if (can_grow(target)) {
		*ret = 0;
		return 0;
	}
	lunkit_error_set(err, EINVAL, "a pipe does not say how much comes: the new image needs a size");
	return lunkit_error_hint(err, "add --size SIZE, which may be more than what comes");
}

static int import_stream(const struct cli_arguments *arguments, struct task *task, const struct reference *target, struct task_result *ret,
			 struct lunkit_error *err)
{
	const char *format = arguments->values[CLI_FORMAT];
	if (format && strcmp(format, "raw") != 0) {
		lunkit_error_set(err, EOPNOTSUPP, "from a pipe only raw images can be imported: %s has to be read here and there", format);
		return lunkit_error_hint(err, "store it in a file first");
	}
	uint64_t size = 0;
	int r = input_size(arguments, target, &size, err);
	if (r < 0)
		return r;
	task->job.request.kind = PROTOCOL_JOB_IMPORT;
	task->job.request.length = align_up(size, 512);
	task->job.fds[reference_is_path(target) ? 1 : 0] = STDIN_FILENO; /* a new file's descriptor comes first */
	int flags = make_nonblocking(STDIN_FILENO);
	r = copy_to_image(task, target, false, ret, err);
	restore_flags(STDIN_FILENO, flags);
	return r;
}

int verb_import(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference target;
	struct task_result result;
	const char *file = arguments->operands[0], *image = arguments->operands[1];
	bool stream = strcmp(file, "-") == 0;
	struct task task = {
		.what = "importing",
		.job = { .use = OFFLINE_READ, .request.kind = PROTOCOL_JOB_EXPORT, .fds = { -1, -1 } },
	};
	if (verb_rate(arguments, &task.job.request.rate, &err) < 0)
		return report_usage(&err);
	if (!stream && cli_given(arguments, CLI_SIZE)) {
		lunkit_error_set(&err, EINVAL, "a file's size is known: --size is for standard input");
		lunkit_error_hint(&err, "import it, then: lunkit resize IMAGE SIZE");
		return report_usage(&err);
	}
	task.job.request.flags = cli_given(arguments, CLI_COMPRESS) ? PROTOCOL_JOB_COMPRESS : 0;
	int r = verb_reference_of(image, arguments, true, false, &target, &err);
	if (r == 0 && stream)
		r = import_stream(arguments, &task, &target, &result, &err);
	else if (r == 0) {
		task.found = true; /* never as a LUN: what is imported is a file */
		r = source_reference(arguments, file, &task.reference, &err);
		if (r == 0)
			r = require_safety(arguments, &task.reference, &err);
		if (r == 0)
			r = copy_to_image(&task, &target, false, &result, &err);
	}
	if (r < 0)
		return report_failure("import", stream ? file : task_subject(&task, file), &err);
	copy_say_done(arguments, "imported", file, verb_subject(&target), result.json);
	json_object_put(result.json);
	return CLI_OK;
}
