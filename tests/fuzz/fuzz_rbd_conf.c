/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names of RBD images (the first line) and Ceph's configuration (the rest): whatever the bytes, keys are what keys may be, and a name that is taken is written as it was. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rbd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

static int set(void *argument, const char *key, char *value)
{
	size_t *count = argument;
	expect(!strpbrk(key, " \t-\n=") && !strchr(value, '\n'), "a key is a word, a value is of one line");
	memset(value, 'x', strlen(value)); /* it is ours to wipe */
	return ++*count == 1000 ? -1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const sections[] = { "global", "client", "client.a", "" };
	char *text = malloc(size + 1), written[512];
	if (!text)
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	char *rest = text, *line = strsep(&rest, "\n");
	struct rbd_name name;
	struct lunkit_error *err = NULL;
	if (rbd_name_parse(line, &name, err) == 0) {
		rbd_name_format(&name, written, sizeof(written));
		expect(strlen(name.snapshot) > 100 || strcmp(written, line) == 0, "a name is written as it was read");
	}
	for (size_t i = 0; rest && i < sizeof(sections) / sizeof(sections[0]); i++) {
		size_t count = 0, length = strlen(rest);
		rbd_conf_section(rest, sections[i], set, &count);
		expect(strlen(rest) == length, "the text stays as it is");
	}
	free(text);
	return 0;
}
