/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The snapshot table, as far as opening needs it: where the snapshots' L1 tables are, so that nothing is written there.
 *
 *     │ L1 offset, L1 size, lengths … (40 bytes) │ extra data │ id │ name │ to 8 │ next entry …
 */
#include <stdlib.h>

#include "qcow2.h"

static int bad_table(const struct qcow2 *q, struct lunkit_error *err)
{
	lunkit_error_set(err, EINVAL, "%.300s: the snapshot table is damaged", q->name);
	return lunkit_error_hint(err, "Restore the image from a copy; `qemu-img check` may say more.");
}

int snapshots_load(struct qcow2 *q, struct lunkit_error *err)
{
	unsigned count = q->header.snapshot_count;
	uint64_t offset = q->header.snapshot_offset, end = offset + SNAPSHOT_TABLE_BYTES_MAX;
	if (!count)
		return 0;
	q->snapshots = calloc(count, sizeof(*q->snapshots));
	if (!q->snapshots)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", q->name);
	for (unsigned i = 0; i < count; i++) {
		uint8_t fixed[SNAPSHOT_FIXED_LENGTH];
		if (offset + sizeof(fixed) > end)
			return bad_table(q, err);
		int r = file_read(q, fixed, sizeof(fixed), offset);
		if (r < 0)
			return lunkit_error_set(err, r, "%.300s: cannot read the snapshot table", q->name);
		struct snapshot *snapshot = &q->snapshots[i];
		snapshot->l1_offset = get_be64(fixed + SNAPSHOT_L1_OFFSET);
		snapshot->l1_size = get_be32(fixed + SNAPSHOT_L1_SIZE);
		if (snapshot->l1_size > L1_BYTES_MAX / 8 || snapshot->l1_offset >= HOST_OFFSET_MAX || snapshot->l1_offset & q->cluster_mask)
			return bad_table(q, err);
		uint64_t length = sizeof(fixed) + (uint64_t)get_be32(fixed + SNAPSHOT_EXTRA_LENGTH) + get_be16(fixed + SNAPSHOT_ID_LENGTH) +
				  get_be16(fixed + SNAPSHOT_NAME_LENGTH);
		offset += align_up(length, 8);
		if (offset > end)
			return bad_table(q, err);
	}
	q->snapshot_table_length = offset - q->header.snapshot_offset;
	return 0;
}
