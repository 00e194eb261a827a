/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/record.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "target/backstore.h"

#define RECORD_VERSION 1
#define RECORD_SIZE_MAX 16384
#define SUFFIX ".json"

static int open_folder(const char *state_directory, bool make)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s/luns", state_directory) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	if (make && ((mkdir(state_directory, 0755) < 0 && errno != EEXIST) || (mkdir(path, 0700) < 0 && errno != EEXIST)))
		return -errno;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t written = write(fd, text, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written < 0 ? -errno : -EIO;
		text += written;
		length -= (size_t)written;
	}
	return 0;
}

/* Writes NAME.json through a new file beside it. */
static int replace(int folder, const char *name, const char *text)
{
	char temporary[96], final[96];
	snprintf(final, sizeof(final), "%s" SUFFIX, name);
	snprintf(temporary, sizeof(temporary), ".%s.new", name);
	int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int r = write_all(fd, text, strlen(text));
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	close(fd);
	if (r == 0 && renameat(folder, temporary, folder, final) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(folder, temporary, 0);
		return r;
	}
	return fsync(folder) < 0 ? -errno : 0;
}

int record_write(const char *state_directory, const struct record *record, struct lunkit_error *err)
{
	if (!backstore_name_is_valid(record->name))
		return lunkit_error_set(err, EINVAL, "'%s' can't be a record's name", record->name);
	int r = -ENOMEM, folder = -1;
	struct json_object *json = json_object_new_object();
	if (json) {
		json_object_object_add(json, "version", json_object_new_int(RECORD_VERSION));
		json_object_object_add(json, "image", json_object_new_string(record->image));
		json_object_object_add(json, "fabric", json_object_new_string(record->fabric));
		json_object_object_add(json, "serial", json_object_new_string(record->serial));
		json_object_object_add(json, "block-size", json_object_new_int64(record->block_size));
		const char *text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
		r = folder = open_folder(state_directory, true);
		if (folder >= 0 && text)
			r = replace(folder, record->name, text);
	}
	if (folder >= 0)
		close(folder);
	json_object_put(json);
	if (r < 0)
		return lunkit_error_set(err, r, "cannot record '%s' in %s/luns: %s", record->name, state_directory, strerror(-r));
	return 0;
}

static int read_text(int folder, const char *name, char *ret, size_t size)
{
	char file[96];
	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	int fd = openat(folder, file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	ssize_t length = read(fd, ret, size - 1);
	int code = length < 0 ? errno : 0;
	close(fd);
	if (code)
		return -code;
	ret[length] = '\0';
	return 0;
}

static bool take_string(struct json_object *json, const char *key, char *ret, size_t size)
{
	struct json_object *value;
	return json_object_object_get_ex(json, key, &value) && json_object_is_type(value, json_type_string) &&
	       snprintf(ret, size, "%s", json_object_get_string(value)) < (int)size;
}

static int parse(const char *text, struct record *record)
{
	struct json_object *json = json_tokener_parse(text), *value;
	int r = -EINVAL;
	if (json && json_object_is_type(json, json_type_object) && json_object_object_get_ex(json, "version", &value) &&
	    json_object_get_int(value) == RECORD_VERSION && take_string(json, "image", record->image, sizeof(record->image)) &&
	    take_string(json, "fabric", record->fabric, sizeof(record->fabric)) &&
	    take_string(json, "serial", record->serial, sizeof(record->serial))) {
		int64_t block_size = json_object_object_get_ex(json, "block-size", &value) ? json_object_get_int64(value) : 0;
		if (block_size >= 0 && block_size <= 4096) {
			record->block_size = (unsigned)block_size;
			r = 0;
		}
	}
	json_object_put(json);
	return r;
}

int record_read(const char *state_directory, const char *name, struct record *ret, struct lunkit_error *err)
{
	char text[RECORD_SIZE_MAX];
	struct record record = { 0 };
	if (!backstore_name_is_valid(name))
		return lunkit_error_set(err, EINVAL, "'%.80s' can't be a record's name", name);
	int folder = open_folder(state_directory, false);
	int r = folder < 0 ? folder : read_text(folder, name, text, sizeof(text));
	if (folder >= 0)
		close(folder);
	if (r == 0)
		r = parse(text, &record);
	if (r < 0) {
		lunkit_error_set(err, r, "the record of '%s' can't be read: %s", name,
				 r == -EINVAL ? "it is damaged or of another version" : strerror(-r));
		lunkit_error_hint(err, "attach the image again with --persist, or remove %.150s/luns/%s" SUFFIX, state_directory, name);
		return r;
	}
	strcpy(record.name, name);
	*ret = record;
	return 0;
}

int record_remove(const char *state_directory, const char *name, struct lunkit_error *err)
{
	char file[96];
	if (!backstore_name_is_valid(name))
		return 0;
	int folder = open_folder(state_directory, false);
	if (folder == -ENOENT)
		return 0;
	snprintf(file, sizeof(file), "%s" SUFFIX, name);
	int r = folder < 0 ? folder : 0;
	if (r == 0 && unlinkat(folder, file, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0 && fsync(folder) < 0)
		r = -errno;
	if (folder >= 0)
		close(folder);
	if (r < 0)
		return lunkit_error_set(err, r, "cannot remove the record of '%s' in %s/luns: %s", name, state_directory, strerror(-r));
	return 0;
}

int record_list(const char *state_directory, struct names *ret)
{
	struct names files, names = { 0 };
	int r = names_read(&files, "%s/luns", state_directory);
	if (r == -ENOENT) {
		*ret = names;
		return 0;
	}
	if (r < 0)
		return r;
	for (size_t i = 0; i < files.count && r == 0; i++) {
		size_t length = strlen(files.items[i]);
		if (length <= strlen(SUFFIX) || strcmp(files.items[i] + length - strlen(SUFFIX), SUFFIX) != 0)
			continue; /* a new one that a crash has left */
		files.items[i][length - strlen(SUFFIX)] = '\0';
		if (backstore_name_is_valid(files.items[i]))
			r = names_add(&names, files.items[i]);
	}
	names_free(&files);
	if (r < 0) {
		names_free(&names);
		return r;
	}
	*ret = names;
	return 0;
}
