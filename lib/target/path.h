/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* For this folder's functions that take a path as a printf format. */

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

/* The path of a printf format and its arguments, or a return of -ENAMETOOLONG from the function that uses it. */
#define PATH_FROM(path, format)                                                                                                            \
	char path[PATH_MAX];                                                                                                               \
	do {                                                                                                                               \
		va_list path_args;                                                                                                         \
		va_start(path_args, format);                                                                                               \
		int path_length = vsnprintf(path, sizeof(path), format, path_args);                                                        \
		va_end(path_args);                                                                                                         \
		if (path_length < 0 || (size_t)path_length >= sizeof(path))                                                                \
			return -ENAMETOOLONG;                                                                                              \
	} while (0)
