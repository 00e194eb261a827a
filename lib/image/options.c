/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * "key=value;key=value" of an image reference, checked against what the handler says that it takes. Values are percent-encoded, so that
 * they can hold anything. The result is one allocation: the array, then the text that it points into.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/parse.h"
#include "image/shim.h"

#define TEXT_MAX ((size_t)16 << 10)

static const struct lunkit_option *find_option(const struct lunkit_handler *handler, const char *key, unsigned use)
{
	for (const struct lunkit_option *option = handler->options; option && option->key; option++)
		if (strcmp(option->key, key) == 0 && option->use & use)
			return option;
	return NULL;
}

static int unknown_option(const struct lunkit_handler *handler, const char *key, unsigned use, struct lunkit_error *err)
{
	char list[200] = "";
	for (const struct lunkit_option *option = handler->options; option && option->key; option++) {
		size_t used = strlen(list);
		if (option->use & use)
			snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", option->key);
	}
	lunkit_error_set(err, EINVAL, "images of the kind \"%s\" have no option \"%.64s\" %s", handler->name, key,
			 use & LUNKIT_OPTION_CREATE ? "at creation" : "when they are opened");
	return *list ? lunkit_error_hint(err, "The options that there are: %s.", list) : lunkit_error_hint(err, "There are no options.");
}

/* words: "a|b|c" */
static bool is_word(const char *words, const char *value)
{
	size_t length = strlen(value);
	for (const char *word = words; word; word = strchr(word, '|') ? strchr(word, '|') + 1 : NULL)
		if (strcspn(word, "|") == length && memcmp(word, value, length) == 0)
			return true;
	return false;
}

static int parse_value(const struct lunkit_option *option, const char *value, uint64_t *ret_number, struct lunkit_error *err)
{
	bool on;
	int r;
	switch (option->type) {
	case LUNKIT_OPTION_STRING:
		if (!option->values || is_word(option->values, value))
			return 0;
		lunkit_error_set(err, EINVAL, "option %s cannot be \"%.64s\"", option->key, value);
		return lunkit_error_hint(err, "One of: %.200s.", option->values);
	case LUNKIT_OPTION_SIZE:
		r = parse_size(value, ret_number);
		if (r == 0)
			return 0;
		lunkit_error_set(err, r, "option %s: \"%.64s\" is %s", option->key, value, r == -ERANGE ? "too large" : "not a size");
		return lunkit_error_hint(err, "A size is a number of bytes, or one with K, M, G, T behind it, like 10G.");
	case LUNKIT_OPTION_BOOL:
		r = parse_bool(value, &on);
		if (r == 0) {
			*ret_number = on;
			return 0;
		}
		lunkit_error_set(err, r, "option %s: \"%.64s\" is neither yes nor no", option->key, value);
		return lunkit_error_hint(err, "Write %s=yes or %s=no.", option->key, option->key);
	}
	return lunkit_error_set(err, EINVAL, "option %s has a type that this lunkit does not know", option->key);
}

static int parse_one(const struct lunkit_handler *handler, char *item, unsigned use, struct lunkit_option_value *values, size_t count,
		     struct lunkit_error *err)
{
	char *value = strchr(item, '=');
	if (!value) {
		lunkit_error_set(err, EINVAL, "option \"%.64s\" has no value", item);
		return lunkit_error_hint(err, "Options are written key=value, separated by semicolons.");
	}
	*value++ = '\0';
	const struct lunkit_option *option = find_option(handler, item, use);
	if (!option)
		return unknown_option(handler, item, use, err);
	for (size_t i = 0; i < count; i++)
		if (strcmp(values[i].key, option->key) == 0)
			return lunkit_error_set(err, EINVAL, "option %s is given twice", option->key);
	if (percent_decode(value, value, strlen(value) + 1) < 0)
		return lunkit_error_set(err, EINVAL, "option %s: \"%.64s\" has a wrong percent code", option->key, value);
	uint64_t number = 0;
	int r = parse_value(option, value, &number, err);
	if (r < 0)
		return r;
	values[count] = (struct lunkit_option_value){ option->key, value, number };
	return 0;
}

int options_parse(const struct lunkit_handler *handler, const char *text, unsigned use, struct lunkit_option_value **ret_values,
		  size_t *ret_count, struct lunkit_error *err)
{
	size_t length = text ? strlen(text) : 0, most = 1, count = 0;
	if (length == 0) {
		*ret_values = NULL;
		*ret_count = 0;
		return 0;
	}
	if (length > TEXT_MAX)
		return lunkit_error_set(err, E2BIG, "the options are longer than %zu bytes", TEXT_MAX);
	for (const char *c = text; *c; c++)
		most += *c == ';';
	struct lunkit_option_value *values = malloc(most * sizeof(*values) + length + 1);
	if (!values)
		return lunkit_error_set(err, ENOMEM, "not enough memory for the options");
	char *rest = memcpy(values + most, text, length + 1);
	while (rest) {
		char *item = strsep(&rest, ";");
		if (!*item)
			continue; /* ";;" and a last ";" */
		int r = parse_one(handler, item, use, values, count, err);
		if (r < 0) {
			free(values);
			return r;
		}
		count++;
	}
	*ret_values = values;
	*ret_count = count;
	return 0;
}

const struct lunkit_option_value *lunkit_params_option(const struct lunkit_params *params, const char *key)
{
	for (size_t i = 0; i < params->option_count; i++)
		if (strcmp(params->options[i].key, key) == 0)
			return &params->options[i];
	return NULL;
}
