/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Log lines go to standard error, one line a call, with the journal's "<N>" priority prefix when standard error is the journal. The name
 * of the program or LUN set with log_set_name() comes first. Never log a secret or a whole cfgstring of a handler that may hold one.
 */

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARNING = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

/* Lines above this level are dropped; LOG_LEVEL_INFO by default, or what the environment's LUNKIT_LOG says: error, warning, info, debug. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
/* Copies at most 63 bytes of the name. */
void log_set_name(const char *name);

__attribute__((format(printf, 2, 3))) void log_message(enum log_level level, const char *format, ...);

#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...) log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                                                     \
	do {                                                                                                                               \
		if (log_get_level() >= LOG_LEVEL_DEBUG)                                                                                    \
			log_message(LOG_LEVEL_DEBUG, __VA_ARGS__);                                                                         \
	} while (0)
