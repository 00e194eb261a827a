/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * libtcmu's events. libtcmu lives on a thread of its own, because the kernel waits for each callback's answer, without a limit, and a callback may have to wait
 * for a worker. A callback becomes a struct target_event that the main thread gets through the queue and answers with target_event_answer() when it can; the thread waits
 * for that, for a bounded time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "target/backstore.h"
#include "target/queue.h"

enum target_event_type {
	TARGET_ADDED, /* a device is being enabled, or was there when libtcmu started */
	TARGET_REMOVED,
	TARGET_SIZE, /* attrib/dev_size was written */
	TARGET_WRITE_CACHE,
	TARGET_CFGSTRING,
	TARGET_STARTED, /* libtcmu runs; all that were there have been ADDED. Needs an answer as well. */
	TARGET_FAILED,	/* libtcmu can't start; err says why. It is tried again later. Needs an answer as well. */
};

struct target_event {
	struct queue_item item;
	struct target_events *events;
	enum target_event_type type;
	uint64_t device; /* lunkit's number for it, given by ADDED */

	/* ADDED */
	bool existing; /* it was there before libtcmu started: the kernel does not wait */
	struct backstore_id backstore;
	struct backstore_info info;
	char *cfgstring; /* "KIND/REST"; also for CFGSTRING. The event's. */
	int uio_fd;	 /* the receiver takes it: sets it to -1, or it is closed with the event */
	uint64_t ring_length;

	uint64_t size;		 /* SIZE */
	bool write_cache;	 /* WRITE_CACHE */
	struct lunkit_error err; /* FAILED */

	/* the answer; guarded by the events' lock */
	bool answered, abandoned;
	int result;
};

struct target_handler {
	const char *kind, *description;
};

struct target_events;

struct target_events_config {
	struct target_root root;
	struct queue *queue;
	void (*receive)(struct target_event *event, void *argument); /* on the main thread */
	void *argument;
	const struct target_handler *handlers; /* stay valid */
	size_t handler_count;
};

/* Starts the thread. It never ends: libtcmu's own way to stop waits for devices without a bound, and they are to stay in the kernel. */
int target_events_start(const struct target_events_config *config, struct target_events **ret, struct lunkit_error *err);

/* Makes the kernel give up waiting for answers that a lunkitd which was killed will not give. Only while no lunkitd runs. argument: a struct target_root. */
void target_events_release(void *argument);

/*
 * Main thread: the result (0 or -errno) for the kernel. The event is gone afterwards. False: the thread does not wait any more, and the kernel was told
 * -ETIMEDOUT.
 */
bool target_event_answer(struct target_event *event, int result);
