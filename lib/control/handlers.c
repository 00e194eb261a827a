/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/handlers.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/kind.h"
#include "base/log.h"
#include "control/channel.h"
#include "control/state.h"

#define DESCRIBE_SECONDS 20
#define HANDLERS_LIMIT 32

struct description {
	struct control *control;
	struct channel *channel;
	size_t index;
};

int handlers_scan(const char *directory, struct names *ret)
{
	struct names files, kinds = { 0 };
	int r = names_read(&files, "%s", directory);
	if (r < 0)
		return r;
	for (size_t i = 0; i < files.count && r == 0; i++) {
		char *name = files.items[i];
		size_t length = strlen(name);
		if (length < 4 || strcmp(name + length - 3, ".so") != 0)
			continue;
		name[length - 3] = '\0';
		if (!kind_is_name(name))
			continue;
		/* sorted: the beginning of a name comes before it */
		const char *last = kinds.count ? kinds.items[kinds.count - 1] : NULL;
		if (last && strncmp(last, name, strlen(last)) == 0) {
			log_warning("handler '%s' is left out: handler '%s' is the beginning of its name", name, last);
			continue;
		}
		if (kinds.count == HANDLERS_LIMIT) {
			log_warning("handler '%s' is left out: there are more than %d", name, HANDLERS_LIMIT);
			continue;
		}
		r = names_add(&kinds, name);
	}
	names_free(&files);
	if (r < 0) {
		names_free(&kinds);
		return r;
	}
	*ret = kinds;
	return 0;
}

static const char *json_text(struct json_object *json, const char *key, const char *otherwise)
{
	struct json_object *value;
	return json_object_object_get_ex(json, key, &value) && json_object_is_type(value, json_type_string) ? json_object_get_string(value)
													    : otherwise;
}

/* "a raw image: PATH[;key=value…]" with the options of open; what targetcli shows. */
static char *compose(const char *kind, const char *text, bool *ret_children)
{
	char *ret = NULL, options[1024] = "";
	size_t used = 0;
	struct json_object *json = json_tokener_parse(text), *array;
	if (!json || !json_object_is_type(json, json_type_object)) {
		json_object_put(json);
		return NULL;
	}
	*ret_children = json_object_object_get_ex(json, "children", &array) && json_object_is_type(array, json_type_array) &&
			json_object_array_length(array) > 0;
	if (json_object_object_get_ex(json, "options", &array) && json_object_is_type(array, json_type_array))
		for (size_t i = 0; i < json_object_array_length(array) && used < sizeof(options); i++) {
			struct json_object *option = json_object_array_get_idx(array, i), *open;
			if (json_object_is_type(option, json_type_object) && json_object_object_get_ex(option, "open", &open) &&
			    json_object_get_boolean(open))
				used += (size_t)snprintf(options + used, sizeof(options) - used, "  ;%s=…  %s\n",
							 json_text(option, "key", "?"), json_text(option, "help", ""));
		}
	if (asprintf(&ret,
		     "%s: %s\ncfgstring: %s/%s[;key=value…], special characters percent-encoded\n  ;cache=none|writeback|writethrough\n"
		     "  ;read-only=yes|no\n%s",
		     kind, json_text(json, "description", "an image"), kind, json_text(json, "reference", "NAME"), options) < 0)
		ret = NULL;
	json_object_put(json);
	return ret;
}

static void description_done(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct description *description = argument;
	struct control *control = description->control;
	struct target_handler *handler = &control->handlers.items[description->index];
	char *text = reply && reply->result == 0 && reply->text_length
			     ? compose(handler->kind, reply->text, &control->handlers.children[description->index])
			     : NULL;
	if (text) {
		free((char *)handler->description);
		handler->description = text;
	} else {
		struct lunkit_error failure = LUNKIT_ERROR_INIT;
		lunkit_error_set(&failure, EINVAL, "handler '%s' does not describe itself: %s", handler->kind,
				 reply ? reply->error.message : err->message);
		control_note_failure(control, handler->kind, &failure);
	}
	channel_free(description->channel);
	free(description);
	if (--control->handlers.waiting == 0)
		control->config.handlers_known(control->config.argument);
}

static void description_ended(void *argument, const struct lunkit_error *failure)
{
	(void)argument; /* the call has failed before */
	(void)failure;
}

static void describe(struct control *control, size_t index)
{
	const char *kind = control->handlers.items[index].kind;
	struct description *description = control_alloc(sizeof(*description));
	description->control = control;
	description->index = index;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct channel_config config = {
		.event = control->event,
		.tasks = control->short_tasks,
		.worker = &control->worker,
		.runtime_directory = control->settings->runtime_directory,
		.label = kind,
		.count = &control->live_workers,
		.ended = description_ended,
		.argument = description,
	};
	if (channel_new(&config, &description->channel, &err) < 0) {
		control_note_failure(control, kind, &err);
		free(description);
		return;
	}
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = PROTOCOL_DESCRIBE;
	snprintf(packet.message.start.kind, sizeof(packet.message.start.kind), "%s", kind);
	packet.message.start.uid = control->settings->uid;
	packet.message.start.gid = control->settings->gid;
	control->handlers.waiting++;
	channel_call(description->channel, &packet, DESCRIBE_SECONDS, description_done, description);
}

const struct names *handlers_backing(const struct control *control, const char *kind)
{
	const struct handlers *handlers = &control->handlers;
	for (size_t i = 0; i < handlers->count; i++)
		if (strcmp(handlers->items[i].kind, kind) == 0 && handlers->children[i])
			return &control->settings->backing;
	return NULL;
}

static int none_known(sd_event_source *source, void *userdata)
{
	struct control *control = userdata;
	sd_event_source_disable_unref(source);
	control->config.handlers_known(control->config.argument);
	return 0;
}

int handlers_start(struct control *control, struct lunkit_error *err)
{
	struct names kinds;
	int r = handlers_scan(control->worker.handlers, &kinds);
	if (r < 0 || kinds.count == 0) {
		if (r == 0)
			names_free(&kinds);
		lunkit_error_set(err, r < 0 ? r : -ENOENT, "there are no handlers in %s%s%s", control->worker.handlers, r < 0 ? ": " : "",
				 r < 0 ? strerror(-r) : "");
		return lunkit_error_hint(err, "install lunkit completely, or name their directory: handlers = DIRECTORY in lunkit.conf");
	}
	struct handlers *handlers = &control->handlers;
	handlers->items = control_alloc(kinds.count * sizeof(*handlers->items));
	handlers->children = control_alloc(kinds.count * sizeof(*handlers->children));
	handlers->count = kinds.count;
	for (size_t i = 0; i < kinds.count; i++) {
		char text[64];
		snprintf(text, sizeof(text), "%.15s image", kinds.items[i]);
		handlers->items[i] = (struct target_handler){ control_strdup(kinds.items[i]), control_strdup(text) };
	}
	names_free(&kinds);
	for (size_t i = 0; i < handlers->count; i++)
		describe(control, i);
	if (handlers->waiting == 0) {
		sd_event_source *source = NULL;
		sd_event_add_defer(control->event, &source, none_known, control);
	}
	return 0;
}
