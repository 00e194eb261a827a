/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of the qcow2 handler on a real filesystem share. */

#include <stdarg.h>
#include <sys/wait.h>

#include "image_fixture.h"

const struct lunkit_handler *qcow2_handler_entry(void);
const struct lunkit_handler *raw_handler_entry(void);

#define MIB ((uint64_t)1 << 20)

/* A directory of the test's own, and two images in it. */
__attribute__((unused)) static char directory[64], path[96], other[96];

__attribute__((unused)) static const struct lunkit_handler *qcow2_handler(void)
{
	const struct lunkit_handler *handler;
	assert_int_equal(handler_adopt(raw_handler_entry(), &handler, NULL), 0);
	assert_int_equal(handler_adopt(qcow2_handler_entry(), &handler, NULL), 0);
	return handler;
}

/* For cmocka: the directory, and image_fixture.h's loop. */
__attribute__((unused)) static int setup(void **state)
{
	strcpy(directory, "/var/tmp/lunkit-qcow2-XXXXXX");
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/image", directory);
	snprintf(other, sizeof(other), "%s/other", directory);
	return fixture_setup(state);
}

__attribute__((unused)) static int teardown(void **state)
{
	unlink(path);
	unlink(other);
	if (rmdir(directory) < 0)
		return -1;
	return fixture_teardown(state);
}

/* A shell command's exit status; 255: it was killed. */
__attribute__((unused, format(printf, 1, 2))) static int command(const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	int status = system(text);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

__attribute__((unused)) static bool have_qemu(void)
{
	static int have = -1;
	if (have < 0)
		have = command("command -v qemu-img >/dev/null 2>&1") == 0;
	return have;
}
