/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starting operations: each fills one submission entry, whose user_data is the operation. An entry whose user_data is 0 (a cancellation, an advice)
 * completes without anybody being told.
 *
 * A poll operation keeps what it takes to arm it again in its own members: the fd in result, the events in flags.
 */
#include <errno.h>
#include <fcntl.h>

#include "io/ring.h"

/* Linux moves at most this much in one call; a length in an entry has 32 bits. */
#define RW_MAX 0x7ffff000u

/* NULL when the ring is broken: then the operation has been deferred with the error, and loop_turn() will say so. */
static inline struct io_uring_sqe *begin(struct loop *loop, struct loop_op *op, enum op_kind kind)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
	if (__builtin_expect(!sqe, 0)) {
		sqe = ring_make_room(loop);
		if (!sqe) {
			if (op)
				loop_defer(loop, op, loop->broken);
			return NULL;
		}
	}
	loop->statistics.operations++;
	if (op)
		op->kind = (unsigned short)kind;
	return sqe;
}

static inline void prepare(struct io_uring_sqe *sqe, unsigned op, int fd, const void *address, unsigned length, uint64_t offset,
			   struct loop_op *data)
{
	io_uring_prep_rw((int)op, sqe, fd, address, length, offset);
	io_uring_sqe_set_data(sqe, data);
}

/* A single range needs no list: the kernel then has none to copy and check. */
static inline void start_rw(struct loop *loop, struct loop_op *op, unsigned one, unsigned many, int fd, const struct iovec *iov,
			    unsigned count, uint64_t offset, int flags)
{
	struct io_uring_sqe *sqe = begin(loop, op, OP_ONCE);
	if (!sqe)
		return;
	if (count == 1)
		prepare(sqe, one, fd, iov->iov_base, iov->iov_len < RW_MAX ? (unsigned)iov->iov_len : RW_MAX, offset, op);
	else
		prepare(sqe, many, fd, iov, count, offset, op);
	sqe->rw_flags = flags;
}

void loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count, uint64_t offset)
{
	start_rw(loop, op, IORING_OP_READ, IORING_OP_READV, fd, iov, count, offset, 0);
}

void loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count, uint64_t offset, unsigned flags)
{
	start_rw(loop, op, IORING_OP_WRITE, IORING_OP_WRITEV, fd, iov, count, offset, flags & LOOP_DSYNC ? RWF_DSYNC : 0);
}

void loop_fdatasync(struct loop *loop, struct loop_op *op, int fd)
{
	struct io_uring_sqe *sqe = begin(loop, op, OP_ONCE);
	if (!sqe)
		return;
	prepare(sqe, IORING_OP_FSYNC, fd, NULL, 0, 0, op);
	sqe->fsync_flags = IORING_FSYNC_DATASYNC;
}

void loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t offset, uint64_t length)
{
	struct io_uring_sqe *sqe = begin(loop, op, OP_ONCE);
	if (!sqe)
		return;
	prepare(sqe, IORING_OP_FALLOCATE, fd, NULL, (unsigned)mode, offset, op);
	sqe->addr = length;
}

void loop_drop_cached(struct loop *loop, int fd)
{
	struct io_uring_sqe *sqe = begin(loop, NULL, OP_ONCE);
	if (!sqe)
		return;
	/* length 0: all */
	prepare(sqe, IORING_OP_FADVISE, fd, NULL, 0, 0, NULL);
	sqe->fadvise_advice = POSIX_FADV_DONTNEED;
}

void ring_arm_poll(struct loop *loop, struct loop_op *op)
{
	int fd = op->result;
	unsigned events = op->flags;
	struct io_uring_sqe *sqe = begin(loop, op, OP_POLL);
	if (!sqe)
		return;
	io_uring_prep_poll_multishot(sqe, fd, events);
	io_uring_sqe_set_data(sqe, op);
}

void loop_poll_start(struct loop *loop, struct loop_op *op, int fd, unsigned events)
{
	op->result = fd;
	op->flags = (unsigned short)events;
	ring_arm_poll(loop, op);
}

void loop_poll_stop(struct loop *loop, struct loop_op *op)
{
	if (op->kind != OP_POLL)
		return;
	struct io_uring_sqe *sqe = begin(loop, NULL, OP_IDLE);
	if (!sqe)
		return;
	op->kind = OP_POLL_STOPPING;
	/* Not IORING_OP_POLL_REMOVE: it does nothing (-EALREADY) to a poll that has an event on its way. */
	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

_Static_assert(sizeof(((struct loop_timer *)0)->deadline) == sizeof(struct __kernel_timespec), "the kernel's timespec");

void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t ns)
{
	timer->deadline[0] = (int64_t)(ns / 1000000000u);
	timer->deadline[1] = (int64_t)(ns % 1000000000u);
	struct io_uring_sqe *sqe = begin(loop, &timer->op, OP_TIMER);
	if (!sqe)
		return;
	io_uring_prep_timeout(sqe, (struct __kernel_timespec *)timer->deadline, 0, 0);
	io_uring_sqe_set_data(sqe, &timer->op);
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	if (timer->op.kind != OP_TIMER)
		return;
	struct io_uring_sqe *sqe = begin(loop, NULL, OP_IDLE);
	if (!sqe)
		return;
	timer->op.kind = OP_TIMER_STOPPING;
	io_uring_prep_timeout_remove(sqe, (uint64_t)(uintptr_t)&timer->op, 0);
	io_uring_sqe_set_data(sqe, NULL);
}
