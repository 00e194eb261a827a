/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The D-Bus client. Calls block: lunkit has one thing to do. Left out on purpose: introspection and caching of what LUNs there are; every run asks anew.
 */
#include "cli/bus.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "pool/bus.h"
#include "pool/reference.h"

/* Attaching waits for udev and a drain for I/O, which may take their time: lunkitd has its own, shorter limits for both. */
#define CALL_TIMEOUT_US (180 * UINT64_C(1000000))

/* What the bus says where it has no systemd to start lunkitd by. */
#define BUS_ERROR_SPAWN "org.freedesktop.DBus.Error.Spawn."

int bus_open(struct bus *ret, struct lunkit_error *err)
{
	sd_bus *bus;
	int r = sd_bus_open_system(&bus);
	if (r < 0) {
		lunkit_error_set(err, ENOTCONN, "cannot reach the system's D-Bus: %s", strerror(-r));
		return lunkit_error_hint(err, "start it (systemctl start dbus), then lunkitd (systemctl start lunkitd)");
	}
	sd_bus_set_method_call_timeout(bus, CALL_TIMEOUT_US);
	*ret = (struct bus){ .bus = bus };
	return 0;
}

void bus_close(struct bus *bus)
{
	bus->bus = sd_bus_flush_close_unref(bus->bus);
}

static const struct {
	const char *name;
	int code;
} error_names[] = {
	{ BUS_ERROR_PREFIX "InvalidArgument", EINVAL },
	{ BUS_ERROR_PREFIX "NotFound", ENOENT },
	{ BUS_ERROR_PREFIX "Exists", EEXIST },
	{ BUS_ERROR_PREFIX "InUse", EBUSY },
	{ BUS_ERROR_PREFIX "NoSpace", ENOSPC },
	{ BUS_ERROR_PREFIX "AccessDenied", EACCES },
	{ BUS_ERROR_PREFIX "NotSupported", EOPNOTSUPP },
	{ BUS_ERROR_PREFIX "TimedOut", ETIMEDOUT },
	{ BUS_ERROR_PREFIX "Failed", EIO },
	{ SD_BUS_ERROR_ACCESS_DENIED, EACCES },
	{ SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, EACCES },
	{ SD_BUS_ERROR_SERVICE_UNKNOWN, ENOTCONN },
	{ SD_BUS_ERROR_NAME_HAS_NO_OWNER, ENOTCONN },
	{ SD_BUS_ERROR_NO_REPLY, ETIMEDOUT },
	{ SD_BUS_ERROR_TIMEOUT, ETIMEDOUT },
	{ SD_BUS_ERROR_DISCONNECTED, ENOTCONN },
	{ SD_BUS_ERROR_UNKNOWN_OBJECT, ENOENT },
	{ SD_BUS_ERROR_UNKNOWN_METHOD, EOPNOTSUPP },
	{ "org.freedesktop.systemd1.NoSuchUnit", ENOTCONN },
};

static bool is_lunkits(const char *name)
{
	return strncmp(name, BUS_ERROR_PREFIX, strlen(BUS_ERROR_PREFIX)) == 0;
}

int bus_error_to_lunkit(const sd_bus_error *error, struct lunkit_error *err)
{
	int code = EIO;
	const char *name = error->name ? error->name : "", *message = error->message ? error->message : name;
	for (size_t i = 0; i < ARRAY_SIZE(error_names); i++)
		if (strcmp(name, error_names[i].name) == 0)
			code = error_names[i].code;
	if (strncmp(name, BUS_ERROR_SPAWN, strlen(BUS_ERROR_SPAWN)) == 0)
		code = ENOTCONN;
	if (is_lunkits(name)) {
		const char *line = strchrnul(message, '\n');
		lunkit_error_set(err, code, "%.*s", (int)MIN(line - message, LUNKIT_ERROR_MESSAGE_MAX), message);
		return *line ? lunkit_error_hint(err, "%s", line + 1) : -code;
	}
	switch (code) {
	case ENOTCONN:
		lunkit_error_set(err, code, "lunkitd does not run");
		return lunkit_error_hint(err, "systemctl start lunkitd; lunkit doctor says why it does not");
	case EACCES:
		lunkit_error_set(err, code, "lunkitd may be asked by root and the group lunkit only");
		return lunkit_error_hint(err, "sudo, or join the group: usermod -aG lunkit USER, then log in again");
	case ETIMEDOUT:
		lunkit_error_set(err, code, "lunkitd did not answer in time");
		return lunkit_error_hint(err, "journalctl -u lunkitd says what it is doing");
	case EOPNOTSUPP:
		lunkit_error_set(err, code, "this lunkitd does not know the call (%s)", message);
		return lunkit_error_hint(err, "lunkit and lunkitd may be of different versions: systemctl restart lunkitd");
	default:
		return lunkit_error_set(err, code, "%s", message);
	}
}

int bus_new_call(struct bus *bus, const char *path, const char *interface, const char *method, sd_bus_message **ret,
		 struct lunkit_error *err)
{
	int r = sd_bus_message_new_method_call(bus->bus, ret, BUS_NAME, path, interface, method);
	return r < 0 ? lunkit_error_set(err, r, "cannot make the call %s: %s", method, strerror(-r)) : 0;
}

int bus_send(struct bus *bus, sd_bus_message *call, sd_bus_message **ret, struct lunkit_error *err)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	int r = sd_bus_call(bus->bus, call, 0, &error, ret);
	sd_bus_message_unref(call);
	if (r < 0 && sd_bus_error_is_set(&error))
		r = bus_error_to_lunkit(&error, err);
	else if (r < 0)
		lunkit_error_set(err, r, "cannot ask lunkitd: %s", strerror(-r));
	sd_bus_error_free(&error);
	return r < 0 ? r : 0;
}

int bus_call(struct bus *bus, const char *path, const char *interface, const char *method, sd_bus_message **ret, struct lunkit_error *err,
	     const char *types, ...)
{
	sd_bus_message *call;
	int r = bus_new_call(bus, path, interface, method, &call, err);
	if (r < 0)
		return r;
	if (types) {
		va_list args;
		va_start(args, types);
		r = sd_bus_message_appendv(call, types, args);
		va_end(args);
	}
	if (r < 0) {
		sd_bus_message_unref(call);
		return lunkit_error_set(err, r, "cannot make the call %s: %s", method, strerror(-r));
	}
	return bus_send(bus, call, ret, err);
}

static int answer_is_strange(const char *method, struct lunkit_error *err)
{
	lunkit_error_set(err, EPROTO, "lunkitd's answer to %s makes no sense", method);
	return lunkit_error_hint(err, "lunkit and lunkitd may be of different versions: systemctl restart lunkitd");
}

static int find_exactly(struct bus *bus, const char *text, char **ret_path, struct lunkit_error *err)
{
	sd_bus_message *answer = NULL;
	const char *path;
	int r = bus_call(bus, BUS_PATH, BUS_MANAGER_INTERFACE, "Find", &answer, err, "s", text);
	if (r == 0 && sd_bus_message_read(answer, "o", &path) < 0)
		r = answer_is_strange("Find", err);
	if (r == 0) {
		char *copy = strdup(path);
		if (copy)
			*ret_path = copy;
		else
			r = lunkit_error_set(err, ENOMEM, "no memory");
	}
	sd_bus_message_unref(answer);
	return r;
}

int bus_find(struct bus *bus, const char *text, char **ret_path, struct lunkit_error *err)
{
	int r = -ENOENT;
	/* A LUN's name has no '/'; a name is tried first, so that a file in the working directory can't hide it. */
	if (!strchr(text, '/') && !strchr(text, ';')) {
		r = find_exactly(bus, text, ret_path, err);
		if (r != -ENOENT)
			return r;
	}
	struct reference reference;
	char resolved[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX];
	r = reference_parse(text, &reference, err);
	/* the file may be gone while its LUN is still there */
	if (r == 0)
		r = reference_resolve(&reference, false, err);
	if (r == 0)
		r = reference_format(&reference, resolved, sizeof(resolved), err);
	if (r == 0)
		r = find_exactly(bus, resolved, ret_path, err);
	if (r == -ENOENT) {
		lunkit_error_set(err, ENOENT, "'%s' is not attached", text);
		lunkit_error_hint(err, "lunkit list shows what is");
	}
	return r;
}

int bus_lun(struct bus *bus, const char *path, struct json_object **ret, struct lunkit_error *err)
{
	sd_bus_message *answer = NULL;
	int r = bus_call(bus, path, "org.freedesktop.DBus.Properties", "GetAll", &answer, err, "s", BUS_LUN_INTERFACE);
	if (r == 0 && bus_value_to_json(answer, ret) < 0)
		r = answer_is_strange("GetAll", err);
	sd_bus_message_unref(answer);
	return r;
}

static int manager_json(struct bus *bus, const char *method, enum json_type type, struct json_object **ret, struct lunkit_error *err)
{
	sd_bus_message *answer = NULL;
	struct json_object *object = NULL;
	int r = bus_call(bus, BUS_PATH, BUS_MANAGER_INTERFACE, method, &answer, err, NULL);
	if (r == 0 && (bus_value_to_json(answer, &object) < 0 || !json_object_is_type(object, type)))
		r = answer_is_strange(method, err);
	sd_bus_message_unref(answer);
	if (r < 0) {
		json_object_put(object);
		return r;
	}
	*ret = object;
	return 0;
}

int bus_list(struct bus *bus, struct json_object **ret, struct lunkit_error *err)
{
	return manager_json(bus, "List", json_type_array, ret, err);
}

int bus_status(struct bus *bus, struct json_object **ret, struct lunkit_error *err)
{
	return manager_json(bus, "Status", json_type_object, ret, err);
}

int bus_lun_json(struct bus *bus, const char *path, const char *method, struct json_object **ret, struct lunkit_error *err)
{
	sd_bus_message *answer = NULL;
	const char *text;
	int r = bus_call(bus, path, BUS_LUN_INTERFACE, method, &answer, err, NULL);
	if (r == 0) {
		struct json_object *object = sd_bus_message_read(answer, "s", &text) < 0 ? NULL : json_tokener_parse(text);
		if (json_object_is_type(object, json_type_object))
			*ret = object;
		else
			r = answer_is_strange(method, err);
		if (r < 0)
			json_object_put(object);
	}
	sd_bus_message_unref(answer);
	return r;
}
