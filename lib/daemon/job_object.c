/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The objects /org/lunkit1/job/N, found in the job table when somebody asks for them, and watching whoever started an export. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/parse.h"
#include "daemon/service.h"
#include "pool/bus.h"

void job_object_path(const struct job *job, char ret[static JOB_PATH_MAX])
{
	snprintf(ret, JOB_PATH_MAX, BUS_JOB_PREFIX "/%" PRIu64, job->id);
}

/* "NAME\nMESSAGE\nHINT", as a D-Bus error has them; "" for none. */
static void error_text(const struct job *job, char *ret, size_t size)
{
	ret[0] = '\0';
	if (job->state == JOB_FAILED)
		snprintf(ret, size, "%s\n%s%s%s", bus_error_name(job->err.code), job->err.message, job->err.hint[0] ? "\n" : "",
			 job->err.hint);
}

static int get(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
	       sd_bus_error *ret_error)
{
	const struct job *job = userdata;
	char text[LUNKIT_ERROR_MESSAGE_MAX + LUNKIT_ERROR_HINT_MAX + 128];
	(void)bus;
	(void)path;
	(void)interface;
	(void)ret_error;
	if (strcmp(property, "Kind") == 0)
		return sd_bus_message_append(reply, "s", job->kind);
	if (strcmp(property, "Lun") == 0)
		return bus_append_text(reply, job->lun_name);
	if (strcmp(property, "Done") == 0)
		return sd_bus_message_append(reply, "t", job->done);
	if (strcmp(property, "Total") == 0)
		return sd_bus_message_append(reply, "t", job->total);
	if (strcmp(property, "State") == 0)
		return sd_bus_message_append(reply, "s", job_state_name(job->state));
	if (strcmp(property, "Result") == 0)
		return bus_append_text(reply, job->result ? job->result : "");
	error_text(job, text, sizeof(text));
	return bus_append_text(reply, text);
}

static int method_cancel(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	(void)ret_error;
	job_cancel(userdata);
	return sd_bus_reply_method_return(call, "");
}

static int method_set_rate(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	uint64_t rate;
	(void)ret_error;
	int r = sd_bus_message_read(call, "t", &rate);
	if (r < 0)
		return r;
	job_set_rate(userdata, rate);
	return sd_bus_reply_method_return(call, "");
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_PROPERTY("Kind", "s", get, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Lun", "s", get, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Done", "t", get, 0, 0),
	SD_BUS_PROPERTY("Total", "t", get, 0, 0),
	SD_BUS_PROPERTY("State", "s", get, 0, 0),
	SD_BUS_PROPERTY("Error", "s", get, 0, 0),
	SD_BUS_PROPERTY("Result", "s", get, 0, 0),
	SD_BUS_METHOD("Cancel", "", "", method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD_WITH_NAMES("SetRate", "t", SD_BUS_PARAM(rate), "", , method_set_rate, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_SIGNAL_WITH_NAMES("Finished", "sss", SD_BUS_PARAM(state) SD_BUS_PARAM(error) SD_BUS_PARAM(result), 0),
	SD_BUS_VTABLE_END,
};

static int enumerate_one(char ***paths, size_t *count, const struct job *job)
{
	char path[JOB_PATH_MAX], **items = reallocarray(*paths, *count + 2, sizeof(*items));
	if (!items)
		return -ENOMEM;
	*paths = items;
	job_object_path(job, path);
	items[*count] = strdup(path);
	items[*count + 1] = NULL;
	return items[(*count)++] ? 0 : -ENOMEM;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	char **paths = NULL;
	size_t count = 0;
	int r = 0;
	(void)bus;
	(void)prefix;
	(void)ret_error;
	for (const struct job *job = NULL; r == 0 && (job = job_next(service->control, job));)
		r = enumerate_one(&paths, &count, job);
	if (r < 0) {
		for (size_t i = 0; i < count; i++)
			free(paths[i]);
		free(paths);
		return r;
	}
	*ret_nodes = paths;
	return 0;
}

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret_found, sd_bus_error *ret_error)
{
	struct service *service = userdata;
	uint64_t id;
	(void)bus;
	(void)interface;
	(void)ret_error;
	if (strncmp(path, BUS_JOB_PREFIX "/", sizeof(BUS_JOB_PREFIX)) != 0 || parse_u64(path + sizeof(BUS_JOB_PREFIX), &id) < 0)
		return 0;
	struct job *job = job_by_id(service->control, id);
	if (!job)
		return 0;
	*ret_found = job;
	return 1;
}

int job_object_add(struct service *service)
{
	int r = sd_bus_add_fallback_vtable(service->bus, NULL, BUS_JOB_PREFIX, BUS_JOB_INTERFACE, vtable, find, service);
	return r < 0 ? r : sd_bus_add_node_enumerator(service->bus, NULL, BUS_JOB_PREFIX, enumerate, service);
}

static int on_client_gone(sd_bus_track *track, void *userdata)
{
	struct job *job = userdata;
	(void)track;
	job->watch = sd_bus_track_unref(job->watch); /* one that is kept without a name in it calls again and again */
	log_info("%s: who asked for the %s is gone: it is cancelled", job->lun_name, job->kind);
	job_cancel(job);
	return 0;
}

int job_object_watch(struct job *job, sd_bus_message *call)
{
	sd_bus_track *track = NULL;
	int r = sd_bus_track_new(sd_bus_message_get_bus(call), &track, on_client_gone, job);
	if (r >= 0)
		r = sd_bus_track_add_sender(track, call);
	if (r < 0) {
		sd_bus_track_unref(track);
		return r;
	}
	job->watch = track;
	return 0;
}

void job_object_ended(struct service *service, struct job *job)
{
	char path[JOB_PATH_MAX], error[LUNKIT_ERROR_MESSAGE_MAX + LUNKIT_ERROR_HINT_MAX + 128];
	sd_bus_message *signal = NULL;
	job->watch = sd_bus_track_unref(job->watch);
	job_object_path(job, path);
	error_text(job, error, sizeof(error));
	int r = sd_bus_message_new_signal(service->bus, &signal, path, BUS_JOB_INTERFACE, "Finished");
	if (r >= 0)
		r = bus_append_text(signal, job_state_name(job->state));
	if (r >= 0)
		r = bus_append_text(signal, error);
	if (r >= 0)
		r = bus_append_text(signal, job->result ? job->result : "");
	if (r >= 0)
		r = sd_bus_send(service->bus, signal, NULL);
	if (r < 0)
		log_warning("%s: cannot announce the end of a job on the bus: %s", job->lun_name, strerror(-r));
	sd_bus_message_unref(signal);
}

void job_object_removed(struct job *job)
{
	job->watch = sd_bus_track_unref(job->watch);
}
