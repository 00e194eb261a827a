/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/parse.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"

/* The locale has no say in what a digit is. */
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int digits(const char *text, uint64_t *ret_value, const char **ret_end)
{
	if (!is_digit(*text))
		return -EINVAL;
	uint64_t value = 0;
	bool fits = true;
	for (; is_digit(*text); text++)
		fits = fits && checked_mul(value, 10, &value) && checked_add(value, (uint64_t)(*text - '0'), &value);
	if (!fits)
		return -ERANGE;
	*ret_value = value;
	*ret_end = text;
	return 0;
}

int parse_u64(const char *text, uint64_t *ret_value)
{
	uint64_t value;
	const char *end;
	int r = digits(text, &value, &end);
	if (r < 0)
		return r;
	if (*end)
		return -EINVAL;
	*ret_value = value;
	return 0;
}

int parse_size(const char *text, uint64_t *ret_bytes)
{
	static const char units[] = "kmgtpe";
	uint64_t value;
	const char *end;
	int r = digits(text, &value, &end);
	if (r < 0)
		return r;
	unsigned shift = 0;
	for (unsigned i = 0; units[i] && *end; i++)
		if ((*end | 0x20) == units[i])
			shift = 10 * (i + 1);
	if (shift)
		end++;
	if (strcasecmp(end, "") != 0 && strcasecmp(end, "b") != 0 && (!shift || strcasecmp(end, "ib") != 0))
		return -EINVAL;
	if (!checked_mul(value, UINT64_C(1) << shift, &value))
		return -ERANGE;
	*ret_bytes = value;
	return 0;
}

int parse_bool(const char *text, bool *ret_value)
{
	static const char *const words[][2] = { { "off", "on" }, { "no", "yes" }, { "false", "true" }, { "0", "1" } };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		for (int value = 0; value < 2; value++)
			if (strcasecmp(text, words[i][value]) == 0) {
				*ret_value = value;
				return 0;
			}
	return -EINVAL;
}

static int hex(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int percent_decode(const char *in, char *out, size_t size)
{
	for (size_t used = 0; used < size; used++) {
		char c = *in++;
		if (c == '%') {
			int high = hex(in[0]), low = high < 0 ? -1 : hex(in[1]);
			if (low < 0 || (high | low) == 0)
				return -EINVAL;
			c = (char)(high << 4 | low);
			in += 2;
			out[used] = c;
			continue;
		}
		out[used] = c;
		if (!c)
			return 0;
	}
	return -ERANGE;
}

int percent_encode(const char *in, char *out, size_t size)
{
	static const char digit[] = "0123456789ABCDEF";
	size_t used = 0;
	for (; *in; in++) {
		unsigned char c = (unsigned char)*in;
		bool plain = is_digit(*in) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || strchr("-._~/@+", c);
		if (used + (plain ? 1 : 3) >= size)
			return -ERANGE;
		if (plain) {
			out[used++] = *in;
			continue;
		}
		out[used++] = '%';
		out[used++] = digit[c >> 4];
		out[used++] = digit[c & 15];
	}
	if (used >= size)
		return -ERANGE;
	out[used] = '\0';
	return 0;
}
