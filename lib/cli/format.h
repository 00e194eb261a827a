/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Values as a person reads them. */

#include <stddef.h>
#include <stdint.h>

#define FORMAT_MAX 64

/* "512 B", "10 GiB", "1.5 TiB": at most one decimal, rounded down, the unit that keeps the number at or above 1. Returns out. */
const char *format_size(uint64_t bytes, char out[static FORMAT_MAX]);
/* The exact number of bytes too, where the short form hides something: "1.4 GiB (1572864123 bytes)". */
const char *format_size_exact(uint64_t bytes, char out[static FORMAT_MAX]);
/* "42 s", "5 min", "3 h 20 min", "12 d 4 h". */
const char *format_duration(uint64_t seconds, char out[static FORMAT_MAX]);

/*
 * Makes text from outside fit to be shown: control characters become '?', so that no file name can steer a terminal, and invalid multibyte
 * characters too. Returns a new string; NULL without memory.
 */
char *format_printable(const char *text);
/* Terminal columns that the (printable) text takes. */
size_t format_width(const char *text);
