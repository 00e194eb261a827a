/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The command line as a table: each verb with its operands and options. Parsing, --help, the shell completion and the check of the manual page all
 * come from it, so that they can't differ.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum cli_option_id {
	CLI_FABRIC,
	CLI_READ_ONLY,
	CLI_CACHE,
	CLI_BLOCK_SIZE,
	CLI_NAME,
	CLI_PERSIST,
	CLI_PRINT,
	CLI_OPTION, /* repeatable */
	CLI_FORCE,
	CLI_KEEP,
	CLI_SIZE,
	CLI_ADOPT,
	CLI_SHRINK,
	CLI_REPAIR,
	CLI_SAFETY,
	CLI_FULL,
	CLI_RATE,
	CLI_FORMAT,
	CLI_COMPRESS,
	CLI_TRUST,
	CLI_ENCRYPT,
	CLI_KEY_FILE,
	CLI_PARENT_KEY_FILE,
	CLI_NEW_KEY_FILE,
	CLI_JSON,
	CLI_OPTION_COUNT,
};

/* What an option's value or an operand is, for completion. */
enum cli_value { CLI_VALUE_NONE, CLI_VALUE_TEXT, CLI_VALUE_WORDS, CLI_VALUE_SIZE, CLI_VALUE_IMAGE, CLI_VALUE_LUN };

struct cli_option {
	const char *name; /* without "--"; NULL ends an array */
	enum cli_option_id id;
	enum cli_value type;
	const char *value; /* how --help names it; the words that are allowed, separated by '|', for CLI_VALUE_WORDS */
	const char *help;  /* one line */
};

struct cli_arguments;
struct cli_verb {
	const char *name;
	const char *operands; /* as in the synopsis: "IMAGE [SIZE]" */
	const char *summary;  /* one line, for `lunkit --help` */
	const char *help;     /* paragraphs for `lunkit VERB --help`, or NULL */
	unsigned operands_min, operands_max;
	enum cli_value operand_type; /* of the first operand, or of the one behind the word */

	const struct cli_option *options;
	int (*run)(const struct cli_arguments *arguments); /* returns an enum cli_status */
	const char *words;				   /* that the first operand may be, separated by '|'; NULL: it is no word */
};

/* Exit statuses: documented in lunkit(1). */
enum cli_status { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };
/* Of check, as qemu-img's: a command line that is wrong is CLI_FAILED there. */
enum cli_check_status { CLI_CHECK_ERRORS = 2, CLI_CHECK_LEAKS = 3, CLI_CHECK_UNSAFE = 4, CLI_CHECK_UNKNOWN = 63 };

#define CLI_OPERANDS_MAX 4
#define CLI_REPEAT_MAX 32
struct cli_arguments {
	const struct cli_verb *verb;
	const char *operands[CLI_OPERANDS_MAX];
	unsigned operand_count;
	const char *values[CLI_OPTION_COUNT]; /* NULL: not given; "" for one without a value */
	const char *repeated[CLI_REPEAT_MAX]; /* CLI_OPTION's */
	unsigned repeated_count;
	bool help; /* --help was given; the rest is not checked then */
};

/* argv: what follows the verb. -EINVAL with a message for a command line that is wrong. The strings stay argv's. */
int cli_arguments_parse(const struct cli_verb *verb, int argc, char **argv, struct cli_arguments *ret, struct lunkit_error *err);

static inline bool cli_given(const struct cli_arguments *arguments, enum cli_option_id id)
{
	return arguments->values[id];
}

/* True when word is one of the words that are separated by '|'. */
bool cli_word_is_one_of(const char *word, const char *words);
