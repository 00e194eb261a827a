/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* One attached image in lunkitd: an entry of the LUN table and the life of its workers. Main thread. */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "base/error.h"
#include "base/list.h"
#include "control/channel.h"
#include "control/key.h"
#include "control/memory.h"
#include "control/supervise.h"
#include "pool/reference.h"
#include "target/backstore.h"
#include "target/events.h"
#include "target/files.h"

struct control;

enum lun_state {
	LUN_STARTING, /* its first worker of this lunkitd is not ready yet */
	LUN_SERVING,
	LUN_RESTARTING, /* the kernel keeps commands until the next worker is ready */
	LUN_HELD,	/* workers kept dying; reason says why. Commands end with errors. */
	LUN_STOPPING,
};
const char *lun_state_name(enum lun_state state);

/* What configfs and sysfs said lately: targetcli may change it at any time. */
struct lun_facts {
	char serial[BACKSTORE_SERIAL_MAX];
	char wwn[33];			      /* NAA, 32 hex digits */
	const char *fabric;		      /* loop, vhost, iscsi, mixed, none, other */
	struct names exports, devices, links; /* "loop naa.…", "/dev/sdX", "/dev/disk/by-id/…" */
};
void lun_facts_free(struct lun_facts *facts);

struct lun {
	struct list node;
	struct control *control;
	uint64_t id;	 /* lunkitd's, never used again */
	uint64_t device; /* of the events */
	struct backstore_id backstore;
	struct reference reference;
	char *image; /* the reference as text */

	uint64_t size;	     /* what the kernel and initiators have */
	uint64_t image_size; /* what the worker said last */
	uint32_t block_size, max_sectors;
	char memo
		[PROTOCOL_MEMO_MAX]; /* of the handler, for the next worker: while this lunkitd lives, since workers end in order when it dies */
	struct memory memory;	     /* for the next worker, which may be that of another lunkitd */
	bool write_cache, read_only, persistent;
	bool visible; /* told to the outside */
	char serial[BACKSTORE_SERIAL_MAX];

	enum lun_state state;
	struct lunkit_error reason; /* of HELD and RESTARTING */
	char notice[512];
	struct lun_facts facts;

	struct channel *channel;
	struct key key;	     /* of an encrypted image: each of its workers gets it */
	uint64_t generation; /* of the worker */
	struct supervise supervise;
	sd_event_source *timer, *watch_timer;
	bool was_ready; /* this worker */
	bool blocked;	/* block_dev=1 was written */
	bool replacing; /* this worker drains so that the next one starts with other settings */
	bool resizing;
	bool size_changed; /* by somebody else, while resizing: looked at again afterwards */
	int uio_fd;
	uint64_t ring_length;
	const void *ring;		      /* watch.c's view of it, or NULL */
	struct target_event *added, *removed; /* events that wait for an answer */
	struct list waiters;		      /* struct lun_waiter */
};

struct lun_waiter {
	struct list node;
	/* lun is NULL when it is gone. err's code is 0 when it serves. */
	void (*settled)(struct lun_waiter *waiter, struct lun *lun, const struct lunkit_error *err);
};

/* lun_event.c: an event of the kernel target. */
void lun_handle_event(struct control *control, struct target_event *event);
struct lun *lun_by_id(struct control *control, uint64_t id);
struct lun *lun_by_device(struct control *control, uint64_t device);
/* The LUN of this kind and name, whatever its options. */
struct lun *lun_by_reference(struct control *control, const struct reference *reference);

/* For events. Starts a worker, which lun.c then looks after. */
void lun_start_worker(struct lun *lun);
/* Tells the outside of the LUN, once. */
void lun_show(struct lun *lun);
/* Commands end with errors until lun_retry(). */
void lun_hold(struct lun *lun, const struct lunkit_error *err);
/* Answers lun->added with the error and frees the LUN: the device will not exist. */
void lun_refuse(struct lun *lun, const struct lunkit_error *err);
/* The device goes: the worker drains, then lun->removed is answered and the LUN freed. */
void lun_stop(struct lun *lun);
/* A device that was there when libtcmu started gets its worker. */
void lun_take_over(struct lun *lun);

/* A held LUN gets another try. settled is called once it serves or is held again. */
void lun_retry(struct lun *lun, struct lun_waiter *waiter);
/* Lets this worker finish and leave, and starts another with the LUN's settings of now. */
void lun_replace_worker(struct lun *lun);
/* Shutdown: the worker finishes and leaves; no other follows. */
void lun_drain(struct lun *lun, unsigned seconds);
pid_t lun_worker_pid(const struct lun *lun); /* 0: none */

/* watch.c: looks in a while whether the worker still answers. */
void lun_watch(struct lun *lun);
void lun_watch_end(struct lun *lun);

/* lun_size.c: sizes of the image, of the kernel's device and of the disks here */
void lun_size_event(struct lun *lun, struct target_event *event);
/* The image has another size than the kernel's device: puts the device right. */
void lun_size_adjust(struct lun *lun);
/* size 0 adopts the storage's. *size in done() is the new one. */
void lun_resize(struct lun *lun, uint64_t size, uint32_t flags, void (*done)(void *argument, uint64_t size, const struct lunkit_error *err),
		void *argument);

/* Somebody else changed the size of what the image is stored in: the disk follows, and the log says so. */
void lun_adopt_size(struct lun *lun);
/* The worker's image has that size now, whatever it was: the kernel's device and the disks here follow. done() as of lun_resize(). */
void lun_follow_size(struct lun *lun, uint64_t size, void (*done)(void *argument, uint64_t size, const struct lunkit_error *err),
		     void *argument);

/* Requests to the worker. -ENOTCONN in err when there is none. */
void lun_call(struct lun *lun, enum protocol_type type, uint64_t size, uint32_t flags, unsigned seconds,
	      void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument);
/* The image's description, or the worker's counters, as JSON. */
void lun_info(struct lun *lun, void (*done)(void *argument, const char *json, const struct lunkit_error *err), void *argument);
void lun_statistics(struct lun *lun, void (*done)(void *argument, const char *json, const struct lunkit_error *err), void *argument);

/* query.c: a question of the worker's SCSI layer */
void lun_query(struct lun *lun, uint32_t id, const struct protocol_query *query);
