/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What lunkitd does, without D-Bus. Main thread only; nothing here blocks, and each done() is called exactly once, later or (where an argument is wrong) at once. An error's
 * code is 0 for success.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "control/settings.h"
#include "target/files.h"

struct control;
struct job;
struct lun;

struct control_config {
	sd_event *event;
	const struct settings *settings; /* stays valid */
	struct target_root root;

	void (*handlers_known)(void *argument);				       /* the handlers' descriptions are there: once, first */
	void (*target_ready)(void *argument);				       /* libtcmu runs, devices that were there are being served */
	void (*target_failed)(void *argument, const struct lunkit_error *err); /* no kernel target; tried again */
	void (*lun_added)(void *argument, struct lun *lun);
	void (*lun_removed)(void *argument, struct lun *lun); /* before it is freed */
	void (*job_ended)(void *argument, struct job *job);   /* or NULL */
	void (*job_removed)(void *argument, struct job *job); /* before it is freed, or NULL */
	void *argument;
};

int control_new(const struct control_config *config, struct control **ret, struct lunkit_error *err);
/* After handlers_known(): connects to the kernel target. */
int control_start(struct control *control, struct lunkit_error *err);
/* Drains all workers and waits, bounded, for what is under way; devices stay in the kernel. */
void control_stop(struct control *control, void (*stopped)(void *argument), void *argument);

/* ---- LUNs */

enum attach_fabric { ATTACH_LOOP, ATTACH_VHOST, ATTACH_NONE };
#define ATTACH_CACHE_UNSET (-1)

struct attach_options {
	enum attach_fabric fabric;
	bool read_only, persist;
	int cache;	     /* enum reference_cache or ATTACH_CACHE_UNSET */
	char name[64];	     /* or empty */
	char serial[128];    /* or empty */
	uint32_t block_size; /* 0: the image's */
	bool has_key;
	int key_fd; /* with has_key: a sealed memfd, the caller's, which is copied at once */
};
/* loop, vhost, none */
int attach_fabric_parse(const char *text, enum attach_fabric *ret, struct lunkit_error *err);

void control_attach(struct control *control, const char *image, const struct attach_options *options,
		    void (*done)(void *argument, struct lun *lun, const struct lunkit_error *err), void *argument);

#define DETACH_FORCE 1u /* although it is in use here */
#define DETACH_KEEP 2u	/* the record */
void control_detach(struct control *control, const char *name, unsigned flags, void (*done)(void *argument, const struct lunkit_error *err),
		    void *argument);

/* By backstore name, image reference or device path. */
void control_find(struct control *control, const char *name, void (*done)(void *argument, struct lun *lun, const struct lunkit_error *err),
		  void *argument);

/* done() once every LUN's facts are new. */
void control_refresh(struct control *control, void (*done)(void *argument), void *argument);
/* For getters that can't wait: makes them at most about a second old, waiting a fraction of a second at most. */
void control_refresh_briefly(struct control *control);
/* While suspended, control_refresh_briefly() does nothing: for telling of a change, which must not wait. */
void control_suspend_refresh(struct control *control, bool suspended);

void control_restore(struct control *control, void (*done)(void *argument, const struct names *names, const struct names *errors),
		     void *argument);

/* Whether "REST;key=value…" of a kind could be attached: everything that would fail then fails here, with its reason. */

void control_check(struct control *control, const char *kind, const char *cfgstring,
		   void (*done)(void *argument, const struct lunkit_error *err), void *argument);

/* Calls each(lun) for all, in the order of their coming. */
void control_for_each(struct control *control, void (*each)(struct lun *lun, void *argument), void *argument);
struct lun *control_lun_by_name(struct control *control, const char *name);

/* ---- status */

struct control_status {
	uint64_t start_time;
	bool kernel_target;
	unsigned luns, workers;
	struct names handlers, problems; /* the caller's */
};
void control_get_status(struct control *control, struct control_status *ret);

/* Handlers: kind and one line about it, from 0 until NULL. */
const char *control_handler(const struct control *control, size_t index, const char **ret_description);
