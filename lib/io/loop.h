/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The event loop of a worker: one thread, one io_uring. Owner: the thread that runs loop_run(); every call here is made on it, except
 * where said. Operations are queued and reach the kernel with one submission a turn; a turn is: run completions and deferred calls, ask
 * the poller, submit, and wait only when nothing was found.
 *
 * An operation is a struct loop_op inside the caller's own memory, so nothing is allocated for an I/O. It stays the caller's, untouched,
 * until done() has been called; done() is called exactly once (poll operations: see there), never from inside the call that starts
 * the operation. Results are what the system call returns: a count of bytes or 0, or -errno. Short reads and writes are reported as they
 * are. A full submission queue is handled inside: starting an operation never fails. Zero an operation once, before its first use.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/list.h"

struct loop;

struct loop_op {
	void (*done)(struct loop_op *op, int result);
	void *next;	     /* the loop's: links deferred and waiting operations */
	int result;	     /* the loop's: result of a deferred operation */
	unsigned short kind; /* the loop's */
	unsigned short flags;
};

struct loop_config {
	unsigned depth;	      /* submission queue entries: about the largest number of I/Os in flight, rounded up by the kernel */
	bool restrict_ops;    /* limit the ring to the operations below (io_uring restrictions; Linux 5.10) */
	uint64_t poll_max_ns; /* longest time that the loop spins for new work before it sleeps; 0 never spins */
};

/* -ENOSYS or -EPERM where io_uring is missing or forbidden, -EOPNOTSUPP where the kernel can't restrict it and is asked to, -ENOMEM. */
int loop_new(const struct loop_config *config, struct loop **ret);
/* No operation may be in flight. Takes NULL. */
void loop_free(struct loop *loop);

/* Runs until loop_stop(). Returns 0, or -errno when the ring itself broke. loop_turn() does one turn and may wait for work if wait is set. */
int loop_run(struct loop *loop);
int loop_turn(struct loop *loop, bool wait);
void loop_stop(struct loop *loop);

/* Data. flags of writev: LOOP_DSYNC makes the write durable before it completes (RWF_DSYNC). iov stays valid until done. */
#define LOOP_DSYNC 1u
void loop_readv(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count, uint64_t offset);
void loop_writev(struct loop *loop, struct loop_op *op, int fd, const struct iovec *iov, unsigned count, uint64_t offset, unsigned flags);
void loop_fdatasync(struct loop *loop, struct loop_op *op, int fd);
/* mode: FALLOC_FL_* */
void loop_fallocate(struct loop *loop, struct loop_op *op, int fd, int mode, uint64_t offset, uint64_t length);
/*
 * Lets the page cache forget the file's clean pages, soon; nobody is told. Closing fd first only makes it fail. For files that are
 * written past the cache: Linux hands each write to pages that are cached to a thread, at three times the cost.
 */
void loop_drop_cached(struct loop *loop, int fd);

/*
 * Calls done(op, events) each time that fd becomes ready for events (POLLIN, …), coalesced: never count calls as events. Lasts until
 * loop_poll_stop(), after which done(op, -ECANCELED) is the last call. A negative result is an error and the last call.
 */
void loop_poll_start(struct loop *loop, struct loop_op *op, int fd, unsigned events);
void loop_poll_stop(struct loop *loop, struct loop_op *op);

/* done(op, -ETIME) after about ns nanoseconds; loop_timer_stop() makes it done(op, -ECANCELED) soon. One op is armed once at a time; stopping one that is not armed does nothing. */
struct loop_timer {
	struct loop_op op;
	int64_t deadline[2]; /* the loop's: seconds and nanoseconds */
};
void loop_timer_start(struct loop *loop, struct loop_timer *timer, uint64_t ns);
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);

/*
 * ring(alarm) once, about ns nanoseconds after it was set. For housekeeping: many alarms share one timeout of the ring, setting again moves,
 * and cancelling is immediate: nothing of a cancelled alarm is used any more. Zeroed before its first use.
 */
struct loop_alarm {
	void (*ring)(struct loop_alarm *alarm);
	struct list node; /* the loop's */
	uint64_t due;	  /* the loop's: 0 while it is not set */
};
void loop_alarm_set(struct loop *loop, struct loop_alarm *alarm, uint64_t ns);
void loop_alarm_cancel(struct loop *loop, struct loop_alarm *alarm);

/* done(op, result) in the next turn. */
void loop_defer(struct loop *loop, struct loop_op *op, int result);

/*
 * done(op, result) on the loop's thread, soon: the one call that any thread may make, as long as the loop lives. Posts of one thread keep their order. loop_listen() has to
 * be called before, on the loop's thread; calling it again does nothing.
 */
void loop_listen(struct loop *loop);
void loop_post(struct loop *loop, struct loop_op *op, int result);

/*
 * Blocking work (an ioctl, lseek(SEEK_DATA), compression): function runs on a helper thread of the loop (a small number of them, started
 * on first use), then done(op, its result) on the loop's thread. The function must not call the loop.
 */
struct loop_work {
	struct loop_op op;
	int (*function)(void *argument);
	void *argument;
	struct loop_work *next_work; /* the loop's */
};
void loop_offload(struct loop *loop, struct loop_work *work);

/*
 * The poller looks for work that no file descriptor need announce (the ring's cmd_head). It is called once a turn, returns true when
 * it found work, and is what the loop spins on: after work was found the loop goes on looking for a while that adapts to how often
 * looking pays, at most poll_max_ns, and gives the processor away between looks when others want it; an idle loop sleeps. before_wait, if
 * set, is called once before the loop sleeps; when it returns true there is work after all and the loop does not sleep.
 */
struct loop_poller {
	bool (*look)(void *argument);
	bool (*before_wait)(void *argument);
	void *argument;
};
void loop_set_poller(struct loop *loop, const struct loop_poller *poller);

struct loop_statistics {
	uint64_t turns, submissions, operations, waits, spins, spins_paid;
};
void loop_get_statistics(const struct loop *loop, struct loop_statistics *ret);
