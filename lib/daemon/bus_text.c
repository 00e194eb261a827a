/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts of others (names of files, words of workers) on the bus, which takes UTF-8 only: one byte that is not would spoil the whole answer. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/service.h"

/* D-Bus ends a connection over a string that is not UTF-8, and file names may be anything. */
void bus_make_valid(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c;) {
		unsigned length = *c < 0x80			      ? 1
				  : (*c & 0xe0) == 0xc0 && *c >= 0xc2 ? 2
				  : (*c & 0xf0) == 0xe0		      ? 3
				  : (*c & 0xf8) == 0xf0 && *c < 0xf5  ? 4
								      : 0;
		bool good = length > 0;
		for (unsigned i = 1; good && i < length; i++)
			good = (c[i] & 0xc0) == 0x80;
		/* overlong forms, surrogates and what is beyond Unicode */
		if (good && length == 3)
			good = !(c[0] == 0xe0 && c[1] < 0xa0) && !(c[0] == 0xed && c[1] >= 0xa0);
		if (good && length == 4)
			good = !(c[0] == 0xf0 && c[1] < 0x90) && !(c[0] == 0xf4 && c[1] >= 0x90);
		if (!good)
			*c = '?';
		c += good ? length : 1;
	}
}

int bus_append_text(sd_bus_message *message, const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	bus_make_valid(copy);
	int r = sd_bus_message_append(message, "s", copy);
	free(copy);
	return r;
}

int bus_append_names(sd_bus_message *message, const struct names *names)
{
	int r = sd_bus_message_open_container(message, 'a', "s");
	for (size_t i = 0; r >= 0 && i < names->count; i++)
		r = bus_append_text(message, names->items[i]);
	return r < 0 ? r : sd_bus_message_close_container(message);
}
