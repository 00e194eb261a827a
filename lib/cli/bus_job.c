/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A job of lunkitd's: an object below BUS_JOB_PREFIX. Its properties are asked for now and then, for the progress, and at once when its signal Finished comes. A
 * signal to us cancels the job, and its end is waited for all the same: what it leaves is in order then.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cli/keys.h"
#include "cli/task.h"
#include "pool/bus.h"

#define LOOK_US UINT64_C(250000)

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = number;
}

static void catch_signals(void)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal }, before;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
}

static int append_export(sd_bus_message *call, const struct offline_job *job)
{
	const struct protocol_job *request = &job->request;
	int r = sd_bus_message_append(call, "hs", job->fds[0], request->target);
	if (r >= 0)
		r = sd_bus_message_append(call, "a{sv}", 6, "snapshot", "s", request->name, "format", "s", request->format, "options", "s",
					  request->options, "rate", "t", request->rate, "stream", "b",
					  (int)!!(request->flags & PROTOCOL_JOB_STREAM), "compress", "b",
					  (int)!!(request->flags & PROTOCOL_JOB_COMPRESS));
	return r;
}

/* The call that starts the job, with its arguments. */
static int make_call(struct bus *bus, const char *path, const struct offline_job *job, sd_bus_message **ret, struct lunkit_error *err)
{
	static const char *const snapshot_methods[] = { "SnapshotCreate", "SnapshotDelete", "SnapshotRevert" };
	const struct protocol_job *request = &job->request;
	const char *method = NULL;
	switch ((enum protocol_job_kind)request->kind) {
	case PROTOCOL_JOB_CHECK:
		method = "Check";
		break;
	case PROTOCOL_JOB_MAP:
		method = "Map";
		break;
	case PROTOCOL_JOB_SNAPSHOT_LIST:
		method = "Snapshots";
		break;
	case PROTOCOL_JOB_SNAPSHOT:
		method = snapshot_methods[request->flags];
		break;
	case PROTOCOL_JOB_FLATTEN:
		method = "Flatten";
		break;
	case PROTOCOL_JOB_EXPORT:
		method = "Export";
		break;
	case PROTOCOL_JOB_IMPORT:
	case PROTOCOL_JOB_KEY:
		break;
	}
	/* The worker has the image's own key, and would use that. */
	if (cli_keys()->new_key.fd >= 0) {
		lunkit_error_set(err, EOPNOTSUPP, "it is attached, and what its LUN makes has its own key or none");
		return lunkit_error_hint(err, "leave --new-key-file away, or detach it first");
	}
	if (!method)
		return lunkit_error_set(err, EOPNOTSUPP, "nothing can be imported to an attached image, and its keys stay as they are");
	sd_bus_message *call;
	int r = bus_new_call(bus, path, BUS_LUN_INTERFACE, method, &call, err);
	if (r < 0)
		return r;
	switch ((enum protocol_job_kind)request->kind) {
	case PROTOCOL_JOB_CHECK:
		r = sd_bus_message_append(call, "u", request->flags);
		break;
	case PROTOCOL_JOB_MAP:
		r = sd_bus_message_append(call, "htt", job->fds[0], request->offset, request->length);
		break;
	case PROTOCOL_JOB_SNAPSHOT_LIST:
		r = sd_bus_message_append(call, "h", job->fds[0]);
		break;
	case PROTOCOL_JOB_SNAPSHOT:
		r = sd_bus_message_append(call, "s", request->name);
		break;
	case PROTOCOL_JOB_FLATTEN:
		r = sd_bus_message_append(call, "t", request->rate);
		break;
	case PROTOCOL_JOB_EXPORT:
		r = append_export(call, job);
		break;
	case PROTOCOL_JOB_IMPORT:
	case PROTOCOL_JOB_KEY:
		break;
	}
	if (r < 0) {
		sd_bus_message_unref(call);
		return lunkit_error_set(err, r, "cannot make the call %s: %s", method, strerror(-r));
	}
	*ret = call;
	return 0;
}

static int job_properties(struct bus *bus, const char *path, struct json_object **ret, struct lunkit_error *err)
{
	sd_bus_message *answer = NULL;
	int r = bus_call(bus, path, "org.freedesktop.DBus.Properties", "GetAll", &answer, err, "s", BUS_JOB_INTERFACE);
	if (r == 0 && bus_value_to_json(answer, ret) < 0)
		r = lunkit_error_set(err, EPROTO, "lunkitd's answer to GetAll makes no sense");
	sd_bus_message_unref(answer);
	return r;
}

/* Takes what has come, and waits for more if nothing has. */
static void wait_a_little(struct bus *bus)
{
	int r;
	bool any = false;
	while ((r = sd_bus_process(bus->bus, NULL)) > 0)
		any = true;
	if (r == 0 && !any)
		sd_bus_wait(bus->bus, LOOK_US);
}

/* The job's error is "NAME\nMESSAGE[\nHINT]", NAME as of a D-Bus error. */
static int job_failed(struct json_object *job, struct lunkit_error *err)
{
	const char *text = json_string(job, "error", ""), *line = strchrnul(text, '\n');
	char name[128];
	snprintf(name, sizeof(name), "%.*s", (int)(line - text), text);
	const sd_bus_error error = SD_BUS_ERROR_MAKE_CONST(name, *line ? line + 1 : "the job failed");
	return bus_error_to_lunkit(&error, err);
}

static int wait_for_end(struct bus *bus, const char *path, const struct offline_job *job, struct task_result *ret, struct lunkit_error *err)
{
	bool cancelled = false;
	for (;;) {
		struct json_object *properties = NULL;
		int r = job_properties(bus, path, &properties, err);
		if (r < 0)
			return r;
		const char *state = json_string(properties, "state", "");
		if (strcmp(state, "running") != 0) {
			const char *text = json_string(properties, "result", "");
			if (strcmp(state, "cancelled") == 0)
				r = lunkit_error_set(err, EINTR, interrupted ? "interrupted" : "it was cancelled");
			else if (strcmp(state, "done") != 0)
				r = job_failed(properties, err);
			else
				ret->json = text[0] ? json_tokener_parse(text) : NULL;
			json_object_put(properties);
			return r;
		}
		if (job->progress)
			job->progress(job->argument, json_number(properties, "done"), json_number(properties, "total"));
		json_object_put(properties);
		if (interrupted && !cancelled) {
			cancelled = true;
			bus_call(bus, path, BUS_JOB_INTERFACE, "Cancel", NULL, NULL, NULL);
		}
		wait_a_little(bus);
	}
}

int bus_job(struct bus *bus, const char *path, const struct offline_job *job, struct task_result *ret, struct lunkit_error *err)
{
	sd_bus_message *call = NULL, *answer = NULL;
	const char *object;
	int r = make_call(bus, path, job, &call, err);
	if (r < 0)
		return r;
	/* it only wakes us: what is the case is asked for */
	sd_bus_match_signal(bus->bus, NULL, BUS_NAME, NULL, BUS_JOB_INTERFACE, "Finished", NULL, NULL);
	catch_signals();
	r = bus_send(bus, call, &answer, err);
	if (r == 0 && sd_bus_message_read(answer, "o", &object) < 0)
		r = lunkit_error_set(err, EPROTO, "lunkitd's answer makes no sense");
	if (r == 0)
		r = wait_for_end(bus, object, job, ret, err);
	sd_bus_message_unref(answer);
	struct json_object *lun = NULL;
	if (r == 0 && bus_lun(bus, path, &lun, NULL) == 0)
		ret->size = json_number(lun, "size");
	json_object_put(lun);
	return r;
}
