/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The snapshot table.
 *
 *     │ L1 offset, L1 size, lengths … (40 bytes) │ extra data │ id │ name │ to 8 │ next entry …
 *
 * Each entry is kept as it stands: a table that is written anew holds what was not understood too.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "snapshot.h"

static int bad_table(const struct qcow2 *q, struct lunkit_error *err)
{
	lunkit_error_set(err, EINVAL, "%.300s: the snapshot table is damaged", q->name);
	return lunkit_error_hint(err, "Restore the image from a copy; `qemu-img check` may say more.");
}

/* ---- an entry ---- */

static size_t extra_length(const uint8_t *raw)
{
	return get_be32(raw + SNAPSHOT_EXTRA_LENGTH);
}

static size_t id_length(const uint8_t *raw)
{
	return get_be16(raw + SNAPSHOT_ID_LENGTH);
}

static size_t name_length(const uint8_t *raw)
{
	return get_be16(raw + SNAPSHOT_NAME_LENGTH);
}

static const uint8_t *id_of(const struct snapshot *snapshot)
{
	return snapshot->raw + SNAPSHOT_FIXED_LENGTH + extra_length(snapshot->raw);
}

static const uint8_t *name_of(const struct snapshot *snapshot)
{
	return id_of(snapshot) + id_length(snapshot->raw);
}

static bool is_text(const uint8_t *bytes, size_t length, const char *text)
{
	return strlen(text) == length && memcmp(bytes, text, length) == 0;
}

static void copy_text(char *to, size_t size, const uint8_t *bytes, size_t length)
{
	size_t used = MIN(length, size - 1);
	memcpy(to, bytes, used);
	to[used] = '\0';
}

bool snapshot_is_usable(const struct qcow2 *q, const struct snapshot *snapshot)
{
	return snapshot->size <= INT64_MAX && snapshot->size % 512 == 0 &&
	       header_l1_entries(snapshot->size, q->cluster_bits) <= snapshot->l1_size && (snapshot->l1_offset || !snapshot->l1_size);
}

int snapshot_find_name(const struct qcow2 *q, const char *name)
{
	for (unsigned i = 0; i < q->header.snapshot_count; i++)
		if (is_text(name_of(&q->snapshots[i]), name_length(q->snapshots[i].raw), name))
			return (int)i;
	return -1;
}

int snapshot_find(const struct qcow2 *q, const char *name)
{
	int found = snapshot_find_name(q, name);
	if (found >= 0)
		return found;
	for (unsigned i = 0; i < q->header.snapshot_count; i++)
		if (is_text(id_of(&q->snapshots[i]), id_length(q->snapshots[i].raw), name))
			return (int)i;
	return -1;
}

int qcow2_snapshot_list(void *state, struct lunkit_snapshots *list, struct lunkit_error *err)
{
	const struct qcow2 *q = state;
	int r = 0;
	for (unsigned i = 0; i < q->header.snapshot_count && r == 0; i++) {
		const struct snapshot *snapshot = &q->snapshots[i];
		const uint8_t *raw = snapshot->raw;
		struct lunkit_snapshot out = {
			.size = snapshot->size,
			.time_ns = (uint64_t)get_be32(raw + SNAPSHOT_SECONDS) * 1000000000u + get_be32(raw + SNAPSHOT_NANOSECONDS),
			.vm_state_size = extra_length(raw) >= 8 ? get_be64(raw + SNAPSHOT_FIXED_LENGTH + SNAPSHOT_EXTRA_VM_STATE) : 0,
		};
		if (!out.vm_state_size)
			out.vm_state_size = get_be32(raw + SNAPSHOT_VM_STATE);
		copy_text(out.id, sizeof(out.id), id_of(snapshot), id_length(raw));
		copy_text(out.name, sizeof(out.name), name_of(snapshot), name_length(raw));
		r = lunkit_snapshots_add(list, &out);
	}
	return r < 0 ? lunkit_error_set(err, r, "%.300s: not enough memory", q->name) : 0;
}

/* ---- reading ---- */

void snapshots_free(struct snapshot *snapshots, unsigned count)
{
	for (unsigned i = 0; snapshots && i < count; i++)
		free(snapshots[i].raw);
	free(snapshots);
}

/* Tens of thousands of small entries are no reason for as many reads past the page cache: a window moves over the table. */
#define WINDOW_BYTES (64u << 10)
struct window {
	uint8_t *bytes;
	uint64_t offset; /* of what is in it; UINT64_MAX: nothing */
};

static int read_table(struct qcow2 *q, struct window *window, void *to, size_t length, uint64_t offset)
{
	if (length > WINDOW_BYTES / 2)
		return file_read(q, to, length, offset);
	if (offset < window->offset || offset - window->offset > WINDOW_BYTES - length) {
		uint64_t from = align_down(offset, MAX(512, q->geometry.offset_alignment));
		window->offset = UINT64_MAX;
		int r = file_read(q, window->bytes, WINDOW_BYTES, from);
		if (r < 0)
			return r;
		window->offset = from;
	}
	memcpy(to, window->bytes + (offset - window->offset), length);
	return 0;
}

/* Returns 0 with *ret_end, where it ends; -EINVAL: damaged. */
static int load_entry(struct qcow2 *q, struct window *window, uint64_t offset, uint64_t end, struct snapshot *ret, uint64_t *ret_end)
{
	uint8_t fixed[SNAPSHOT_FIXED_LENGTH];
	if (offset + sizeof(fixed) > end)
		return -EINVAL;
	int r = read_table(q, window, fixed, sizeof(fixed), offset);
	if (r < 0)
		return r;
	uint64_t length = sizeof(fixed) + (uint64_t)extra_length(fixed) + id_length(fixed) + name_length(fixed);
	if (length > end - offset)
		return -EINVAL;
	ret->l1_offset = get_be64(fixed + SNAPSHOT_L1_OFFSET);
	ret->l1_size = get_be32(fixed + SNAPSHOT_L1_SIZE);
	if (ret->l1_size > L1_BYTES_MAX / 8 || ret->l1_offset >= HOST_OFFSET_MAX || ret->l1_offset & q->cluster_mask)
		return -EINVAL;
	ret->raw = malloc(length);
	if (!ret->raw)
		return -ENOMEM;
	ret->raw_length = length;
	r = read_table(q, window, ret->raw, length, offset);
	/* It has been checked once, and is not read twice. */
	memcpy(ret->raw, fixed, sizeof(fixed));
	ret->size = extra_length(fixed) >= SNAPSHOT_EXTRA_SIZE + 8 ? get_be64(ret->raw + SNAPSHOT_FIXED_LENGTH + SNAPSHOT_EXTRA_SIZE)
								   : q->header.size;
	*ret_end = align_up(offset + length, 8);
	return r;
}

int snapshots_load(struct qcow2 *q, struct lunkit_error *err)
{
	unsigned count = q->header.snapshot_count, loaded = 0;
	uint64_t offset = q->header.snapshot_offset, end = offset + SNAPSHOT_TABLE_BYTES_MAX;
	int r = 0;
	if (!count)
		return 0;
	struct snapshot *snapshots = calloc(count, sizeof(*snapshots));
	struct window window = { .bytes = file_buffer(q, WINDOW_BYTES), .offset = UINT64_MAX };
	if (!snapshots || !window.bytes)
		r = -ENOMEM;
	for (; loaded < count && r == 0; loaded++)
		r = load_entry(q, &window, offset, end, &snapshots[loaded], &offset);
	free(window.bytes);
	if (r < 0) {
		snapshots_free(snapshots, loaded);
		return r == -EINVAL ? bad_table(q, err)
				    : lunkit_error_set(err, r, "%.300s: cannot read the snapshot table: %s", q->name, strerror(-r));
	}
	q->snapshots = snapshots;
	q->snapshot_table_length = offset - q->header.snapshot_offset;
	return 0;
}

/* ---- writing ---- */

uint64_t snapshot_table_length(const struct snapshot *snapshots, unsigned count)
{
	uint64_t length = 0;
	for (unsigned i = 0; i < count; i++)
		length = align_up(length, 8) + snapshots[i].raw_length;
	return align_up(length, 8);
}

void snapshot_table_fill(const struct snapshot *snapshots, unsigned count, uint8_t *to)
{
	uint64_t at = 0;
	for (unsigned i = 0; i < count; i++) {
		memcpy(to + at, snapshots[i].raw, snapshots[i].raw_length);
		put_be64(to + at + SNAPSHOT_L1_OFFSET, snapshots[i].l1_offset);
		at = align_up(at + snapshots[i].raw_length, 8);
	}
}

/* One more than the largest number among the ids. */
static uint64_t next_id(const struct qcow2 *q)
{
	uint64_t most = 0;
	for (unsigned i = 0; i < q->header.snapshot_count; i++) {
		char text[32];
		copy_text(text, sizeof(text), id_of(&q->snapshots[i]), id_length(q->snapshots[i].raw));
		uint64_t id = strtoull(text, NULL, 10);
		if (id < UINT32_MAX)
			most = MAX(most, id);
	}
	return most + 1;
}

int snapshot_new(const struct qcow2 *q, const char *name, unsigned l1_size, struct snapshot *ret)
{
	char id[32];
	size_t id_bytes = (size_t)snprintf(id, sizeof(id), "%llu", (unsigned long long)next_id(q)), name_bytes = strlen(name);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	*ret = (struct snapshot){ .l1_size = l1_size, .size = q->size };
	ret->raw_length = SNAPSHOT_FIXED_LENGTH + SNAPSHOT_EXTRA_NEW + id_bytes + name_bytes;
	uint8_t *raw = ret->raw = calloc(1, ret->raw_length), *extra = raw + SNAPSHOT_FIXED_LENGTH;
	if (!raw)
		return -ENOMEM;
	put_be32(raw + SNAPSHOT_L1_SIZE, l1_size);
	put_be16(raw + SNAPSHOT_ID_LENGTH, (uint16_t)id_bytes);
	put_be16(raw + SNAPSHOT_NAME_LENGTH, (uint16_t)name_bytes);
	put_be32(raw + SNAPSHOT_SECONDS, (uint32_t)now.tv_sec);
	put_be32(raw + SNAPSHOT_NANOSECONDS, (uint32_t)now.tv_nsec);
	put_be32(raw + SNAPSHOT_EXTRA_LENGTH, SNAPSHOT_EXTRA_NEW);
	put_be64(extra + SNAPSHOT_EXTRA_SIZE, q->size);
	put_be64(extra + SNAPSHOT_EXTRA_ICOUNT, UINT64_MAX); /* no count of instructions was kept */
	memcpy(extra + SNAPSHOT_EXTRA_NEW, id, id_bytes);
	memcpy(extra + SNAPSHOT_EXTRA_NEW + id_bytes, name, name_bytes);
	return 0;
}
