/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/text.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/utf8.h"

static void flush(struct text *text)
{
	for (size_t at = 0; at < text->used && text->result == 0;) {
		ssize_t n = pwrite(text->fd, text->buffer + at, text->used - at, (off_t)text->offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			text->result = n < 0 ? -errno : -EIO;
			return;
		}
		at += (size_t)n;
		text->offset += (size_t)n;
	}
	text->used = 0;
}

static void append(struct text *text, const char *piece)
{
	size_t length = strlen(piece);
	if (text->used + length > sizeof(text->buffer))
		flush(text);
	if (length > sizeof(text->buffer) && text->result == 0)
		text->result = -E2BIG;
	if (text->result < 0)
		return;
	memcpy(text->buffer + text->used, piece, length);
	text->used += length;
}

int text_begin(struct text *text, int fd)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return -errno;
	if (!S_ISREG(status.st_mode)) /* anything else could make us wait */
		return -EINVAL;
	text->fd = fd;
	text->result = 0;
	text->offset = 0;
	text->used = 0;
	text->items = 0;
	append(text, "[");
	return 0;
}

static void append_item(struct text *text, const char *item)
{
	append(text, text->items++ ? ",\n" : "");
	append(text, item);
}

void text_add_run(struct text *text, const struct lunkit_extent *run)
{
	char item[256];
	bool allocated = run->flags & LUNKIT_EXTENT_ALLOCATED, zero = run->flags & LUNKIT_EXTENT_ZERO;
	snprintf(item, sizeof(item),
		 "{\"offset\":%" PRIu64 ",\"length\":%" PRIu64 ",\"data\":%s,\"zero\":%s,\"allocated\":%s,\"backing\":%s}", run->offset,
		 run->length, allocated && !zero ? "true" : "false", zero ? "true" : "false", allocated ? "true" : "false",
		 allocated || zero ? "false" : "true");
	append_item(text, item);
}

void text_add_snapshot(struct text *text, const struct lunkit_snapshot *snapshot, bool is_protected)
{
	char time[64];
	time_t seconds = (time_t)(snapshot->time_ns / 1000000000);
	struct tm broken;
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "id", json_object_new_string(snapshot->id));
	json_object_object_add(object, "name", json_object_new_string(snapshot->name));
	json_object_object_add(object, "size", json_object_new_uint64(snapshot->size));
	if (gmtime_r(&seconds, &broken) && strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%SZ", &broken))
		json_object_object_add(object, "time", json_object_new_string(time));
	json_object_object_add(object, "time-ns", json_object_new_uint64(snapshot->time_ns));
	json_object_object_add(object, "vm-state-size", json_object_new_uint64(snapshot->vm_state_size));
	json_object_object_add(object, "protected", json_object_new_boolean(is_protected));
	char *item = strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
	if (item) {
		utf8_make_valid(item); /* an image made elsewhere has any bytes for a name */
		append_item(text, item);
	} else if (text->result == 0)
		text->result = -ENOMEM;
	free(item);
	json_object_put(object);
}

int text_end(struct text *text)
{
	append(text, "]\n");
	flush(text);
	return text->result;
}
