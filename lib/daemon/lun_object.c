/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The objects /org/lunkit1/lun/NAME. They are not kept: each is found in the LUN table when somebody asks for it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "daemon/service.h"
#include "pool/bus.h"

#define GETTER(name)                                                                                                                       \
	static int get_##name(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,           \
			      void *userdata, sd_bus_error *ret_error)

#define UNUSED_GETTER_ARGUMENTS                                                                                                            \
	(void)bus;                                                                                                                         \
	(void)path;                                                                                                                        \
	(void)interface;                                                                                                                   \
	(void)property;                                                                                                                    \
	(void)ret_error

#define GET_BASIC(name, type, c_type, expression)                                                                                          \
	GETTER(name)                                                                                                                       \
	{                                                                                                                                  \
		UNUSED_GETTER_ARGUMENTS;                                                                                                   \
		const struct lun *lun = userdata;                                                                                          \
		return sd_bus_message_append(reply, type, (c_type)(expression));                                                           \
	}

#define GET_TEXT(name, expression)                                                                                                         \
	GETTER(name)                                                                                                                       \
	{                                                                                                                                  \
		UNUSED_GETTER_ARGUMENTS;                                                                                                   \
		struct lun *lun = userdata;                                                                                                \
		return bus_append_text(reply, expression);                                                                                 \
	}

#define GET_NAMES(name, expression)                                                                                                        \
	GETTER(name)                                                                                                                       \
	{                                                                                                                                  \
		UNUSED_GETTER_ARGUMENTS;                                                                                                   \
		struct lun *lun = userdata;                                                                                                \
		return bus_append_names(reply, &(expression));                                                                             \
	}

static const char *cache_name(enum reference_cache cache)
{
	switch (cache) {
	case REFERENCE_CACHE_NONE:
		return "none";
	case REFERENCE_CACHE_WRITEBACK:
		return "writeback";
	case REFERENCE_CACHE_WRITETHROUGH:
		return "writethrough";
	}
	return "none";
}

/* What configfs and sysfs say is looked at anew when it is older than about a second. */
static const struct lun_facts *facts(struct lun *lun)
{
	control_refresh_briefly(lun->control);
	return &lun->facts;
}

GET_TEXT(name, lun->backstore.name)
GET_TEXT(image, lun->image)
GET_TEXT(kind, lun->reference.kind)
GET_BASIC(size, "t", uint64_t, lun->size)
GET_BASIC(block_size, "u", uint32_t, lun->block_size)
GET_BASIC(read_only, "b", int, lun->read_only)
GET_TEXT(cache, cache_name(lun->reference.cache))
GET_TEXT(state, lun_state_name(lun->state))
GET_TEXT(reason, lun->reason.message)
GET_BASIC(worker, "u", uint32_t, lun_worker_pid(lun))
GET_BASIC(restarts, "u", uint32_t, lun->supervise.restarts)
GET_BASIC(persistent, "b", int, lun->persistent)
GET_TEXT(notice, lun->notice)
GET_TEXT(fabric, facts(lun)->fabric)
GET_TEXT(wwn, facts(lun)->wwn)
GET_TEXT(serial, facts(lun)->serial)
GET_NAMES(exports, facts(lun)->exports)
GET_NAMES(devices, facts(lun)->devices)
GET_NAMES(links, facts(lun)->links)

static const struct {
	const char *name, *signature;
	sd_bus_property_get_t get;
} properties[] = {
	{ "Name", "s", get_name },	  { "Image", "s", get_image },		{ "Kind", "s", get_kind },
	{ "Size", "t", get_size },	  { "BlockSize", "u", get_block_size }, { "ReadOnly", "b", get_read_only },
	{ "Cache", "s", get_cache },	  { "State", "s", get_state },		{ "Reason", "s", get_reason },
	{ "WorkerPid", "u", get_worker }, { "Restarts", "u", get_restarts },	{ "Fabric", "s", get_fabric },
	{ "Exports", "as", get_exports }, { "Devices", "as", get_devices },	{ "DeviceLinks", "as", get_links },
	{ "Wwn", "s", get_wwn },	  { "Serial", "s", get_serial },	{ "Persistent", "b", get_persistent },
	{ "Notice", "s", get_notice },
};

int lun_object_append(sd_bus_message *message, struct lun *lun)
{
	int r = sd_bus_message_open_container(message, 'a', "{sv}");
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(properties); i++) {
		if ((r = sd_bus_message_open_container(message, 'e', "sv")) < 0 ||
		    (r = sd_bus_message_append(message, "s", properties[i].name)) < 0 ||
		    (r = sd_bus_message_open_container(message, 'v', properties[i].signature)) < 0 ||
		    (r = properties[i].get(NULL, NULL, NULL, NULL, message, lun, NULL)) < 0 ||
		    (r = sd_bus_message_close_container(message)) < 0)
			break;
		r = sd_bus_message_close_container(message);
	}
	return r < 0 ? r : sd_bus_message_close_container(message);
}

static void text_done(void *argument, const char *json, const struct lunkit_error *err)
{
	sd_bus_message *call = argument;
	sd_bus_message *reply = NULL;
	if (!json) {
		bus_reply_error(call, err);
	} else if (sd_bus_message_new_method_return(call, &reply) < 0 || bus_append_text(reply, json) < 0 ||
		   sd_bus_send(NULL, reply, NULL) < 0) {
		struct lunkit_error failure = LUNKIT_ERROR_INIT;
		lunkit_error_set(&failure, EIO, "the worker's answer can't be passed on");
		bus_reply_error(call, &failure);
	}
	sd_bus_message_unref(reply);
	sd_bus_message_unref(call);
}

static int method_info(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	(void)ret_error;
	lun_info(userdata, text_done, sd_bus_message_ref(call));
	return 1;
}

static int method_statistics(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	(void)ret_error;
	lun_statistics(userdata, text_done, sd_bus_message_ref(call));
	return 1;
}

static void resize_done(void *argument, uint64_t size, const struct lunkit_error *err)
{
	sd_bus_message *call = argument;
	if (err->code)
		bus_reply_error(call, err);
	else
		sd_bus_reply_method_return(call, "t", size);
	sd_bus_message_unref(call);
}

static int method_resize(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	uint64_t size;
	uint32_t flags;
	(void)ret_error;
	int r = sd_bus_message_read(call, "tu", &size, &flags);
	if (r < 0)
		return r;
	lun_resize(userdata, size, flags, resize_done, sd_bus_message_ref(call));
	return 1;
}

#define PROPERTY(name, signature, getter) SD_BUS_PROPERTY(name, signature, getter, 0, 0)

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	PROPERTY("Name", "s", get_name),
	PROPERTY("Image", "s", get_image),
	PROPERTY("Kind", "s", get_kind),
	PROPERTY("Size", "t", get_size),
	PROPERTY("BlockSize", "u", get_block_size),
	PROPERTY("ReadOnly", "b", get_read_only),
	PROPERTY("Cache", "s", get_cache),
	PROPERTY("State", "s", get_state),
	PROPERTY("Reason", "s", get_reason),
	PROPERTY("WorkerPid", "u", get_worker),
	PROPERTY("Restarts", "u", get_restarts),
	PROPERTY("Fabric", "s", get_fabric),
	PROPERTY("Exports", "as", get_exports),
	PROPERTY("Devices", "as", get_devices),
	PROPERTY("DeviceLinks", "as", get_links),
	PROPERTY("Wwn", "s", get_wwn),
	PROPERTY("Serial", "s", get_serial),
	PROPERTY("Persistent", "b", get_persistent),
	PROPERTY("Notice", "s", get_notice),
	SD_BUS_METHOD_WITH_NAMES("Info", "", , "s", SD_BUS_PARAM(json), method_info, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Statistics", "", , "s", SD_BUS_PARAM(json), method_statistics, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Resize", "tu", SD_BUS_PARAM(size) SD_BUS_PARAM(flags), "t", SD_BUS_PARAM(size), method_resize,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Check", "u", SD_BUS_PARAM(flags), "o", SD_BUS_PARAM(job), lun_method_check, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Map", "htt", SD_BUS_PARAM(output) SD_BUS_PARAM(offset) SD_BUS_PARAM(length), "o", SD_BUS_PARAM(job),
				 lun_method_map, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Snapshots", "h", SD_BUS_PARAM(output), "o", SD_BUS_PARAM(job), lun_method_snapshots,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("SnapshotCreate", "s", SD_BUS_PARAM(name), "o", SD_BUS_PARAM(job), lun_method_snapshot_create,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("SnapshotDelete", "s", SD_BUS_PARAM(name), "o", SD_BUS_PARAM(job), lun_method_snapshot_delete,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("SnapshotRevert", "s", SD_BUS_PARAM(name), "o", SD_BUS_PARAM(job), lun_method_snapshot_revert,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Flatten", "t", SD_BUS_PARAM(rate), "o", SD_BUS_PARAM(job), lun_method_flatten,
				 SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("Export", "hsa{sv}", SD_BUS_PARAM(output) SD_BUS_PARAM(target) SD_BUS_PARAM(options), "o",
				 SD_BUS_PARAM(job), lun_method_export, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_VTABLE_END,
};

char *lun_object_path(const struct lun *lun)
{
	char *path = NULL;
	return sd_bus_path_encode(BUS_LUN_PREFIX, lun->backstore.name, &path) < 0 ? NULL : path;
}

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	char *name = NULL;
	(void)bus;
	(void)interface;
	(void)ret_error;
	int r = sd_bus_path_decode(path, BUS_LUN_PREFIX, &name);
	if (r <= 0)
		return r;
	struct lun *lun = control_lun_by_name(service->control, name);
	free(name);
	if (!lun || !lun->visible)
		return 0;
	*ret_found = lun;
	return 1;
}

struct paths {
	char **items;
	size_t count;
	bool failed;
};

static void add_path(struct lun *lun, void *argument)
{
	struct paths *paths = argument;
	char **items = reallocarray(paths->items, paths->count + 2, sizeof(*items));
	char *path = lun_object_path(lun);
	if (items)
		paths->items = items;
	if (!items || !path) {
		paths->failed = true;
		free(path);
		return;
	}
	items[paths->count++] = path;
	items[paths->count] = NULL;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	struct paths paths = { 0 };
	(void)bus;
	(void)prefix;
	(void)ret_error;
	control_for_each(service->control, add_path, &paths);
	if (paths.failed) {
		for (size_t i = 0; i < paths.count; i++)
			free(paths.items[i]);
		free(paths.items);
		return -ENOMEM;
	}
	*ret_nodes = paths.items;
	return 0;
}

int lun_object_add(struct service *service)
{
	int r = sd_bus_add_fallback_vtable(service->bus, NULL, BUS_LUN_PREFIX, BUS_LUN_INTERFACE, vtable, find, service);
	if (r >= 0)
		r = sd_bus_add_node_enumerator(service->bus, NULL, BUS_LUN_PREFIX, enumerate, service);
	return r < 0 ? r : sd_bus_add_object_manager(service->bus, NULL, BUS_PATH);
}

void lun_object_added(struct service *service, const struct lun *lun)
{
	char *path = lun_object_path(lun);
	control_suspend_refresh(service->control, true); /* the signal carries all properties, and the kernel may be waiting for us */
	int r = path ? sd_bus_emit_object_added(service->bus, path) : -ENOMEM;
	control_suspend_refresh(service->control, false);
	if (r < 0)
		log_warning("%s: cannot announce it on the bus: %s", lun->backstore.name, strerror(-r));
	free(path);
}

void lun_object_removed(struct service *service, const struct lun *lun)
{
	char *path = lun_object_path(lun);
	int r = path ? sd_bus_emit_object_removed(service->bus, path) : -ENOMEM;
	if (r < 0)
		log_warning("%s: cannot announce its end on the bus: %s", lun->backstore.name, strerror(-r));
	free(path);
}
