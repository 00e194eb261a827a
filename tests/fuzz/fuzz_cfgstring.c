/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image references from outside: what is accepted must survive being written and read again, in both forms, and have an identity. The first byte
 * chooses the form: below 'a' a command line's, else a cfgstring's.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

static void check(const struct reference *reference)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference again;
	char text[8192], cfgstring[REFERENCE_CFGSTRING_MAX], serial[37], backstore[64];
	expect(strlen(reference->kind) > 0 && strlen(reference->name) > 0, "kind and name are there");
	if (reference_format(reference, text, sizeof(text), &err) == 0) {
		expect(reference_parse(text, &again, &err) == 0, "a written reference parses");
		expect(memcmp(&again, reference, sizeof(again)) == 0, "a written reference means the same");
	}
	if (reference_format_cfgstring(reference, cfgstring, &err) == 0) {
		expect(!cfgstring[strcspn(cfgstring, " ,:\n")], "a cfgstring has nothing that LIO's tools split at");
		int r = reference_parse_cfgstring(reference->kind, cfgstring, &again, &err);
		expect(r == 0 || (reference_is_path(reference) && reference->name[0] != '/'), "a written cfgstring parses");
		expect(r < 0 || memcmp(&again, reference, sizeof(again)) == 0, "a written cfgstring means the same");
	}
	reference_serial(reference, serial);
	reference_backstore(reference, backstore);
	expect(strlen(serial) == 36 && strlen(backstore) >= 9, "every image has an identity");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct reference reference;
	if (!size)
		return 0;
	char *text = malloc(size);
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	int r = data[0] < 'a' ? reference_parse(text, &reference, &err)
			      : reference_parse_cfgstring(data[0] & 1 ? "raw" : "rbd", text, &reference, &err);
	expect((r < 0) == (err.code != 0), "a failure has an error, a success has none");
	if (r == 0) {
		memset(&err, 0, sizeof(err));
		check(&reference);
	}
	free(text);
	return 0;
}
