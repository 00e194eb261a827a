/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rounds: metadata goes to the file in the order of order.c, and a flush is answered when a round that began after it has ended.
 *
 *     begin: dirty slices become the round's ─► kind by kind: (fdatasync, when what comes before is not durable) ─► all of the kind, side by side
 *            ─► fdatasync ─► flushes answered, freed clusters counted down ─► next round, if somebody waits for one
 *
 * A round starts for a flush, when half of the cache is dirty, when something waits for clusters to be free, and a few seconds after the first
 * change, so that an idle image is complete on disk. Flushes that come while one runs share the next. A round that fails leaves everything dirty
 * that is not known to be durable, and writes it again next time: a write that did arrive is not harmed by that.
 *
 * Where another process may have to go on with the image (q->survive), a request that has changed mappings, or has written where a mapping is new, is answered
 * once these are in the file: as soon as a round has written them, not when that is durable. A round that is there for such requests only does not end with a sync:
 * its slices are clean, and what it wrote is order.c's to remember until a flush comes, or the timer. What is lost with this process then is leaks.
 *
 * Slices that stand next to each other go out in one write.
 */
#include <string.h>

#include "pack.h"
#include "qcow2.h"

#define TICK_NS ((uint64_t)5 * 1000000000u)
/* Ticks without any lookup until the cache is given back. */
#define IDLE_TICKS 12

static void advance(struct qcow2 *q);

void commit_arm(struct qcow2 *q)
{
	if (q->commit.armed)
		return;
	q->commit.armed = true;
	lunkit_alarm_set(q->host, &q->commit.alarm, TICK_NS);
}

static void tick(struct lunkit_alarm *alarm)
{
	struct qcow2 *q = list_entry(alarm, struct qcow2, commit.alarm);
	struct commit *commit = &q->commit;
	commit->armed = false;
	alloc_tick(q);
	if (commit->dirty_count || q->freeing.open.count || order_has_metadata(&q->order))
		commit_want(q);
	commit->idle_ticks = q->cache.uses == commit->uses_seen ? commit->idle_ticks + 1 : 0;
	commit->uses_seen = q->cache.uses;
	if (commit->idle_ticks >= IDLE_TICKS) {
		cache_shrink(q, true);
		blob_shrink(q);
		cow_shrink(q);
		encryption_shrink(q);
		pack_shrink(q);
	}
	if (commit->dirty_count || q->cache.count || free_is_pending(q))
		commit_arm(q);
}

void commit_init(struct qcow2 *q)
{
	struct commit *commit = &q->commit;
	for (unsigned i = 0; i < ORDER_KINDS; i++) {
		list_init(&commit->dirty[i]);
		list_init(&commit->round[i]);
	}
	list_init(&commit->written);
	waiters_init(&commit->next);
	waiters_init(&commit->current);
	waiters_init(&commit->store_next);
	waiters_init(&commit->store_current);
	waiters_init(&commit->ended);
	for (unsigned i = 0; i < WRITERS; i++) {
		commit->writers[i].next_free = commit->free_writers;
		commit->free_writers = &commit->writers[i];
	}
	commit->alarm.ring = tick;
}

void commit_destroy(struct qcow2 *q)
{
	lunkit_alarm_cancel(q->host, &q->commit.alarm);
}

/* ---- a slice's way through a round ---- */

/* Out of the round: dirty again when it has changed meanwhile or when it may not be on disk. */
static void slice_release(struct qcow2 *q, struct slice *slice, bool durable)
{
	slice_thaw(q, slice);
	bool dirty = !durable || slice->again;
	slice->committing = slice->written = slice->again = false;
	if (slice->forgotten)
		slice_destroy(q, slice);
	else if (dirty)
		slice_modify(q, slice);
}

static void release_all(struct qcow2 *q, struct list *list, bool durable)
{
	for (struct list *node; (node = list_pop(list));)
		slice_release(q, list_entry(node, struct slice, node), durable);
}

/* ---- writing ---- */

static void write_done(struct transfer *transfer, int result)
{
	struct writer *writer = (struct writer *)transfer;
	struct qcow2 *q = transfer->q;
	struct commit *commit = &q->commit;
	if (result < 0 && !commit->error)
		commit->error = result;
	if (result == 0)
		order_round_wrote(&q->order, (enum order_kind)commit->kind);
	for (unsigned i = 0; i < writer->count; i++) {
		struct slice *slice = writer->slices[i];
		if (result < 0) {
			slice_release(q, slice, false);
			continue;
		}
		slice->written = true;
		slice_thaw(q, slice);
		list_add_tail(&commit->written, &slice->node);
	}
	commit->writes--;
	writer->next_free = commit->free_writers;
	commit->free_writers = writer;
	advance(q);
}

static bool joins(const struct slice *slice, unsigned kind)
{
	/* In the round's list, and not yet with a writer. */
	return slice && slice->committing && slice->kind == kind && !list_empty(&slice->node) && !slice->written;
}

/* The slice and those that follow it in the file. */
static void write_run(struct qcow2 *q, struct slice *slice)
{
	struct commit *commit = &q->commit;
	struct writer *writer = commit->free_writers;
	commit->free_writers = writer->next_free;
	for (unsigned back = 1; back < WRITER_SLICES; back++) {
		struct slice *before = slice->offset < q->slice_size ? NULL : cache_peek(q, slice->offset - q->slice_size);
		if (!joins(before, commit->kind))
			break;
		slice = before;
	}
	writer->count = 0;
	uint64_t offset = slice->offset;
	do {
		list_remove(&slice->node);
		writer->slices[writer->count] = slice;
		writer->iov[writer->count++] = (struct iovec){ slice_committed(slice), q->slice_size };
		slice = writer->count < WRITER_SLICES ? cache_peek(q, offset + ((uint64_t)writer->count << q->slice_bits)) : NULL;
	} while (joins(slice, commit->kind));
	commit->writes++;
	writer->transfer.done = write_done;
	transfer_start(q, &writer->transfer, true, writer->iov, writer->count, offset, (uint64_t)writer->count << q->slice_bits);
}

/*
 * Linux tells of what could not be written once: the pages are marked clean or dropped, and the next fdatasync succeeds. With them may be gone what guests were told is
 * written, and what new mappings are to show, old data included. So no mapping is written after this, and no flush succeeds, until the image is opened
 * again by somebody who has seen the error: on disk it is as of the last flush that succeeded. Nor does any
 * mapping change in memory: it would only take room that those who read need.
 */
static void sync_failed(struct qcow2 *q, int result)
{
	q->commit.error = result;
	if (q->broken)
		return;
	lunkit_log(
		LUNKIT_LOG_ERROR,
		"%s: a flush failed: %s. Data that the guest was told is written may be lost, and the kernel tells of it once only: every "
		"flush fails from now on, until the image is detached and attached again",
		q->name, strerror(-result));
	q->broken = result;
}

static void sync_done(struct lunkit_io *io, int result)
{
	struct qcow2 *q = list_entry(io, struct qcow2, commit.sync);
	struct commit *commit = &q->commit;
	if (result == -EINTR || result == -EAGAIN || result == -ECANCELED) {
		lunkit_io_fdatasync(q->host, &commit->sync, q->fd);
		return;
	}
	order_sync_end(&q->order, result == 0);
	if (result == 0) {
		release_all(q, &commit->written, true);
		cache_room(q, 0);
	} else {
		sync_failed(q, result);
	}
	advance(q);
}

/* ---- the round ---- */

static void take_waiters(struct waiters *to, struct waiters *from)
{
	*to = *from;
	if (!to->first)
		waiters_init(to);
	waiters_init(from);
}

static void wake_stored(struct qcow2 *q, int error)
{
	struct waiters stored;
	take_waiters(&stored, &q->commit.store_current);
	if (stored.first)
		waiters_wake(&stored, error);
}

static void begin(struct qcow2 *q)
{
	struct commit *commit = &q->commit;
	commit->running = true;
	commit->syncs = commit->wanted || commit->next.first;
	commit->wanted = commit->store_wanted = false;
	commit->error = q->broken;
	commit->kind = 0;
	take_waiters(&commit->current, &commit->next);
	take_waiters(&commit->store_current, &commit->store_next);
	for (unsigned kind = 0; kind < ORDER_KINDS; kind++)
		for (struct list *node; (node = list_pop(&commit->dirty[kind]));) {
			struct slice *slice = list_entry(node, struct slice, node);
			slice->dirty = false;
			slice->committing = true;
			list_add_tail(&commit->round[kind], node);
		}
	commit->dirty_count = 0;
	order_begin(&q->order);
	if (commit->syncs)
		free_round_begin(q);
	advance(q);
}

static void end(struct qcow2 *q)
{
	struct commit *commit = &q->commit;
	int error = commit->error;
	for (unsigned kind = 0; kind < ORDER_KINDS; kind++)
		release_all(q, &commit->round[kind], false);
	release_all(q, &commit->written, error == 0);
	commit->running = false;
	free_round_end(q, error == 0);
	struct waiters flushes = commit->current;
	waiters_init(&commit->current);
	if (flushes.first)
		waiters_wake(&flushes, error);
	wake_stored(q, error);
	waiters_wake(&commit->ended, error);
	/* When nothing can be written, there will be no room. */
	cache_room(q, error);
	if (!commit->running && (commit->next.first || commit->store_next.first || ((commit->wanted || commit->store_wanted) && !error)))
		begin(q);
}

static void start_sync(struct qcow2 *q)
{
	order_sync_begin(&q->order);
	q->commit.sync.done = sync_done;
	lunkit_io_fdatasync(q->host, &q->commit.sync, q->fd);
}

/* Called when something of the round has ended, and at its beginning: starts what comes next. */
static void advance(struct qcow2 *q)
{
	struct commit *commit = &q->commit;
	while (!commit->error && commit->kind < ORDER_KINDS) {
		struct list *round = &commit->round[commit->kind];
		if (!list_empty(round) && !commit->writes && !order_may_write(&q->order, (enum order_kind)commit->kind)) {
			start_sync(q);
			return;
		}
		while (!list_empty(round) && commit->free_writers)
			write_run(q, list_entry(round->next, struct slice, node));
		if (commit->writes)
			return;
		commit->kind++;
	}
	if (commit->writes)
		return;
	if (!commit->error)
		wake_stored(q, 0);
	if (!commit->error && commit->syncs && !order_round_is_durable(&q->order)) {
		start_sync(q);
		return;
	}
	end(q);
}

static void started(struct lunkit_io *io, int result)
{
	struct qcow2 *q = list_entry(io, struct qcow2, commit.start);
	(void)result;
	q->commit.starting = false;
	if (!q->commit.running)
		begin(q);
}

/* From the loop: whoever asks is in the middle of something. */
static void start_soon(struct qcow2 *q)
{
	struct commit *commit = &q->commit;
	if (commit->running || commit->starting)
		return;
	commit->starting = true;
	commit->start.done = started;
	lunkit_io_defer(q->host, &commit->start, 0);
}

void commit_want(struct qcow2 *q)
{
	q->commit.wanted = true;
	start_soon(q);
}

void commit_store_soon(struct qcow2 *q)
{
	q->commit.store_wanted = true;
	start_soon(q);
}

bool commit_flush(struct qcow2 *q, struct waiter *waiter)
{
	struct commit *commit = &q->commit;
	if (!commit->running && !commit->dirty_count && !q->broken && order_is_durable(&q->order))
		return true;
	waiters_add(&commit->next, waiter);
	commit_want(q);
	return false;
}

void commit_store(struct qcow2 *q, struct waiter *waiter)
{
	waiters_add(&q->commit.store_next, waiter);
	start_soon(q);
}
