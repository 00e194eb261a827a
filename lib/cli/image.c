/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verbs that work on an image, attached or not: info, create, resize. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/parse.h"
#include "cli/format.h"
#include "cli/keys.h"
#include "cli/offline.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "pool/bus.h"

int verb_check_options(const struct cli_arguments *arguments, struct lunkit_error *err)
{
	for (unsigned i = 0; i < arguments->repeated_count; i++) {
		const char *option = arguments->repeated[i], *equals = strchr(option, '=');
		if (!equals || equals == option) {
			lunkit_error_set(err, EINVAL, "'%s' is not of the form KEY=VALUE", option);
			return lunkit_error_hint(err, "--option KEY=VALUE, for example --option preallocation=full");
		}
	}
	return 0;
}

/* ";KEY=VALUE" behind the image's text, with VALUE as it was typed: nothing in it is special on a command line. */
static int append_option(char *text, size_t size, const char *option, struct lunkit_error *err)
{
	char value[REFERENCE_OPTIONS_MAX];
	const char *equals = strchr(option, '='); /* verb_check_options() has looked */
	size_t used = strlen(text);
	if (percent_encode(equals + 1, value, sizeof(value)) < 0 || used + strlen(option) + strlen(value) + 2 >= size)
		return lunkit_error_set(err, ENAMETOOLONG, "option '%.64s' is too long", option);
	snprintf(text + used, size - used, ";%.*s=%s", (int)(equals - option), option, value);
	return 0;
}

int verb_reference_of(const char *operand, const struct cli_arguments *arguments, bool with_options, bool must_exist, struct reference *ret,
		      struct lunkit_error *err)
{
	static char text[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX + 4 * REFERENCE_OPTIONS_MAX];
	struct reference reference;
	if (snprintf(text, sizeof(text), "%s", operand) >= (int)sizeof(text))
		return lunkit_error_set(err, ENAMETOOLONG, "the image's name is too long");
	if (strstr(operand, "://")) {
		lunkit_error_set(err, EOPNOTSUPP, "'%s' is a URL, and lunkit opens files and devices only", operand);
		return lunkit_error_hint(err, "fetch it first: curl -o FILE URL, then lunkit import FILE IMAGE");
	}
	int r = with_options ? verb_check_options(arguments, err) : 0;
	for (unsigned i = 0; with_options && i < arguments->repeated_count && r == 0; i++)
		r = append_option(text, sizeof(text), arguments->repeated[i], err);
	if (r == 0)
		r = reference_parse(text, &reference, err);
	if (r == 0)
		r = reference_resolve(&reference, must_exist, err);
	if (r < 0)
		return r;
	*ret = reference;
	return 0;
}

int verb_reference(const struct cli_arguments *arguments, bool must_exist, struct reference *ret, struct lunkit_error *err)
{
	return verb_reference_of(arguments->operands[0], arguments, true, must_exist, ret, err);
}

int verb_rate(const struct cli_arguments *arguments, uint64_t *ret, struct lunkit_error *err)
{
	uint64_t rate = 0;
	const char *text = arguments->values[CLI_RATE];
	int r = text ? verb_size(text, &rate, err) : 0;
	if (r == 0 && text && !rate)
		r = lunkit_error_set(err, EINVAL, "at a rate of 0 bytes a second nothing is ever done");
	if (r == 0)
		*ret = rate;
	return r;
}

const char *verb_subject(const struct reference *reference)
{
	static char text[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX];
	if (reference_is_path(reference))
		return reference->name;
	snprintf(text, sizeof(text), "%s:%s", reference->kind, reference->name);
	return text;
}

const char *verb_subject_or(const struct reference *reference, const char *otherwise)
{
	return reference->name[0] ? verb_subject(reference) : otherwise;
}

/* -EACCES: lunkitd does not tell us. Any other failure: it is not attached. */
static int find_attached(const char *text, struct bus *ret_bus, char **ret_path)
{
	struct bus bus = { 0 };
	int r = bus_open(&bus, NULL);
	if (r == 0)
		r = bus_find(&bus, text, ret_path, NULL);
	if (r < 0)
		bus_close(&bus);
	else
		*ret_bus = bus;
	return r;
}

bool verb_attached(const char *text, struct bus *ret_bus, char **ret_path)
{
	return find_attached(text, ret_bus, ret_path) == 0;
}

/* "one, two" of an array of words, the caller's; NULL for any other value. */
static char *joined(struct json_object *value)
{
	char *text = NULL;
	size_t size;
	FILE *stream = json_object_is_type(value, json_type_array) ? open_memstream(&text, &size) : NULL;
	if (!stream)
		return NULL;
	for (size_t i = 0; i < json_object_array_length(value); i++)
		fprintf(stream, "%s%s", i ? ", " : "", json_object_get_string(json_object_array_get_idx(value, i)));
	fclose(stream);
	return text;
}

/* "virtual-size" to "virtual size", and values as people read them. Objects below it are shown as JSON. */
static void print_info(struct json_object *info)
{
	size_t width = 0;
	json_object_object_foreach(info, measured, ignored)
	{
		(void)ignored;
		width = MAX(width, strlen(measured));
	}
	json_object_object_foreach(info, key, value)
	{
		char size[FORMAT_MAX], label[128];
		const char *text = json_object_get_string(value);
		char *printable_key = format_printable(key);
		snprintf(label, sizeof(label), "%s:", printable_key ? printable_key : "?");
		free(printable_key);
		for (char *at = label; *at; at++)
			if (*at == '-')
				*at = ' ';
		size_t length = strlen(key);
		if (json_object_is_type(value, json_type_boolean))
			text = json_object_get_boolean(value) ? "yes" : "no";
		else if (json_object_is_type(value, json_type_int) && length >= 4 && strcmp(key + length - 4, "size") == 0)
			text = format_size_exact(json_object_get_uint64(value), size);
		char *words = joined(value), *printable = format_printable(words ? words : text ? text : "unknown");
		printf("%-*s  %s\n", (int)width + 1, label, printable ? printable : "?");
		free(printable);
		free(words);
	}
}

struct json_object *verb_unsafe(const struct reference *reference)
{
	struct stat status;
	struct json_object *report = NULL, *properties, *unsafe = NULL;
	if (!reference_is_path(reference) || stat(reference->name, &status) < 0 || status.st_uid == geteuid() ||
	    offline_inspect(reference, &report, NULL) < 0)
		return NULL;
	if (!json_is_true(report, "safe") && json_object_object_get_ex(report, "properties", &properties))
		for (size_t i = 0; i < json_object_array_length(properties); i++) {
			struct json_object *entry = json_object_array_get_idx(properties, i);
			if (strcmp(json_string(entry, "verdict", ""), "unsafe") != 0)
				continue;
			if (!unsafe)
				unsafe = json_object_new_array();
			json_object_array_add(unsafe, json_object_new_string(json_string(entry, "property", "?")));
		}
	json_object_put(report);
	return unsafe;
}

int verb_info(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const char *image = arguments->operands[0];
	struct json_object *info = NULL;
	struct reference reference;
	struct bus bus;
	char *path;
	int r, found = find_attached(image, &bus, &path);
	if (found == 0) {
		struct json_object *lun = NULL;
		r = bus_lun_json(&bus, path, "Info", &info, &err);
		if (r == 0)
			r = bus_lun(&bus, path, &lun, &err);
		if (r == 0) {
			json_object_object_add(info, "attached", json_object_new_boolean(true));
			json_object_object_add(info, "lun", json_object_new_string(json_string(lun, "name", "")));
			json_object_object_add(info, "state", json_object_new_string(json_string(lun, "state", "")));
			const char *device = json_string_at(lun, "devices", 0);
			if (device)
				json_object_object_add(info, "device", json_object_new_string(device));
		}
		json_object_put(lun);
		free(path);
		bus_close(&bus);
	} else {
		r = verb_reference(arguments, true, &reference, &err);
		if (r == 0) {
			image = verb_subject(&reference);
			r = offline_info(&reference, &info, &err);
		}
		if (r == 0) {
			json_object_object_add(info, "attached", found == -EACCES ? NULL : json_object_new_boolean(false));
			struct json_object *unsafe = verb_unsafe(&reference);
			if (unsafe)
				json_object_object_add(info, "unsafe", unsafe);
		}
	}
	if (r < 0) {
		json_object_put(info);
		return report_failure("show", image, &err);
	}
	if (cli_given(arguments, CLI_JSON))
		json_print(info);
	else
		print_info(info);
	json_object_put(info);
	return CLI_OK;
}

int verb_size(const char *text, uint64_t *ret, struct lunkit_error *err)
{
	int r = parse_size(text, ret);
	if (r == -ERANGE)
		lunkit_error_set(err, r, "the size '%s' is more than an image can have", text);
	else if (r < 0)
		lunkit_error_set(err, r, "'%s' is not a size", text);
	else if (*ret > INT64_MAX)
		r = lunkit_error_set(err, ERANGE, "the size '%s' is more than an image can have", text);
	return r < 0 ? lunkit_error_hint(err, "a size is a number of bytes, or one with K, M, G or T behind it: 512M, 10G") : 0;
}

void verb_print_size(const struct cli_arguments *arguments, const char *done, const char *image, uint64_t before, bool has_before,
		     uint64_t size)
{
	char text[FORMAT_MAX];
	if (cli_given(arguments, CLI_JSON)) {
		struct json_object *result = json_object_new_object();
		json_object_object_add(result, "image", json_object_new_string(image));
		if (has_before)
			json_object_object_add(result, "size-before", json_object_new_uint64(before));
		json_object_object_add(result, "size", json_object_new_uint64(size));
		json_print(result);
		json_object_put(result);
		return;
	}
	char *printable = format_printable(image);
	printf("%s %s: %s\n", done, printable ? printable : "?", format_size_exact(size, text));
	free(printable);
}

int verb_create(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	const char *option = arguments->values[CLI_SIZE], *operand = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
	uint64_t size;
	if (!option == !operand) {
		lunkit_error_set(&err, EINVAL, option ? "the size is given twice" : "create needs a size");
		lunkit_error_hint(&err, "lunkit create %.150s 10G", arguments->operands[0]);
		return report_usage(&err);
	}
	if (verb_size(option ? option : operand, &size, &err) < 0)
		return report_usage(&err);
	if (!size) {
		lunkit_error_set(&err, EINVAL, "an image of 0 bytes is no disk");
		return report_usage(&err);
	}
	int r = verb_reference(arguments, false, &reference, &err);
	if (r < 0)
		return report_failure("create", arguments->operands[0], &err);
	/* Else an image that its maker takes for encrypted would not be. */
	bool encrypted = cli_given(arguments, CLI_ENCRYPT) || strcmp(reference.kind, "luks") == 0 || strstr(reference.options, "encrypt=");
	if (cli_given(arguments, CLI_KEY_FILE) && !encrypted && !strstr(reference.options, "backing=")) {
		lunkit_error_set(&err, EINVAL, "a key is given, and nothing says that the image is to be encrypted");
		lunkit_error_hint(&err, "add --encrypt luks, or leave the key away");
		return report_usage(&err);
	}
	r = cli_keys_encrypt(arguments, &reference, &err);
	if (r == 0)
		r = offline_create(&reference, size, NULL, &err);
	if (r < 0)
		return report_failure("create", verb_subject(&reference), &err);
	verb_print_size(arguments, "created", verb_subject(&reference), 0, false, size);
	return CLI_OK;
}

/* By lunkitd, whose worker holds the image. */
static int resize_attached(struct bus *bus, const char *path, const struct offline_resize *resize, uint64_t *ret_before,
			   uint64_t *ret_after, struct lunkit_error *err)
{
	struct json_object *lun = NULL;
	sd_bus_message *answer = NULL;
	uint64_t target, before = 0, after = 0;
	int r = bus_lun(bus, path, &lun, err);
	if (r == 0) {
		before = json_number(lun, "size");
		r = resize_target(resize, before, &target, err);
	}
	if (r == 0)
		r = bus_call(bus, path, BUS_LUN_INTERFACE, "Resize", &answer, err, "tu", target, resize->shrink ? RESIZE_SHRINK : 0u);
	if (r == 0 && sd_bus_message_read(answer, "t", &after) < 0)
		r = lunkit_error_set(err, EPROTO, "lunkitd's answer to Resize makes no sense");
	sd_bus_message_unref(answer);
	json_object_put(lun);
	if (r < 0)
		return r;
	*ret_before = before;
	*ret_after = after;
	return 0;
}

int verb_resize(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const char *image = arguments->operands[0], *size = arguments->operand_count > 1 ? arguments->operands[1] : NULL;
	struct offline_resize resize = { .adopt = cli_given(arguments, CLI_ADOPT), .shrink = cli_given(arguments, CLI_SHRINK) };
	if (resize.adopt == !!size) {
		lunkit_error_set(&err, EINVAL,
				 size ? "--adopt takes the size from the storage: no other can be given"
				      : "resize needs a size, or --adopt");
		lunkit_error_hint(&err, "lunkit resize %.150s +10G", image);
		return report_usage(&err);
	}
	resize.relative = size && size[0] == '+';
	if (size && verb_size(size + resize.relative, &resize.size, &err) < 0)
		return report_usage(&err);

	struct reference reference;
	struct bus bus;
	char *path;
	uint64_t before, after;
	int r;
	if (verb_attached(image, &bus, &path)) {
		r = resize_attached(&bus, path, &resize, &before, &after, &err);
		free(path);
		bus_close(&bus);
	} else {
		r = verb_reference(arguments, true, &reference, &err);
		if (r == 0) {
			image = verb_subject(&reference);
			r = offline_resize(&reference, &resize, &before, &after, &err);
		}
	}
	if (r < 0)
		return report_failure("resize", image, &err);
	verb_print_size(arguments, before == after ? "unchanged" : "resized", image, before, true, after);
	return CLI_OK;
}
