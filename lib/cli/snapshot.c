/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* map and snapshot: what an image holds, now and at other times. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/format.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/task.h"
#include "cli/verbs.h"

static const char *run_word(struct json_object *run)
{
	if (json_is_true(run, "data"))
		return "data";
	if (json_is_true(run, "backing"))
		return "backing";
	return json_is_true(run, "allocated") ? "zero, allocated" : "zero";
}

/* One line a run, written as it is read: a map may be long. */
static int print_map(struct json_object *map)
{
	printf("%20s %20s  %s\n", "OFFSET", "LENGTH", "CONTENT");
	for (size_t i = 0; i < json_object_array_length(map); i++) {
		struct json_object *run = json_object_array_get_idx(map, i);
		printf("%20" PRIu64 " %20" PRIu64 "  %s\n", json_number(run, "offset"), json_number(run, "length"), run_word(run));
	}
	return 0;
}

static int print_snapshots(struct json_object *snapshots)
{
	static const struct table_column columns[] = {
		{ "NAME" },	 { "TIME (UTC)" }, { "SIZE", .right = true }, { "VM STATE", .right = true }, { "ID", .right = true },
		{ "PROTECTED" }, /* left out where none is */
	};
	bool any = false;
	for (size_t i = 0; i < json_object_array_length(snapshots); i++)
		any = any || json_is_true(json_object_array_get_idx(snapshots, i), "protected");
	struct table *table = table_new(columns, ARRAY_SIZE(columns) - !any);
	int r = table ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < json_object_array_length(snapshots); i++) {
		struct json_object *snapshot = json_object_array_get_idx(snapshots, i);
		char size[FORMAT_MAX], state[FORMAT_MAX];
		uint64_t state_size = json_number(snapshot, "vm-state-size");
		const char *cells[] = { json_string(snapshot, "name", "?"),
					json_string(snapshot, "time", NULL),
					format_size(json_number(snapshot, "size"), size),
					state_size ? format_size(state_size, state) : NULL,
					json_string(snapshot, "id", NULL),
					json_is_true(snapshot, "protected") ? "yes" : "no" };
		r = table_add(table, cells);
	}
	if (r == 0)
		table_print(table, stdout, table_terminal_width(stdout));
	table_free(table);
	return r;
}

static int copy_to_stdout(int fd)
{
	char buffer[65536];
	off_t at = 0;
	for (;;) {
		ssize_t n = pread(fd, buffer, sizeof(buffer), at);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		fwrite(buffer, 1, (size_t)n, stdout);
		at += n;
	}
}

/* A job whose answer is a list. */
static int show_list(struct task *task, const struct cli_arguments *arguments, int (*print)(struct json_object *list), const char *none,
		     struct lunkit_error *err)
{
	int fd, r = task_run_text(task, &fd, err);
	if (r < 0)
		return r;
	struct json_object *list = NULL;
	if (cli_given(arguments, CLI_JSON)) {
		r = copy_to_stdout(fd);
		if (r < 0)
			lunkit_error_set(err, r, "cannot read the worker's answer: %s", strerror(-r));
	} else {
		r = task_read_json(fd, &list, err);
		if (r == 0 && none && json_object_array_length(list) == 0)
			report_note("%s", none);
		else if (r == 0 && print(list) < 0)
			r = lunkit_error_set(err, ENOMEM, "no memory");
		json_object_put(list);
	}
	close(fd);
	return r;
}

int verb_map(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct task task = {
		.job = { .use = OFFLINE_READ, .request = { .kind = PROTOCOL_JOB_MAP } },
	};
	int r = task_find(&task, arguments->operands[0], arguments, true, &err);
	if (r == 0)
		r = show_list(&task, arguments, print_map, NULL, &err);
	return r < 0 ? report_failure("map", task_subject(&task, arguments->operands[0]), &err) : CLI_OK;
}

/* The words' order is that of enum lunkit_snapshot_op of handler.h, which this layer does not see; list has no operation. */
static const struct {
	const char *word, *done, *verb;
} operations[] = {
	{ "create", "created", "create the snapshot of" },
	{ "delete", "deleted", "delete the snapshot of" },
	{ "revert", "reverted to", "revert" },
	{ "protect", "protected", "protect the snapshot of" },
	{ "unprotect", "unprotected", "unprotect the snapshot of" },
};

/*
 * A filesystem that is mounted goes on with what it has in memory, and destroys what the snapshot brought back. The kernel gives an exclusive use
 * of a disk to nobody beside a mount, swap or another device on it; while we have it, none begins. *ret: -1 when there is nothing to keep.
 */
static int claim_disk(struct task *task, int *ret, struct lunkit_error *err)
{
	struct json_object *lun = NULL;
	*ret = -1;
	int r = bus_lun(&task->bus, task->path, &lun, err);
	if (r < 0)
		return r;
	const char *device = json_string_at(lun, "devices", 0);
	/* Whoever may not open it (a member of group lunkit) is not kept from his work: lunkitd lets him, too. */
	*ret = device ? open(device, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK) : -1;
	if (device && *ret < 0 && errno == EBUSY) {
		lunkit_error_set(err, EBUSY, "%s is mounted or otherwise in use", device);
		r = lunkit_error_hint(
			err,
			"unmount what is on it first (lsblk shows it); --force reverts nevertheless, and a mounted filesystem is lost");
	}
	json_object_put(lun);
	return r;
}

int verb_snapshot(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct task_result result;
	const char *word = arguments->operands[0], *image = arguments->operands[1], *name = arguments->operands[2];
	bool list = strcmp(word, "list") == 0;
	struct task task = { .job.fds = { -1, -1 } };
	if (list == (arguments->operand_count == 3)) {
		lunkit_error_set(&err, EINVAL, list ? "snapshot list takes an image only" : "snapshot %s needs the snapshot's name", word);
		lunkit_error_hint(&err, "lunkit snapshot %s %.150s%s", word, image, list ? "" : " NAME");
		return report_usage(&err);
	}
	int r = task_find(&task, image, arguments, true, &err);
	if (list) {
		task.job.use = OFFLINE_LOOK;
		task.job.request.kind = PROTOCOL_JOB_SNAPSHOT_LIST;
		if (r == 0)
			r = show_list(&task, arguments, print_snapshots, "there are no snapshots", &err);
		return r < 0 ? report_failure("list the snapshots of", task_subject(&task, image), &err) : CLI_OK;
	}
	unsigned operation = 0;
	while (strcmp(operations[operation].word, word) != 0)
		operation++;
	task.job.use = OFFLINE_WRITE;
	task.job.request.kind = PROTOCOL_JOB_SNAPSHOT;
	task.job.request.flags = operation;
	task.what = operations[operation].word;
	if (r == 0 && snprintf(task.job.request.name, sizeof(task.job.request.name), "%s", name) >= (int)sizeof(task.job.request.name))
		r = lunkit_error_set(&err, EINVAL, "a snapshot's name has at most %d bytes", PROTOCOL_SNAPSHOT_MAX - 1);
	int disk = -1;
	if (r == 0 && task.attached && strcmp(word, "revert") == 0 && !cli_given(arguments, CLI_FORCE))
		r = claim_disk(&task, &disk, &err);
	if (r == 0)
		r = task_run(&task, &result, &err);
	else
		task_release(&task);
	if (disk >= 0)
		close(disk);
	if (r < 0)
		return report_failure(operations[operation].verb, task_subject(&task, image), &err);
	json_object_put(result.json);
	if (cli_given(arguments, CLI_JSON)) {
		struct json_object *object = json_object_new_object();
		json_object_object_add(object, "image", json_object_new_string(image));
		json_object_object_add(object, "snapshot", json_object_new_string(name));
		json_object_object_add(object, "size", json_object_new_uint64(result.size));
		json_print(object);
		json_object_put(object);
	} else {
		char *printable = format_printable(name), *of = format_printable(image);
		printf("%s snapshot %s of %s\n", operations[operation].done, printable ? printable : "?", of ? of : "?");
		free(printable);
		free(of);
	}
	return CLI_OK;
}
