/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The inspection of images that others made: any bytes give a verdict that is JSON, or an error. The first byte chooses the kind. */
#include <json-c/json.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/image.h"
#include "image/safety.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	const uint8_t *data;
	size_t size;
};

static void expect(bool condition, const char *what)
{
	if (condition)
		return;
	fprintf(stderr, "violated: %s\n", what);
	abort();
}

static int open_bytes(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err)
{
	const struct bytes *bytes = argument;
	(void)path;
	(void)err;
	expect(flags == LUNKIT_FILE_UNLOCKED, "an inspection only looks");
	int fd = memfd_create("image", MFD_CLOEXEC);
	expect(fd >= 0 && write(fd, bytes->data, bytes->size) == (ssize_t)bytes->size, "there is a memory file");
	*ret_fd = fd;
	*ret_flags = flags;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct bytes bytes = { data + 1, size - 1 };
	struct lunkit_host host = { .opener = { .open = open_bytes, .argument = &bytes } };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	char *text = NULL;
	int r = safety_inspect(&host, data[0] & 1 ? "raw" : "qcow2", "/image", &text, &err);
	expect((r < 0) == (err.code != 0) && (r < 0) == !text, "a failure has an error, a success a report");
	if (r < 0)
		return 0;
	struct json_object *report = json_tokener_parse(text), *safe, *properties;
	expect(json_object_object_get_ex(report, "safe", &safe) && json_object_is_type(safe, json_type_boolean), "there is a verdict");
	expect(json_object_object_get_ex(report, "properties", &properties) && json_object_array_length(properties) > 0,
	       "there are properties");
	bool any = false;
	for (size_t i = 0; i < json_object_array_length(properties); i++) {
		struct json_object *verdict;
		expect(json_object_object_get_ex(json_object_array_get_idx(properties, i), "verdict", &verdict), "each has a verdict");
		any = any || strcmp(json_object_get_string(verdict), "unsafe") == 0;
	}
	expect(any != json_object_get_boolean(safe), "it is safe when nothing in it is unsafe");
	json_object_put(report);
	free(text);
	return 0;
}
