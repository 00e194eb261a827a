/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who may call. The bus's policy file says it first; this says it again, so that a lax or missing policy does not give disks away. The bus itself knows the caller's user and
 * groups from the kernel (SO_PEERCRED, SO_PEERGROUPS of its socket), which, unlike looking into /proc by pid, can't be raced. A unique name is never used again while the bus
 * lives, so answers are kept.
 */
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "daemon/service.h"
#include "pool/bus.h"

#define GROUP "lunkit"
#define ASK_USEC 5000000

static bool group_allows(const uint32_t *groups, size_t count)
{
	const struct group *group = getgrnam(GROUP);
	for (size_t i = 0; group && i < count; i++)
		if (groups[i] == group->gr_gid)
			return true;
	return false;
}

/* One entry of GetConnectionCredentials' dictionary. */
static int read_credential(sd_bus_message *reply, bool *allowed)
{
	const char *key, *contents;
	int r = sd_bus_message_read(reply, "s", &key);
	if (r < 0)
		return r;
	r = sd_bus_message_peek_type(reply, NULL, &contents);
	if (r < 0)
		return r;
	if (strcmp(key, "UnixUserID") == 0 && strcmp(contents, "u") == 0) {
		uint32_t uid;
		r = sd_bus_message_read(reply, "v", "u", &uid);
		*allowed = *allowed || (r >= 0 && uid == 0);
		return r;
	}
	if (strcmp(key, "UnixGroupIDs") == 0 && strcmp(contents, "au") == 0) {
		const void *groups;
		size_t size;
		if ((r = sd_bus_message_enter_container(reply, 'v', "au")) < 0 ||
		    (r = sd_bus_message_read_array(reply, 'u', &groups, &size)) < 0)
			return r;
		*allowed = *allowed || group_allows(groups, size / sizeof(uint32_t));
		return sd_bus_message_exit_container(reply);
	}
	return sd_bus_message_skip(reply, "v");
}

static bool ask_bus(sd_bus *bus, const char *sender)
{
	sd_bus_message *call = NULL, *reply = NULL;
	sd_bus_error error = SD_BUS_ERROR_NULL;
	bool allowed = false;
	int r = sd_bus_message_new_method_call(bus, &call, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
					       "GetConnectionCredentials");
	if (r >= 0)
		r = sd_bus_message_append(call, "s", sender);
	if (r >= 0)
		r = sd_bus_call(bus, call, ASK_USEC, &error, &reply);
	if (r >= 0)
		r = sd_bus_message_enter_container(reply, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
		r = read_credential(reply, &allowed);
		if (r >= 0)
			r = sd_bus_message_exit_container(reply);
	}
	if (r < 0)
		log_warning("cannot find out who %s is: %s", sender, error.message ? error.message : strerror(-r));
	sd_bus_error_free(&error);
	sd_bus_message_unref(call);
	sd_bus_message_unref(reply);
	return r >= 0 && allowed;
}

static bool is_allowed(struct service *service, const char *sender)
{
	for (unsigned i = 0; i < ACCESS_CACHE; i++)
		if (strcmp(service->access[i].sender, sender) == 0)
			return service->access[i].allowed;
	bool allowed = ask_bus(service->bus, sender);
	struct access_entry *entry = &service->access[service->access_next++ % ACCESS_CACHE];
	if (snprintf(entry->sender, sizeof(entry->sender), "%s", sender) >= (int)sizeof(entry->sender))
		entry->sender[0] = '\0';
	entry->allowed = allowed;
	return allowed;
}

static bool is_below(const char *path, const char *prefix)
{
	size_t length = strlen(prefix);
	return strncmp(path, prefix, length) == 0 && (path[length] == '\0' || path[length] == '/');
}

static int filter(sd_bus_message *message, void *userdata, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	uint8_t type;
	(void)ret_error;
	if (sd_bus_message_get_type(message, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
		return 0;
	const char *path = sd_bus_message_get_path(message), *sender = sd_bus_message_get_sender(message),
		   *interface = sd_bus_message_get_interface(message);
	if (!path || (!is_below(path, BUS_PATH) && !is_below(path, BUS_TCMU_PATH)))
		return 0;
	if (interface &&
	    (strcmp(interface, "org.freedesktop.DBus.Peer") == 0 || strcmp(interface, "org.freedesktop.DBus.Introspectable") == 0))
		return 0;
	if (sender && is_allowed(service, sender))
		return 0;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, EACCES, "only root and members of group " GROUP " may do this");
	lunkit_error_hint(&err, "use sudo, or ask the administrator: adduser USER " GROUP);
	return bus_reply_error(message, &err);
}

int access_add(struct service *service)
{
	return sd_bus_add_filter(service->bus, NULL, filter, service);
}
