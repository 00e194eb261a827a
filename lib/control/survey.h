/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Looks through configfs and sysfs for the facts of all LUNs (struct lun_facts), on a task's thread, one look at a time. */

#include "control/control.h"

/* The NAA designator that the kernel's other backstores and lunkit's SCSI layer make of a serial number: 6001405 and its first 25 hex digits. */
void survey_wwn(const char *serial, char ret[static 33]);
