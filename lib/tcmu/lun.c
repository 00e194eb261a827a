/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A LUN: takes commands from the ring and tells the kernel of completions. Owner: the worker's thread.
 *
 *     a turn of the loop:   completions of I/O ─► look(): run what became runnable ─► fetch and start, up to FETCH_BATCH
 *                                                         publish cmd_tail once ─► one doorbell
 *
 * Invariants
 * - Whatever completes in a turn is published by the look() of that turn: the loop asks the poller after it has run completions.
 * - After a fetch that filled its batch look() says that it found something, so the loop comes back without sleeping.
 * - After a failure nothing is fetched or published any more; commands in flight end at their next step, so that the image comes to rest.
 * - Before the loop sleeps, before_wait() reads cmd_head once more; an entry put after that wakes the notify poll.
 *
 * notify_fd is never read. The poll on it is of the multishot kind, which fires on each wake-up whether or not the fd was read before;
 * so a read would only cost a system call for each event. Nothing depends on how often it fires: look() goes by cmd_head.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "tcmu/slot.h"

#define SLOTS_DEFAULT 256
#define SLOTS_MAX 1024
/* The kernel's data area comes in pages: a transfer of 8 MiB has at most this many buffers. */
#define IOV_CAPACITY_MIN 2048
#define IOV_CAPACITY_MAX 16384
/* Bytes that one command may always move. */
#define TRANSFER_MIN (UINT64_C(1) << 20)
#define PAGE 4096u
/*
 * Of one WRITE SAME, whatever the image can do at once: other patterns than zeros are written, in small pieces, and a filesystem may turn out not to be able to zero
 * when it is asked to. It ends within the time that initiators wait (30 s) on the slowest of disks.
 */
#define WRITE_SAME_MAX ((uint64_t)32 << 20)
/* Commands started before their first completions are published and their I/O is submitted. */
#define FETCH_BATCH 64

static void fail(struct lun *lun, int result)
{
	if (lun->failed)
		return;
	lun->failed = true;
	log_error("the command ring can't be served any longer: %s", strerror(-result));
	if (lun->on_failure)
		lun->on_failure(lun->on_failure_argument, result);
}

/* ---- the ring ------------------------------------------------------------------------------------------------------------------------ */

static bool fetch(struct lun *lun)
{
	unsigned count = 0;
	while (lun->slots.free && !lun->flushing && count < FETCH_BATCH) {
		struct slot *slot = lun->slots.free;
		enum mailbox_entry_kind kind;
		int r = mailbox_fetch(&lun->mailbox, &lun->entry, slot->iov, lun->iov_capacity, &kind);
		if (r < 0) {
			fail(lun, r);
			return true;
		}
		switch (kind) {
		case MAILBOX_EMPTY:
			goto out;
		case MAILBOX_TMR:
			lun_task_management(lun, &lun->entry);
			break;
		case MAILBOX_COMMAND:
			slot_start(slot_take(&lun->slots), true);
			break;
		case MAILBOX_UNPARSABLE:
			slot_start(slot_take(&lun->slots), false);
			break;
		}
		count++;
	}
out:
	lun->statistics.batches += count > 0;
	return count > 0;
}

static void ring_doorbell(struct lun *lun)
{
	uint64_t wide = 1;
	uint32_t narrow = 1;
	const void *word = lun->ring.word == sizeof(narrow) ? (const void *)&narrow : &wide;
	ssize_t written;
	do
		written = write(lun->ring.doorbell_fd, word, lun->ring.word);
	while (written < 0 && errno == EINTR);
	lun->statistics.doorbells++;
	lun->doorbell_due = written < 0 && errno == EAGAIN;
	if (written >= 0 || lun->doorbell_due)
		return;
	fail(lun, -errno);
}

/* Before the answer to the command that changed them is published: if this process dies then, its successor knows what the initiator relies on. */
static void tell_modes(struct lun *lun)
{
	unsigned modes = scsi_device_modes(&lun->device);
	if (modes == lun->modes_told)
		return;
	lun->modes_told = modes;
	if (lun->control.modes)
		lun->control.modes(lun->control.argument, modes);
}

static void publish(struct lun *lun)
{
	tell_modes(lun);
	if (mailbox_publish(&lun->mailbox) || lun->doorbell_due)
		ring_doorbell(lun);
	if (lun->mailbox.broken)
		fail(lun, -EPROTO);
}

static void check_stopped(struct lun *lun)
{
	if (!lun->stopping || !lun->stop_op || lun->statistics.in_flight || lun->flushing || lun->notify_armed ||
	    (lun->doorbell_due && !lun->failed))
		return;
	loop_set_poller(lun->loop, NULL);
	loop_defer(lun->loop, lun->stop_op, 0);
	lun->stop_op = NULL;
}

static bool look(void *argument)
{
	struct lun *lun = argument;
	bool found = false;
	do {
		lun_run(lun);
		if (!lun->stopping && !lun->failed && mailbox_pending(&lun->mailbox))
			found |= fetch(lun);
	} while (!list_empty(&lun->runnable));
	/* A task management entry needs no completion, but its place in the ring has to be given back: found. */
	if (!lun->failed && (found || lun->mailbox.unpublished || lun->doorbell_due))
		publish(lun);
	if (lun->stopping)
		check_stopped(lun);
	return found;
}

static bool before_wait(void *argument)
{
	struct lun *lun = argument;
	if ((lun->doorbell_due && !lun->failed) || !list_empty(&lun->runnable))
		return true;
	return !lun->stopping && !lun->failed && lun->slots.free && !lun->flushing && mailbox_pending(&lun->mailbox);
}

static void notified(struct loop_op *op, int result)
{
	struct lun *lun = list_entry(op, struct lun, notify);
	if (result >= 0)
		return; /* the loop looks at the ring in each turn */
	lun->notify_armed = false;
	if (!lun->stopping)
		fail(lun, result);
	check_stopped(lun);
}

/* ---- the device ---------------------------------------------------------------------------------------------------------------------- */

static uint32_t blocks_of(uint64_t bytes, uint32_t block_size)
{
	/* The image's "no limit" is the SCSI layer's 0. */
	return bytes == UINT64_MAX ? 0 : (uint32_t)MIN(MAX(bytes / block_size, (uint64_t)1), (uint64_t)UINT32_MAX);
}

static int device_init(struct lun *lun, const struct lun_config *config, struct lunkit_error *err)
{
	const struct lunkit_limits *limits = image_limits(config->image);
	uint32_t block_size = config->block_size;
	const char *name = image_name(config->image);
	if (block_size != 512 && block_size != 4096)
		return lunkit_error_set(err, EINVAL, "block size %u of the LUN for image '%s' is neither 512 nor 4096", block_size, name);
	if (limits->size < block_size)
		return lunkit_error_set(err, EINVAL, "image '%s' has %llu bytes, which is less than one block of %u bytes", name,
					(unsigned long long)limits->size, block_size);

	/* A LUN that targetcli made has the kernel's default, 128 blocks, which TCM-User does not hold initiators to; they send more. */
	uint64_t largest = MAX((uint64_t)config->max_transfer_blocks * block_size, TRANSFER_MIN);
	uint64_t pages = MIN(MAX(largest / PAGE + 1, (uint64_t)IOV_CAPACITY_MIN), (uint64_t)IOV_CAPACITY_MAX);
	lun->iov_capacity = (unsigned)pages;
	if (!config->max_transfer_blocks || largest > pages * PAGE)
		largest = pages * PAGE;

	struct scsi_device *device = &lun->device;
	*device = (struct scsi_device){
		.identity = config->identity,
		.block_size = block_size,
		.blocks = limits->size / block_size,
		.read_only = config->read_only || image_is_read_only(config->image),
		.rotational = limits->flags & LUNKIT_ROTATIONAL,
		.can_discard = limits->flags & LUNKIT_CAN_DISCARD,
		.discard_zeroes = limits->flags & LUNKIT_DISCARD_ZEROES,
		.write_cache_default = limits->flags & LUNKIT_NEEDS_FLUSH,
		.write_cache = config->write_cache && limits->flags & LUNKIT_NEEDS_FLUSH,
		.max_transfer_blocks = (uint32_t)(largest / block_size),
		.max_unmap_blocks = blocks_of(limits->max_discard, block_size),
		.unmap_granularity_blocks = blocks_of(limits->discard_granularity, block_size),
		.max_write_same_blocks = MAX(MIN(limits->max_write_zeroes, WRITE_SAME_MAX) / block_size, 1u),
	};
	if (limits->optimal_transfer && limits->optimal_transfer != UINT64_MAX)
		device->optimal_transfer_blocks = MIN(blocks_of(limits->optimal_transfer, block_size), device->max_transfer_blocks);
	while (device->physical_block_exponent < 15 && block_size << device->physical_block_exponent < limits->physical_block_size)
		device->physical_block_exponent++;
	scsi_device_init(device);
	scsi_device_take_modes(device, config->modes);
	lun->modes_told = config->modes;
	return 0;
}

void lun_set_capacity(struct lun *lun, uint64_t bytes)
{
	uint64_t size = image_limits(lun->image)->size;
	scsi_device_resize(&lun->device, MIN(bytes, size) / lun->device.block_size);
}

/* ---- life ---------------------------------------------------------------------------------------------------------------------------- */

int lun_new(const struct lun_config *config, struct lun **ret, struct lunkit_error *err)
{
	struct lun *lun = calloc(1, sizeof(*lun));
	if (!lun)
		return lunkit_error_set(err, ENOMEM, "no memory for a LUN");
	lun->loop = config->loop;
	lun->image = config->image;
	lun->ring = config->ring;
	lun->control = config->control;
	lun->notify.done = notified;
	list_init(&lun->runnable);
	scratch_init(&lun->scratch);

	int r = 0;
	if (config->ring.word != sizeof(uint32_t) && config->ring.word != sizeof(uint64_t))
		r = lunkit_error_set(err, EINVAL, "the doorbell's word has %u bytes", config->ring.word);
	if (r == 0) {
		r = mailbox_init(&lun->mailbox, config->ring.base, config->ring.length);
		if (r < 0) {
			lunkit_error_set(err, r, "the device's shared memory does not hold a command ring of TCM-User, version 2");
			lunkit_error_hint(err, "check that the kernel's target_core_user module is of Linux 5.15 or later");
		}
	}
	if (r == 0)
		r = device_init(lun, config, err);
	if (r == 0) {
		lun->flush = malloc(image_request_size(lun->image));
		if (lun->flush)
			image_request_init(lun->image, lun->flush);
		r = lun->flush ? 0 : lunkit_error_set(err, ENOMEM, "no memory for a LUN");
	}
	if (r == 0) {
		r = slot_pool_init(lun, config->slots ? MIN(config->slots, SLOTS_MAX) : SLOTS_DEFAULT);
		if (r < 0)
			lunkit_error_set(err, r, "no memory for the LUN's commands");
	}
	if (r < 0) {
		free(lun->flush);
		free(lun);
		return r;
	}
	*ret = lun;
	return 0;
}

void lun_free(struct lun *lun)
{
	if (!lun)
		return;
	slot_pool_destroy(&lun->slots);
	scratch_destroy(&lun->scratch);
	free(lun->flush);
	free(lun);
}

void lun_start(struct lun *lun)
{
	lun->started = true;
	lun->notify_armed = true;
	loop_set_poller(lun->loop, &(struct loop_poller){ .look = look, .before_wait = before_wait, .argument = lun });
	loop_poll_start(lun->loop, &lun->notify, lun->ring.notify_fd, POLLIN);
}

void lun_stop(struct lun *lun, struct loop_op *op)
{
	lun->stopping = true;
	lun->stop_op = op;
	if (lun->notify_armed)
		loop_poll_stop(lun->loop, &lun->notify);
	if (!lun->started)
		check_stopped(lun);
}

void lun_on_failure(struct lun *lun, void (*failed)(void *argument, int result), void *argument)
{
	lun->on_failure = failed;
	lun->on_failure_argument = argument;
}

void lun_query_done(struct lun *lun, struct scsi_query *query, int result)
{
	if (!slot_pool_holds(&lun->slots, query)) {
		log_error("an answer came for a query that is not one of this LUN's");
		return;
	}
	struct scsi_command *command = list_entry(query, struct scsi_command, query);
	struct slot *slot = list_entry(command, struct slot, command);
	if (slot->state != SLOT_QUERY) {
		log_error("an answer came for a command that does not wait for one");
		return;
	}
	slot_resume(slot, result);
}

void lun_get_statistics(const struct lun *lun, struct lun_statistics *ret)
{
	*ret = lun->statistics;
}
