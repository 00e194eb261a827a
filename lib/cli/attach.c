/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * attach, detach, restore: thin calls of lunkitd. Standard output is for programs (paths, names, arguments), everything else goes to standard error.
 */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/keys.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "cli/vm.h"
#include "pool/bus.h"

static int append(sd_bus_message *call, const char *key, const char *type, ...)
{
	va_list args;
	va_start(args, type);
	int r = sd_bus_message_open_container(call, SD_BUS_TYPE_DICT_ENTRY, "sv");
	if (r >= 0)
		r = sd_bus_message_append(call, "s", key);
	if (r >= 0)
		r = sd_bus_message_open_container(call, SD_BUS_TYPE_VARIANT, type);
	if (r >= 0)
		r = sd_bus_message_appendv(call, type, args);
	if (r >= 0)
		r = sd_bus_message_close_container(call);
	if (r >= 0)
		r = sd_bus_message_close_container(call);
	va_end(args);
	return r;
}

/* Only what was asked for goes over the bus: lunkitd has the defaults, and the reference may have options of its own. */
static int append_attach_options(sd_bus_message *call, const struct cli_arguments *arguments)
{
	int r = sd_bus_message_open_container(call, SD_BUS_TYPE_ARRAY, "{sv}");
	if (r >= 0 && cli_given(arguments, CLI_FABRIC))
		r = append(call, "fabric", "s", arguments->values[CLI_FABRIC]);
	if (r >= 0 && cli_given(arguments, CLI_READ_ONLY))
		r = append(call, "read-only", "b", 1);
	if (r >= 0 && cli_given(arguments, CLI_CACHE))
		r = append(call, "cache", "s", arguments->values[CLI_CACHE]);
	if (r >= 0 && cli_given(arguments, CLI_BLOCK_SIZE))
		r = append(call, "block-size", "u", (uint32_t)atoi(arguments->values[CLI_BLOCK_SIZE]));
	if (r >= 0 && cli_given(arguments, CLI_NAME))
		r = append(call, "name", "s", arguments->values[CLI_NAME]);
	if (r >= 0 && cli_keys()->key.fd >= 0)
		r = append(call, "key", "h", cli_keys()->key.fd);
	if (r >= 0 && cli_given(arguments, CLI_PERSIST))
		r = append(call, "persist", "b", 1);
	return r < 0 ? r : sd_bus_message_close_container(call);
}

static int call_attach(struct bus *bus, const struct cli_arguments *arguments, const char *image, char **ret_path, struct lunkit_error *err)
{
	sd_bus_message *call, *answer = NULL;
	const char *path;
	int r = bus_new_call(bus, BUS_PATH, BUS_MANAGER_INTERFACE, "Attach", &call, err);
	if (r < 0)
		return r;
	r = sd_bus_message_append(call, "s", image);
	if (r >= 0)
		r = append_attach_options(call, arguments);
	if (r < 0) {
		sd_bus_message_unref(call);
		return lunkit_error_set(err, r, "cannot make the call Attach: %s", strerror(-r));
	}
	r = bus_send(bus, call, &answer, err);
	if (r == 0 && sd_bus_message_read(answer, "o", &path) < 0)
		r = lunkit_error_set(err, EPROTO, "lunkitd's answer to Attach makes no sense");
	if (r == 0 && !(*ret_path = strdup(path)))
		r = lunkit_error_set(err, ENOMEM, "no memory");
	sd_bus_message_unref(answer);
	return r;
}

/* Where the LUN is, when no --fabric says which side is meant. */
static const char *lun_fabric(struct json_object *lun)
{
	return json_string_at(lun, "devices", 0) || !vm_wwpn(lun) ? "loop" : "vhost";
}

static int print_lun(const struct cli_arguments *arguments, struct json_object *lun, struct lunkit_error *err)
{
	const char *fabric = arguments->values[CLI_FABRIC] ? arguments->values[CLI_FABRIC] : lun_fabric(lun);
	const char *notice = json_string(lun, "notice", "");
	if (notice[0])
		report_warning("%s", notice);
	if (cli_given(arguments, CLI_PRINT))
		return vm_print(stdout, lun, fabric, arguments->values[CLI_PRINT], err);
	if (cli_given(arguments, CLI_JSON)) {
		json_print(lun);
		return 0;
	}
	const char *first = strcmp(fabric, "vhost") == 0 ? vm_wwpn(lun) : json_string_at(lun, "devices", 0);
	if (!first) {
		lunkit_error_set(err, ENODEV, "it is attached as '%s', but no device has appeared", json_string(lun, "name", "?"));
		return lunkit_error_hint(err, "lunkit status %s, lunkit doctor", json_string(lun, "name", ""));
	}
	puts(first);
	const char *link = json_string_at(lun, "device-links", 0);
	if (link && strcmp(fabric, "loop") == 0)
		puts(link);
	return 0;
}

/* Kernel names of disks move from boot to boot, and a record of one would then mean another disk. */
static void warn_about_moving_names(const struct cli_arguments *arguments, const struct reference *reference)
{
	static const char *const moving[] = { "/dev/sd", "/dev/vd", "/dev/nvme", "/dev/dm-", "/dev/loop", "/dev/md" };
	for (size_t i = 0; i < sizeof(moving) / sizeof(moving[0]) && cli_given(arguments, CLI_PERSIST); i++)
		if (strncmp(reference->name, moving[i], strlen(moving[i])) == 0)
			report_warning("'%s' may be another disk after the next boot, and it is recorded by that name", reference->name);
}

/* Where the key came from goes into the reference, so that lunkitd finds it again: after a restart, and at boot. The key itself goes beside the call. */
static int record_key_source(const struct cli_arguments *arguments, struct reference *reference, struct lunkit_error *err)
{
	const char *source = arguments->values[CLI_KEY_FILE];
	char path[PATH_MAX];
	if (!source)
		return 0;
	if (!key_source_is_lasting(source)) {
		if (!cli_given(arguments, CLI_PERSIST))
			return 0;
		lunkit_error_set(err, EINVAL, "--persist records where the key is, and '%s' is nothing that is there at boot", source);
		return lunkit_error_hint(err, "--key-file FILE, credential:NAME or keyring:NAME");
	}
	/* A credential and a keyring are this process's; lunkitd has its own of the same name. */
	bool elsewhere = strncmp(source, "credential:", 11) == 0 || strncmp(source, "keyring:", 8) == 0;
	if (!elsewhere && !realpath(strncmp(source, "file:", 5) == 0 ? source + 5 : source, path))
		return lunkit_error_set(err, errno, "cannot find the key file '%s': %s", source, strerror(errno));
	if (snprintf(reference->key_file, sizeof(reference->key_file), "%s", elsewhere ? source : path) >= (int)sizeof(reference->key_file))
		return lunkit_error_set(err, ENAMETOOLONG, "the key file's path is too long to be recorded");
	return 0;
}

int verb_attach(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	struct bus bus = { 0 };
	struct json_object *lun = NULL;
	char *path = NULL, image[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX + 3 * REFERENCE_KEY_FILE_MAX];
	const char *name = arguments->operands[0];
	if (cli_given(arguments, CLI_PRINT) && cli_given(arguments, CLI_JSON)) {
		lunkit_error_set(&err, EINVAL, "--print and --json exclude each other");
		return report_usage(&err);
	}
	int r = verb_reference(arguments, true, &reference, &err);
	if (r == 0)
		r = record_key_source(arguments, &reference, &err);
	if (r == 0) {
		name = verb_subject(&reference);
		r = reference_format(&reference, image, sizeof(image), &err);
	}
	if (r == 0)
		r = bus_open(&bus, &err);
	/* --print asks what to tell a VM: when the image is attached already, that is all there is to do */
	bool found = r == 0 && cli_given(arguments, CLI_PRINT) && bus_find(&bus, image, &path, NULL) == 0;
	if (r == 0 && !found) {
		warn_about_moving_names(arguments, &reference);
		r = call_attach(&bus, arguments, image, &path, &err);
	}
	if (r == 0)
		r = bus_lun(&bus, path, &lun, &err);
	if (r == 0)
		r = print_lun(arguments, lun, &err);
	json_object_put(lun);
	free(path);
	bus_close(&bus);
	return r < 0 ? report_failure("attach", name, &err) : CLI_OK;
}

int verb_detach(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct bus bus = { 0 };
	struct json_object *lun = NULL;
	sd_bus_message *call;
	char *path = NULL;
	const char *operand = arguments->operands[0];
	int r = bus_open(&bus, &err);
	if (r == 0)
		r = bus_find(&bus, operand, &path, &err);
	if (r == 0)
		r = bus_lun(&bus, path, &lun, &err);
	/* A name that no LUN has may be that of a record, which is to be forgotten: lunkitd knows. */
	if (r == -ENOENT && !strpbrk(operand, "/;:"))
		r = 0;
	if (r == 0)
		r = bus_new_call(&bus, BUS_PATH, BUS_MANAGER_INTERFACE, "Detach", &call, &err);
	if (r == 0) {
		r = sd_bus_message_append(call, "s", lun ? json_string(lun, "name", operand) : operand);
		if (r >= 0)
			r = sd_bus_message_open_container(call, SD_BUS_TYPE_ARRAY, "{sv}");
		if (r >= 0 && cli_given(arguments, CLI_KEEP))
			r = append(call, "forget", "b", 0);
		if (r >= 0 && cli_given(arguments, CLI_FORCE))
			r = append(call, "force", "b", 1);
		if (r >= 0)
			r = sd_bus_message_close_container(call);
		if (r < 0) {
			sd_bus_message_unref(call);
			lunkit_error_set(&err, r, "cannot make the call Detach: %s", strerror(-r));
		} else {
			r = bus_send(&bus, call, NULL, &err);
		}
	}
	json_object_put(lun);
	free(path);
	bus_close(&bus);
	return r < 0 ? report_failure("detach", operand, &err) : CLI_OK;
}

int verb_restore(const struct cli_arguments *arguments)
{
	(void)arguments;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct bus bus = { 0 };
	sd_bus_message *answer = NULL;
	struct json_object *names = NULL, *errors = NULL;
	int r = bus_open(&bus, &err);
	if (r == 0)
		r = bus_call(&bus, BUS_PATH, BUS_MANAGER_INTERFACE, "Restore", &answer, &err, NULL);
	if (r == 0 && (bus_value_to_json(answer, &names) < 0 || bus_value_to_json(answer, &errors) < 0 ||
		       !json_object_is_type(names, json_type_array) || !json_object_is_type(errors, json_type_array)))
		r = lunkit_error_set(&err, EPROTO, "lunkitd's answer to Restore makes no sense");
	int status = r < 0 ? report_failure("restore", NULL, &err) : CLI_OK;
	for (size_t i = 0; r == 0 && i < json_object_array_length(names); i++)
		puts(json_object_get_string(json_object_array_get_idx(names, i)));
	for (size_t i = 0; r == 0 && i < json_object_array_length(errors); i++) {
		const char *text = json_object_get_string(json_object_array_get_idx(errors, i)), *line = strchrnul(text, '\n');
		lunkit_error_set(&err, EIO, "%.*s", (int)(line - text), text);
		lunkit_error_hint(&err, "%s", *line ? line + 1 : "");
		status = report_failure("restore", NULL, &err);
	}
	json_object_put(names);
	json_object_put(errors);
	sd_bus_message_unref(answer);
	bus_close(&bus);
	return status;
}
