/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "cli/verbs.h"

static const struct cli_verb *verb(const char *name)
{
	for (const struct cli_verb *at = cli_verbs; at->name; at++)
		if (strcmp(at->name, name) == 0)
			return at;
	fail_msg("no verb %s", name);
	return NULL;
}

/* Splits the line at spaces. */
static int parse(const char *name, const char *line, struct cli_arguments *ret, struct lunkit_error *err)
{
	static char text[512];
	char *argv[64];
	int argc = 0;
	strcpy(text, line);
	for (char *word = strtok(text, " "); word; word = strtok(NULL, " "))
		argv[argc++] = word;
	*err = LUNKIT_ERROR_INIT;
	return cli_arguments_parse(verb(name), argc, argv, ret, err);
}

static void options_and_operands_mix(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"disk.raw --fabric vhost --read-only",
		"--fabric=vhost --read-only disk.raw",
		"--fabric vhost disk.raw --read-only",
		"--read-only --fabric vhost -- disk.raw",
		"--read-only --read-only --fabric vhost --fabric vhost disk.raw",
	};
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct cli_arguments arguments;
		struct lunkit_error err;
		assert_int_equal(parse("attach", lines[i], &arguments, &err), 0);
		assert_int_equal(arguments.operand_count, 1);
		assert_string_equal(arguments.operands[0], "disk.raw");
		assert_string_equal(arguments.values[CLI_FABRIC], "vhost");
		assert_true(cli_given(&arguments, CLI_READ_ONLY));
		assert_false(cli_given(&arguments, CLI_CACHE));
		assert_false(arguments.help);
	}
}

static void what_is_wrong_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *verb, *line, *part;
	} cases[] = {
		{ "attach", "", "attach needs IMAGE" },
		{ "attach", "a b", "'b'" },
		{ "attach", "a --fabri loop", "'--fabri'" },
		{ "attach", "a --fabric", "'--fabric' needs a value" },
		{ "attach", "a --fabric iscsi", "'iscsi'" },
		{ "attach", "a --fabric=", "can't be ''" },
		{ "attach", "a --fabric loop|vhost", "can't be" },
		{ "attach", "a --fabric loop --fabric vhost", "given twice" },
		{ "attach", "a --read-only=yes", "takes no value" },
		{ "attach", "a -r", "'-r'" },
		{ "attach", "a --force", "'--force'" },
		{ "list", "x", "'x'" },
		{ "create", "a 1G 2G", "'2G'" },
		{ "attach", "-- --json", NULL },
		{ "attach", "-", NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cli_arguments arguments;
		struct lunkit_error err;
		int r = parse(cases[i].verb, cases[i].line, &arguments, &err);
		assert_int_equal(r, cases[i].part ? -EINVAL : 0);
		if (cases[i].part && !strstr(err.message, cases[i].part))
			fail_msg("'%s': '%s' does not say '%s'", cases[i].line, err.message, cases[i].part);
	}
}

static void help_needs_nothing_else(void **state)
{
	(void)state;
	struct cli_arguments arguments;
	struct lunkit_error err;
	assert_int_equal(parse("attach", "--help", &arguments, &err), 0);
	assert_true(arguments.help);
	assert_int_equal(parse("attach", "-h", &arguments, &err), 0);
	assert_true(arguments.help);
}

static void option_may_be_repeated(void **state)
{
	(void)state;
	struct cli_arguments arguments;
	struct lunkit_error err;
	struct reference reference;
	assert_int_equal(parse("create", "/x;c=d --option a=b --option e=f;g%h 1G", &arguments, &err), 0);
	assert_int_equal(arguments.repeated_count, 2);
	assert_int_equal(verb_reference(&arguments, false, &reference, &err), 0);
	assert_string_equal(reference.name, "/x");
	assert_string_equal(reference.options, "c=d;a=b;e=f%3Bg%25h");
	assert_int_equal(parse("create", "/x --option a 1G", &arguments, &err), 0);
	assert_int_equal(verb_reference(&arguments, false, &reference, &err), -EINVAL);
	assert_int_equal(parse("create", "/x --option =a 1G", &arguments, &err), 0);
	assert_int_equal(verb_reference(&arguments, false, &reference, &err), -EINVAL);
	assert_int_equal(parse("create", "/x --option a=1 --option a=1 1G", &arguments, &err), 0);
	assert_int_equal(verb_reference(&arguments, false, &reference, &err), -EINVAL);
}

static void words_are_whole(void **state)
{
	(void)state;
	assert_true(cli_word_is_one_of("loop", "loop|vhost"));
	assert_true(cli_word_is_one_of("vhost", "loop|vhost"));
	assert_false(cli_word_is_one_of("loo", "loop|vhost"));
	assert_false(cli_word_is_one_of("vhosts", "loop|vhost"));
	assert_false(cli_word_is_one_of("oop", "loop|vhost"));
	assert_false(cli_word_is_one_of("", "loop|vhost"));
}

/* What the table's users rely on. */
static void table_is_sound(void **state)
{
	(void)state;
	for (const struct cli_verb *at = cli_verbs; at->name; at++) {
		assert_non_null(at->run);
		assert_true(at->summary[0] >= 'a' && at->summary[0] <= 'z');
		assert_true(at->operands_max <= CLI_OPERANDS_MAX);
		for (const struct cli_option *option = at->options; option->name; option++) {
			assert_true(option->id < CLI_OPTION_COUNT);
			assert_true((option->type == CLI_VALUE_NONE) == (option->value == NULL));
			assert_non_null(option->help);
			for (const struct cli_option *other = option + 1; other->name; other++)
				assert_int_not_equal(other->id, option->id);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_and_operands_mix), cmocka_unit_test(what_is_wrong_is_named),
		cmocka_unit_test(help_needs_nothing_else),  cmocka_unit_test(option_may_be_repeated),
		cmocka_unit_test(words_are_whole),	    cmocka_unit_test(table_is_sound),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
