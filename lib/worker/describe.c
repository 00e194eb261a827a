/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/describe.h"

#include <json-c/json.h>
#include <string.h>

#include "base/checked.h"

static char *json_take_text(struct json_object *object)
{
	char *text = strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
	return text;
}

static void add_string(struct json_object *object, const char *key, const char *value)
{
	if (value)
		json_object_object_add(object, key, json_object_new_string(value));
}

static const char *option_type_name(enum lunkit_option_type type)
{
	switch (type) {
	case LUNKIT_OPTION_STRING:
		return "string";
	case LUNKIT_OPTION_SIZE:
		return "size";
	case LUNKIT_OPTION_BOOL:
		return "bool";
	}
	return "string";
}

char *describe_handler(const struct lunkit_handler *handler)
{
	struct json_object *object = json_object_new_object(), *options = json_object_new_array();
	add_string(object, "name", handler->name);
	add_string(object, "description", handler->description);
	add_string(object, "reference", handler->reference_help);
	json_object_object_add(object, "interface", json_object_new_int((int)handler->interface_version));
	json_object_object_add(object, "can-create", json_object_new_boolean(handler->create != NULL));
	json_object_object_add(object, "can-resize", json_object_new_boolean(handler->resize != NULL));
	json_object_object_add(object, "can-check", json_object_new_boolean(handler->check != NULL));
	json_object_object_add(object, "can-snapshot", json_object_new_boolean(handler->snapshot != NULL));
	json_object_object_add(object, "can-flatten", json_object_new_boolean(handler->flatten != NULL));
	struct json_object *children = json_object_new_array();
	for (const char *const *child = handler->children; child && *child; child++)
		json_object_array_add(children, json_object_new_string(*child));
	json_object_object_add(object, "children", children);
	for (const struct lunkit_option *option = handler->options; option && option->key; option++) {
		struct json_object *entry = json_object_new_object();
		add_string(entry, "key", option->key);
		add_string(entry, "type", option_type_name(option->type));
		add_string(entry, "help", option->help);
		add_string(entry, "values", option->values);
		json_object_object_add(entry, "open", json_object_new_boolean((option->use & LUNKIT_OPTION_OPEN) != 0));
		json_object_object_add(entry, "create", json_object_new_boolean((option->use & LUNKIT_OPTION_CREATE) != 0));
		json_object_array_add(options, entry);
	}
	json_object_object_add(object, "options", options);
	return json_take_text(object);
}

char *describe_statistics(const struct lun_statistics *statistics, const char *job, uint64_t done, uint64_t total)
{
	const struct {
		const char *key;
		uint64_t value;
	} counters[] = {
		{ "commands", statistics->commands },	    { "reads", statistics->reads },
		{ "writes", statistics->writes },	    { "read-bytes", statistics->read_bytes },
		{ "write-bytes", statistics->write_bytes }, { "flushes", statistics->flushes },
		{ "discards", statistics->discards },	    { "errors", statistics->errors },
		{ "refused", statistics->refused },	    { "aborted", statistics->aborted },
		{ "doorbells", statistics->doorbells },	    { "batches", statistics->batches },
		{ "in-flight", statistics->in_flight },
	};
	struct json_object *object = json_object_new_object();
	for (size_t i = 0; i < ARRAY_SIZE(counters); i++)
		json_object_object_add(object, counters[i].key, json_object_new_uint64(counters[i].value));
	if (job) {
		add_string(object, "job", job);
		json_object_object_add(object, "job-done", json_object_new_uint64(done));
		json_object_object_add(object, "job-total", json_object_new_uint64(total));
	}
	return json_take_text(object);
}
