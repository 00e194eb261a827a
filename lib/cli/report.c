/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/kind.h"
#include "cli/format.h"

static void print_line(const char *prefix, const char *text)
{
	char *printable = format_printable(text);
	fprintf(stderr, "%s%s\n", prefix, printable ? printable : "(no memory)");
	free(printable);
}

static void print_hint(const struct lunkit_error *err)
{
	if (err->hint[0])
		print_line("  try: ", err->hint);
}

/* What follows "cannot open image 'SUBJECT': ", "'SUBJECT': " or "SUBJECT: " at the beginning of the message, or the whole of it. */
static const char *without_subject(const char *message, const char *subject)
{
	char quoted[1280];
	/* an image of a kind that is not of files is "KIND:NAME" for us, and NAME for its handler */
	size_t kind = kind_length(subject);
	if (kind && subject[kind] == ':' && strncmp(message, subject, kind + 1) != 0)
		subject += kind + 1;
	size_t plain = strlen(subject);
	/* an attached image is what was typed for us, and its whole path for its worker */
	size_t path = strcspn(message, ":");
	if (message[0] == '/' && path > plain && message[path - plain - 1] == '/' && strncmp(message + path - plain, subject, plain) == 0 &&
	    strncmp(message + path, ": ", 2) == 0 && message[path + 2])
		return message + path + 2;
	if (strncmp(message, subject, plain) == 0 && strncmp(message + plain, ": ", 2) == 0 && message[plain + 2])
		return message + plain + 2;
	int length = snprintf(quoted, sizeof(quoted), "'%s': ", subject);
	if (length < 0 || (size_t)length >= sizeof(quoted))
		return message;
	const char *found = strstr(message, quoted);
	bool leads = found && (found == message || strncmp(message, "cannot ", 7) == 0 || strncmp(message, "can't ", 6) == 0);
	/* only where no other colon comes first, so that nothing is lost that says more */
	if (!leads || memchr(message, ':', (size_t)(found - message)))
		return message;
	return found[length] ? found + length : message;
}

/* "SUBJECT is in use": what follows the subject, to be said as "it is in use"; NULL for any other message. */
static const char *after_subject(const char *message, const char *subject)
{
	bool quoted = message[0] == '\'';
	size_t length = strlen(subject);
	if (strncmp(message + quoted, subject, length) != 0)
		return NULL;
	message += quoted + length;
	if (quoted && *message++ != '\'')
		return NULL;
	return message[0] == ' ' && message[1] ? message + 1 : NULL;
}

/* Without options: what was typed there may be what nobody is to read. */
static int failure(const char *verb, const char *subject, const struct lunkit_error *err)
{
	char line[LUNKIT_ERROR_MESSAGE_MAX + 1280];
	char lead[1280];
	snprintf(lead, sizeof(lead), "cannot %s %s ", verb, subject ? subject : "");
	if (subject && strncmp(err->message, lead, strlen(lead)) == 0)
		snprintf(line, sizeof(line), "cannot %s '%.1100s' %s", verb, subject, err->message + strlen(lead));
	else if (subject && after_subject(err->message, subject))
		snprintf(line, sizeof(line), "cannot %s '%.1100s': it %s", verb, subject, after_subject(err->message, subject));
	else if (subject)
		snprintf(line, sizeof(line), "cannot %s '%.1100s': %s", verb, subject, without_subject(err->message, subject));
	else
		snprintf(line, sizeof(line), "cannot %s: %s", verb, err->message);
	print_line("lunkit: ", line);
	print_hint(err);
	return CLI_FAILED;
}

int report_failure(const char *verb, const char *subject, const struct lunkit_error *err)
{
	char plain[1280];
	snprintf(plain, sizeof(plain), "%.*s", subject ? (int)strcspn(subject, ";") : 0, subject ? subject : "");
	return failure(verb, subject ? plain : NULL, err);
}

int report_usage(const struct lunkit_error *err)
{
	print_line("lunkit: ", err->message);
	print_hint(err);
	return CLI_USAGE;
}

static void report(const char *prefix, const char *format, va_list args)
{
	char *text;
	if (vasprintf(&text, format, args) < 0)
		return;
	print_line(prefix, text);
	free(text);
}

void report_warning(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	report("lunkit: warning: ", format, args);
	va_end(args);
}

void report_note(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	report("lunkit: note: ", format, args);
	va_end(args);
}

int report_finish(int status)
{
	bool failed = ferror(stdout);
	if (fclose(stdout) != 0 || failed) {
		if (errno != EPIPE)
			print_line("lunkit: ", "cannot write to standard output");
		return CLI_FAILED;
	}
	return status;
}
