/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/format.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>
#include <wctype.h>

const char *format_size(uint64_t bytes, char out[static FORMAT_MAX])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	while (unit < 6 && bytes >> (10 * (unit + 1)))
		unit++;
	uint64_t one = UINT64_C(1) << (10 * unit), whole = bytes / one;
	/* (bytes % one) < 2^60, times 10 fits */
	unsigned tenth = (unsigned)(bytes % one * 10 / one);
	if (tenth && whole < 1000)
		snprintf(out, FORMAT_MAX, "%" PRIu64 ".%u %s", whole, tenth, units[unit]);
	else
		snprintf(out, FORMAT_MAX, "%" PRIu64 " %s", whole, units[unit]);
	return out;
}

const char *format_size_exact(uint64_t bytes, char out[static FORMAT_MAX])
{
	format_size(bytes, out);
	if (bytes >= 1024) {
		size_t used = strlen(out);
		snprintf(out + used, FORMAT_MAX - used, " (%" PRIu64 " bytes)", bytes);
	}
	return out;
}

const char *format_duration(uint64_t seconds, char out[static FORMAT_MAX])
{
	uint64_t minutes = seconds / 60, hours = minutes / 60, days = hours / 24;
	if (days)
		snprintf(out, FORMAT_MAX, "%" PRIu64 " d %" PRIu64 " h", days, hours % 24);
	else if (hours)
		snprintf(out, FORMAT_MAX, "%" PRIu64 " h %" PRIu64 " min", hours, minutes % 60);
	else if (minutes)
		snprintf(out, FORMAT_MAX, "%" PRIu64 " min", minutes);
	else
		snprintf(out, FORMAT_MAX, "%" PRIu64 " s", seconds);
	return out;
}

/* One character of text: its bytes, and its columns, or 0 columns and a byte for what can't be shown. */
static size_t next_character(const char *text, size_t left, mbstate_t *state, int *ret_columns)
{
	wchar_t wide;
	size_t length = mbrtowc(&wide, text, left, state);
	if (length == (size_t)-1 || length == (size_t)-2 || length == 0) {
		memset(state, 0, sizeof(*state));
		*ret_columns = -1;
		return 1;
	}
	/* U+202A…U+202E and U+2066…U+2069 turn the direction of the text around them: they let one name look like another */
	bool turning = (wide >= 0x202a && wide <= 0x202e) || (wide >= 0x2066 && wide <= 0x2069);
	*ret_columns = iswcntrl((wint_t)wide) || turning ? -1 : wcwidth(wide);
	return length;
}

char *format_printable(const char *text)
{
	size_t left = strlen(text);
	char *out = malloc(left + 1), *to = out;
	if (!out)
		return NULL;
	mbstate_t state = { 0 };
	while (left) {
		int columns;
		size_t length = next_character(text, left, &state, &columns);
		if (columns < 0)
			*to++ = '?';
		else
			to = mempcpy(to, text, length);
		text += length;
		left -= length;
	}
	*to = '\0';
	return out;
}

size_t format_width(const char *text)
{
	size_t left = strlen(text), width = 0;
	mbstate_t state = { 0 };
	while (left) {
		int columns;
		size_t length = next_character(text, left, &state, &columns);
		width += columns < 0 ? 1 : (size_t)columns;
		text += length;
		left -= length;
	}
	return width;
}
