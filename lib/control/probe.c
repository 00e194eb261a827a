/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/channel.h"
#include "control/key.h"
#include "control/lun.h"
#include "control/state.h"

#define READY_SECONDS 20
#define DRAIN_SECONDS 5

struct probe {
	struct control *control;
	struct reference reference;
	struct channel *channel;
	bool is_ready;
	struct protocol_ready ready;
	struct lunkit_error refused; /* it was ready, and nevertheless may not be used */
	void (*done)(void *argument, const struct protocol_ready *ready, const struct lunkit_error *err);
	void *argument;
};

static void probe_ready(void *argument, const struct protocol_ready *ready)
{
	struct probe *probe = argument;
	probe->is_ready = settings_check_size(probe->control->settings, ready->size, &probe->refused) == 0;
	probe->ready = *ready;
	channel_drain(probe->channel, DRAIN_SECONDS);
}

/* The LUN of ours that has the lock, rather than "another process". */
static void name_holder(struct probe *probe, struct lunkit_error *err)
{
	const struct lun *lun = lun_by_reference(probe->control, &probe->reference);
	if (err->code != EAGAIN || !lun)
		return;
	lunkit_error_set(err, EBUSY, "%s is attached already, as LUN '%s'%s%s", lun->image, lun->backstore.name,
			 lun->facts.devices.count ? ", " : "", lun->facts.devices.count ? lun->facts.devices.items[0] : "");
	lunkit_error_hint(err, "detach it first: lunkit detach %s", lun->backstore.name);
}

static void probe_ended(void *argument, const struct lunkit_error *failure)
{
	struct probe *probe = argument;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	channel_free(probe->channel);
	if (probe->refused.code) {
		err = probe->refused;
	} else if (!probe->is_ready) {
		err = *failure;
		if (!err.code)
			lunkit_error_set(&err, EIO, "the worker ended unexpectedly");
		name_holder(probe, &err);
	}
	probe->done(probe->argument, probe->is_ready ? &probe->ready : NULL, &err);
	free(probe);
}

void probe_start(struct control *control, const struct reference *reference, const struct key *key,
		 void (*done)(void *argument, const struct protocol_ready *ready, const struct lunkit_error *err), void *argument)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct probe *probe = control_alloc(sizeof(*probe));
	probe->control = control;
	probe->reference = *reference;
	probe->done = done;
	probe->argument = argument;
	struct channel_config config = {
		.event = control->event,
		.tasks = control->short_tasks,
		.worker = &control->worker,
		.runtime_directory = control->settings->runtime_directory,
		.label = reference->name,
		.path = reference_is_path(reference) ? reference->name : NULL,
		.directories = handlers_backing(control, reference->kind),
		.config = reference_config(reference),
		.may_write = !reference->read_only,
		.count = &control->live_workers,
		.ready = probe_ready,
		.ended = probe_ended,
		.argument = probe,
	};
	if (channel_new(&config, &probe->channel, &err) < 0) {
		done(argument, NULL, &err);
		free(probe);
		return;
	}
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = PROTOCOL_START_IMAGE;
	struct protocol_start *start = &packet.message.start;
	snprintf(start->kind, sizeof(start->kind), "%s", reference->kind);
	snprintf(start->name, sizeof(start->name), "%s", reference->name);
	snprintf(start->options, sizeof(start->options), "%s", reference->options);
	snprintf(start->label, sizeof(start->label), "check");
	start->flags = reference->read_only ? PROTOCOL_READ_ONLY : 0;
	start->cache = reference->cache;
	start->uid = control->settings->uid;
	start->gid = control->settings->gid;
	key_add_to_start(key, &packet);
	channel_start(probe->channel, &packet, key->fd >= 0 ? KEY_READY_SECONDS : READY_SECONDS);
}

/* ---- CheckConfig ---- */

struct check {
	void (*done)(void *argument, const struct lunkit_error *err);
	void *argument;
};

static void check_probed(void *argument, const struct protocol_ready *ready, const struct lunkit_error *err)
{
	struct check *check = argument;
	struct lunkit_error failure = *err;
	if (ready && (ready->size < 512 || ready->size % 512)) {
		lunkit_error_set(&failure, EINVAL, "the image has %llu bytes, which is not a multiple of the block size 512",
				 (unsigned long long)ready->size);
		lunkit_error_hint(&failure, "make it larger: truncate -s %%512 FILE");
	}
	check->done(check->argument, &failure);
	free(check);
}

void control_check(struct control *control, const char *kind, const char *cfgstring,
		   void (*done)(void *argument, const struct lunkit_error *err), void *argument)
{
	struct reference reference;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct key key = KEY_NONE;
	if (control->stopping)
		lunkit_error_set(&err, ESHUTDOWN, "lunkitd is stopping");
	else if (reference_parse_cfgstring(kind, cfgstring, &reference, &err) == 0 &&
		 settings_check_allowed(control->settings, &reference, &err) == 0)
		control_open_key(&reference, &key, &err);
	if (err.code) {
		done(argument, &err);
		return;
	}
	struct check *check = control_alloc(sizeof(*check));
	check->done = done;
	check->argument = argument;
	probe_start(control, &reference, &key, check_probed, check);
	key_free(&key);
}
