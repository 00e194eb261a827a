/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Handlers by kind: found, checked once, kept until the program ends. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/kind.h"
#include "base/list.h"
#include "image/crypt.h"
#include "image/image.h"

#define REQUEST_SIZE_MAX ((size_t)64 << 10)
/* Version 1 began with the members up to submit. */
#define STRUCT_SIZE_MIN offsetof(struct lunkit_handler, create)

struct entry {
	struct list node;
	struct lunkit_handler handler;
};
static struct list entries = { &entries, &entries };

/*
 * Handlers find these in the program that loads them. Naming them here brings every one of them into that program, which exports them
 * (CMake: ENABLE_EXPORTS).
 */
__attribute__((used)) static void (*const exported[])(void) = {
	(void (*)(void))lunkit_request_done,
	(void (*)(void))lunkit_error_set,
	(void (*)(void))lunkit_error_hint,
	(void (*)(void))lunkit_log,
	(void (*)(void))lunkit_file_open,
	(void (*)(void))lunkit_file_close,
	(void (*)(void))lunkit_file_remove,
	(void (*)(void))lunkit_io_readv,
	(void (*)(void))lunkit_io_writev,
	(void (*)(void))lunkit_io_fdatasync,
	(void (*)(void))lunkit_io_fallocate,
	(void (*)(void))lunkit_io_defer,
	(void (*)(void))lunkit_work_start,
	(void (*)(void))lunkit_info_string,
	(void (*)(void))lunkit_info_bytes,
	(void (*)(void))lunkit_info_bool,
	(void (*)(void))lunkit_job_error,
	(void (*)(void))lunkit_job_progress,
	(void (*)(void))lunkit_job_done,
	(void (*)(void))lunkit_params_option,
	(void (*)(void))lunkit_file_look,
	(void (*)(void))lunkit_file_read,
	(void (*)(void))lunkit_file_write,
	(void (*)(void))lunkit_file_truncate,
	(void (*)(void))lunkit_file_allocate,
	(void (*)(void))lunkit_file_sync,
	(void (*)(void))lunkit_alarm_set,
	(void (*)(void))lunkit_alarm_cancel,
	(void (*)(void))lunkit_child_open,
	(void (*)(void))lunkit_child_close,
	(void (*)(void))lunkit_child_limits,
	(void (*)(void))lunkit_child_request_new,
	(void (*)(void))lunkit_child_request_free,
	(void (*)(void))lunkit_child_submit,
	(void (*)(void))lunkit_job_cancelled,
	(void (*)(void))lunkit_job_rate,
	(void (*)(void))lunkit_snapshots_add,
	(void (*)(void))lunkit_snapshots_protected,
	(void (*)(void))lunkit_io_listen,
	(void (*)(void))lunkit_io_post,
	(void (*)(void))lunkit_size_changed,
	(void (*)(void))lunkit_params_key,
	(void (*)(void))lunkit_secret_new,
	(void (*)(void))lunkit_secret_free,
	(void (*)(void))lunkit_child_busy,
	(void (*)(void))lunkit_child_create,
	(void (*)(void))lunkit_child_read,
	(void (*)(void))lunkit_child_write,
	(void (*)(void))lunkit_child_sync,
	(void (*)(void))lunkit_child_resize,
	(void (*)(void))lunkit_child_info,
	(void (*)(void))lunkit_crypt_find,
	(void (*)(void))lunkit_file_claim,
	(void (*)(void))lunkit_info_number,
	(void (*)(void))lunkit_memo,
};

/* TCM-User's library finds a handler by comparing as many bytes as the kind has. */
static bool is_prefix_of_other(const char *a, const char *b)
{
	return strcmp(a, b) != 0 && strncmp(a, b, MIN(strlen(a), strlen(b))) == 0;
}

/* The kind that a directory entry holds. */
static bool entry_name(const struct dirent *entry, char name[static KIND_MAX])
{
	size_t length = strlen(entry->d_name);
	if (length < 4 || length - 3 >= KIND_MAX || strcmp(entry->d_name + length - 3, ".so") != 0)
		return false;
	memcpy(name, entry->d_name, length - 3);
	name[length - 3] = '\0';
	return kind_is_name(name);
}

const struct lunkit_handler *handler_find(const char *name)
{
	list_for_each (node, &entries) {
		struct entry *entry = list_entry(node, struct entry, node);
		if (strcmp(entry->handler.name, name) == 0)
			return &entry->handler;
	}
	return NULL;
}

static int unknown_kind(const char *directory, const char *name, struct lunkit_error *err)
{
	char list[200] = "";
	DIR *dir = opendir(directory);
	for (struct dirent *entry; dir && (entry = readdir(dir));) {
		char other[KIND_MAX];
		size_t used = strlen(list);
		if (entry_name(entry, other))
			snprintf(list + used, sizeof(list) - used, "%s%s", used ? ", " : "", other);
	}
	if (dir)
		closedir(dir);
	lunkit_error_set(err, ENOENT, "there is no handler for images of the kind \"%.*s\"", 64, name);
	if (*list)
		lunkit_error_hint(err, "The kinds that there are: %s.", list);
	else
		lunkit_error_hint(err, "There are no handlers in %.150s. Is lunkit installed completely?", directory);
	return -ENOENT;
}

static int check_prefixes(const char *directory, const char *name, struct lunkit_error *err)
{
	char other[KIND_MAX];
	int r = 0;
	DIR *dir = opendir(directory);
	for (struct dirent *entry; dir && r == 0 && (entry = readdir(dir));)
		if (entry_name(entry, other) && is_prefix_of_other(name, other))
			r = -ENOEXEC;
	if (dir)
		closedir(dir);
	if (r == 0)
		return 0;
	lunkit_error_set(err, ENOEXEC, "the handlers \"%s\" and \"%s\" exclude each other: one's name begins with the other's", name,
			 other);
	return lunkit_error_hint(err, "Remove one of them from %.150s.", directory);
}

/* An older handler's struct is shorter: what it lacks is zero. A newer one's may be longer: what we don't know is left out. */
static int check(const struct lunkit_handler *handler, struct lunkit_handler *ret, struct lunkit_error *err)
{
	if (!handler || handler->struct_size < STRUCT_SIZE_MIN)
		return lunkit_error_set(err, ENOEXEC, "the handler's description is too short to be one");
	if (handler->interface_version == 0 || handler->interface_version > LUNKIT_HANDLER_INTERFACE) {
		lunkit_error_set(err, ENOEXEC, "the handler speaks version %u of the handler interface, this lunkit speaks %u",
				 handler->interface_version, LUNKIT_HANDLER_INTERFACE);
		return lunkit_error_hint(err, "Install a handler and a lunkit of the same release.");
	}
	struct lunkit_handler known = { 0 };
	memcpy(&known, handler, MIN(handler->struct_size, sizeof(known)));
	if (!known.name || !kind_is_name(known.name))
		return lunkit_error_set(err, ENOEXEC,
					"the handler's name is not one: a lower-case letter, then letters and digits, at most %d",
					KIND_MAX - 1);
	if (!known.open || !known.close || !known.limits || !known.submit)
		return lunkit_error_set(err, ENOEXEC, "handler \"%s\" lacks a function that every handler needs", known.name);
	if (known.request_size > REQUEST_SIZE_MAX)
		return lunkit_error_set(err, ENOEXEC, "handler \"%s\" wants %zu bytes a request; %zu is the limit", known.name,
					known.request_size, REQUEST_SIZE_MAX);
	*ret = known;
	return 0;
}

int handler_adopt(const struct lunkit_handler *handler, const struct lunkit_handler **ret, struct lunkit_error *err)
{
	struct lunkit_handler known;
	int r = check(handler, &known, err);
	if (r < 0)
		return r;
	list_for_each (node, &entries) {
		struct entry *entry = list_entry(node, struct entry, node);
		if (strcmp(entry->handler.name, known.name) == 0) {
			entry->handler = known;
			*ret = &entry->handler;
			return 0;
		}
		if (is_prefix_of_other(entry->handler.name, known.name))
			return lunkit_error_set(err, ENOEXEC,
						"the handlers \"%s\" and \"%s\" exclude each other: one's name begins with the other's",
						entry->handler.name, known.name);
	}
	struct entry *entry = malloc(sizeof(*entry));
	if (!entry)
		return lunkit_error_set(err, ENOMEM, "not enough memory for a handler");
	entry->handler = known;
	list_add_tail(&entries, &entry->node);
	*ret = &entry->handler;
	return 0;
}

int handler_load(const char *directory, const char *name, const struct lunkit_handler **ret, struct lunkit_error *err)
{
	char path[4096];
	if (!kind_is_name(name))
		return unknown_kind(directory, name, err);
	const struct lunkit_handler *loaded = handler_find(name);
	if (loaded) {
		*ret = loaded;
		return 0;
	}
	if ((size_t)snprintf(path, sizeof(path), "%s/%s.so", directory, name) >= sizeof(path))
		return lunkit_error_set(err, ENAMETOOLONG, "the path of the handler directory is too long");
	FILE *file = fopen(path, "re");
	if (!file) {
		if (errno == ENOENT || errno == ENOTDIR)
			return unknown_kind(directory, name, err);
		return lunkit_error_set(err, errno, "cannot read the handler %.300s: %s", path, strerror(errno));
	}
	fclose(file);
	int r = check_prefixes(directory, name, err);
	if (r < 0)
		return r;

	void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!object)
		return lunkit_error_set(err, ENOEXEC, "cannot load the handler: %.600s", dlerror());
	const struct lunkit_handler *(*entry)(void) = (const struct lunkit_handler *(*)(void))dlsym(object, "lunkit_handler_entry");
	if (!entry) {
		r = lunkit_error_set(err, ENOEXEC, "%.300s is not a lunkit handler: it has no lunkit_handler_entry()", path);
		goto fail;
	}
	struct lunkit_handler known;
	const struct lunkit_handler *handler = entry();
	r = check(handler, &known, err);
	if (r == 0 && strcmp(known.name, name) != 0)
		r = lunkit_error_set(err, ENOEXEC, "it calls itself \"%s\"", known.name);
	if (r == 0)
		r = handler_adopt(handler, ret, err);
	if (r == 0)
		return 0;
	if (err)
		lunkit_error_prefix(err, "%.300s", path);
fail:
	dlclose(object);
	return r;
}

void handler_load_children(const char *directory, const struct lunkit_handler *handler)
{
	for (const char *const *kind = handler->children; kind && *kind; kind++) {
		const struct lunkit_handler *child;
		struct lunkit_error err;
		if (handler_load(directory, *kind, &child, &err) < 0)
			lunkit_log(LUNKIT_LOG_DEBUG, "%s: %s", handler->name, err.message);
	}
}
