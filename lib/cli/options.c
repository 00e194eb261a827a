/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Parsing of a verb's command line by its table. Not getopt_long(): that takes abbreviations, and a script that uses one breaks with the next option
 * that is added. Options may stand before, between and after operands; "--" ends them.
 */
#include "cli/options.h"

#include <errno.h>
#include <string.h>

bool cli_word_is_one_of(const char *word, const char *words)
{
	size_t length = strlen(word);
	if (!length || strchr(word, '|'))
		return false;
	for (const char *at = words; at; at = strchr(at, '|'), at = at ? at + 1 : NULL)
		if (strncmp(at, word, length) == 0 && (at[length] == '|' || !at[length]))
			return true;
	return false;
}

static const struct cli_option *find_option(const struct cli_verb *verb, const char *name, size_t length)
{
	for (const struct cli_option *option = verb->options; option && option->name; option++)
		if (strlen(option->name) == length && strncmp(option->name, name, length) == 0)
			return option;
	return NULL;
}

static int usage_hint(const struct cli_verb *verb, struct lunkit_error *err)
{
	return lunkit_error_hint(err, "lunkit %s --help", verb->name);
}

/* Stores one option; value is NULL when it had none with '='. Takes the next argument when it needs one. */
static int take_option(const struct cli_verb *verb, const char *argument, int argc, char **argv, int *at, struct cli_arguments *arguments,
		       struct lunkit_error *err)
{
	const char *name = argument + 2, *equals = strchr(name, '='), *value = equals ? equals + 1 : NULL;
	size_t length = equals ? (size_t)(equals - name) : strlen(name);
	const struct cli_option *option = find_option(verb, name, length);
	if (!option) {
		lunkit_error_set(err, EINVAL, "%s has no option '--%.*s'", verb->name, (int)length, name);
		return usage_hint(verb, err);
	}
	if (option->type == CLI_VALUE_NONE) {
		if (value)
			return lunkit_error_set(err, EINVAL, "option '--%s' takes no value", option->name);
		value = "";
	} else if (!value) {
		if (*at + 1 >= argc) {
			lunkit_error_set(err, EINVAL, "option '--%s' needs a value (%s)", option->name, option->value);
			return usage_hint(verb, err);
		}
		value = argv[++*at];
	}
	if (option->type == CLI_VALUE_WORDS && !cli_word_is_one_of(value, option->value)) {
		lunkit_error_set(err, EINVAL, "option '--%s' can't be '%s'", option->name, value);
		return lunkit_error_hint(err, "--%s takes one of %s", option->name, option->value);
	}
	if (option->id == CLI_OPTION) {
		if (arguments->repeated_count == CLI_REPEAT_MAX)
			return lunkit_error_set(err, EINVAL, "option '--%s' is given more than %d times", option->name, CLI_REPEAT_MAX);
		arguments->repeated[arguments->repeated_count++] = value;
	} else if (arguments->values[option->id] && strcmp(arguments->values[option->id], value) != 0) {
		return lunkit_error_set(err, EINVAL, "option '--%s' is given twice", option->name);
	}
	arguments->values[option->id] = value;
	return 0;
}

int cli_arguments_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_arguments *ret, struct lunkit_error *err)
{
	struct cli_arguments arguments = { .verb = verb };
	bool options_ended = false;
	for (int at = 0; at < argc; at++) {
		const char *argument = argv[at];
		if (options_ended || argument[0] != '-' || !argument[1]) {
			if (arguments.operand_count == verb->operands_max) {
				lunkit_error_set(err, EINVAL, "%s does not know what to do with '%s'", verb->name, argument);
				return usage_hint(verb, err);
			}
			arguments.operands[arguments.operand_count++] = argument;
		} else if (strcmp(argument, "--") == 0) {
			options_ended = true;
		} else if (strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0) {
			arguments.help = true;
			*ret = arguments;
			return 0;
		} else if (argument[1] != '-') {
			lunkit_error_set(err, EINVAL, "%s has no option '%s'", verb->name, argument);
			return usage_hint(verb, err);
		} else {
			int r = take_option(verb, argument, argc, argv, &at, &arguments, err);
			if (r < 0)
				return r;
		}
	}
	if (arguments.operand_count < verb->operands_min) {
		lunkit_error_set(err, EINVAL, "%s needs %s", verb->name, verb->operands);
		return usage_hint(verb, err);
	}
	if (verb->words && !cli_word_is_one_of(arguments.operands[0], verb->words)) {
		lunkit_error_set(err, EINVAL, "%s can't '%s'", verb->name, arguments.operands[0]);
		return lunkit_error_hint(err, "it is one of %s", verb->words);
	}
	*ret = arguments;
	return 0;
}
