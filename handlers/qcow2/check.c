/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Is the image consistent?
 *
 *     everything in the file (quiet.c) ─► count what refers to each cluster (check_refs.c) ─► compare with the refcounts, correct them ─►
 *     compare COPIED bits with the refcounts, correct them ─► the dirty and corrupt bits go when nothing is left
 *
 * Counted too high: a leak, harmless. Too low: corruption, the cluster may be given to somebody else. Refcounts are corrected and durable before COPIED bits
 * are. A missing refblock is made anew at a free cluster that it counts itself, or at the file's end, and the refcount table leads to it when it is durable.
 * Left out on purpose: a larger refcount table, and a refblock whose clusters are all in use; then the image can only be read, and `qemu-img check -r all`
 * can do that.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* Two bytes for each cluster of the file: a gigabyte at most. */
#define CLUSTERS_MAX ((uint64_t)1 << 29)

static bool repairs(const struct check *check, bool leak)
{
	return check->flags & LUNKIT_CHECK_REPAIR_ALL || (leak && check->flags & LUNKIT_CHECK_REPAIR_LEAKS);
}

static void note(struct check *check, const char *format, va_list args)
{
	if (!*check->report->first)
		vsnprintf(check->report->first, sizeof(check->report->first), format, args);
}

void check_found(struct check *check, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	note(check, format, args);
	va_end(args);
	check->report->corruptions++;
}

__attribute__((format(printf, 3, 4))) static void found(struct check *check, uint64_t *counter, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	note(check, format, args);
	va_end(args);
	++*counter;
}

static int write_back(struct check *check, uint64_t offset)
{
	return lunkit_file_write(check->q->host, check->q->fd, check->buffer, check->q->cluster_size, offset);
}

/* ---- refcounts ---- */

/* Returns true when the refcount in the buffer was corrected. */
static bool compare(struct check *check, uint64_t cluster, uint64_t index)
{
	const struct qcow2 *q = check->q;
	struct lunkit_check_report *report = check->report;
	uint64_t is = refcount_read(q, check->buffer, index), should = cluster < check->clusters ? check->counts[cluster] : 0;
	uint64_t most = q->refcount_order == REFCOUNT_ORDER_MAX ? UINT64_MAX : ((uint64_t)1 << (1u << q->refcount_order)) - 1;
	if (is || should)
		report->image_end = MAX(report->image_end, (cluster + 1) << q->cluster_bits);
	if (is == should || (should == UINT16_MAX && is > should))
		return false;
	/* What is referred to there is not counted one by one: given back as a leak, a cluster that is lost would soon be somebody else's too. */
	if (cluster >= check->clusters && check->behind_end)
		return false;
	bool leak = is > should, repair = repairs(check, leak) && should <= most;
	uint64_t *counter = leak     ? repair ? &report->leaks_fixed : &report->leaks
			    : repair ? &report->corruptions_fixed
				     : &report->corruptions;
	found(check, counter, "the cluster at %#llx is used %llu times and its refcount is %llu",
	      (unsigned long long)cluster << q->cluster_bits, (unsigned long long)should, (unsigned long long)is);
	if (repair)
		refcount_write(q, check->buffer, index, should);
	return repair;
}

static int compare_block(struct check *check, uint64_t block, uint64_t offset)
{
	struct qcow2 *q = check->q;
	int r = file_read(q, check->buffer, q->cluster_size, offset);
	bool changed = false;
	for (uint64_t i = 0; i < (uint64_t)1 << q->refblock_bits && r == 0; i++)
		changed |= compare(check, (block << q->refblock_bits) + i, i);
	return r == 0 && changed ? write_back(check, offset) : r;
}

/* ---- refblocks that are missing ---- */

/* A free cluster among those that the block counts; a device has none behind its end. 0: there is none. */
static uint64_t place_for_block(const struct check *check, uint64_t block)
{
	const struct qcow2 *q = check->q;
	uint64_t first = block << q->refblock_bits, end = first + ((uint64_t)1 << q->refblock_bits);
	for (uint64_t cluster = MAX(first, 1u); cluster < MIN(end, check->clusters); cluster++)
		if (!check->counts[cluster])
			return cluster;
	return !q->is_block && check->clusters >= first && check->clusters < end ? check->clusters : 0;
}

static int rebuild_block(struct check *check, uint64_t block, uint64_t place)
{
	struct qcow2 *q = check->q;
	uint64_t first = block << q->refblock_bits, end = MIN(first + ((uint64_t)1 << q->refblock_bits), check->clusters);
	uint64_t offset = place << q->cluster_bits;
	memset(check->buffer, 0, q->cluster_size);
	for (uint64_t cluster = first; cluster < end; cluster++)
		refcount_write(q, check->buffer, cluster - first, check->counts[cluster]);
	refcount_write(q, check->buffer, place - first, 1);
	int r = write_back(check, offset);
	if (r == 0)
		r = lunkit_file_sync(q->host, q->fd);
	if (r < 0)
		return r;
	if (place < check->clusters)
		check->counts[place] = 1;
	/* The table is in memory as a whole, and nothing of it is dirty: its slice is changed there and written. */
	struct slice *slice = q->reftable.slices[block >> q->reftable.shift];
	put_be64(slice->data + (block & ((1u << q->reftable.shift) - 1)) * 8, offset);
	return lunkit_file_write(q->host, q->fd, slice->data, q->slice_size, slice->offset);
}

/* The clusters of a block that is not there: made anew where that is allowed and possible, else each that is used is a corruption. */
static int missing_block(struct check *check, uint64_t block)
{
	struct qcow2 *q = check->q;
	uint64_t first = block << q->refblock_bits, end = MIN(first + ((uint64_t)1 << q->refblock_bits), check->clusters), most = 0;
	uint64_t used = 0;
	for (uint64_t cluster = first; cluster < end; cluster++) {
		used += check->counts[cluster] != 0;
		most = MAX(most, (uint64_t)check->counts[cluster]);
	}
	if (!used)
		return 0;
	bool fits = q->refcount_order >= 5 || most < (uint64_t)1 << (1u << q->refcount_order);
	uint64_t place =
		repairs(check, false) && block < q->reftable.entries && fits && most < UINT16_MAX ? place_for_block(check, block) : 0;
	for (uint64_t cluster = first; cluster < end; cluster++)
		if (check->counts[cluster])
			found(check, place ? &check->report->corruptions_fixed : &check->report->corruptions,
			      "the cluster at %#llx is used, and there is no refcount for it",
			      (unsigned long long)cluster << q->cluster_bits);
	return place ? rebuild_block(check, block, place) : 0;
}

static int compare_all(struct check *check)
{
	struct qcow2 *q = check->q;
	uint64_t blocks = MAX(q->reftable.entries, (check->clusters >> q->refblock_bits) + 1);
	int r = 0;
	for (uint64_t block = 0; block < blocks && r == 0; block++) {
		uint64_t offset = block < q->reftable.entries ? table_get(&q->reftable, block) & REFTABLE_OFFSET : 0;
		if (offset && !(offset & q->cluster_mask) && offset >> q->cluster_bits < check->clusters) {
			r = compare_block(check, block, offset);
			continue;
		}
		r = missing_block(check, block);
	}
	return r;
}

/* ---- COPIED bits ---- */

struct block_reader {
	uint64_t offset;
	uint8_t *data;
};

/* The refcount on disk; 0 when there is none. */
static int disk_refcount(struct check *check, struct block_reader *reader, uint64_t cluster, uint64_t *ret)
{
	struct qcow2 *q = check->q;
	uint64_t block = cluster >> q->refblock_bits;
	uint64_t offset = block < q->reftable.entries ? table_get(&q->reftable, block) & REFTABLE_OFFSET : 0;
	*ret = 0;
	if (!offset || offset & q->cluster_mask || offset >> q->cluster_bits >= check->clusters)
		return 0;
	if (offset != reader->offset) {
		reader->offset = 0;
		int r = file_read(q, reader->data, q->cluster_size, offset);
		if (r < 0)
			return r;
		reader->offset = offset;
	}
	*ret = refcount_read(q, reader->data, cluster & (((uint64_t)1 << q->refblock_bits) - 1));
	return 0;
}

/* *entry as it should be, when it may be repaired. */
static int check_copied(struct check *check, struct block_reader *reader, uint64_t *entry, const char *what, bool *ret_changed)
{
	uint64_t offset = *entry & ENTRY_OFFSET, count;
	int r = disk_refcount(check, reader, offset >> check->q->cluster_bits, &count);
	if (r < 0 || (count == 1) == !!(*entry & ENTRY_COPIED))
		return r;
	bool repair = repairs(check, false);
	found(check, repair ? &check->report->corruptions_fixed : &check->report->corruptions,
	      "%s at %#llx is %smarked as writable in place", what, (unsigned long long)offset, count == 1 ? "not " : "");
	if (repair) {
		*entry ^= ENTRY_COPIED;
		*ret_changed = true;
	}
	return 0;
}

static int check_l2(struct check *check, struct block_reader *reader, uint64_t offset)
{
	struct qcow2 *q = check->q;
	bool changed = false;
	int r = file_read(q, check->buffer, q->cluster_size, offset);
	for (uint64_t i = 0; i < (uint64_t)1 << q->entry_bits && r == 0; i++) {
		uint64_t entry = get_be64(check->buffer + i * 8);
		enum map_kind kind = map_classify(entry);
		if ((kind != MAP_NORMAL && kind != MAP_ZERO_ALLOCATED) || entry & ENTRY_OFFSET & q->cluster_mask)
			continue;
		r = check_copied(check, reader, &entry, "the cluster", &changed);
		put_be64(check->buffer + i * 8, entry);
	}
	return r == 0 && changed ? write_back(check, offset) : r;
}

/* An L1 entry is changed in the file, in its slice; check_finish() reads L1 anew. */
static int write_l1_entry(struct check *check, uint64_t index, uint64_t entry)
{
	struct qcow2 *q = check->q;
	uint64_t offset = q->l1.slices[index >> q->l1.shift]->offset;
	int r = file_read(q, check->buffer, q->slice_size, offset);
	put_be64(check->buffer + (index & ((1u << q->l1.shift) - 1)) * 8, entry);
	return r == 0 ? lunkit_file_write(q->host, q->fd, check->buffer, q->slice_size, offset) : r;
}

static int check_all_copied(struct check *check)
{
	struct qcow2 *q = check->q;
	struct block_reader reader = { .data = file_buffer(q, q->cluster_size) };
	int r = reader.data ? 0 : -ENOMEM;
	for (uint64_t i = 0; i < q->l1.entries && r == 0; i++) {
		uint64_t entry = table_get(&q->l1, i), offset = entry & ENTRY_OFFSET;
		bool changed = false;
		if (!offset || offset & q->cluster_mask || offset >> q->cluster_bits >= check->clusters)
			continue;
		r = check_copied(check, &reader, &entry, "the L2 table", &changed);
		if (r == 0 && changed)
			r = write_l1_entry(check, i, entry);
		if (r == 0)
			r = check_l2(check, &reader, offset);
	}
	free(reader.data);
	return r;
}

/* ---- all of it ---- */

int check_image(struct qcow2 *q, unsigned flags, struct lunkit_check_report *report)
{
	struct check check = { .q = q, .flags = flags, .report = report };
	struct lunkit_file_geometry now = { .struct_size = sizeof(now) };
	int r = lunkit_file_look(q->host, q->fd, q->name, q->direct, &now, NULL);
	if (r < 0)
		return r;
	check.clusters = (now.size + q->cluster_mask) >> q->cluster_bits;
	if (check.clusters > CLUSTERS_MAX)
		return -EFBIG;
	check.counts = calloc(MAX(check.clusters, 1u), sizeof(*check.counts));
	check.buffer = file_buffer(q, q->cluster_size);
	r = check.counts && check.buffer ? 0 : -ENOMEM;
	report->total_clusters = (q->size + q->cluster_mask) >> q->cluster_bits;
	if (r == 0)
		r = check_count_all(&check);
	if (r == 0)
		r = compare_all(&check);
	if (r == 0 && flags)
		r = lunkit_file_sync(q->host, q->fd);
	if (r == 0)
		r = check_all_copied(&check);
	if (r == 0 && flags)
		r = lunkit_file_sync(q->host, q->fd);
	free(check.counts);
	free(check.buffer);
	return r;
}

int check_finish(struct qcow2 *q, unsigned flags, const struct lunkit_check_report *report)
{
	const uint64_t bits = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT;
	int r = table_load(q, &q->l1);
	uint8_t *header = q->header_slice->data;
	if (r < 0 || !(flags & LUNKIT_CHECK_REPAIR_ALL) || report->corruptions || q->header.version < 3 ||
	    !(get_be64(header + HEADER_INCOMPATIBLE) & bits))
		return r;
	put_be64(header + HEADER_INCOMPATIBLE, get_be64(header + HEADER_INCOMPATIBLE) & ~bits);
	r = lunkit_file_write(q->host, q->fd, header, q->slice_size, 0);
	if (r == 0)
		r = lunkit_file_sync(q->host, q->fd);
	if (r == 0) {
		q->header.incompatible &= ~bits;
		q->is_corrupt = false;
		q->stays_dirty = false;
	}
	return r;
}

/* ---- the job ---- */

struct check_job {
	struct quiet quiet; /* first */
	struct lunkit_work work;
	struct lunkit_job *job;
	struct lunkit_check_report *report;
	unsigned flags;
};

/* What was repaired in the file is not what the cache has. */
static void forget(struct qcow2 *q)
{
	cache_shrink(q, true);
	q->alloc.cursor = 0;
}

static void check_end(struct check_job *check, int result)
{
	struct qcow2 *q = check->quiet.q;
	struct lunkit_job *job = check->job;
	if (check->flags)
		forget(q);
	if (result == 0 && q->only_marked && !(q->header.incompatible & INCOMPATIBLE_CORRUPT))
		q->read_only = q->only_marked = false;
	if (result < 0)
		lunkit_error_set(lunkit_job_error(job), result, "%.300s: cannot check the image: %s", q->name,
				 result == -EFBIG ? "its file is too large" : strerror(-result));
	free(check);
	qcow2_job_end(q, job, result);
}

static int work_check(void *argument)
{
	struct check_job *check = argument;
	int r = check_image(check->quiet.q, check->flags, check->report);
	return r == 0 && check->flags ? check_finish(check->quiet.q, check->flags, check->report) : r;
}

static void checked(struct lunkit_io *io, int result)
{
	check_end(list_entry(io, struct check_job, work.io), result);
}

static void is_quiet(struct quiet *quiet, int result)
{
	struct check_job *check = (struct check_job *)quiet;
	if (result < 0) {
		check_end(check, result);
		return;
	}
	check->work = (struct lunkit_work){ .io.done = checked, .function = work_check, .argument = check };
	lunkit_work_start(quiet->q->host, &check->work);
}

void qcow2_check(void *state, struct lunkit_job *job, unsigned flags, struct lunkit_check_report *report)
{
	struct qcow2 *q = state;
	if (!qcow2_job_begin(q, job))
		return;
	if (q->is_snapshot) {
		lunkit_error_set(lunkit_job_error(job), EOPNOTSUPP, "%.300s: only one snapshot of it is open", q->name);
		qcow2_job_end(q, job, lunkit_error_hint(lunkit_job_error(job), "Check the image itself, without the option snapshot."));
		return;
	}
	struct check_job *check = calloc(1, sizeof(*check));
	if (!check) {
		qcow2_job_end(q, job, lunkit_error_set(lunkit_job_error(job), ENOMEM, "%.300s: not enough memory", q->name));
		return;
	}
	check->quiet.q = q;
	check->quiet.done = is_quiet;
	check->job = job;
	check->flags = flags;
	check->report = report;
	quiet_wait(&check->quiet);
}
