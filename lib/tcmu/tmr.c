/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Task management (ABORT TASK, LUN RESET, PREEMPT AND ABORT) as the kernel tells us about it. Owner: the worker's thread.
 *
 * What the kernel does (target_core_tmr.c, target_core_user.c: tcmu_tmr_notify): it marks the commands aborted, puts a TMR entry with
 * their ids behind their own entries, and then waits until each of them has been completed through the ring; only then does it
 * answer the initiator. What we put into those completions no longer matters. So the one useful thing is to be quick: a command that waits
 * for something that can be taken back ends now, one between two steps of its work takes no further one, and one whose I/O
 * is under way ends with it, since storage can't be told to forget. Ids that are not in flight here were completed already: the entries stand in
 * the ring before the TMR, so they have been fetched.
 *
 * A reset also puts the device's modes back to their defaults. The unit attention for it (29/03, for every initiator) is raised and
 * reported by the kernel itself (target_dev_ua_allocate), before a command gets to the ring: a second one from here would hit one
 * initiator by chance, so there is none.
 */
#include <string.h>

#include "base/log.h"
#include "tcmu/slot.h"

#define __LINUX_UIO_H
#include <linux/target_core_user.h>

static void reset_flushed(struct image_request *request, int result)
{
	struct lun *lun = request->user;
	lun->flushing = false;
	if (result == 0)
		return;
	log_error("a reset switches the write cache off, but it can't be flushed: %s. It stays on, so that initiators go on asking for "
		  "flushes",
		  strerror(-result));
	lun->device.write_cache = true;
}

/*
 * As MODE SELECT does: when initiators can see that the write cache is off, what was in it is durable. Writes that are under way see it off and flush by themselves
 * when they are done (scsi_written()); what was done before is flushed here, and no command is fetched meanwhile.
 */
static void flush_cache(struct lun *lun)
{
	lun->flushing = true;
	lun->flush->request.op = LUNKIT_FLUSH;
	lun->flush->done = reset_flushed;
	lun->flush->user = lun;
	lun->statistics.flushes++;
	image_submit(lun->image, lun->flush);
}

static void reset_modes(struct lun *lun)
{
	struct scsi_device *device = &lun->device;
	bool cache_off = device->write_cache && !device->write_cache_reset;
	device->stopped = false;
	device->descriptor_sense = false;
	device->software_write_protect = false;
	device->write_cache = device->write_cache_reset;
	if (cache_off)
		flush_cache(lun);
}

void lun_task_management(struct lun *lun, const struct mailbox_entry *entry)
{
	unsigned found = 0;
	/* Rare; slots are few, and ids are read in place. */
	for (uint32_t at = 0; at < entry->tmr_count && lun->statistics.in_flight; at++) {
		uint16_t id = mailbox_tmr_id(entry, at);
		for (unsigned i = 0; i < lun->slots.count; i++) {
			struct slot *slot = slot_pool_at(&lun->slots, i);
			if (slot->state != SLOT_FREE && slot->id == id) {
				found++;
				slot_abort(slot);
				break;
			}
		}
	}
	log_info("task management function %u of the initiator: %u commands named, %u in flight here", entry->tmr_type,
		 (unsigned)entry->tmr_count, found);
	if (entry->tmr_type == TCMU_TMR_LUN_RESET || entry->tmr_type == TCMU_TMR_TARGET_WARM_RESET ||
	    entry->tmr_type == TCMU_TMR_TARGET_COLD_RESET)
		reset_modes(lun);
}
