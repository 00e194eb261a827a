/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts of others (names of files, words of workers) on the bus, which takes UTF-8 only: over a string that is not, it ends the connection. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "daemon/service.h"

int bus_append_text(sd_bus_message *message, const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	utf8_make_valid(copy);
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
