/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* lunkitd on the bus: what its sources share. Main thread. */

#include <stdbool.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "control/control.h"
#include "control/job.h"
#include "control/lun.h"
#include "target/files.h"

#define ACCESS_CACHE 32

/* Who may call: unique bus names, which are never given twice. */
struct access_entry {
	char sender[64];
	bool allowed;
};

struct service {
	sd_event *event;
	sd_bus *bus;
	struct control *control;
	struct target_root root;
	struct settings settings;
	bool started; /* READY was told */
	int exit_status;
	struct access_entry access[ACCESS_CACHE];
	unsigned access_next;
};

/* access.c: refuses calls to lunkit's objects by others than root and members of group lunkit, whatever the bus's policy says. */
int access_add(struct service *service);

/* bus_error.c: the one translation of errors. Returns 1: the call is answered. */
int bus_reply_error(sd_bus_message *call, const struct lunkit_error *err);
const char *bus_error_name(int code);

/* bus_text.c */
int bus_append_text(sd_bus_message *message, const char *text);
int bus_append_names(sd_bus_message *message, const struct names *names);

/* manager.c, lun_object.c, tcmu_service.c */
int manager_add(struct service *service);
int lun_object_add(struct service *service);
void lun_object_added(struct service *service, const struct lun *lun);
void lun_object_removed(struct service *service, const struct lun *lun);
/* The object's path, freed by the caller. */
char *lun_object_path(const struct lun *lun);
/* Appends an a{sv} of all properties. */
int lun_object_append(sd_bus_message *message, struct lun *lun);
/* lun_jobs.c: methods of the LUN objects */
int lun_method_check(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_map(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_snapshots(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_snapshot_create(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_snapshot_delete(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_snapshot_revert(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_flatten(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);
int lun_method_export(sd_bus_message *call, void *userdata, sd_bus_error *ret_error);

/* job_object.c */
#define JOB_PATH_MAX 64
int job_object_add(struct service *service);
void job_object_path(const struct job *job, char ret[static JOB_PATH_MAX]);
/* The job is cancelled when the call's sender leaves the bus. */
int job_object_watch(struct job *job, sd_bus_message *call);
void job_object_ended(struct service *service, struct job *job);
void job_object_removed(struct job *job);
int tcmu_service_add(struct service *service);
