/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.kernel.TCMUService1: one object for each handler, which targetcli takes for the kinds of `user:` backstores. Nothing else may live below this path. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/service.h"
#include "pool/bus.h"

struct tcmu_object {
	struct service *service;
	size_t index;
};

static int get_description(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
			   void *userdata, sd_bus_error *ret_error)
{
	const struct tcmu_object *object = userdata;
	const char *description = "";
	(void)bus;
	(void)path;
	(void)interface;
	(void)property;
	(void)ret_error;
	control_handler(object->service->control, object->index, &description);
	return sd_bus_message_append(reply, "s", description);
}

static void check_done(void *argument, const struct lunkit_error *err)
{
	sd_bus_message *call = argument;
	char text[LUNKIT_ERROR_MESSAGE_MAX + LUNKIT_ERROR_HINT_MAX + 4] = "success";
	if (err->code)
		snprintf(text, sizeof(text), "%s%s%s%s", err->message, err->hint[0] ? " (" : "", err->hint, err->hint[0] ? ")" : "");
	if (sd_bus_reply_method_return(call, "bs", !err->code, text) < 0)
		sd_bus_reply_method_return(call, "bs", !err->code, err->code ? strerror(err->code) : "success"); /* not UTF-8 */
	sd_bus_message_unref(call);
}

static int method_check(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	const struct tcmu_object *object = userdata;
	const char *kind = control_handler(object->service->control, object->index, NULL), *cfgstring;
	(void)ret_error;
	int r = sd_bus_message_read(call, "s", &cfgstring);
	if (r < 0)
		return r;
	size_t length = strlen(kind);
	if (strncmp(cfgstring, kind, length) != 0 || cfgstring[length] != '/') {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		lunkit_error_set(&err, EINVAL, "'%.200s' does not start with %s/", cfgstring, kind);
		check_done(sd_bus_message_ref(call), &err);
		return 1;
	}
	control_check(object->service->control, kind, cfgstring + length + 1, check_done, sd_bus_message_ref(call));
	return 1;
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("ConfigDesc", "s", get_description, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_METHOD_WITH_NAMES("CheckConfig", "s", SD_BUS_PARAM(cfgstring), "bs", SD_BUS_PARAM(valid) SD_BUS_PARAM(message), method_check,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

int tcmu_service_add(struct service *service)
{
	int r = sd_bus_add_object_manager(service->bus, NULL, BUS_TCMU_PATH);
	const char *kind;
	for (size_t i = 0; r >= 0 && (kind = control_handler(service->control, i, NULL)); i++) {
		char path[128];
		struct tcmu_object *object = malloc(sizeof(*object)); /* lives as long as the process */
		if (!object)
			return -ENOMEM;
		*object = (struct tcmu_object){ service, i };
		snprintf(path, sizeof(path), BUS_TCMU_PATH "/%s", kind);
		r = sd_bus_add_object_vtable(service->bus, NULL, path, BUS_TCMU_INTERFACE, vtable, object);
	}
	return r;
}
