/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A request from submit to its end.
 *
 *     run: step, step, … each maps what is at position and starts a part for it, or completes it, or parks the request
 *             └── until the end is reached, a step fails, or all parts are in use
 *     the end of a part, or of a wait: run again. All is mapped and no part is left: the request is done.
 *
 * Invariants: a request is parked on one thing at a time, and is woken exactly once for it. After a failure nothing new is started, and the request ends
 * when its parts have. A part's memory list is part of the request's own when it covers it, or a copy.
 */
#include <stdlib.h>

#include "qcow2.h"

static void request_end(struct qcow2_request *r)
{
	if (r->done)
		r->done(r, r->result);
	else
		lunkit_request_done(r->request, r->result);
}

static void flushed(struct waiter *waiter, int result)
{
	struct qcow2_request *r = (struct qcow2_request *)waiter;
	r->result = result;
	request_end(r);
}

static bool changes(enum lunkit_op op)
{
	return op == LUNKIT_WRITE || op == LUNKIT_WRITE_ZEROES || op == LUNKIT_DISCARD;
}

static void finish(struct qcow2_request *r)
{
	if (r->q->durable && r->result == 0 && changes(r->request->op)) {
		r->waiter.wake = flushed;
		if (!commit_flush(r->q, &r->waiter))
			return;
	} else if (r->q->survive && r->result == 0 && !r->done && changes(r->request->op) &&
		   !map_is_stored(r->q, r->request->offset, r->end)) {
		r->waiter.wake = flushed;
		commit_store(r->q, &r->waiter);
		return;
	}
	request_end(r);
}

static int take_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	if (__builtin_expect(q->hold.active, 0))
		return request_park(r, &q->hold.waiters);
	/* The disk has become smaller meanwhile. Own requests reach behind its end. */
	if (__builtin_expect(r->end > q->size, 0) && !r->done)
		return -EIO;
	return r->step(r);
}

static void run(struct qcow2_request *r)
{
	if (r->running) {
		r->again = true;
		return;
	}
	r->running = true;
	do {
		r->again = false;
		while (r->position < r->end && r->result == 0 && r->free_parts && !r->parked) {
			int s = take_step(r);
			if (s == -EAGAIN)
				r->parked = true;
			else if (s < 0)
				r->result = s;
		}
	} while (r->again);
	r->running = false;
	if (!r->parked && !r->in_flight && (r->position >= r->end || r->result))
		finish(r);
}

static void woken(struct waiter *waiter, int result)
{
	struct qcow2_request *r = (struct qcow2_request *)waiter;
	r->parked = false;
	if (result < 0 && !r->result)
		r->result = result;
	run(r);
}

/* ---- parts ---- */

/* The guest's memory for length bytes at the position: the request's own list where an entry begins and ends there, else a copy. */
static bool slice_memory(struct qcow2_request *r, struct part *part, uint64_t length)
{
	const struct lunkit_request *request = r->request;
	if (r->zeroes) {
		unsigned count = (unsigned)((length + ZEROES_SIZE - 1) / ZEROES_SIZE);
		struct iovec *out = part->own;
		if (count > PART_IOV)
			out = part->heap = malloc(count * sizeof(*out));
		if (!out)
			return false;
		for (unsigned i = 0; i < count; i++)
			out[i] = (struct iovec){ qcow2_zeroes, MIN(length - i * ZEROES_SIZE, ZEROES_SIZE) };
		part->iov = out;
		part->iov_count = count;
		return true;
	}
	const struct iovec *first = request->iov + r->iov_index;
	uint64_t left = length + r->iov_skip;
	unsigned count = 0;
	while (left > first[count].iov_len)
		left -= first[count++].iov_len;
	count++;
	bool whole_end = left == first[count - 1].iov_len;
	if (r->iov_skip == 0 && whole_end) {
		part->iov = first;
	} else {
		struct iovec *out = part->own;
		if (count > PART_IOV)
			out = part->heap = malloc(count * sizeof(*out));
		if (!out)
			return false;
		for (unsigned i = 0; i < count; i++)
			out[i] = first[i];
		out[count - 1].iov_len = left;
		out[0].iov_base = (char *)out[0].iov_base + r->iov_skip;
		out[0].iov_len -= r->iov_skip;
		part->iov = out;
	}
	part->iov_count = count;
	r->iov_index += whole_end ? count : count - 1;
	r->iov_skip = whole_end ? 0 : left;
	return true;
}

struct part *part_take(struct qcow2_request *r, uint64_t length)
{
	struct part *part = r->free_parts;
	part->heap = NULL;
	part->cow = NULL;
	part->guest_offset = r->position;
	part->length = length;
	if (!slice_memory(r, part, length))
		return NULL;
	part->epoch = r->q->epoch;
	r->q->in_flight[part->epoch]++;
	r->free_parts = part->next_free;
	r->in_flight++;
	r->position += length;
	return part;
}

void part_done(struct part *part, int result)
{
	struct qcow2_request *r = part->r;
	struct qcow2 *q = r->q;
	if (--q->in_flight[part->epoch] == 0) {
		if (part->epoch != q->epoch)
			free_check(q);
		hold_settle(q);
	}
	free(part->heap);
	part->next_free = r->free_parts;
	r->free_parts = part;
	r->in_flight--;
	if (result < 0 && !r->result)
		r->result = result;
	if (!r->parked)
		run(r);
}

/* ---- beginning ---- */

static void begin(struct qcow2 *q, struct qcow2_request *r, struct lunkit_request *request)
{
	r->waiter.wake = woken;
	r->q = q;
	r->request = request;
	r->position = request->offset;
	r->end = request->offset + request->length;
	r->iov_index = 0;
	r->iov_skip = 0;
	r->in_flight = 0;
	r->result = 0;
	r->running = r->again = r->parked = r->zeroes = false;
	r->free_parts = NULL;
	for (unsigned i = PARTS; i--;) {
		r->parts[i].r = r;
		r->parts[i].next_free = r->free_parts;
		r->free_parts = &r->parts[i];
	}
}

static void start(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	struct lunkit_request *request = r->request;
	switch (request->op) {
	case LUNKIT_READ:
		r->step = read_step;
		run(r);
		return;
	case LUNKIT_WRITE:
		r->step = request->flags & REQUEST_FILL ? fill_step : write_step;
		run(r);
		return;
	case LUNKIT_FLUSH:
		r->waiter.wake = flushed;
		if (commit_flush(q, &r->waiter))
			request_end(r);
		return;
	case LUNKIT_DISCARD:
		r->step = request->flags & REQUEST_DROP ? drop_step : discard_step;
		run(r);
		return;
	case LUNKIT_WRITE_ZEROES:
		r->zeroes = true;
		r->step = zero_step;
		run(r);
		return;
	case LUNKIT_EXTENTS:
		request->extent_count = 0;
		r->below.state = BELOW_UNKNOWN;
		r->step = extents_step;
		run(r);
		return;
	}
	r->result = -EINVAL;
	request_end(r);
}

void request_submit(struct qcow2 *q, struct lunkit_request *request)
{
	struct qcow2_request *r = request->memory;
	begin(q, r, request);
	r->done = NULL;
	start(r);
}

void request_submit_own(struct qcow2 *q, struct lunkit_request *request, void (*done)(struct qcow2_request *r, int result))
{
	struct qcow2_request *r = request->memory;
	begin(q, r, request);
	r->done = done;
	start(r);
}
