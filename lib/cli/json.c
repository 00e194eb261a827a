/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* D-Bus values to JSON, and reading JSON objects without surprises: members that are missing or of another type read as empty. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "cli/bus.h"

void bus_key_to_json(const char *name, char *out, size_t size)
{
	size_t used = 0;
	for (size_t i = 0; name[i] && used + 2 < size; i++) {
		bool upper = name[i] >= 'A' && name[i] <= 'Z';
		if (upper && i && name[i - 1] != '-')
			out[used++] = '-';
		out[used++] = upper ? (char)(name[i] | 0x20) : name[i];
	}
	out[used] = '\0';
}

static int basic_to_json(sd_bus_message *message, char type, struct json_object **ret)
{
	union {
		uint8_t y;
		int b;
		int16_t n;
		uint16_t q;
		int32_t i;
		uint32_t u;
		int64_t x;
		uint64_t t;
		double d;
		const char *s;
	} value;
	int r = sd_bus_message_read_basic(message, type, &value);
	if (r < 0)
		return r;
	switch (type) {
	case SD_BUS_TYPE_BYTE:
		*ret = json_object_new_int(value.y);
		break;
	case SD_BUS_TYPE_BOOLEAN:
		*ret = json_object_new_boolean(value.b);
		break;
	case SD_BUS_TYPE_INT16:
		*ret = json_object_new_int(value.n);
		break;
	case SD_BUS_TYPE_UINT16:
		*ret = json_object_new_int(value.q);
		break;
	case SD_BUS_TYPE_INT32:
		*ret = json_object_new_int(value.i);
		break;
	case SD_BUS_TYPE_UINT32:
		*ret = json_object_new_int64(value.u);
		break;
	case SD_BUS_TYPE_INT64:
		*ret = json_object_new_int64(value.x);
		break;
	case SD_BUS_TYPE_UINT64:
		*ret = json_object_new_uint64(value.t);
		break;
	case SD_BUS_TYPE_DOUBLE:
		*ret = json_object_new_double(value.d);
		break;
	case SD_BUS_TYPE_STRING:
	case SD_BUS_TYPE_OBJECT_PATH:
	case SD_BUS_TYPE_SIGNATURE:
		*ret = json_object_new_string(value.s);
		break;
	default:
		return -EBADMSG;
	}
	return *ret ? 0 : -ENOMEM;
}

/* The entries of an array up to its end: into an object when they are dictionary entries. */
static int container_to_json(sd_bus_message *message, bool dictionary, struct json_object **ret)
{
	struct json_object *object = dictionary ? json_object_new_object() : json_object_new_array();
	int r;
	while ((r = sd_bus_message_at_end(message, 0)) == 0) {
		struct json_object *value = NULL;
		char key[128] = "";
		if (dictionary) {
			const char *name, *contents;
			char type;
			r = sd_bus_message_peek_type(message, &type, &contents);
			if (r > 0)
				r = sd_bus_message_enter_container(message, SD_BUS_TYPE_DICT_ENTRY, contents);
			if (r > 0)
				r = sd_bus_message_read_basic(message, SD_BUS_TYPE_STRING, &name);
			if (r > 0)
				bus_key_to_json(name, key, sizeof(key));
			if (r <= 0)
				break;
		}
		r = bus_value_to_json(message, &value);
		if (r < 0)
			break;
		if (dictionary)
			r = json_object_object_add(object, key, value);
		else
			r = json_object_array_add(object, value);
		if (r == 0 && dictionary)
			r = sd_bus_message_exit_container(message);
		if (r < 0)
			break;
	}
	if (r <= 0) {
		json_object_put(object);
		return r < 0 ? r : -EBADMSG;
	}
	*ret = object;
	return 0;
}

int bus_value_to_json(sd_bus_message *message, struct json_object **ret)
{
	const char *contents;
	char type;
	struct json_object *object = NULL;
	int r = sd_bus_message_peek_type(message, &type, &contents);
	if (r <= 0)
		return r < 0 ? r : -EBADMSG;
	if (!contents) {
		r = basic_to_json(message, type, &object);
	} else {
		r = sd_bus_message_enter_container(message, type, contents);
		if (r >= 0 && type == SD_BUS_TYPE_VARIANT)
			r = bus_value_to_json(message, &object);
		else if (r >= 0)
			r = container_to_json(message, type == SD_BUS_TYPE_ARRAY && contents[0] == SD_BUS_TYPE_DICT_ENTRY_BEGIN, &object);
		if (r >= 0)
			r = sd_bus_message_exit_container(message);
	}
	if (r < 0) {
		json_object_put(object);
		return r;
	}
	*ret = object;
	return 0;
}

const char *json_string(struct json_object *object, const char *key, const char *otherwise)
{
	struct json_object *member;
	if (!json_object_object_get_ex(object, key, &member) || !json_object_is_type(member, json_type_string))
		return otherwise;
	return json_object_get_string(member);
}

uint64_t json_number(struct json_object *object, const char *key)
{
	struct json_object *member;
	if (!json_object_object_get_ex(object, key, &member) || !json_object_is_type(member, json_type_int))
		return 0;
	return json_object_get_uint64(member);
}

bool json_is_true(struct json_object *object, const char *key)
{
	struct json_object *member;
	return json_object_object_get_ex(object, key, &member) && json_object_is_type(member, json_type_boolean) &&
	       json_object_get_boolean(member);
}

const char *json_string_at(struct json_object *object, const char *key, size_t index)
{
	struct json_object *member;
	if (!json_object_object_get_ex(object, key, &member) || !json_object_is_type(member, json_type_array) ||
	    index >= json_object_array_length(member))
		return NULL;
	struct json_object *entry = json_object_array_get_idx(member, index);
	return json_object_is_type(entry, json_type_string) ? json_object_get_string(entry) : NULL;
}

void json_print(struct json_object *object)
{
	char *text = strdup(
		json_object_to_json_string_ext(object, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
	if (text)
		utf8_make_valid(text);
	puts(text ? text : "null");
	free(text);
}
