/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which clusters of the file hold metadata, as a set of cluster numbers: header, L1, active L2 tables, refcount table, refblocks, the snapshot
 * table and the snapshots' L1 tables. Asked before data goes to a place that the image's own tables name, and before a cluster that the refcounts call
 * free is used. Whatever the tables claim, metadata is never overwritten with a guest's bytes.
 *
 * Left out on purpose: L2 tables of snapshots. They would have to be read, all of them, when an image is opened; QEMU leaves them out by
 * default too.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

#define SLOTS_MIN 256u

static size_t hash_of(const struct meta *meta, uint64_t key)
{
	return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & meta->mask;
}

static bool insert(struct meta *meta, uint64_t key)
{
	size_t at = hash_of(meta, key);
	while (meta->slots[at] && meta->slots[at] != key)
		at = (at + 1) & meta->mask;
	if (meta->slots[at])
		return false;
	meta->slots[at] = key;
	meta->count++;
	return true;
}

static int make_room(struct meta *meta)
{
	if (meta->slots && meta->count * 4 < (meta->mask + 1) * 3)
		return 0;
	struct meta larger = { .mask = meta->slots ? meta->mask * 2 + 1 : SLOTS_MIN - 1 };
	larger.slots = calloc(larger.mask + 1, sizeof(*larger.slots));
	if (!larger.slots)
		return -ENOMEM;
	for (size_t i = 0; meta->slots && i <= meta->mask; i++)
		if (meta->slots[i])
			insert(&larger, meta->slots[i]);
	free(meta->slots);
	*meta = larger;
	return 0;
}

int meta_add(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	int result = 0;
	uint64_t end = align_up(offset + length, q->cluster_size);
	for (offset = align_down(offset, q->cluster_size); offset < end; offset += q->cluster_size) {
		int r = make_room(&q->meta);
		if (r < 0)
			return r;
		if (!insert(&q->meta, (offset >> q->cluster_bits) + 1))
			result = -EEXIST;
		if (offset >> q->cluster_bits >= q->alloc.high_water)
			q->meta.behind_end = true;
	}
	return result;
}

bool meta_has(const struct qcow2 *q, uint64_t cluster)
{
	const struct meta *meta = &q->meta;
	uint64_t key = cluster + 1;
	size_t at = hash_of(meta, key);
	while (meta->slots[at] && meta->slots[at] != key)
		at = (at + 1) & meta->mask;
	return meta->slots[at];
}

/* Closes the gap: what follows and would be found only past it moves up. */
static void remove_at(struct meta *meta, size_t gap)
{
	size_t at = gap;
	meta->count--;
	for (;;) {
		meta->slots[gap] = 0;
		for (;;) {
			at = (at + 1) & meta->mask;
			if (!meta->slots[at])
				return;
			size_t home = hash_of(meta, meta->slots[at]);
			bool stays = gap <= at ? home > gap && home <= at : home > gap || home <= at;
			if (!stays)
				break;
		}
		meta->slots[gap] = meta->slots[at];
		gap = at;
	}
}

void meta_remove(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	struct meta *meta = &q->meta;
	uint64_t end = align_up(offset + length, q->cluster_size);
	for (offset = align_down(offset, q->cluster_size); offset < end; offset += q->cluster_size) {
		uint64_t key = (offset >> q->cluster_bits) + 1;
		size_t at = hash_of(meta, key);
		while (meta->slots[at] && meta->slots[at] != key)
			at = (at + 1) & meta->mask;
		if (meta->slots[at])
			remove_at(meta, at);
	}
}

void meta_destroy(struct qcow2 *q)
{
	free(q->meta.slots);
}

static int collect_pointers(struct qcow2 *q, const struct table *table, uint64_t mask)
{
	int result = 0;
	for (uint64_t i = 0; i < table->entries; i++) {
		uint64_t offset = table_get(table, i) & mask;
		if (!offset)
			continue;
		int r = offset & q->cluster_mask || offset >= HOST_OFFSET_MAX ? -EEXIST : meta_add(q, offset, q->cluster_size);
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			result = r;
	}
	return result;
}

int meta_collect(struct qcow2 *q, const char **ret_what)
{
	const struct header *header = &q->header;
	const char *what = NULL;
	int r = meta_add(q, 0, q->cluster_size);
	if (r == 0 && (r = meta_add(q, header->reftable_offset, (uint64_t)header->reftable_clusters << q->cluster_bits)) == -EEXIST)
		what = "the refcount table lies on the header";
	if (r == 0 && header->l1_size && (r = meta_add(q, header->l1_offset, (uint64_t)header->l1_size * 8)) == -EEXIST)
		what = "the L1 table lies on other metadata";
	if (r == 0 && (r = collect_pointers(q, &q->reftable, REFTABLE_OFFSET)) == -EEXIST)
		what = "a refcount block lies on other metadata or at an impossible place";
	if (r == 0 && (r = collect_pointers(q, &q->l1, ENTRY_OFFSET)) == -EEXIST)
		what = "an L2 table lies on other metadata or at an impossible place";
	if (r == 0 && header->crypt_method && (r = meta_add(q, header->crypt_offset, header->crypt_length)) == -EEXIST)
		what = "the encryption header lies on other metadata";
	if (r == 0 && header->snapshot_count && (r = meta_add(q, header->snapshot_offset, 1)) == -EEXIST)
		what = "the snapshot table lies on other metadata";
	for (unsigned i = 0; i < header->snapshot_count && r == 0; i++)
		if (q->snapshots[i].l1_size &&
		    (r = meta_add(q, q->snapshots[i].l1_offset, (uint64_t)q->snapshots[i].l1_size * 8)) == -EEXIST)
			what = "a snapshot's L1 table lies on other metadata";
	if (r == 0 && q->meta.behind_end) {
		what = "its tables lie behind the file's end";
		r = -EEXIST;
	}
	*ret_what = what;
	return r;
}

int corrupt(struct qcow2 *q, const char *format, ...)
{
	char text[400];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (q->is_corrupt) {
		lunkit_log(LUNKIT_LOG_DEBUG, "%s: %s", q->name, text);
		return -EIO;
	}
	q->is_corrupt = true;
	lunkit_log(LUNKIT_LOG_ERROR, "%s: the image is damaged, and can only be read from now on: %s", q->name, text);
	if (!q->read_only && q->header.version == 3 &&
	    header_set_be64(q, HEADER_INCOMPATIBLE, get_be64(q->header_slice->data + HEADER_INCOMPATIBLE) | INCOMPATIBLE_CORRUPT) == 0)
		commit_want(q);
	return -EIO;
}
