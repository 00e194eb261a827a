/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The verb doctor: runs the checks, in the order in which a fault of one makes others fail, and shows what they found. */
#include "cli/doctor.h"

#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/format.h"
#include "cli/verbs.h"

static const char *const level_words[] = { [DOCTOR_OK] = "ok", [DOCTOR_NOTE] = "note", [DOCTOR_BROKEN] = "broken" };
static const char *const level_colours[] = { [DOCTOR_OK] = "\033[32m", [DOCTOR_NOTE] = "\033[33m", [DOCTOR_BROKEN] = "\033[31m" };

static void (*const checks[])(struct doctor *doctor) = {
	doctor_modules,	 doctor_configfs, doctor_uio,	  doctor_io_uring, doctor_conflicts, doctor_daemon, doctor_permissions,
	doctor_handlers, doctor_devices,  doctor_targets, doctor_workers,  doctor_records,   doctor_limits, doctor_targetcli,
};

const char *doctor_path(const struct doctor *doctor, const char *path)
{
	static char full[PATH_MAX];
	snprintf(full, sizeof(full), "%s%s", doctor->root, path);
	return full;
}

bool doctor_read_line(const struct doctor *doctor, const char *path, char *out, size_t size)
{
	int fd = open(doctor_path(doctor, path), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	ssize_t length = read(fd, out, size - 1);
	close(fd);
	if (length < 0)
		return false;
	out[length] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return true;
}

void doctor_add(struct doctor *doctor, enum doctor_level level, const char *check, const char *fix, const char *format, ...)
{
	char text[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	struct json_object *finding = json_object_new_object();
	json_object_object_add(finding, "check", json_object_new_string(check));
	json_object_object_add(finding, "status", json_object_new_string(level_words[level]));
	json_object_object_add(finding, "message", json_object_new_string(text));
	if (fix)
		json_object_object_add(finding, "fix", json_object_new_string(fix));
	json_object_array_add(doctor->findings, finding);
	doctor->broken += level == DOCTOR_BROKEN;
}

static enum doctor_level finding_level(struct json_object *finding)
{
	for (size_t i = 0; i < ARRAY_SIZE(level_words); i++)
		if (strcmp(json_string(finding, "status", ""), level_words[i]) == 0)
			return (enum doctor_level)i;
	return DOCTOR_BROKEN;
}

static bool colours_wanted(void)
{
	const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
	return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 && !(no_colour && no_colour[0]);
}

static void print_findings(const struct doctor *doctor)
{
	bool colours = colours_wanted();
	for (size_t i = 0; i < json_object_array_length(doctor->findings); i++) {
		struct json_object *finding = json_object_array_get_idx(doctor->findings, i);
		enum doctor_level level = finding_level(finding);
		char *message = format_printable(json_string(finding, "message", ""));
		char *fix = format_printable(json_string(finding, "fix", ""));
		printf("%s%-6s%s  %s\n", colours ? level_colours[level] : "", level_words[level], colours ? "\033[0m" : "",
		       message ? message : "?");
		if (fix && fix[0])
			printf("        try: %s\n", fix);
		free(message);
		free(fix);
	}
	if (doctor->broken)
		printf("\n%u thing%s to mend.\n", doctor->broken, doctor->broken == 1 ? "" : "s");
	else
		printf("\nAll is well.\n");
}

int verb_doctor(const struct cli_arguments *arguments)
{
	struct doctor doctor = { .findings = json_object_new_array(), .root = "" };
	bus_open(&doctor.bus, NULL);
	if (doctor.bus.bus && bus_status(&doctor.bus, &doctor.daemon, NULL) == 0 && bus_list(&doctor.bus, &doctor.luns, NULL) == 0)
		doctor.running = true;
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++)
		checks[i](&doctor);
	if (cli_given(arguments, CLI_JSON))
		json_print(doctor.findings);
	else
		print_findings(&doctor);
	json_object_put(doctor.findings);
	json_object_put(doctor.daemon);
	json_object_put(doctor.luns);
	bus_close(&doctor.bus);
	return doctor.broken ? CLI_FAILED : CLI_OK;
}
