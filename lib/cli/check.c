/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* check: consistency, whose exit statuses are those of `qemu-img check`, and safety. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cli/format.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/task.h"
#include "cli/verbs.h"

/* LUNKIT_CHECK_* of handler.h, which this layer does not see. */
#define REPAIR_LEAKS 1u
#define REPAIR_ALL 2u

static int print_safety(const struct cli_arguments *arguments, struct json_object *report)
{
	static const struct table_column columns[] = { { "PROPERTY" }, { "VERDICT" }, { "VALUE", .shrinks = true }, { "MEANING" } };
	struct json_object *properties;
	if (cli_given(arguments, CLI_JSON)) {
		json_print(report);
		return 0;
	}
	if (!json_object_object_get_ex(report, "properties", &properties) || !json_object_is_type(properties, json_type_array))
		return -EPROTO;
	struct table *table = table_new(columns, ARRAY_SIZE(columns));
	int r = table ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < json_object_array_length(properties); i++) {
		struct json_object *entry = json_object_array_get_idx(properties, i);
		const char *cells[] = { json_string(entry, "property", "?"), json_string(entry, "verdict", "?"),
					json_string(entry, "value", NULL), json_string(entry, "message", "") };
		r = table_add(table, cells);
	}
	if (r == 0)
		table_print(table, stdout, table_terminal_width(stdout));
	table_free(table);
	return r;
}

static int check_safety(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference = { 0 };
	struct json_object *report = NULL;
	int r = verb_reference_of(arguments->operands[0], arguments, false, true, &reference, &err);
	if (r == 0)
		r = offline_inspect(&reference, &report, &err);
	if (r < 0) {
		report_failure("inspect", verb_subject_or(&reference, arguments->operands[0]), &err);
		return r == -EOPNOTSUPP ? (int)CLI_CHECK_UNKNOWN : (int)CLI_FAILED;
	}
	r = print_safety(arguments, report);
	int status = r < 0 ? (int)CLI_FAILED : json_is_true(report, "safe") ? (int)CLI_OK : (int)CLI_CHECK_UNSAFE;
	json_object_put(report);
	return status;
}

static void print_report(struct json_object *report)
{
	static const struct {
		const char *key, *one, *many;
	} counts[] = {
		{ "corruptions-fixed", "error was repaired", "errors were repaired" },
		{ "leaks-fixed", "leaked cluster was given back", "leaked clusters were given back" },
		{ "corruptions", "error", "errors" },
		{ "leaks", "leaked cluster", "leaked clusters" },
	};
	bool any = false;
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
		uint64_t count = json_number(report, counts[i].key);
		if (count)
			printf("%" PRIu64 " %s\n", count, count == 1 ? counts[i].one : counts[i].many);
		any = any || count;
	}
	if (!any)
		printf("no errors\n");
	const char *first = json_string(report, "first", "");
	char *printable = first[0] ? format_printable(first) : NULL;
	if (printable)
		printf("the first: %s\n", printable);
	free(printable);
	uint64_t total = json_number(report, "total-clusters"), allocated = json_number(report, "allocated-clusters");
	char end[FORMAT_MAX];
	if (total)
		printf("%" PRIu64 " of %" PRIu64 " clusters are allocated (%.1f%%)\n", allocated, total,
		       (double)allocated * 100 / (double)total);
	if (json_number(report, "image-end"))
		printf("the image ends at %s\n", format_size_exact(json_number(report, "image-end"), end));
}

int verb_check(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct task_result result;
	const char *repair = arguments->values[CLI_REPAIR];
	if (cli_given(arguments, CLI_SAFETY) && repair) {
		lunkit_error_set(&err, EINVAL, "--safety and --repair exclude each other");
		report_usage(&err);
		return CLI_FAILED;
	}
	if (cli_given(arguments, CLI_SAFETY))
		return check_safety(arguments);
	struct task task = {
		.what = "checking",
		.job = { .use = repair ? OFFLINE_WRITE : OFFLINE_READ,
			 .request = { .kind = PROTOCOL_JOB_CHECK,
				      .flags = !repair			      ? 0
					       : strcmp(repair, "leaks") == 0 ? REPAIR_LEAKS
									      : REPAIR_LEAKS | REPAIR_ALL },
			 .fds = { -1, -1 } },
	};
	int r = task_find(&task, arguments->operands[0], arguments, true, &err);
	if (r == 0)
		r = task_run(&task, &result, &err);
	if (r == 0 && !result.json)
		r = lunkit_error_set(&err, EPROTO, "the worker's answer makes no sense");
	if (r < 0) {
		report_failure("check", task_subject(&task, arguments->operands[0]), &err);
		return r == -EOPNOTSUPP ? (int)CLI_CHECK_UNKNOWN : (int)CLI_FAILED;
	}
	if (cli_given(arguments, CLI_JSON))
		json_print(result.json);
	else
		print_report(result.json);
	int status = json_number(result.json, "corruptions") ? (int)CLI_CHECK_ERRORS
		     : json_number(result.json, "leaks")     ? (int)CLI_CHECK_LEAKS
							     : (int)CLI_OK;
	json_object_put(result.json);
	return status;
}
