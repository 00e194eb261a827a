/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Going through all that an L1 table leads to, beside requests: walk.c. Owner: the worker's thread. */

#include "qcow2.h"

enum walk_kind {
	WALK_LIMIT,	/* looks whether each refcount has room for one more: -EOVERFLOW */
	WALK_REFERENCE, /* counts everything once more, and clears COPIED in the L2 tables */
	WALK_RELEASE,	/* frees everything (free.c) as far as end says */
	WALK_COPIED,	/* sets COPIED in the active tables where the refcount is one */
};

/* What has been done: everything of the tables before, and of this one its own reference and the entries before. */
struct walk_position {
	uint64_t table, entry;
	bool counted;
};

struct walk {
	struct waiter waiter; /* first */
	struct qcow2 *q;
	enum walk_kind kind;
	/* L1 entries in the host's byte order. NULL: the active table. COPIED walks the active one always, where these are not zero. */
	const uint64_t *l1;
	uint64_t entries;
	struct walk_position position, end;
	void (*done)(struct walk *walk, int result); /* from the loop */
	struct lunkit_io deferred;
	unsigned budget;
	struct {
		struct slice *slice; /* of refcounts, the last one, or NULL */
		uint64_t first;	     /* cluster that it begins with */
	} counter;
};
/* From the beginning; RELEASE to the end of all unless end is set anew before the loop runs. */
void walk_start(struct qcow2 *q, struct walk *walk, enum walk_kind kind, const uint64_t *l1, uint64_t entries,
		void (*done)(struct walk *walk, int result));
