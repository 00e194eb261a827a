/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Holding requests back for the moment in which the image's tables are exchanged: hold.c. Owner: the worker's thread. */

#include "file.h"

struct hold {
	bool active;		/* who comes to his next step waits */
	bool settling, pending; /* what is under way is waited for; a look at that is about to happen */
	struct waiters waiters;
	struct waiter *owner, table;
	struct lunkit_io deferred;
	uint64_t since_ns;
};

void hold_init(struct qcow2 *q);
/*
 * No request takes a step from now on. owner->wake(0) comes from the loop when no part of a request is under way and no L2 table is being made; then hold_end().
 */
void hold_begin(struct qcow2 *q, struct waiter *owner);
void hold_end(struct qcow2 *q);
/* The last part of all has ended. */
void hold_settle(struct qcow2 *q);
