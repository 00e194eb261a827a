/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a hint or prefix returns where nobody reads the error: the failure must not turn into another one for that. */
static _Thread_local int last_code = EINVAL;

static int error_code(const struct lunkit_error *err)
{
	int code = err ? err->code : last_code;
	return code ? -code : -EINVAL;
}

int lunkit_error_set(struct lunkit_error *err, int code, const char *format, ...)
{
	code = abs(code);
	last_code = code;
	if (!err)
		return -code;
	va_list args;
	va_start(args, format);
	vsnprintf(err->message, sizeof(err->message), format, args);
	va_end(args);
	err->code = code;
	err->hint[0] = '\0';
	return -code;
}

int lunkit_error_hint(struct lunkit_error *err, const char *format, ...)
{
	if (!err)
		return error_code(err);
	va_list args;
	va_start(args, format);
	vsnprintf(err->hint, sizeof(err->hint), format, args);
	va_end(args);
	return error_code(err);
}

int lunkit_error_prefix(struct lunkit_error *err, const char *format, ...)
{
	if (!err)
		return error_code(err);
	char message[LUNKIT_ERROR_MESSAGE_MAX];
	va_list args;
	va_start(args, format);
	int length = vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	if (length < 0)
		length = 0;
	if ((size_t)length < sizeof(message))
		snprintf(message + length, sizeof(message) - (size_t)length, ": %.*s",
			 (int)(sizeof(message) - (size_t)length - 3 > 0 ? sizeof(message) - (size_t)length - 3 : 0), err->message);
	memcpy(err->message, message, sizeof(message));
	return error_code(err);
}
