/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Letting go of the backing file: detach.c. Owner: the worker's thread. */

#include "qcow2.h"

struct detach {
	struct waiter waiter; /* first */
	struct qcow2 *q;
	void (*step)(struct detach *detach);
	void (*done)(struct detach *detach, int result); /* not from inside detach_start() */
	unsigned at, length, end, stage;		 /* the format's extension, and where all extensions end */
	uint64_t name_offset, name_length;
	struct lunkit_alarm poll;
};
/* Everything that the image shows has to be in it, or zeros. */
void detach_start(struct qcow2 *q, struct detach *detach, void (*done)(struct detach *detach, int result));
