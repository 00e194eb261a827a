/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The scheduler: what is pending, and which of it goes on next.
 *
 *     submitted ─► takes effect ─► completes          each step is one choice of the generator
 *
 * A seed also chooses a temper: uniform, nearly in order, nearly in reverse order, writes late, flushes late.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/iov.h"
#include "fakehost/internal.h"

static struct fakehost_pending *submit(struct fakehost *fake, enum pending_kind kind, struct lunkit_io *io)
{
	if (fake->in_work)
		fakehost_broken("the function of a work calls what only the handler's thread may call");
	if (!io->done)
		fakehost_broken("an I/O without done()");
	for (unsigned i = 0; i < fake->pending_count; i++)
		if (fake->pending[i].io == io)
			fakehost_broken("an I/O is started that is in flight");
	fake->pending = fakehost_grow(fake->pending, fake->pending_count, &fake->pending_room, sizeof(*fake->pending));
	struct fakehost_pending *pending = &fake->pending[fake->pending_count++];
	*pending = (struct fakehost_pending){ .kind = kind, .io = io, .submitted = fakehost_moment(fake) };
	return pending;
}

static struct fakehost_pending *submit_file(struct fakehost *fake, enum pending_kind kind, struct lunkit_io *io, int fd)
{
	const struct fakehost_opening *opening = fakehost_opening(fake, fd);
	if (!opening->write && (kind == PENDING_WRITE || kind == PENDING_ALLOCATE))
		fakehost_broken("a write to %s, which is open for reading", opening->file->path);
	struct fakehost_pending *pending = submit(fake, kind, io);
	pending->opening = *opening;
	return pending;
}

static void transfer(struct lunkit_host *host, enum pending_kind kind, struct lunkit_io *io, int fd, const struct iovec *iov,
		     unsigned count, uint64_t offset, unsigned flags)
{
	struct fakehost *fake = fakehost_of(host);
	struct fakehost_pending *pending = submit_file(fake, kind, io, fd);
	unsigned alignment = fake->config.alignment ? fake->config.alignment : 512;
	uint64_t length = iov_length(iov, count), end;
	if (count == 0 || count > 1024)
		fakehost_broken("a transfer of %u entries", count);
	if (length == 0 || length > (1u << 30) || !checked_add(offset, length, &end) || end > INT64_MAX)
		fakehost_broken("a transfer of %llu bytes at %llu", (unsigned long long)length, (unsigned long long)offset);
	if (pending->opening.direct && (offset & (alignment - 1) || !iov_is_aligned(iov, count, alignment)))
		fakehost_broken("direct I/O at %llu is not aligned to %u", (unsigned long long)offset, alignment);
	if (flags & ~LUNKIT_IO_DSYNC)
		fakehost_broken("unknown flags %#x", flags);
	pending->iov = iov;
	pending->count = count;
	pending->offset = offset;
	pending->length = length;
	pending->flags = flags;
}

void lunkit_io_readv(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count, uint64_t offset)
{
	transfer(host, PENDING_READ, io, fd, iov, count, offset, 0);
}

void lunkit_io_writev(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count, uint64_t offset,
		      unsigned flags)
{
	transfer(host, PENDING_WRITE, io, fd, iov, count, offset, flags);
}

void lunkit_io_fdatasync(struct lunkit_host *host, struct lunkit_io *io, int fd)
{
	submit_file(fakehost_of(host), PENDING_SYNC, io, fd);
}

void lunkit_io_fallocate(struct lunkit_host *host, struct lunkit_io *io, int fd, int mode, uint64_t offset, uint64_t length)
{
	struct fakehost_pending *pending = submit_file(fakehost_of(host), PENDING_ALLOCATE, io, fd);
	pending->mode = mode;
	pending->offset = offset;
	pending->length = length;
}

void lunkit_io_defer(struct lunkit_host *host, struct lunkit_io *io, int result)
{
	submit(fakehost_of(host), PENDING_DEFER, io)->result = result;
}

void lunkit_io_listen(struct lunkit_host *host)
{
	(void)host;
}

/* There are no other threads here. */
void lunkit_io_post(struct lunkit_host *host, struct lunkit_io *io, int result)
{
	lunkit_io_defer(host, io, result);
}

void lunkit_memo(struct lunkit_host *host, const char *text)
{
	(void)host;
	(void)text;
	fakehost_broken("a handler leaves a note");
}

void lunkit_size_changed(struct lunkit_host *host)
{
	(void)host;
}

/* The shim's own, through its loop: a loop_op begins with done, as a lunkit_io does. */
void loop_defer(struct loop *loop, struct loop_op *op, int result)
{
	submit((struct fakehost *)loop, PENDING_DEFER, (struct lunkit_io *)op)->result = result;
}

/* The shim turns the loop while a handler that is being closed is busy. */
int loop_turn(struct loop *loop, bool wait)
{
	struct fakehost *fake = (struct fakehost *)loop;
	if (!fakehost_step(fake) && wait && !fakehost_ring(fake))
		fakehost_broken("a handler is busy and nothing goes on");
	return 0;
}

void lunkit_work_start(struct lunkit_host *host, struct lunkit_work *work)
{
	if (!work->function)
		fakehost_broken("a work without a function");
	submit(fakehost_of(host), PENDING_WORK, &work->io);
}

/* ---- alarms ---- */

void lunkit_alarm_cancel(struct lunkit_host *host, struct lunkit_alarm *alarm)
{
	struct fakehost *fake = fakehost_of(host);
	for (unsigned i = 0; i < fake->alarm_count; i++)
		if (fake->alarms[i] == alarm) {
			fake->alarms[i] = fake->alarms[--fake->alarm_count];
			return;
		}
}

void lunkit_alarm_set(struct lunkit_host *host, struct lunkit_alarm *alarm, uint64_t ns)
{
	struct fakehost *fake = fakehost_of(host);
	if (fake->in_work || !alarm->ring)
		fakehost_broken("an alarm that can't be set");
	lunkit_alarm_cancel(host, alarm);
	fake->alarms = fakehost_grow(fake->alarms, fake->alarm_count, &fake->alarm_room, sizeof(struct lunkit_alarm *));
	fake->alarms[fake->alarm_count++] = alarm;
	alarm->reserved[0] = fake->now_ns + ns;
}

static struct lunkit_alarm *first_alarm(const struct fakehost *fake)
{
	struct lunkit_alarm *first = NULL;
	for (unsigned i = 0; i < fake->alarm_count; i++)
		if (!first || fake->alarms[i]->reserved[0] < first->reserved[0])
			first = fake->alarms[i];
	return first;
}

static void ring(struct fakehost *fake, struct lunkit_alarm *alarm)
{
	fake->now_ns = MAX(fake->now_ns, alarm->reserved[0]);
	lunkit_alarm_cancel(&fake->host, alarm);
	alarm->ring(alarm);
}

bool fakehost_ring(struct fakehost *fake)
{
	struct lunkit_alarm *alarm = first_alarm(fake);
	if (alarm)
		ring(fake, alarm);
	return alarm;
}

/* ---- choosing ---- */

static unsigned choose(struct fakehost *fake)
{
	unsigned count = fake->pending_count;
	uint64_t *random = &fake->random;
	unsigned near = (unsigned)fakehost_below(random, MIN(count, 3u));
	switch (fake->temper) {
	case 0:
		return near;
	case 1:
		return count - 1 - near;
	case 2:
	case 3:
		/* Writes (or flushes) are looked over most of the time. */
		for (unsigned tries = 0; tries < 6; tries++) {
			unsigned i = (unsigned)fakehost_below(random, count);
			if (fake->pending[i].kind != (fake->temper == 2 ? PENDING_WRITE : PENDING_SYNC))
				return i;
		}
		break;
	}
	return (unsigned)fakehost_below(random, count);
}

static void take_effect(struct fakehost *fake, unsigned index)
{
	struct fakehost_pending p = fake->pending[index];
	size_t write = 0;
	switch (p.kind) {
	case PENDING_READ:
		p.result = fakehost_do_read(fake, p.opening.file, p.iov, p.count, p.offset);
		break;
	case PENDING_WRITE:
		p.result = fakehost_do_write(fake, p.opening.file, p.iov, p.count, p.offset, p.opening.dsync || p.flags & LUNKIT_IO_DSYNC,
					     p.submitted, &write);
		break;
	case PENDING_SYNC:
		p.result = fakehost_do_sync(fake, p.opening.file);
		break;
	case PENDING_ALLOCATE:
		p.result = fakehost_do_allocate(fake, p.opening.file, p.mode, p.offset, p.length, p.submitted, &write);
		break;
	case PENDING_DEFER:
		break;
	case PENDING_WORK:
		fake->in_work = true;
		p.result = ((struct lunkit_work *)p.io)->function(((struct lunkit_work *)p.io)->argument);
		fake->in_work = false;
		break;
	}
	p.effected = true;
	p.write = write;
	fake->pending[index] = p;
}

static void complete(struct fakehost *fake, unsigned index)
{
	struct fakehost_pending p = fake->pending[index];
	memmove(&fake->pending[index], &fake->pending[index + 1], (fake->pending_count - index - 1) * sizeof(p));
	fake->pending_count--;
	fakehost_complete_write(fake, p.write, p.result);
	if (p.kind == PENDING_SYNC)
		fakehost_complete_sync(fake, p.opening.file, p.submitted, p.result);
	p.io->done(p.io, p.result);
}

bool fakehost_step(struct fakehost *fake)
{
	if (!fake->pending_count)
		return false;
	fake->steps++;
	fake->now_ns += 1000 + fakehost_below(&fake->random, 30000);
	if (fakehost_below(&fake->random, 500) == 0)
		fake->now_ns += 20000000;
	struct lunkit_alarm *alarm = first_alarm(fake);
	if (alarm && alarm->reserved[0] <= fake->now_ns) {
		ring(fake, alarm);
		return true;
	}
	unsigned index = choose(fake);
	if (!fake->pending[index].effected)
		take_effect(fake, index);
	if (fakehost_below(&fake->random, 3))
		complete(fake, index);
	return true;
}

void fakehost_run_until(struct fakehost *fake, const bool *flag)
{
	for (uint64_t rings = 0; !*flag;) {
		if (fakehost_step(fake))
			continue;
		if (++rings > 10000 || !fakehost_ring(fake))
			fakehost_broken("a request or a job never ends");
	}
}

/* ---- images ---- */

int fakehost_try_open(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params, struct image **ret,
		      struct lunkit_error *err)
{
	fake->serving = false;
	int r = image_open(&fake->host, handler, params, ret, err);
	fake->serving = r == 0;
	return r;
}

struct image *fakehost_open(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image *image;
	if (fakehost_try_open(fake, handler, params, &image, &err) < 0) {
		fprintf(stderr, "cannot open %s: %s\n", params->name, err.message);
		abort();
	}
	return image;
}

void fakehost_close(struct fakehost *fake, struct image *image)
{
	fake->serving = false;
	image_close(image);
}

static void request_done(struct image_request *request, int result)
{
	struct iovec *answer = request->user;
	answer->iov_base = NULL;
	answer->iov_len = (size_t)(ssize_t)result;
}

int fakehost_request(struct fakehost *fake, struct image *image, enum lunkit_op op, unsigned flags, uint64_t offset, void *buffer,
		     uint64_t length)
{
	struct image_request *request = malloc(image_request_size(image));
	struct iovec iov = { buffer, length };
	struct iovec answer = { request, 0 };
	if (!request)
		fakehost_broken("no memory for a request");
	image_request_init(image, request);
	request->user = &answer;
	request->done = request_done;
	request->request.op = op;
	request->request.flags = flags;
	request->request.offset = offset;
	request->request.length = length;
	request->request.iov = &iov;
	request->request.iov_count = buffer ? 1 : 0;
	image_submit(image, request);
	for (unsigned rings = 0; answer.iov_base;)
		if (!fakehost_step(fake) && (++rings > 10000 || !fakehost_ring(fake)))
			fakehost_broken("a request never ends");
	free(request);
	return (int)(ssize_t)answer.iov_len;
}
