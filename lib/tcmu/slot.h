/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Private to lib/tcmu: what a LUN and its slots look like inside. Owner: the worker's thread. */

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "tcmu/lun.h"
#include "tcmu/mailbox.h"

/* What a command waits for. */
enum slot_state {
	SLOT_FREE,
	SLOT_RUNNING,  /* inside scsi_command_start() or _step(), or about to be */
	SLOT_IMAGE,    /* a request is at the image */
	SLOT_LOCK,     /* a range's lock */
	SLOT_SCRATCH,  /* a scratch buffer; in scratch.waiting */
	SLOT_QUERY,    /* an answer of the control process */
	SLOT_RUNNABLE, /* its wait is over; in lun.runnable */
};

/* A command in flight. The machine's struct is last: only its first lines are touched by a read or a write. */
struct slot {
	struct lun *lun;
	struct slot *next_free;
	struct image_request *request;
	struct iovec *iov; /* lun.iov_capacity entries */
	enum slot_state state;
	uint16_t id;
	bool inside;  /* the need is being asked for: an answer that comes at once is taken from here, not by recursion */
	bool ready;   /* the answer came */
	bool aborted; /* a task management function named it: no further step */
	bool locked;
	bool has_buffer; /* the entry came with memory */
	int result;	 /* the answer, while ready or RUNNABLE */
	struct list node;
	struct image_lock lock;
	struct scsi_command command;
};

struct slot_pool {
	void *memory, *iov_memory;
	size_t length, iov_length, stride;
	unsigned count;
	struct slot *free; /* last in, first out: few slots stay warm */
};

#define SCRATCH_BUFFERS_MAX 4

struct scratch_pool {
	void *free[SCRATCH_BUFFERS_MAX];
	unsigned free_count, made;
	void *buffers[SCRATCH_BUFFERS_MAX];
	struct list waiting; /* slots, first come, first served */
};

struct lun {
	struct loop *loop;
	struct image *image;
	struct lun_ring ring;
	struct lun_control control;
	struct mailbox mailbox;
	struct scsi_device device;
	unsigned modes_told; /* the last that control.modes was told, or that the LUN began with */
	struct slot_pool slots;
	unsigned iov_capacity;
	struct scratch_pool scratch;
	struct list runnable;
	struct mailbox_entry entry; /* of the fetch under way */

	bool started, stopping, failed, doorbell_due;
	bool flushing;	      /* lun.flush is at the image: nothing is fetched until it is back */
	bool unreadable_said; /* one log line is enough */
	bool notify_armed;
	struct loop_op notify;
	struct image_request *flush; /* of a reset that switches the write cache off */
	struct loop_op *stop_op;
	void (*on_failure)(void *argument, int result);
	void *on_failure_argument;
	struct lun_statistics statistics;
};

/* slots.c */
int slot_pool_init(struct lun *lun, unsigned count);
void slot_pool_destroy(struct slot_pool *pool);
struct slot *slot_pool_at(const struct slot_pool *pool, unsigned index);
/* True for the address of a query in a slot. */
bool slot_pool_holds(const struct slot_pool *pool, const void *address);

static inline struct slot *slot_take(struct slot_pool *pool)
{
	struct slot *slot = pool->free;
	pool->free = slot->next_free;
	return slot;
}

static inline void slot_give(struct slot_pool *pool, struct slot *slot)
{
	slot->state = SLOT_FREE;
	slot->next_free = pool->free;
	pool->free = slot;
}

/* scratch.c */
void scratch_init(struct scratch_pool *pool);
void scratch_destroy(struct scratch_pool *pool);
/* Gives slot->command.scratch now, or later with slot_resume(). */
void scratch_ask(struct slot *slot);
void scratch_give(struct lun *lun, void *buffer);

/* command.c */
/* Takes the CDB from lun->entry and starts the command. parsed is false when the ring's entry could not be. */
void slot_start(struct slot *slot, bool parsed);
/* What slot waits for is there. */
void slot_resume(struct slot *slot, int result);
/* Ends a command that waits for nothing that can't be taken back; others end when what they wait for comes. */
void slot_abort(struct slot *slot);
/* Runs what became runnable. */
void lun_run(struct lun *lun);

/* tmr.c */
void lun_task_management(struct lun *lun, const struct mailbox_entry *entry);
