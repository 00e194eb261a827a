/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * lunkitd as its clients see it. Answers come as JSON objects whose keys are the D-Bus names in lower case with hyphens (WorkerPid: "worker-pid"):
 * what --json prints is then what lunkitd said. Failures carry lunkitd's message and hint.
 */

#include <json-c/json.h>
#include <stdbool.h>
#include <systemd/sd-bus.h>

#include "base/error.h"

struct bus {
	sd_bus *bus;
};

/* -ENOTCONN: no system bus. Close takes a bus that was never opened (zeroed). */
int bus_open(struct bus *ret, struct lunkit_error *err);
void bus_close(struct bus *bus);

/*
 * Calls METHOD of the interface at path; types and what follows are as for sd_bus_message_append(), and may be NULL for none. The answer is
 * *ret (NULL: not wanted). -ENOTCONN: lunkitd does not run; else the errno of the error's name.
 */
int bus_call(struct bus *bus, const char *path, const char *interface, const char *method, sd_bus_message **ret, struct lunkit_error *err,
	     const char *types, ...);
/* The same with a message that the caller has filled; takes it. */
int bus_send(struct bus *bus, sd_bus_message *call, sd_bus_message **ret, struct lunkit_error *err);
int bus_new_call(struct bus *bus, const char *path, const char *interface, const char *method, sd_bus_message **ret,
		 struct lunkit_error *err);

/*
 * The object of what a person typed: a LUN's name as it stands; a reference or device, also a relative one. *ret_path is freed by the caller.
 * -ENOENT: nothing of that name is attached.
 */
int bus_find(struct bus *bus, const char *text, char **ret_path, struct lunkit_error *err);
/* Its properties. */
int bus_lun(struct bus *bus, const char *path, struct json_object **ret, struct lunkit_error *err);
/* All LUNs: an array of what bus_lun() gives. */
int bus_list(struct bus *bus, struct json_object **ret, struct lunkit_error *err);
/* Manager.Status. */
int bus_status(struct bus *bus, struct json_object **ret, struct lunkit_error *err);
/* A LUN's method without arguments whose answer is JSON text: Info, Statistics. -EPROTO when it is none. */
int bus_lun_json(struct bus *bus, const char *path, const char *method, struct json_object **ret, struct lunkit_error *err);

/* The value that the message stands at, moved past it: basic types, arrays, variants, structs (as arrays), dictionaries with string keys. */
int bus_value_to_json(sd_bus_message *message, struct json_object **ret);
/* "WorkerPid" to "worker-pid". */
void bus_key_to_json(const char *name, char *out, size_t size);
/* Turns a D-Bus error into an errno, a message and a hint. */
int bus_error_to_lunkit(const sd_bus_error *error, struct lunkit_error *err);

/* Members of an object, with a default where one is missing or of another type. Strings stay the object's. */
const char *json_string(struct json_object *object, const char *key, const char *otherwise);
uint64_t json_number(struct json_object *object, const char *key);
bool json_is_true(struct json_object *object, const char *key);
/* The index-th string of an array member, or NULL. */
const char *json_string_at(struct json_object *object, const char *key, size_t index);
/* To standard output, in lines, with a newline at the end. */
void json_print(struct json_object *object);
