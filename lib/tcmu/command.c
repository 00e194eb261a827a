/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The life of a command in its slot. Owner: the worker's thread.
 *
 *     ring ─► slot_start ─► scsi_command_start ─┐ need               ┌─► slot_resume ─► scsi_command_step ─┐ need
 *                                               ├─► SUBMIT image_submit ─┤                                     └─► …
 *                                               ├─► LOCK, SCRATCH, ASK ──┘
 *                                               └─► DONE ─► slot_finish: completion into the ring, slot free
 *
 * Invariants
 * - Every command that was fetched is completed exactly once: slot_finish() is the only place that completes, and takes the slot out of use.
 * - An answer that comes while its need is being asked for (`inside`) is picked up by the loop in run(), so that a handler that completes
 *   at once costs no stack. A lock or a buffer that another command's end hands over makes its taker RUNNABLE: it runs in lun_run(), not
 *   on top of the command that ended.
 * - Nothing is allocated here.
 *
 * Left out on purpose: task attributes (ordered, head of queue). An entry of the ring does not say them: target_core_user's entries have no field for
 * it, and the kernel target keeps order for its own fabrics. Commands run at once and in any order, as SIMPLE ones do.
 */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "tcmu/slot.h"

#define KEY_HARDWARE_ERROR 0x4
#define CODE_INTERNAL_TARGET_FAILURE 0x4400

static void count_request(struct lun_statistics *statistics, const struct lunkit_request *request)
{
	switch (request->op) {
	case LUNKIT_READ:
		statistics->reads++;
		statistics->read_bytes += request->length;
		return;
	case LUNKIT_WRITE:
		statistics->writes++;
		statistics->write_bytes += request->length;
		return;
	case LUNKIT_FLUSH:
		statistics->flushes++;
		return;
	case LUNKIT_DISCARD:
	case LUNKIT_WRITE_ZEROES:
		statistics->discards++;
		return;
	case LUNKIT_EXTENTS:
		return;
	}
}

/*
 * How many bytes the kernel shall copy to the initiator. It takes a length of 0 as "the whole buffer", whose pages hold what other commands left in them; so a command
 * that gives nothing, but was given a buffer, gives one byte of zero. With sense, no length means no data. The direction is not known here, and does not matter: a
 * data-out buffer is done with. A WRITE's is left alone all the same, since touching its first line costs the data path a cache miss.
 */
static uint32_t data_in_length(const struct slot *slot)
{
	const struct scsi_command *command = &slot->command;
	if (command->status == SCSI_CHECK_CONDITION || !slot->has_buffer)
		return 0;
	if (command->status == SCSI_GOOD && command->data_in_length)
		return (uint32_t)MIN(command->data_in_length, (uint64_t)UINT32_MAX);
	bool is_write = (command->cdb[0] & 0x1f) == 0x0a && command->blocks && command->status == SCSI_GOOD;
	if (is_write)
		return 0;
	*(uint8_t *)slot->iov[0].iov_base = 0;
	return 1;
}

static void slot_finish(struct slot *slot)
{
	struct lun *lun = slot->lun;
	struct scsi_command *command = &slot->command;
	if (command->scratch) {
		scratch_give(lun, command->scratch);
		command->scratch = NULL;
	}
	if (slot->locked) {
		slot->locked = false;
		image_request_set_lock(slot->request, NULL);
		image_unlock(lun->image, &slot->lock);
	}
	if (slot->aborted)
		lun->statistics.aborted++;
	else if (command->status != SCSI_GOOD && scsi_is_refusal(command))
		lun->statistics.refused++;
	else if (command->status != SCSI_GOOD)
		lun->statistics.errors++;
	uint32_t length = data_in_length(slot);
	mailbox_complete(&lun->mailbox, slot->id, (uint8_t)command->status, command->sense, command->sense_length, length > 0, length);
	lun->statistics.in_flight--;
	slot_give(&lun->slots, slot);
}

static void request_done(struct image_request *request, int result)
{
	slot_resume(request->user, result);
}

static void lock_granted(struct image_lock *lock)
{
	struct slot *slot = list_entry(lock, struct slot, lock);
	slot->locked = true;
	image_request_set_lock(slot->request, lock);
	slot_resume(slot, 0);
}

static void run(struct slot *slot, enum scsi_step step)
{
	struct lun *lun = slot->lun;
	for (;;) {
		if ((slot->aborted || lun->failed) && step != SCSI_DONE) {
			scsi_command_fail(&slot->command, SCSI_TASK_ABORTED, 0, 0);
			step = SCSI_DONE;
		}
		slot->ready = false;
		slot->inside = true;
		switch (step) {
		case SCSI_DONE:
			slot->inside = false;
			slot_finish(slot);
			return;
		case SCSI_SUBMIT:
			slot->state = SLOT_IMAGE;
			count_request(&lun->statistics, &slot->request->request);
			image_submit(lun->image, slot->request);
			break;
		case SCSI_LOCK:
			slot->state = SLOT_LOCK;
			slot->lock.offset = slot->command.lock_offset;
			slot->lock.length = slot->command.lock_length;
			image_lock(lun->image, &slot->lock);
			break;
		case SCSI_SCRATCH:
			slot->state = SLOT_SCRATCH;
			scratch_ask(slot);
			break;
		case SCSI_ASK:
			slot->state = SLOT_QUERY;
			if (lun->control.ask)
				lun->control.ask(lun->control.argument, &slot->command.query);
			else
				slot_resume(slot, -ENOTCONN);
			break;
		}
		slot->inside = false;
		if (!slot->ready)
			return;
		slot->state = SLOT_RUNNING;
		step = scsi_command_step(&slot->command, slot->result);
	}
}

void slot_resume(struct slot *slot, int result)
{
	if (slot->inside) {
		slot->ready = true;
		slot->result = result;
		return;
	}
	/* The image's completions come from the loop or from its own queue: they go on at once. */
	if (slot->state == SLOT_IMAGE) {
		slot->state = SLOT_RUNNING;
		run(slot, scsi_command_step(&slot->command, result));
		return;
	}
	slot->state = SLOT_RUNNABLE;
	slot->result = result;
	list_add_tail(&slot->lun->runnable, &slot->node);
}

void lun_run(struct lun *lun)
{
	for (struct list *node; (node = list_pop(&lun->runnable));) {
		struct slot *slot = list_entry(node, struct slot, node);
		slot->state = SLOT_RUNNING;
		run(slot, scsi_command_step(&slot->command, slot->result));
	}
}

void slot_start(struct slot *slot, bool parsed)
{
	struct lun *lun = slot->lun;
	struct scsi_command *command = &slot->command;
	slot->id = lun->entry.id;
	slot->state = SLOT_RUNNING;
	slot->aborted = false;
	slot->request->done = request_done;
	slot->request->user = slot;
	slot->lock.granted = lock_granted;
	lun->statistics.commands++;
	lun->statistics.in_flight++;
	command->request = &slot->request->request;
	command->iov = slot->iov;
	if (!parsed) {
		/* Not the initiator's fault: the kernel's entry lies outside its own bounds, or has more buffers than the limits allow. */
		if (!lun->unreadable_said)
			log_warning("a command's entry in the ring can't be read; it is answered with INTERNAL TARGET FAILURE");
		lun->unreadable_said = true;
		command->device = &lun->device;
		command->iov_count = 0;
		command->cdb_length = 0;
		slot->has_buffer = false;
		command->scratch = NULL;
		scsi_command_fail(command, SCSI_CHECK_CONDITION, KEY_HARDWARE_ERROR, CODE_INTERNAL_TARGET_FAILURE);
		run(slot, SCSI_DONE);
		return;
	}
	command->iov_count = lun->entry.iov_count;
	slot->has_buffer = lun->entry.iov_count > 0;
	command->cdb_length = lun->entry.cdb_length;
	memcpy(command->cdb, lun->entry.cdb, lun->entry.cdb_length);
	run(slot, scsi_command_start(&lun->device, command));
}

void slot_abort(struct slot *slot)
{
	slot->aborted = true;
	if (slot->state != SLOT_SCRATCH)
		return;
	list_remove(&slot->node); /* nobody else knows of this wait */
	slot->state = SLOT_RUNNING;
	scsi_command_fail(&slot->command, SCSI_TASK_ABORTED, 0, 0);
	run(slot, SCSI_DONE);
}
