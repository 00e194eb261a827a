/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From a file to an image that serves requests, and back.
 *
 *     header ─► tables in memory ─► do they overlap? ─► interrupted? repair ─► backing file
 *
 * Everything here may block: no request is served yet. An image that contradicts itself is opened for reading only. One that was left with the
 * dirty bit (lazy refcounts, and a crash) gets its refcounts repaired before anything is written; lunkit itself keeps refcounts
 * right all the time and never sets that bit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "pack.h"

#define CACHE_DEFAULT ((uint64_t)32 << 20)
#define CACHE_MAX ((uint64_t)4 << 30)

static int read_header(struct qcow2 *q, struct lunkit_error *err)
{
	uint8_t first[512];
	size_t length;
	if (q->geometry.size < sizeof(first) && !q->is_block) {
		lunkit_error_set(err, EINVAL, "%.300s is not a qcow2 image: it is too short", q->name);
		return lunkit_error_hint(err, "Name the kind that it is; for a disk's own bytes that is raw.");
	}
	int r = file_read(q, first, sizeof(first), 0);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot read the header: %s", q->name, strerror(-r));
	r = header_length_needed(first, q->name, &length, err);
	if (r < 0)
		return r;
	uint8_t *bytes = file_buffer(q, length);
	if (!bytes)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", q->name);
	r = file_read(q, bytes, length, 0);
	if (r < 0)
		lunkit_error_set(err, r, "%.300s: cannot read the header: %s", q->name, strerror(-r));
	else
		r = header_parse(bytes, length, q->name, &q->header, err);
	free(bytes);
	return r;
}

static void set_geometry(struct qcow2 *q)
{
	const struct header *header = &q->header;
	q->cluster_bits = header->cluster_bits;
	q->cluster_size = (uint64_t)1 << q->cluster_bits;
	q->cluster_mask = q->cluster_size - 1;
	q->slice_bits = MIN(q->cluster_bits, 12u);
	q->slice_size = (size_t)1 << q->slice_bits;
	q->entry_bits = q->cluster_bits - 3;
	q->refcount_order = header->refcount_order;
	q->refblock_bits = q->cluster_bits + 3 - q->refcount_order;
	q->size = header->size;
	q->hidden_changes = header->autoclear != 0;
}

static int load_tables(struct qcow2 *q, struct lunkit_error *err)
{
	const struct header *header = &q->header;
	q->header_slice = slice_new_resident(q, ORDER_HEADER, 0);
	int r = q->header_slice ? 0 : -ENOMEM;
	if (r == 0)
		r = file_read(q, q->header_slice->data, q->slice_size, 0);
	if (r == 0)
		r = table_init(q, &q->l1, ORDER_MAP, header->l1_offset, header->l1_size);
	if (r == 0)
		r = table_load(q, &q->l1);
	if (r == 0)
		r = table_init(q, &q->reftable, ORDER_REFTABLE, header->reftable_offset,
			       (uint64_t)header->reftable_clusters << q->entry_bits);
	if (r == 0)
		r = table_load(q, &q->reftable);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot load the image's tables: %s", q->name, strerror(-r));
	return 0;
}

/* Reads only, from now on, and says why. */
static void only_read(struct qcow2 *q, const char *why)
{
	if (!q->read_only)
		lunkit_log(LUNKIT_LOG_WARNING,
			   "%s: the image can only be read: %s; `lunkit check --repair` or `qemu-img check -r all` may help", q->name, why);
	q->read_only = true;
}

static int look_for_damage(struct qcow2 *q, struct lunkit_error *err)
{
	const char *what = NULL;
	int r = meta_collect(q, &what);
	if (r == -EEXIST && what)
		only_read(q, what);
	else if (r < 0)
		return lunkit_error_set(err, r, "%.300s: not enough memory", q->name);
	if (q->header.incompatible & INCOMPATIBLE_CORRUPT) {
		q->only_marked = !q->read_only;
		only_read(q, "it is marked as corrupt");
	}
	return 0;
}

/* After a crash of somebody who keeps refcounts lazily they are wrong, and are made right now. */
static int repair_refcounts(struct qcow2 *q, struct lunkit_error *err)
{
	struct lunkit_check_report report = { 0 };
	if (!(q->header.incompatible & INCOMPATIBLE_DIRTY) || q->read_only)
		return 0;
	lunkit_log(LUNKIT_LOG_INFO, "%s: the image was not closed properly: repairing its refcounts", q->name);
	unsigned flags = LUNKIT_CHECK_REPAIR_LEAKS | LUNKIT_CHECK_REPAIR_ALL;
	int r = check_image(q, flags, &report);
	if (r == 0)
		r = check_finish(q, flags, &report);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot repair the refcounts: %s", q->name, strerror(-r));
	if (report.corruptions)
		only_read(q, report.first);
	return 0;
}

/* ---- a snapshot ---- */

#define ATTEMPTS 8

/* Somebody may be writing the image: the table is where the header says before and after it has been read. */
static int read_snapshots(struct qcow2 *q, struct lunkit_error *err)
{
	for (unsigned attempt = 0; attempt < ATTEMPTS; attempt++) {
		int r = read_header(q, err);
		if (r < 0)
			return r;
		struct header before = q->header;
		r = snapshots_load(q, attempt + 1 < ATTEMPTS ? NULL : err);
		if (r < 0 && r != -EINVAL)
			return r;
		struct snapshot *snapshots = q->snapshots;
		q->snapshots = NULL;
		int again = read_header(q, err);
		bool same = q->header.snapshot_offset == before.snapshot_offset && q->header.snapshot_count == before.snapshot_count;
		if (r == 0 && again == 0 && same) {
			q->snapshots = snapshots;
			return 0;
		}
		snapshots_free(snapshots, before.snapshot_count);
		if (again < 0)
			return again;
	}
	lunkit_error_set(err, EAGAIN, "%.300s: the snapshots change all the time, or their table is damaged", q->name);
	return lunkit_error_hint(err, "Try again.");
}

/* The snapshot in the table as it is now. */
static int find_snapshot(struct qcow2 *q, const char *name, const struct snapshot **ret, struct lunkit_error *err)
{
	snapshots_free(q->snapshots, q->header.snapshot_count);
	q->snapshots = NULL;
	int r = read_snapshots(q, err);
	if (r < 0)
		return r;
	int index = snapshot_find(q, name);
	if (index < 0) {
		lunkit_error_set(err, ENOENT, "%.300s: there is no snapshot \"%.255s\"", q->name, name);
		return lunkit_error_hint(err, "`lunkit snapshot list` shows those that there are.");
	}
	*ret = &q->snapshots[index];
	return 0;
}

/* It is there, and stays there until the file is closed: whoever works on the image does not delete it (snapshot_delete.c). */
static int claim_snapshot(struct qcow2 *q, const char *name, const struct snapshot **ret, struct lunkit_error *err)
{
	const struct snapshot *snapshot;
	int r = find_snapshot(q, name, &snapshot, err);
	if (r < 0)
		return r;
	uint64_t number = snapshot_number(snapshot);
	r = lunkit_file_claim(q->host, q->fd, number, LUNKIT_CLAIM_SHARED);
	if (r < 0 && r != -EBUSY)
		return lunkit_error_set(err, r, "%.300s: cannot lock the snapshot \"%.255s\": %s", q->name, name, strerror(-r));
	/* It may have gone before that. */
	if (r == 0)
		r = find_snapshot(q, name, &snapshot, err);
	if (r < 0 && r != -EBUSY)
		return r;
	if (r == -EBUSY || snapshot_number(snapshot) != number) {
		lunkit_error_set(err, EAGAIN, "%.300s: the snapshot \"%.255s\" is just being deleted", q->name, name);
		return lunkit_error_hint(err, "`lunkit snapshot list` shows those that there are.");
	}
	*ret = snapshot;
	return 0;
}

/* Nothing but what the snapshot shares with nobody who writes: its L1 table, and what that leads to. */
static int load_snapshot(struct qcow2 *q, const char *name, struct lunkit_error *err)
{
	const struct snapshot *snapshot = NULL;
	int r = claim_snapshot(q, name, &snapshot, err);
	if (r < 0)
		return r;
	if (!snapshot_is_usable(q, snapshot))
		return lunkit_error_set(err, EINVAL, "%.300s: the snapshot \"%.255s\" is damaged: its L1 table is too small for its size",
					q->name, name);
	q->size = snapshot->size;
	q->header_slice = slice_new_resident(q, ORDER_HEADER, 0);
	r = q->header_slice ? file_read(q, q->header_slice->data, q->slice_size, 0) : -ENOMEM;
	if (r == 0)
		r = meta_add(q, 0, q->cluster_size);
	if (r == 0)
		r = table_init(q, &q->reftable, ORDER_REFTABLE, q->header.reftable_offset, 0);
	if (r == 0)
		r = table_init(q, &q->l1, ORDER_MAP, snapshot->l1_offset, snapshot->l1_size);
	if (r == 0)
		r = table_load(q, &q->l1);
	return r < 0 ? lunkit_error_set(err, r, "%.300s: cannot load the snapshot's tables: %s", q->name, strerror(-r)) : 0;
}

static int open_image(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err)
{
	const struct lunkit_option_value *cache = lunkit_params_option(params, "cache-size");
	int r = read_header(q, err);
	if (r < 0)
		return r;
	set_geometry(q);
	if (q->locked)
		return 0;
	if (q->geometry.offset_alignment > q->slice_size) {
		r = file_reopen_buffered(q, params, err);
		if (r < 0)
			return r;
	}
	if (cache_init(q, cache ? MIN(cache->number, CACHE_MAX) : CACHE_DEFAULT) < 0 || cow_init(q) < 0)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", q->name);
	r = encryption_open(q, params, err);
	if (r < 0)
		return r;
	blob_init(q);
	alloc_init(q);
	if (q->is_snapshot) {
		r = load_snapshot(q, lunkit_params_option(params, "snapshot")->value, err);
		return r < 0 ? r : backing_open(q, params, err);
	}
	r = load_tables(q, err);
	if (r == 0)
		r = snapshots_load(q, err);
	if (r == 0)
		r = look_for_damage(q, err);
	if (r == 0)
		r = repair_refcounts(q, err);
	if (r == 0)
		r = backing_open(q, params, err);
	return r;
}

static void destroy(struct qcow2 *q)
{
	commit_destroy(q);
	lunkit_child_close(q->backing);
	while (q->child_count)
		lunkit_child_request_free(q->children[--q->child_count]);
	free(q->children);
	if (q->cache.buckets) {
		table_destroy(q, &q->l1);
		table_destroy(q, &q->reftable);
		slice_free_resident(q, q->header_slice);
	}
	cache_destroy(q);
	if (q->cows.buffers)
		cow_destroy(q);
	blob_shrink(q);
	encryption_destroy(q);
	pack_shrink(q);
	free_destroy(q);
	meta_destroy(q);
	snapshots_free(q->snapshots, q->header.snapshot_count);
	if (q->fd >= 0)
		lunkit_file_close(q->host, q->fd);
	free(q);
}

int qcow2_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	const struct lunkit_option_value *block_size = lunkit_params_option(params, "block-size");
	const struct lunkit_option_value *discard = lunkit_params_option(params, "discard");
	struct qcow2 *q = calloc(1, sizeof(*q));
	if (!q)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", params->name);
	q->host = params->host;
	q->fd = -1;
	q->is_snapshot = lunkit_params_option(params, "snapshot");
	q->read_only = params->read_only || q->is_snapshot;
	q->locked = params->locked;
	q->durable = params->cache == LUNKIT_CACHE_WRITETHROUGH;
	q->survive = params->survive && !q->read_only;
	/* What the process before this one has written may not be durable. */
	if (q->survive)
		order_wrote(&q->order, ORDER_DATA | ORDER_BASE);
	q->block_size = block_size ? (unsigned)strtoul(block_size->value, NULL, 10) : 512;
	q->freeing.discard = !discard || discard->number;
	snprintf(q->name, sizeof(q->name), "%s", params->name);
	list_init(&q->new_tables);
	waiters_init(&q->l1_free);
	waiters_init(&q->prepare.waiters);
	commit_init(q);
	free_init(q);
	hold_init(q);
	encryption_init(q);
	int r = file_open(q, params, err);
	if (r < 0)
		q->fd = -1;
	if (r == 0)
		r = open_image(q, params, err);
	if (r < 0) {
		destroy(q);
		return r;
	}
	*ret_state = q;
	return 0;
}

/* What is dirty is written, what is free is given back; then nothing is under way any more. */
bool qcow2_busy(void *state)
{
	struct qcow2 *q = state;
	struct commit *commit = &q->commit;
	if (q->locked)
		return false;
	if (!q->closing) {
		q->closing = true;
		commit->error = 0;
		lunkit_alarm_cancel(q->host, &commit->alarm);
		commit->armed = true; /* and never again */
	}
	if (commit->running || commit->starting || q->freeing.working || q->alloc.extending || q->alloc.zeroing || q->cache.loading ||
	    !list_empty(&q->new_tables) || (q->growth.active && !q->growth.stalled))
		return true;
	if (!q->read_only && !commit->error && !q->broken && alloc_uncount(q, NULL) == -EAGAIN)
		return true;
	/* A round that failed is not tried again: what was flushed is safe, what was not is lost, as after a power cut. */
	bool unfinished = commit->dirty_count || free_is_pending(q) || !order_is_durable(&q->order);
	if (q->read_only || !unfinished || commit->error || q->broken)
		return false;
	commit_want(q);
	return true;
}

void qcow2_close(void *state)
{
	struct qcow2 *q = state;
	if (!q->commit.error && !q->broken && !q->locked)
		alloc_trim(q);
	destroy(q);
}
