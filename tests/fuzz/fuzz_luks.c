/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A LUKS header of any bytes: measured by us, then described by libcryptsetup on a copy. What is measured lies within the image, what is described keeps to its limits, nothing is
 * written, and a failure has an error. No key is tried: headers may ask for any amount of time and memory for that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "header.h"

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

static int read_bytes(void *argument, void *buffer, size_t length, uint64_t offset)
{
	const struct bytes *bytes = argument;
	expect(range_within(offset, length, bytes->size), "reads stay within the image");
	memcpy(buffer, bytes->data + offset, length);
	return 0;
}

static int write_bytes(void *argument, const void *buffer, size_t length, uint64_t offset)
{
	(void)argument;
	(void)buffer;
	(void)length;
	(void)offset;
	expect(false, "looking writes nothing");
	return -EIO;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes bytes = { data, size };
	const struct lunkit_crypt_store store = {
		.read = read_bytes, .write = write_bytes, .argument = &bytes, .size = size, .name = "it"
	};
	struct lunkit_crypt_facts facts;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (size >= HEADER_FIRST) {
		unsigned version = 0;
		uint64_t length = 0;
		int r = header_measure(data, size, "it", &version, &length, &err);
		expect(r < 0 ? err.code == -r : length && length <= size && (version == 1 || version == 2),
		       "a header lies within the image");
	}
	err = LUNKIT_ERROR_INIT;
	int r = header_describe(&store, &facts, &err);
	expect((r < 0) == (err.code != 0), "a failure has an error");
	if (r < 0)
		return 0;
	expect(facts.slots_total <= LUNKIT_CRYPT_SLOTS && facts.payload_offset % 512 == 0, "facts keep to their limits");
	expect(facts.sector_size == 512 || facts.sector_size == 1024 || facts.sector_size == 2048 || facts.sector_size == 4096,
	       "sectors have a size");
	expect(memchr(facts.cipher, 0, sizeof(facts.cipher)) && memchr(facts.uuid, 0, sizeof(facts.uuid)), "texts end");
	return 0;
}
