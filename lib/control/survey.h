/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Looks through configfs and sysfs for the facts of all LUNs (struct lun_facts), on a task's thread, one look at a time. */

#include "control/control.h"
#include "control/lun.h"
#include "target/fabric.h"

/* The facts of one LUN, from exports that may hold those of others. Not on the main thread. */
void survey_look(const struct target_root *root, const struct exports *exports, const struct backstore_id *backstore,
		 struct lun_facts *ret);
/* Main thread: *facts becomes the LUN's. */
void survey_take(struct lun *lun, struct lun_facts *facts);

/* The NAA designator that the kernel's other backstores and lunkit's SCSI layer make of a serial number: 6001405 and its first 25 hex digits. */
void survey_wwn(const char *serial, char ret[static 33]);
