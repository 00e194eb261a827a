/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
	enum log_level level; /* 0 until first asked for */
	int journal;	      /* -1 unknown, 0 no, 1 yes */
	char name[64];
} log_state = { .journal = -1 };

static enum log_level level_from_environment(void)
{
	static const struct {
		const char *name;
		enum log_level level;
	} names[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
	};
	const char *wanted = getenv("LUNKIT_LOG");
	for (size_t i = 0; wanted && i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(wanted, names[i].name) == 0)
			return names[i].level;
	return LOG_LEVEL_INFO;
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

enum log_level log_get_level(void)
{
	if (!log_state.level)
		log_state.level = level_from_environment();
	return log_state.level;
}

void log_set_name(const char *name)
{
	snprintf(log_state.name, sizeof(log_state.name), "%s", name);
}

void log_message(enum log_level level, const char *format, ...)
{
	if (level > log_get_level())
		return;
	if (log_state.journal < 0)
		log_state.journal = getenv("JOURNAL_STREAM") != NULL;

	char line[2048];
	int used = 0;
	if (log_state.journal)
		used = snprintf(line, sizeof(line), "<%d>", level);
	if (log_state.name[0])
		used += snprintf(line + used, sizeof(line) - (size_t)used, "%s: ", log_state.name);
	if (level == LOG_LEVEL_WARNING)
		used += snprintf(line + used, sizeof(line) - (size_t)used, "warning: ");

	va_list args;
	va_start(args, format);
	int text = vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, args);
	va_end(args);
	if (text < 0)
		return;
	size_t length = (size_t)used + (size_t)text;
	if (length > sizeof(line) - 2)
		length = sizeof(line) - 2;
	for (size_t i = 0; i < length; i++) /* a name from outside must not forge a second line */
		if ((unsigned char)line[i] < ' ' && line[i] != '\t')
			line[i] = ' ';
	line[length++] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, length); /* one write: lines of several threads don't mix */
	(void)ignored;
}
