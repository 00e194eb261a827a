/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verb key: which keys open an encrypted image, and its header's backup. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/keys.h"
#include "cli/offline.h"
#include "cli/output.h"
#include "cli/report.h"
#include "cli/verbs.h"

/* LUNKIT_KEY_* of handler.h, which this layer does not see. */
enum key_action { ACTION_ADD, ACTION_CHANGE, ACTION_REMOVE, ACTION_BACKUP, ACTION_RESTORE, ACTION_LIST };

static const struct {
	const char *word, *done;
} actions[] = {
	[ACTION_ADD] = { "add", "key added to" },
	[ACTION_CHANGE] = { "change", "key changed of" },
	[ACTION_REMOVE] = { "remove", "key removed from" },
	[ACTION_BACKUP] = { "backup", "header saved of" },
	[ACTION_RESTORE] = { "restore", "header restored of" },
	[ACTION_LIST] = { "list", NULL },
};

static enum key_action action_of(const char *word)
{
	size_t i = 0;
	while (i + 1 < ARRAY_SIZE(actions) && strcmp(actions[i].word, word) != 0)
		i++;
	return (enum key_action)i;
}

/* 0, or -EINVAL with a message: what the word needs beside the image. */
static int check_usage(enum key_action action, const struct cli_arguments *arguments, int *ret_slot, struct lunkit_error *err)
{
	const char *operand = arguments->operand_count > 2 ? arguments->operands[2] : NULL;
	bool new_key = action == ACTION_ADD || action == ACTION_CHANGE, file = action == ACTION_BACKUP || action == ACTION_RESTORE;
	char *end;
	*ret_slot = -1;
	if (new_key && cli_keys()->new_key.fd < 0) {
		lunkit_error_set(err, EINVAL, "key %s needs the new key", actions[action].word);
		return lunkit_error_hint(err, "--new-key-file FILE; --key-file names the one that opens the image now");
	}
	if (!new_key && cli_keys()->new_key.fd >= 0)
		return lunkit_error_set(err, EINVAL, "key %s takes no new key", actions[action].word);
	if (file && !operand)
		return lunkit_error_set(err, EINVAL, "key %s needs a FILE for the header", actions[action].word);
	if (action == ACTION_LIST && operand)
		return lunkit_error_set(err, EINVAL, "key list takes nothing behind the image");
	if (file || !operand)
		return 0;
	long slot = strtol(operand, &end, 10);
	if (*end || !*operand || slot < 0 || slot > 1000) {
		lunkit_error_set(err, EINVAL, "'%s' is not a key slot", operand);
		return lunkit_error_hint(err, "a slot is a number; lunkit key list shows them");
	}
	*ret_slot = (int)slot;
	return 0;
}

static int list(const struct cli_arguments *arguments, const struct reference *reference, struct lunkit_error *err)
{
	struct json_object *info = NULL, *result = json_object_new_object();
	int r = offline_info(reference, &info, err);
	if (r == 0 && !json_object_object_get_ex(info, "encryption", NULL)) {
		lunkit_error_set(err, EOPNOTSUPP, "it is not encrypted");
		r = lunkit_error_hint(err, "a LUKS image in a plain file is of the kind luks: luks:PATH");
	}
	static const char *const shown[] = { "encryption", "cipher", "key-bits", "luks-uuid", "key-slots" };
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(shown); i++) {
		const char *value = json_string(info, shown[i], NULL);
		if (value && cli_given(arguments, CLI_JSON))
			json_object_object_add(result, shown[i], json_object_new_string(value));
		else if (value)
			printf("%s: %s\n", shown[i], value);
	}
	if (r == 0 && cli_given(arguments, CLI_JSON))
		json_print(result);
	json_object_put(result);
	json_object_put(info);
	return r;
}

static int run(enum key_action action, const struct reference *reference, int slot, int fd, struct lunkit_error *err)
{
	struct offline_job job = {
		.use = action == ACTION_BACKUP ? OFFLINE_READ : OFFLINE_WRITE,
		.request = { .kind = PROTOCOL_JOB_KEY, .flags = (uint32_t)action, .slot = slot },
		.fds = { fd >= 0 ? fd : cli_keys()->new_key.fd, -1 },
		.locked = true,
	};
	return offline_job(reference, &job, NULL, NULL, err);
}

/* The file of a backup is there once it is complete, and not before; it is nobody's but the owner's. */
static int run_with_file(enum key_action action, const struct reference *reference, const char *path, bool overwrite,
			 struct lunkit_error *err)
{
	struct output output;
	if (action == ACTION_RESTORE) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return lunkit_error_set(err, errno, "cannot read '%.300s': %s", path, strerror(errno));
		int r = run(action, reference, -1, fd, err);
		close(fd);
		return r;
	}
	char full[PATH_MAX + 2];
	snprintf(full, sizeof(full), "%s%.*s", strchr(path, '/') ? "" : "./", PATH_MAX - 1, path);
	int r = output_open(&output, full, overwrite, err);
	if (r < 0)
		return r;
	r = run(action, reference, -1, output.fd, err);
	if (r == 0)
		r = output_finish(&output, err);
	output_drop(&output);
	return r;
}

int verb_key(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	struct bus bus;
	char *path;
	int slot;
	const char *image = arguments->operands[1];
	enum key_action action = action_of(arguments->operands[0]);
	if (check_usage(action, arguments, &slot, &err) < 0)
		return report_usage(&err);
	int r = verb_reference_of(image, arguments, true, true, &reference, &err);
	if (r == 0 && action != ACTION_LIST && verb_attached(image, &bus, &path)) {
		free(path);
		bus_close(&bus);
		lunkit_error_set(&err, EBUSY, "it is attached, and its keys stay as they are meanwhile");
		r = lunkit_error_hint(&err, "detach it first");
	}
	if (r == 0 && action == ACTION_LIST)
		r = list(arguments, &reference, &err);
	else if (r == 0 && (action == ACTION_BACKUP || action == ACTION_RESTORE))
		r = run_with_file(action, &reference, arguments->operands[2], cli_given(arguments, CLI_FORCE), &err);
	else if (r == 0)
		r = run(action, &reference, slot, -1, &err);
	if (r < 0)
		return report_failure("change the keys of", verb_subject_or(&reference, image), &err);
	if (action != ACTION_LIST)
		printf("%s %s\n", actions[action].done, verb_subject(&reference));
	return CLI_OK;
}
