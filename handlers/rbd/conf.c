/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Ceph's form of configuration, of keyrings too:
 *
 *     [section]
 *     some key = value        ; a comment, as after '#'; "in quotes" and behind '\' these are plain
 *     another-key = a value \
 *         that goes on
 *
 * Lines that are none of this are passed over, as librados does.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rbd.h"

static char *trim(char *text)
{
	text += strspn(text, " \t\r");
	size_t length = strlen(text);
	while (length && strchr(" \t\r", text[length - 1]))
		text[--length] = '\0';
	return text;
}

/* '#' and ';' begin a comment, except where they are quoted or escaped. */
static void cut_comment(char *line)
{
	bool quoted = false;
	for (char *c = line; *c; c++) {
		if (*c == '\\' && c[1])
			c++;
		else if (*c == '"')
			quoted = !quoted;
		else if (!quoted && (*c == '#' || *c == ';')) {
			*c = '\0';
			return;
		}
	}
}

/* "mon host", "mon-host" and "mon_host" are the same. */
static void normalize_key(char *key)
{
	char *to = key;
	for (char *from = key; *from; from++) {
		char c = *from == ' ' || *from == '\t' || *from == '-' ? '_' : *from;
		if (c != '_' || to == key || to[-1] != '_')
			*to++ = c;
	}
	*to = '\0';
}

static char *unquote(char *value)
{
	size_t length = strlen(value);
	if (length >= 2 && (value[0] == '"' || value[0] == '\'') && value[length - 1] == value[0]) {
		value[length - 1] = '\0';
		value++;
	}
	return value;
}

int rbd_conf_section(const char *text, const char *section, int (*set)(void *argument, const char *key, char *value), void *argument)
{
	char *copy = strdup(text), *rest = copy;
	bool inside = false;
	int r = 0;
	if (!copy)
		return -ENOMEM;
	size_t length = strlen(copy);
	for (char *c = copy; (c = strstr(c, "\\\n"));) /* a line that goes on in the next */
		c[0] = c[1] = ' ';
	for (char *line; r == 0 && (line = strsep(&rest, "\n"));) {
		cut_comment(line);
		line = trim(line);
		char *end = strchr(line, ']'), *equals = strchr(line, '=');
		if (*line == '[' && end) {
			*end = '\0';
			inside = strcmp(trim(line + 1), section) == 0;
		} else if (inside && equals && equals != line) {
			*equals = '\0';
			char *key = trim(line);
			normalize_key(key);
			r = set(argument, key, unquote(trim(equals + 1)));
		}
	}
	explicit_bzero(copy, length);
	free(copy);
	return r;
}
