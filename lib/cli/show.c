/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* list and status: what lunkitd says, as tables or as JSON. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "cli/format.h"
#include "cli/report.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "pool/bus.h"

static const struct table_column list_columns[] = {
	{ "NAME", .right = false },   { "IMAGE", .shrinks = true }, { "SIZE", .right = true },
	{ "FABRIC", .right = false }, { "DEVICE", .right = false }, { "STATE", .right = false },
};

/* The device, or what stands for it on a fabric without one: the WWPN. */
static const char *lun_device(struct json_object *lun)
{
	const char *device = json_string_at(lun, "devices", 0), *export = json_string_at(lun, "exports", 0), *space;
	if (device || !export)
		return device;
	space = strchr(export, ' ');
	return space ? space + 1 : export;
}

static int print_list(struct json_object *luns)
{
	struct table *table = table_new(list_columns, ARRAY_SIZE(list_columns));
	int r = table ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < json_object_array_length(luns); i++) {
		struct json_object *lun = json_object_array_get_idx(luns, i);
		char size[FORMAT_MAX], state[64];
		snprintf(state, sizeof(state), "%s%s", json_string(lun, "state", "?"), json_is_true(lun, "read-only") ? ", read-only" : "");
		const char *cells[] = { json_string(lun, "name", "?"),
					json_string(lun, "image", "?"),
					format_size(json_number(lun, "size"), size),
					json_string(lun, "fabric", "-"),
					lun_device(lun),
					state };
		r = table_add(table, cells);
	}
	if (r == 0)
		table_print(table, stdout, table_terminal_width(stdout));
	table_free(table);
	return r;
}

int verb_list(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct bus bus = { 0 };
	struct json_object *luns = NULL;
	int r = bus_open(&bus, &err);
	if (r == 0)
		r = bus_list(&bus, &luns, &err);
	bus_close(&bus);
	if (r == 0 && cli_given(arguments, CLI_JSON))
		json_print(luns);
	else if (r == 0 && json_object_array_length(luns) == 0)
		report_note("nothing is attached");
	else if (r == 0 && print_list(luns) < 0)
		r = lunkit_error_set(&err, ENOMEM, "no memory");
	json_object_put(luns);
	return r < 0 ? report_failure("list LUNs", NULL, &err) : CLI_OK;
}

/* The LUNs' properties, each with its statistics where the worker gave any. */
static int collect_luns(struct bus *bus, const char *only, struct json_object **ret, struct lunkit_error *err)
{
	struct json_object *luns = NULL;
	char *path = NULL;
	int r;
	if (only) {
		struct json_object *lun = NULL;
		r = bus_find(bus, only, &path, err);
		if (r == 0)
			r = bus_lun(bus, path, &lun, err);
		if (r == 0) {
			luns = json_object_new_array();
			json_object_array_add(luns, lun);
		}
		free(path);
	} else {
		r = bus_list(bus, &luns, err);
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < json_object_array_length(luns); i++) {
		struct json_object *lun = json_object_array_get_idx(luns, i), *statistics = NULL;
		if (sd_bus_path_encode(BUS_LUN_PREFIX, json_string(lun, "name", ""), &path) < 0)
			continue;
		/* a LUN that is held or has just gone has none */
		if (bus_lun_json(bus, path, "Statistics", &statistics, NULL) == 0)
			json_object_object_add(lun, "statistics", statistics);
		free(path);
	}
	*ret = luns;
	return 0;
}

static void print_line(const char *key, const char *value)
{
	char *printable = format_printable(value);
	printf("  %-11s %s\n", key, printable ? printable : "?");
	free(printable);
}

static void print_job(struct json_object *statistics)
{
	uint64_t done = json_number(statistics, "job-done"), total = json_number(statistics, "job-total");
	const char *job = json_string(statistics, "job", "");
	char text[256];
	if (!job[0])
		return;
	if (total)
		snprintf(text, sizeof(text), "%s, %u%% done", job, (unsigned)((double)done * 100 / (double)total));
	else
		snprintf(text, sizeof(text), "%s", job);
	print_line("job", text);
}

static void print_traffic(struct json_object *statistics)
{
	char text[256], read[FORMAT_MAX], written[FORMAT_MAX];
	snprintf(text, sizeof(text), "%" PRIu64 " (%s)", json_number(statistics, "reads"),
		 format_size(json_number(statistics, "read-bytes"), read));
	print_line("reads", text);
	snprintf(text, sizeof(text), "%" PRIu64 " (%s)", json_number(statistics, "writes"),
		 format_size(json_number(statistics, "write-bytes"), written));
	print_line("writes", text);
	snprintf(text, sizeof(text),
		 "%" PRIu64 " flushes, %" PRIu64 " discards, %" PRIu64 " in flight, %" PRIu64 " errors, %" PRIu64 " refused, %" PRIu64
		 " aborted",
		 json_number(statistics, "flushes"), json_number(statistics, "discards"), json_number(statistics, "in-flight"),
		 json_number(statistics, "errors"), json_number(statistics, "refused"), json_number(statistics, "aborted"));
	print_line("other", text);
}

static void print_lun_status(struct json_object *lun)
{
	struct json_object *statistics;
	char text[512], size[FORMAT_MAX];
	char *name = format_printable(json_string(lun, "name", "?"));
	printf("\n%s: %s\n", name ? name : "?", json_string(lun, "state", "?"));
	free(name);
	const char *reason = json_string(lun, "reason", ""), *notice = json_string(lun, "notice", "");
	if (reason[0])
		print_line("reason", reason);
	if (notice[0])
		print_line("warning", notice);
	print_line("image", json_string(lun, "image", "?"));
	snprintf(text, sizeof(text), "%s, blocks of %" PRIu64 " bytes%s, cache=%s", format_size_exact(json_number(lun, "size"), size),
		 json_number(lun, "block-size"), json_is_true(lun, "read-only") ? ", read-only" : "", json_string(lun, "cache", "none"));
	print_line("size", text);
	const char *item;
	for (size_t i = 0; (item = json_string_at(lun, "devices", i)); i++)
		print_line("device", item);
	for (size_t i = 0; (item = json_string_at(lun, "device-links", i)); i++)
		print_line("", item);
	for (size_t i = 0; (item = json_string_at(lun, "exports", i)); i++)
		print_line("export", item);
	print_line("serial", json_string(lun, "serial", "-"));
	snprintf(text, sizeof(text), "pid %" PRIu64 ", %" PRIu64 " restarts", json_number(lun, "worker-pid"), json_number(lun, "restarts"));
	print_line("worker", text);
	print_line("persistent", json_is_true(lun, "persistent") ? "yes" : "no");
	if (json_object_object_get_ex(lun, "statistics", &statistics)) {
		print_traffic(statistics);
		print_job(statistics);
	}
}

static void print_daemon_status(struct json_object *daemon)
{
	char up[FORMAT_MAX];
	uint64_t now = (uint64_t)time(NULL), start = json_number(daemon, "start-time") / 1000000;
	printf("lunkitd %s, pid %" PRIu64 ", up %s\n", json_string(daemon, "version", "?"), json_number(daemon, "pid"),
	       format_duration(now > start ? now - start : 0, up));
	print_line("target", json_is_true(daemon, "kernel-target") ? "the kernel target is there" : "the kernel target is missing");
	char luns[64], kinds[512] = "";
	uint64_t workers = json_number(daemon, "workers");
	snprintf(luns, sizeof(luns), "%" PRIu64 ", %" PRIu64 " worker%s", json_number(daemon, "luns"), workers, workers == 1 ? "" : "s");
	print_line("LUNs", luns);
	const char *item;
	size_t used = 0;
	for (size_t i = 0; (item = json_string_at(daemon, "handlers", i)) && used < sizeof(kinds); i++)
		used += (size_t)snprintf(kinds + used, sizeof(kinds) - used, "%s%s", i ? ", " : "", item);
	print_line("kinds", kinds[0] ? kinds : "none");
	for (size_t i = 0; (item = json_string_at(daemon, "problems", i)); i++)
		print_line("problem", item);
}

int verb_status(const struct cli_arguments *arguments)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct bus bus = { 0 };
	struct json_object *daemon = NULL, *luns = NULL;
	const char *only = arguments->operand_count ? arguments->operands[0] : NULL;
	int r = bus_open(&bus, &err);
	if (r == 0)
		r = bus_status(&bus, &daemon, &err);
	if (r == 0)
		r = collect_luns(&bus, only, &luns, &err);
	bus_close(&bus);
	if (r < 0) {
		json_object_put(daemon);
		return only ? report_failure("show the status of", only, &err) : report_failure("show the status", NULL, &err);
	}
	if (cli_given(arguments, CLI_JSON)) {
		struct json_object *all = json_object_new_object();
		json_object_object_add(all, "daemon", json_object_get(daemon));
		json_object_object_add(all, "luns", json_object_get(luns));
		json_print(all);
		json_object_put(all);
	} else {
		print_daemon_status(daemon);
		for (size_t i = 0; i < json_object_array_length(luns); i++)
			print_lun_status(json_object_array_get_idx(luns, i));
	}
	json_object_put(daemon);
	json_object_put(luns);
	return CLI_OK;
}
