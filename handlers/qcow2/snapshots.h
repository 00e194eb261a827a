/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The snapshots that an image has: snapshot.c. Owner: the worker's thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2;
struct lunkit_error;

struct snapshot {
	uint64_t l1_offset, size; /* size: of the disk then */
	unsigned l1_size;
	uint8_t *raw; /* its entry as it stands in the table, without padding */
	size_t raw_length;
};
int snapshots_load(struct qcow2 *q, struct lunkit_error *err);
void snapshots_free(struct snapshot *snapshots, unsigned count);
/* By its name, or else by its id; -1: none. */
int snapshot_find(const struct qcow2 *q, const char *name);
int snapshot_find_name(const struct qcow2 *q, const char *name);
/* What its readers claim in the file, and whoever deletes it (lunkit_file_claim()): of all snapshots of the image, it alone has it. */
static inline uint64_t snapshot_number(const struct snapshot *snapshot)
{
	return snapshot->l1_offset;
}
bool snapshot_is_usable(const struct qcow2 *q, const struct snapshot *snapshot);
