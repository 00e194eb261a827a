/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The backing file: what its name means, and opening it. Its format is what the header (or the one who opens) says; a name that is not a
 * plain path means a protocol to QEMU and is refused: an image must not choose what a host connects to.
 */
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

const char *backing_kind(const char *format, const char *image, const char *backing, struct lunkit_error *err)
{
	static const char *const kinds[] = { "raw", "qcow2" };
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(format, kinds[i]) == 0)
			return kinds[i];
	if (!*format) {
		lunkit_error_set(err, EINVAL, "%.200s: nothing says which format its backing file %.200s has, and lunkit never guesses",
				 image, backing);
		lunkit_error_hint(
			err,
			"Open it with backing-format=raw or backing-format=qcow2, or record it: qemu-img rebase -u -F FORMAT -b FILE.");
		return NULL;
	}
	lunkit_error_set(err, ENOTSUP, "%.200s: its backing file %.200s has the format \"%.31s\", which lunkit does not take there", image,
			 backing, format);
	lunkit_error_hint(err, "raw and qcow2 are; `qemu-img convert` makes one of them.");
	return NULL;
}

/* "scheme:…" before any slash, and QEMU's json:. */
static bool is_protocol(const char *name)
{
	size_t plain = strcspn(name, ":/");
	return name[plain] == ':';
}

char *backing_path(const char *image, const char *backing)
{
	const char *slash = strrchr(image, '/');
	size_t directory = *backing == '/' || !slash ? 0 : (size_t)(slash - image) + 1;
	char *path = malloc(directory + strlen(backing) + 2);
	if (!path)
		return NULL;
	memcpy(path, image, directory);
	strcpy(path + directory, backing);
	/* Paths were resolved when the image was named: what ".." leaves can be left by name. */
	char *out = path;
	const char *in = path;
	bool absolute = *in == '/';
	if (absolute)
		out++;
	char *root = out;
	while (*in) {
		size_t skip = strspn(in, "/");
		in += skip;
		size_t length = strcspn(in, "/");
		if (length == 2 && in[0] == '.' && in[1] == '.' && absolute) {
			while (out > root && *--out != '/')
				;
		} else if (length && !(length == 1 && in[0] == '.')) {
			if (out > root)
				*out++ = '/';
			memmove(out, in, length);
			out += length;
		}
		in += length;
	}
	*out = '\0';
	return path;
}

int backing_open(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, "backing-format");
	const char *name = q->header.backing_name;
	if (!*name)
		return 0;
	q->has_backing = true;
	int r = -EINVAL;
	if (is_protocol(name)) {
		lunkit_error_set(err, ENOTSUP, "%.200s: its backing file \"%.300s\" is not a plain path", q->name, name);
		r = lunkit_error_hint(err, "Only files and block devices can be backing files; `qemu-img rebase` changes it.");
	} else {
		const char *format = option ? option->value : q->header.backing_format;
		const char *kind = backing_kind(format, q->name, name, err);
		char *path = kind ? backing_path(params->name, name) : NULL;
		if (kind && !path)
			r = lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", q->name);
		else if (path)
			r = lunkit_child_open(params, kind, path, NULL, LUNKIT_CHILD_READ_ONLY, &q->backing, err);
		else
			r = *format ? -ENOTSUP : -EINVAL; /* as the error says */
		free(path);
	}
	if (r < 0 && params->look_only) {
		lunkit_log(LUNKIT_LOG_DEBUG, "%s: its backing file can't be opened: what lies in it can't be read", q->name);
		q->backing = NULL;
		return 0;
	}
	if (r == 0)
		q->backing_length = lunkit_child_limits(q->backing)->size;
	return r;
}
