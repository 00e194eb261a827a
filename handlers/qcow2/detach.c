/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Letting go of the backing file.
 *
 *     all durable ─► header: no name, durable ─► HOLD ─► the image forgets it ─► closed when nothing of its own is under way
 *                                                         then the format's extension goes, from the header's extensions:
 *
 *         │ header │ backing format │ feature names │ end │        1. its type becomes that of the end: what follows is hidden
 *         │ header │ end │          │ feature names │ end │        2. behind its sector, what follows is moved up
 *         │ header │ feature names │ end │                         3. its own sector as it will be
 *
 * Each is durable before the next, and changes what is read of the header in one sector only: torn anywhere, it stays a header. Should a step fail, what is left
 * is a format without a file, which nobody reads.
 */
#include <string.h>

#include "detach.h"

#define SECTOR 512u
#define POLL_NS ((uint64_t)10 * 1000000u)

static void next(struct detach *detach, void (*step)(struct detach *detach))
{
	detach->step = step;
	step(detach);
}

static void flush(struct detach *detach, void (*step)(struct detach *detach))
{
	detach->step = step;
	if (commit_flush(detach->q, &detach->waiter))
		step(detach);
}

/* ---- the extension ---- */

static void step_end(struct detach *detach)
{
	detach->q->header.backing_format[0] = '\0';
	detach->done(detach, 0);
}

/* The header's bytes from `from` to `to` as they will be: without what lies in [at, at + length). */
static int move(struct detach *detach, unsigned from, unsigned to)
{
	struct qcow2 *q = detach->q;
	int r = slice_modify(q, q->header_slice);
	if (r < 0)
		return r;
	uint8_t *data = q->header_slice->data;
	for (unsigned i = from; i < to; i++)
		data[i] = i + detach->length < detach->end ? data[i + detach->length] : 0;
	return 0;
}

static void step_own_sector(struct detach *detach)
{
	unsigned behind = (detach->at / SECTOR + 1) * SECTOR, end = MIN(behind, detach->end);
	/* What belongs there and lay behind the sector has moved already: it was kept in the tail that step_behind() left. */
	struct qcow2 *q = detach->q;
	uint8_t kept[SECTOR];
	unsigned from_behind = detach->stage; /* bytes of this sector that come from behind it */
	int r = slice_modify(q, q->header_slice);
	if (r < 0) {
		step_end(detach);
		return;
	}
	uint8_t *data = q->header_slice->data;
	memcpy(kept, data + detach->end, from_behind);
	for (unsigned i = detach->at; i < end; i++) {
		if (i + detach->length < end)
			data[i] = data[i + detach->length];
		else if (i + detach->length < end + from_behind)
			data[i] = kept[i + detach->length - end];
		else
			data[i] = 0;
	}
	memset(data + detach->end, 0, from_behind);
	if (detach->name_offset >= detach->end && range_within(detach->name_offset, detach->name_length, q->slice_size))
		memset(data + detach->name_offset, 0, detach->name_length);
	flush(detach, step_end);
}

static void step_behind(struct detach *detach)
{
	struct qcow2 *q = detach->q;
	unsigned behind = (detach->at / SECTOR + 1) * SECTOR;
	if (detach->end <= behind) {
		detach->stage = 0;
		next(detach, step_own_sector);
		return;
	}
	/* The first bytes behind the sector will move into it: kept behind the end until then. */
	detach->stage = MIN(detach->length, detach->end - behind);
	int r = slice_modify(q, q->header_slice);
	if (r == 0) {
		memcpy(q->header_slice->data + detach->end, q->header_slice->data + behind, detach->stage);
		r = move(detach, behind, detach->end);
	}
	if (r < 0)
		step_end(detach);
	else
		flush(detach, step_own_sector);
}

/* Finds the extension; true when all of them lie where they can be moved. */
static bool find_extension(struct detach *detach)
{
	const struct qcow2 *q = detach->q;
	const uint8_t *data = q->header_slice->data;
	uint64_t at = q->header.header_length;
	bool found = false;
	while (at + 8 <= q->slice_size) {
		uint32_t type = get_be32(data + at);
		uint64_t length = 8 + align_up((uint64_t)get_be32(data + at + 4), 8);
		if (type == EXTENSION_END) {
			detach->end = (unsigned)at + 8;
			/* Room behind the end for what is kept there. */
			return found && detach->end + detach->length <= q->slice_size && detach->length <= SECTOR;
		}
		if (type == EXTENSION_BACKING_FORMAT && !found) {
			found = true;
			detach->at = (unsigned)at;
			detach->length = (unsigned)length;
		}
		at += length;
	}
	return false;
}

static void step_hide(struct detach *detach)
{
	struct qcow2 *q = detach->q;
	if (!find_extension(detach) || header_set_be32(q, detach->at, EXTENSION_END) < 0)
		step_end(detach);
	else
		flush(detach, step_behind);
}

/* ---- the file ---- */

static void poll(struct lunkit_alarm *alarm);

static void close_below(struct detach *detach)
{
	struct qcow2 *q = detach->q;
	if (q->backing && lunkit_child_busy(q->backing)) {
		detach->poll.ring = poll;
		lunkit_alarm_set(q->host, &detach->poll, POLL_NS);
		return;
	}
	lunkit_child_close(q->backing);
	q->backing = NULL;
	next(detach, step_hide);
}

static void poll(struct lunkit_alarm *alarm)
{
	close_below(list_entry(alarm, struct detach, poll));
}

/* Requests are held, and none is below. */
static void forget(struct detach *detach)
{
	struct qcow2 *q = detach->q;
	q->has_backing = false;
	q->backing_length = 0;
	detach->name_offset = q->header.backing_offset;
	detach->name_length = q->header.backing_size;
	q->header.backing_name[0] = '\0';
	q->header.backing_offset = q->header.backing_size = 0;
	while (q->child_count)
		lunkit_child_request_free(q->children[--q->child_count]);
	hold_end(q);
	close_below(detach);
}

static void nameless(struct detach *detach)
{
	detach->step = forget;
	hold_begin(detach->q, &detach->waiter);
}

static void copies_durable(struct detach *detach)
{
	struct qcow2 *q = detach->q;
	int r = image_prepare_write(q, &detach->waiter);
	if (r == -EAGAIN)
		return;
	if (r == 0)
		r = header_set_be64(q, HEADER_BACKING_OFFSET, 0);
	if (r == 0)
		r = header_set_be32(q, HEADER_BACKING_SIZE, 0);
	if (r < 0)
		detach->done(detach, r);
	else
		flush(detach, nameless);
}

static void woken(struct waiter *waiter, int result)
{
	struct detach *detach = (struct detach *)waiter;
	struct qcow2 *q = detach->q;
	if (result >= 0) {
		detach->step(detach);
	} else if (!q->has_backing) {
		/* It is forgotten, durably: what is left is the format's name. */
		step_end(detach);
	} else {
		/* The name again, for whoever writes the header next. */
		header_set_be64(q, HEADER_BACKING_OFFSET, q->header.backing_offset);
		header_set_be32(q, HEADER_BACKING_SIZE, q->header.backing_size);
		detach->done(detach, result);
	}
}

void detach_start(struct qcow2 *q, struct detach *detach, void (*done)(struct detach *detach, int result))
{
	*detach = (struct detach){ .waiter.wake = woken, .q = q, .done = done };
	flush(detach, copies_durable);
}
