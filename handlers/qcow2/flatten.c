/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Flattening: what is only in the backing file is copied, while requests go on; then the image lets go of it.
 *
 *     scan: the image's next hole ─► is it zeros below? skipped : chunk ─► several copiers: read below ─► written where still nothing is
 *     the image done ─► the same for its snapshots (fill.c)
 *     all done, durable ─► header without the backing file's name and format (detach.c), durable ─► HOLD ─► forgotten ─► closed
 *
 * Invariants: what lies below never changes, so what was read of it is right for each cluster that is still unallocated when its write begins; such a write is
 * an allocating write like a guest's (cow.c), and others of the cluster wait for it. A cluster of zeros stays unallocated: without a backing file that reads as
 * zeros too. Nothing becomes unallocated meanwhile (zero.c).
 *
 * Cancelled or failed, it leaves what was copied.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "detach.h"
#include "flatten.h"

#define COPIERS 4
#define CHUNK ((uint64_t)1 << 20)
/* Looks at the rate, and at whether it is cancelled, as often as that. */
#define PAUSE_NS ((uint64_t)50 * 1000000u)
/* What may be copied at once after a time of less. */
#define BURST_NS ((uint64_t)100 * 1000000u)

struct copier {
	struct flatten *flatten;
	uint64_t offset, length;
	uint8_t *buffer;
	struct iovec iov;
	struct lunkit_child_request *child;
	struct lunkit_request request;
	struct qcow2_request *memory;
	struct copier *next_idle;
};

struct flatten {
	struct waiter waiter; /* first */
	struct qcow2 *q;
	struct lunkit_job *job;
	struct fill fill;
	struct detach detach;
	uint64_t total;		/* of the image and its snapshots, for progress */
	uint64_t position, end; /* of the scan, and what there is below */
	uint64_t hole_end;	/* position lies in a hole that ends there */
	uint64_t data_end;	/* … and there is data below until there */
	uint64_t paid_ns;	/* the time that what was copied is paid for */
	unsigned busy;		/* copiers, and the scan's own request */
	bool scanning, stepping, again;
	int result;
	struct lunkit_io start;
	struct lunkit_alarm pause;
	bool paused;
	struct lunkit_extent extent;
	struct lunkit_request request;
	struct qcow2_request *memory;
	struct lunkit_child_request *child;
	struct copier copiers[COPIERS], *idle;
};

static void go_on(struct flatten *flatten);

/* ---- the end ---- */

static void release(struct flatten *flatten)
{
	for (unsigned i = 0; i < COPIERS; i++) {
		free(flatten->copiers[i].buffer);
		free(flatten->copiers[i].memory);
		lunkit_child_request_free(flatten->copiers[i].child);
		flatten->copiers[i] = (struct copier){ 0 };
	}
	lunkit_child_request_free(flatten->child);
	flatten->child = NULL;
	free(flatten->memory);
	flatten->memory = NULL;
}

static void flatten_end(struct flatten *flatten, int result)
{
	struct qcow2 *q = flatten->q;
	struct lunkit_job *job = flatten->job;
	release(flatten);
	if (result == -ECANCELED)
		lunkit_error_set(lunkit_job_error(job), result, "%.300s: flattening was cancelled: what was copied stays", q->name);
	else if (result < 0)
		lunkit_error_set(lunkit_job_error(job), result, "%.300s: cannot flatten the image: %s", q->name, strerror(-result));
	free(flatten);
	qcow2_job_end(q, job, result);
}

static void detached(struct detach *detach, int result)
{
	flatten_end(list_entry(detach, struct flatten, detach), result);
}

static void filled(struct fill *fill, int result)
{
	struct flatten *flatten = list_entry(fill, struct flatten, fill);
	if (result < 0) {
		flatten_end(flatten, result);
		return;
	}
	lunkit_job_progress(flatten->job, flatten->total, flatten->total);
	detach_start(flatten->q, &flatten->detach, detached);
}

static void finish(struct flatten *flatten)
{
	if (flatten->result < 0) {
		flatten_end(flatten, flatten->result);
		return;
	}
	release(flatten);
	fill_start(flatten->q, &flatten->fill, flatten->job, flatten->end, flatten->total, filled);
}

static void fail(struct flatten *flatten, int result)
{
	if (result < 0 && !flatten->result)
		flatten->result = result;
}

/* ---- copying ---- */

static void copied(struct copier *copier, int result)
{
	struct flatten *flatten = copier->flatten;
	fail(flatten, result);
	copier->next_idle = flatten->idle;
	flatten->idle = copier;
	flatten->busy--;
	lunkit_job_progress(flatten->job, MIN(flatten->position, flatten->end), flatten->total);
	go_on(flatten);
}

static void written(struct qcow2_request *r, int result)
{
	copied(list_entry(r->request, struct copier, request), result);
}

static void below_read(struct lunkit_child_request *child, int result)
{
	struct copier *copier = child->user;
	struct qcow2 *q = copier->flatten->q;
	if (result < 0) {
		copied(copier, result);
		return;
	}
	copier->iov = (struct iovec){ copier->buffer, copier->length };
	copier->request = (struct lunkit_request){ .op = LUNKIT_WRITE,
						   .flags = REQUEST_FILL,
						   .offset = copier->offset,
						   .length = copier->length,
						   .iov = &copier->iov,
						   .iov_count = 1,
						   .memory = copier->memory };
	request_submit_own(q, &copier->request, written);
}

static void copy(struct copier *copier, uint64_t offset, uint64_t length)
{
	struct flatten *flatten = copier->flatten;
	uint64_t there = MIN(length, flatten->q->backing_length - offset);
	copier->offset = offset;
	copier->length = length;
	memset(copier->buffer + there, 0, length - there);
	copier->iov = (struct iovec){ copier->buffer, there };
	copier->child->request = (struct lunkit_request){ .op = LUNKIT_READ,
							  .offset = offset,
							  .length = there,
							  .iov = &copier->iov,
							  .iov_count = 1,
							  .memory = copier->child->request.memory };
	copier->child->done = below_read;
	copier->child->user = copier;
	flatten->busy++;
	lunkit_child_submit(flatten->q->backing, copier->child);
}

bool flatten_is_zero(const uint8_t *data, uint64_t length)
{
	return !data[0] && memcmp(data, data + 1, length - 1) == 0;
}

static void skip(struct qcow2_request *r, uint64_t length)
{
	r->position += length;
	r->iov_skip += length;
}

/* One cluster that still is a hole and is not zeros: as many as follow it go along. */
int fill_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	uint64_t cluster = r->position >> q->cluster_bits, length = r->end - r->position;
	const uint8_t *data = (const uint8_t *)r->request->iov[0].iov_base + (r->position - r->request->offset);
	int s = image_prepare_write(q, &r->waiter);
	if (s < 0)
		return s;
	struct cow *cow = cow_overlapping(q, cluster, (length + q->cluster_mask) >> q->cluster_bits);
	if (cow && cow->cluster <= cluster)
		return request_park(r, &cow->waiters);
	if (cow)
		length = (cow->cluster - cluster) << q->cluster_bits;
	struct mapping mapping;
	s = map_lookup(q, r->position, length, &r->waiter, &mapping);
	if (s < 0)
		return s;
	uint64_t filled = 0;
	while (filled < mapping.length && !flatten_is_zero(data + filled, MIN(q->cluster_size, mapping.length - filled)))
		filled += MIN(q->cluster_size, mapping.length - filled);
	if (mapping.kind != MAP_UNALLOCATED)
		skip(r, mapping.length);
	else if (filled == 0)
		skip(r, MIN(q->cluster_size, mapping.length));
	else
		return cow_write(r, &mapping, filled);
	return 0;
}

/* ---- the scan ---- */

static void scanned(struct flatten *flatten, int result)
{
	flatten->scanning = false;
	flatten->busy--;
	fail(flatten, result);
	go_on(flatten);
}

static void image_scanned(struct qcow2_request *r, int result)
{
	struct flatten *flatten = list_entry(r->request, struct flatten, request);
	uint64_t length = flatten->request.extent_count ? flatten->extent.length : 0;
	if (result == 0 && !length)
		result = -EIO;
	if (result == 0 && flatten->extent.flags)
		flatten->position += length;
	else if (result == 0)
		flatten->hole_end = MIN(flatten->position + length, flatten->end);
	scanned(flatten, result);
}

static void below_scanned(struct lunkit_child_request *child, int result)
{
	struct flatten *flatten = child->user;
	uint64_t cluster = flatten->q->cluster_size;
	if (result == 0 && !child->request.extent_count)
		result = -EIO;
	if (result == 0) {
		uint64_t until = MIN(flatten->extent.offset + flatten->extent.length, flatten->hole_end);
		/* A cluster is skipped only when all of it is zeros. */
		if (flatten->extent.flags & LUNKIT_EXTENT_ZERO && (until == flatten->end || align_down(until, cluster) > flatten->position))
			flatten->position = until == flatten->end ? until : align_down(until, cluster);
		else
			flatten->data_end = MIN(MAX(align_up(until, cluster), flatten->position + 1), flatten->hole_end);
	}
	scanned(flatten, result);
}

static void scan(struct flatten *flatten)
{
	struct qcow2 *q = flatten->q;
	struct lunkit_request request = {
		.op = LUNKIT_EXTENTS, .offset = flatten->position, .extent_capacity = 1, .extents = &flatten->extent
	};
	flatten->scanning = true;
	flatten->busy++;
	if (flatten->position < flatten->hole_end) {
		request.length = flatten->hole_end - flatten->position;
		request.memory = flatten->child->request.memory;
		flatten->child->request = request;
		flatten->child->done = below_scanned;
		flatten->child->user = flatten;
		lunkit_child_submit(q->backing, flatten->child);
	} else {
		request.length = flatten->end - flatten->position;
		request.memory = flatten->memory;
		flatten->request = request;
		request_submit_own(q, &flatten->request, image_scanned);
	}
}

/* ---- the rate ---- */

static void rung(struct lunkit_alarm *alarm)
{
	struct flatten *flatten = list_entry(alarm, struct flatten, pause);
	flatten->paused = false;
	go_on(flatten);
}

uint64_t flatten_wait_ns(const struct lunkit_job *job, uint64_t *paid_ns, uint64_t length)
{
	uint64_t rate = lunkit_job_rate(job), now = clock_now_ns();
	if (!rate)
		return 0;
	if (*paid_ns > now)
		return *paid_ns - now;
	*paid_ns = MAX(*paid_ns, now - MIN(now, BURST_NS)) + (uint64_t)((double)length * 1e9 / (double)rate);
	return 0;
}

/* True: length bytes may be copied now. */
static bool may_copy(struct flatten *flatten, uint64_t length)
{
	uint64_t wait = flatten_wait_ns(flatten->job, &flatten->paid_ns, length);
	if (!wait)
		return true;
	flatten->paused = true;
	flatten->pause.ring = rung;
	lunkit_alarm_set(flatten->q->host, &flatten->pause, MIN(wait, PAUSE_NS));
	return false;
}

/* ---- all of it ---- */

/* True: look again. */
static bool advance(struct flatten *flatten)
{
	struct qcow2 *q = flatten->q;
	if (!flatten->result && lunkit_job_cancelled(flatten->job))
		flatten->result = -ECANCELED;
	if (flatten->result || flatten->paused || flatten->scanning)
		return false;
	if (flatten->position < flatten->data_end) {
		uint64_t chunk = MAX(CHUNK, q->cluster_size), begin = align_down(flatten->position, q->cluster_size);
		uint64_t end = MIN(MIN(begin + chunk, align_up(flatten->data_end, q->cluster_size)), q->size);
		struct copier *copier = flatten->idle;
		if (!copier || !may_copy(flatten, end - begin))
			return false;
		flatten->idle = copier->next_idle;
		flatten->position = MIN(end, flatten->data_end);
		copy(copier, begin, end - begin);
		return true;
	}
	if (flatten->position >= flatten->end)
		return false;
	scan(flatten);
	return true;
}

static void go_on(struct flatten *flatten)
{
	if (flatten->stepping) {
		flatten->again = true;
		return;
	}
	flatten->stepping = true;
	do {
		flatten->again = false;
		while (advance(flatten))
			;
	} while (flatten->again);
	flatten->stepping = false;
	if (!flatten->busy && !flatten->paused && (flatten->result || flatten->position >= flatten->end))
		finish(flatten);
}

static void started(struct lunkit_io *io, int result)
{
	(void)result;
	go_on(list_entry(io, struct flatten, start));
}

static int prepare(struct flatten *flatten)
{
	struct qcow2 *q = flatten->q;
	flatten->memory = malloc(sizeof(*flatten->memory));
	flatten->child = lunkit_child_request_new(q->backing);
	if (!flatten->memory || !flatten->child)
		return -ENOMEM;
	for (unsigned i = 0; i < COPIERS; i++) {
		struct copier *copier = &flatten->copiers[i];
		copier->flatten = flatten;
		copier->buffer = file_buffer(q, MAX(CHUNK, q->cluster_size));
		copier->memory = malloc(sizeof(*copier->memory));
		copier->child = lunkit_child_request_new(q->backing);
		if (!copier->buffer || !copier->memory || !copier->child)
			return -ENOMEM;
		copier->next_idle = flatten->idle;
		flatten->idle = copier;
	}
	return 0;
}

void qcow2_flatten(void *state, struct lunkit_job *job)
{
	struct qcow2 *q = state;
	if (!qcow2_job_begin(q, job))
		return;
	if (!q->has_backing) {
		qcow2_job_end(q, job, 0);
		return;
	}
	if (!q->backing) {
		lunkit_error_set(lunkit_job_error(job), ENOTCONN, "%.300s: its backing file is not open", q->name);
		qcow2_job_end(q, job, -ENOTCONN);
		return;
	}
	struct flatten *flatten = calloc(1, sizeof(*flatten));
	if (!flatten) {
		qcow2_job_end(q, job, lunkit_error_set(lunkit_job_error(job), ENOMEM, "%.300s: not enough memory", q->name));
		return;
	}
	flatten->q = q;
	flatten->job = job;
	flatten->end = MIN(q->size, q->backing_length);
	flatten->total = flatten->end + fill_total(q);
	int r = prepare(flatten);
	if (r < 0) {
		flatten_end(flatten, r);
		return;
	}
	/* From the loop: what follows may end at once. */
	flatten->start.done = started;
	lunkit_io_defer(q->host, &flatten->start, 0);
}
