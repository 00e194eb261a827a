/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/kind.h"

#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyz"

size_t kind_length(const char *text)
{
	size_t length = strspn(text, LETTERS) ? strspn(text, LETTERS "0123456789") : 0;
	return length < KIND_MAX ? length : 0;
}

bool kind_is_name(const char *text)
{
	size_t length = kind_length(text);
	return length && !text[length];
}
