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
#include "base/log.h"
#include "tcmu/slot.h"

#define __LINUX_UIO_H
#include <linux/target_core_user.h>

static void reset_modes(struct lun *lun)
{
	lun->device.stopped = false;
	lun->device.descriptor_sense = false;
	lun->device.software_write_protect = false;
	lun->device.write_cache = lun->device.write_cache_reset;
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
