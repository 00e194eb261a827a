/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.lunkit1.Manager: calls are taken apart, handed to control, and answered when it is done. A call is kept as a reference to its message. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/service.h"
#include "pool/bus.h"

static int unknown_option(sd_bus_message *call, const char *key)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, EINVAL, "unknown option '%.60s', or a value of the wrong type", key);
	return bus_reply_error(call, &err);
}

/* Reads a{sv}; each() returns 0 for an option that it does not know. Returns 1: the call was answered with an error; 0; -errno. */
static int read_options(sd_bus_message *call, int (*each)(sd_bus_message *call, const char *key, const char *type, void *argument),
			void *argument)
{
	int r = sd_bus_message_enter_container(call, 'a', "{sv}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(call, 'e', "sv")) > 0) {
		const char *key, *type;
		if ((r = sd_bus_message_read(call, "s", &key)) < 0 || (r = sd_bus_message_peek_type(call, NULL, &type)) < 0 ||
		    (r = each(call, key, type, argument)) < 0)
			return r;
		if (r == 0)
			return unknown_option(call, key);
		if ((r = sd_bus_message_exit_container(call)) < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(call);
}

static int read_bool(sd_bus_message *call, const char *type, bool *ret)
{
	int value;
	if (strcmp(type, "b") != 0)
		return 0;
	int r = sd_bus_message_read(call, "v", "b", &value);
	if (r < 0)
		return r;
	*ret = value;
	return 1;
}

static int read_string(sd_bus_message *call, const char *type, const char **ret)
{
	if (strcmp(type, "s") != 0)
		return 0;
	int r = sd_bus_message_read(call, "v", "s", ret);
	return r < 0 ? r : 1;
}

/* ---- attach */

struct attach_arguments {
	struct attach_options options;
	struct lunkit_error err; /* the first value that can't be */
};

static void set_text(char *ret, size_t size, const char *value, const char *key, struct lunkit_error *err)
{
	if (strlen(value) >= size)
		lunkit_error_set(err, EINVAL, "%s is longer than %zu characters", key, size - 1);
	else
		strcpy(ret, value);
}

static void set_cache(const char *value, struct attach_arguments *arguments)
{
	static const char *const words[] = { "none", "writeback", "writethrough" };
	for (int i = 0; i < 3; i++)
		if (strcmp(words[i], value) == 0) {
			arguments->options.cache = i;
			return;
		}
	lunkit_error_set(&arguments->err, EINVAL, "the cache mode can't be '%.40s'", value);
	lunkit_error_hint(&arguments->err, "it is one of none, writeback and writethrough");
}

static int attach_option(sd_bus_message *call, const char *key, const char *type, void *argument)
{
	struct attach_arguments *arguments = argument;
	struct attach_options *options = &arguments->options;
	const char *text;
	if (strcmp(key, "read-only") == 0)
		return read_bool(call, type, &options->read_only);
	if (strcmp(key, "persist") == 0)
		return read_bool(call, type, &options->persist);
	if (strcmp(key, "key") == 0 && strcmp(type, "h") == 0) { /* a descriptor, the message's: a key is never a string */
		int r = sd_bus_message_read(call, "v", "h", &options->key_fd);
		options->has_key = r >= 0;
		return r < 0 ? r : 1;
	}
	if (strcmp(key, "block-size") == 0 && strcmp(type, "u") == 0) {
		int r = sd_bus_message_read(call, "v", "u", &options->block_size);
		return r < 0 ? r : 1;
	}
	if (strcmp(key, "fabric") && strcmp(key, "cache") && strcmp(key, "name") && strcmp(key, "serial"))
		return 0;
	int r = read_string(call, type, &text);
	if (r <= 0 || arguments->err.code)
		return r;
	if (strcmp(key, "fabric") == 0)
		attach_fabric_parse(text, &options->fabric, &arguments->err);
	else if (strcmp(key, "cache") == 0)
		set_cache(text, arguments);
	else if (strcmp(key, "name") == 0)
		set_text(options->name, sizeof(options->name), text, key, &arguments->err);
	else
		set_text(options->serial, sizeof(options->serial), text, key, &arguments->err);
	return 1;
}

static void lun_done(void *argument, struct lun *lun, const struct lunkit_error *err)
{
	sd_bus_message *call = argument;
	char *path = lun ? lun_object_path(lun) : NULL;
	if (path)
		sd_bus_reply_method_return(call, "o", path);
	else
		bus_reply_error(call, err);
	free(path);
	sd_bus_message_unref(call);
}

static int method_attach(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	struct attach_arguments arguments = { .options.cache = ATTACH_CACHE_UNSET };
	const char *image;
	(void)ret_error;
	int r = sd_bus_message_read(call, "s", &image);
	if (r < 0)
		return r;
	r = read_options(call, attach_option, &arguments);
	if (r != 0 && !arguments.err.code && r < 0)
		return r;
	if (arguments.err.code)
		return bus_reply_error(call, &arguments.err);
	if (!sd_bus_message_at_end(call, true))
		return 1; /* read_options() has answered */
	control_attach(service->control, image, &arguments.options, lun_done, sd_bus_message_ref(call));
	return 1;
}

/* ---- detach, find */

struct detach_arguments {
	bool forget, force;
};

static int detach_option(sd_bus_message *call, const char *key, const char *type, void *argument)
{
	struct detach_arguments *arguments = argument;
	if (strcmp(key, "forget") == 0)
		return read_bool(call, type, &arguments->forget);
	if (strcmp(key, "force") == 0)
		return read_bool(call, type, &arguments->force);
	return 0;
}

static void detach_done(void *argument, const struct lunkit_error *err)
{
	sd_bus_message *call = argument;
	if (err->code)
		bus_reply_error(call, err);
	else
		sd_bus_reply_method_return(call, "");
	sd_bus_message_unref(call);
}

static int method_detach(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	struct detach_arguments arguments = { .forget = true };
	const char *name;
	(void)ret_error;
	int r = sd_bus_message_read(call, "s", &name);
	if (r >= 0)
		r = read_options(call, detach_option, &arguments);
	if (r < 0)
		return r;
	if (!sd_bus_message_at_end(call, true))
		return 1;
	control_detach(service->control, name, (arguments.force ? DETACH_FORCE : 0) | (arguments.forget ? 0 : DETACH_KEEP), detach_done,
		       sd_bus_message_ref(call));
	return 1;
}

/* A LUN that is being made has no object yet. */
static void find_done(void *argument, struct lun *lun, const struct lunkit_error *err)
{
	struct lunkit_error hidden = LUNKIT_ERROR_INIT;
	if (lun && !lun->visible) {
		lunkit_error_set(&hidden, EBUSY, "LUN '%s' is being attached at this moment", lun->backstore.name);
		lunkit_error_hint(&hidden, "try again once it is");
		lun_done(argument, NULL, &hidden);
		return;
	}
	lun_done(argument, lun, err);
}

static int method_find(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	const char *name;
	(void)ret_error;
	int r = sd_bus_message_read(call, "s", &name);
	if (r < 0)
		return r;
	control_find(service->control, name, find_done, sd_bus_message_ref(call));
	return 1;
}

/* ---- list, restore, status */

struct list_call {
	struct service *service;
	sd_bus_message *call, *reply;
	int result;
};

static void list_one(struct lun *lun, void *argument)
{
	struct list_call *list = argument;
	if (list->result >= 0)
		list->result = lun_object_append(list->reply, lun);
}

static void list_refreshed(void *argument)
{
	struct list_call *list = argument;
	list->result = sd_bus_message_new_method_return(list->call, &list->reply);
	if (list->result >= 0)
		list->result = sd_bus_message_open_container(list->reply, 'a', "a{sv}");
	control_suspend_refresh(list->service->control, true); /* they are new */
	if (list->result >= 0)
		control_for_each(list->service->control, list_one, list);
	control_suspend_refresh(list->service->control, false);
	if (list->result >= 0)
		list->result = sd_bus_message_close_container(list->reply);
	if (list->result >= 0)
		list->result = sd_bus_send(NULL, list->reply, NULL);
	if (list->result < 0)
		sd_bus_reply_method_errno(list->call, list->result, NULL);
	sd_bus_message_unref(list->reply);
	sd_bus_message_unref(list->call);
	free(list);
}

static int method_list(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	struct list_call *list = calloc(1, sizeof(*list));
	(void)ret_error;
	if (!list)
		return -ENOMEM;
	list->service = userdata;
	list->call = sd_bus_message_ref(call);
	control_refresh(list->service->control, list_refreshed, list);
	return 1;
}

static void restore_done(void *argument, const struct names *names, const struct names *errors)
{
	sd_bus_message *call = argument, *reply = NULL;
	int r = sd_bus_message_new_method_return(call, &reply);
	if (r >= 0)
		r = bus_append_names(reply, names);
	if (r >= 0)
		r = bus_append_names(reply, errors);
	if (r >= 0)
		r = sd_bus_send(NULL, reply, NULL);
	if (r < 0)
		sd_bus_reply_method_errno(call, r, NULL);
	sd_bus_message_unref(reply);
	sd_bus_message_unref(call);
}

static int method_restore(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	(void)ret_error;
	control_restore(service->control, restore_done, sd_bus_message_ref(call));
	return 1;
}

static int append_names_entry(sd_bus_message *message, const char *key, const struct names *names)
{
	int r;
	if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0 || (r = sd_bus_message_append(message, "s", key)) < 0 ||
	    (r = sd_bus_message_open_container(message, 'v', "as")) < 0 || (r = bus_append_names(message, names)) < 0 ||
	    (r = sd_bus_message_close_container(message)) < 0)
		return r;
	return sd_bus_message_close_container(message);
}

static int method_status(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	struct control_status status;
	sd_bus_message *reply = NULL;
	(void)ret_error;
	control_get_status(service->control, &status);
	int r = sd_bus_message_new_method_return(call, &reply);
	if (r >= 0)
		r = sd_bus_message_open_container(reply, 'a', "{sv}");
	if (r >= 0)
		r = sd_bus_message_append(reply, "{sv}{sv}{sv}{sv}{sv}{sv}", "version", "s", LUNKIT_VERSION, "pid", "u", (uint32_t)getpid(),
					  "start-time", "t", status.start_time, "kernel-target", "b", (int)status.kernel_target, "luns",
					  "u", (uint32_t)status.luns, "workers", "u", (uint32_t)status.workers);
	if (r >= 0)
		r = append_names_entry(reply, "handlers", &status.handlers);
	if (r >= 0)
		r = append_names_entry(reply, "problems", &status.problems);
	if (r >= 0)
		r = sd_bus_message_close_container(reply);
	if (r >= 0)
		r = sd_bus_send(NULL, reply, NULL);
	sd_bus_message_unref(reply);
	names_free(&status.handlers);
	names_free(&status.problems);
	return r < 0 ? r : 1;
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD_WITH_NAMES("Attach", "sa{sv}", SD_BUS_PARAM(image) SD_BUS_PARAM(options), "o", SD_BUS_PARAM(lun), method_attach,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Detach", "sa{sv}", SD_BUS_PARAM(lun) SD_BUS_PARAM(options), "", , method_detach,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Find", "s", SD_BUS_PARAM(lun), "o", SD_BUS_PARAM(lun), method_find, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("List", "", , "aa{sv}", SD_BUS_PARAM(luns), method_list, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Restore", "", , "asas", SD_BUS_PARAM(names) SD_BUS_PARAM(errors), method_restore,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Status", "", , "a{sv}", SD_BUS_PARAM(status), method_status, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

int manager_add(struct service *service)
{
	return sd_bus_add_object_vtable(service->bus, NULL, BUS_PATH, BUS_MANAGER_INTERFACE, vtable, service);
}
