/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The ring and the turn. Owner: the thread that made the loop (the ring has a single issuer where the kernel knows that).
 *
 *     loop_turn():  deferred ─► completions ─► posts of other threads ─► poller ─┬─ found something: submit, return
 *                                                                                └─ nothing: look again for a while (spin.h), then submit and wait in one call
 *
 * Invariants: done() is called from loop_turn() only. Nothing is submitted in between except when the submission queue is full. With
 * DEFER_TASKRUN the kernel posts completions only while this thread is inside io_uring_enter() asking for events; IORING_SQ_TASKRUN says
 * that there is something to post, so looking stays a read of memory.
 *
 * Left out on purpose: registered buffers (those in TCM-User's data area can't be registered), SQPOLL (a second busy thread), submission in
 * between turns (batches are what makes a request cheap).
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "io/ring.h"

#define DEPTH_MIN 8
#define DEPTH_MAX 4096
/* Completion entries for each submission entry: room for events that come without a submission. */
#define COMPLETIONS_PER_ENTRY 4
/* Completions delivered before the poller is asked again. */
#define REAP_MAX 256
#define REAP_BATCH 32

static const unsigned char allowed_ops[] = {
	IORING_OP_READ,	   IORING_OP_READV,    IORING_OP_WRITE,	       IORING_OP_WRITEV,  IORING_OP_FSYNC,	    IORING_OP_FALLOCATE,
	IORING_OP_FADVISE, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_TIMEOUT, IORING_OP_TIMEOUT_REMOVE,
};

/* liburing 2.3 declares these two but does not export them. */
static int ring_register(struct io_uring *ring, unsigned opcode, void *argument, unsigned count)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, opcode, argument, count) < 0 ? -errno : 0;
}

/* A disabled ring takes restrictions; they hold from the moment it is enabled and can't be lifted. */
static int restrict_and_enable(struct io_uring *ring)
{
	struct io_uring_restriction restrictions[ARRAY_SIZE(allowed_ops)] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(allowed_ops); i++) {
		restrictions[i].opcode = IORING_RESTRICTION_SQE_OP;
		restrictions[i].sqe_op = allowed_ops[i];
	}
	int r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, restrictions, ARRAY_SIZE(restrictions));
	return r < 0 ? r : ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

/* Asks for the best that the kernel has, older and older. A ring that was to be restricted is, or there is none. */
static int ring_new(struct io_uring *ring, unsigned depth, bool restrict_ops)
{
	static const unsigned modes[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* 6.1 */
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,  /* 6.0 */
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,				     /* 5.19 */
		0,
	};
	int r = -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(modes) && r == -EINVAL; i++) {
		struct io_uring_params params = {
			.flags = modes[i] | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | (restrict_ops ? IORING_SETUP_R_DISABLED : 0),
			.cq_entries = depth * COMPLETIONS_PER_ENTRY,
		};
		r = io_uring_queue_init_params(depth, ring, &params);
		if (r < 0)
			continue;
		/* Saves a file lookup a call; an old kernel can't, and that is all right. Must come before the restrictions. */
		io_uring_register_ring_fd(ring);
		if (restrict_ops) {
			r = restrict_and_enable(ring);
			if (r < 0)
				io_uring_queue_exit(ring);
		}
	}
	if (r == -EINVAL && restrict_ops)
		return -EOPNOTSUPP;
	return r < 0 ? r : 0;
}

int loop_new(const struct loop_config *config, struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	unsigned depth = MIN(MAX(config->depth, DEPTH_MIN), DEPTH_MAX);
	loop->stash_size = (size_t)depth * COMPLETIONS_PER_ENTRY;
	loop->stash = calloc(loop->stash_size, sizeof(*loop->stash));
	if (!loop->stash) {
		free(loop);
		return -ENOMEM;
	}
	int r = post_box_init(&loop->posts);
	if (r < 0)
		goto fail;
	r = ring_new(&loop->ring, depth, config->restrict_ops);
	if (r < 0) {
		post_box_destroy(&loop->posts);
		goto fail;
	}
	work_pool_init(&loop->work);
	loop->deferred_end = &loop->deferred;
	list_init(&loop->alarms.set);
	spin_init(&loop->spin, config->poll_max_ns, work_processors());
	*ret = loop;
	return 0;
fail:
	free(loop->stash);
	free(loop);
	return r;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	work_pool_destroy(&loop->work);
	io_uring_queue_exit(&loop->ring);
	post_box_destroy(&loop->posts);
	free(loop->stash);
	free(loop);
}

void loop_stop(struct loop *loop)
{
	loop->stop = true;
}

void loop_set_poller(struct loop *loop, const struct loop_poller *poller)
{
	loop->poller = poller ? *poller : (struct loop_poller){ 0 };
}

void loop_get_statistics(const struct loop *loop, struct loop_statistics *ret)
{
	*ret = loop->statistics;
}

void loop_defer(struct loop *loop, struct loop_op *op, int result)
{
	op->kind = OP_ONCE;
	op->result = result;
	op->next = NULL;
	*loop->deferred_end = op;
	loop->deferred_end = (struct loop_op **)&op->next;
}

/* ---- completions ---- */

static void deliver(struct loop *loop, const struct completion *completion)
{
	struct loop_op *op = completion->op;
	if (!op) /* of a cancellation: the cancelled operation's own completion tells */
		return;
	switch ((enum op_kind)op->kind) {
	case OP_IDLE:
		log_error("a completion came for an operation that was not in flight");
		abort();
	case OP_ONCE:
	case OP_TIMER:
		op->kind = OP_IDLE;
		op->done(op, completion->result);
		return;
	case OP_TIMER_STOPPING:
		op->kind = OP_IDLE;
		op->done(op, -ECANCELED);
		return;
	case OP_POLL:
		if (completion->result < 0) {
			op->kind = OP_IDLE;
		} else if (!(completion->flags & IORING_CQE_F_MORE)) {
			/* The kernel ends a multishot poll when its completion queue is short of room. Armed before done(), which may stop it. */
			ring_arm_poll(loop, op);
		}
		op->done(op, completion->result);
		return;
	case OP_POLL_STOPPING:
		if (completion->result >= 0 && completion->flags & IORING_CQE_F_MORE)
			return;
		op->kind = OP_IDLE;
		op->done(op, -ECANCELED);
		return;
	}
}

/* Moves completions out of the kernel's queue, at most room. They are copied because done() may make room by stashing the rest. */
static unsigned take(struct loop *loop, struct completion *out, unsigned room)
{
	unsigned head, count = 0;
	struct io_uring_cqe *cqe;
	io_uring_for_each_cqe(&loop->ring, head, cqe)
	{
		if (count == room)
			break;
		out[count++] = (struct completion){ io_uring_cqe_get_data(cqe), cqe->res, cqe->flags };
	}
	io_uring_cq_advance(&loop->ring, count);
	return count;
}

static bool reap(struct loop *loop)
{
	unsigned total = 0;
	while (total < REAP_MAX) {
		if (loop->stash_count) {
			struct completion first = loop->stash[loop->stash_head];
			loop->stash_head++;
			if (--loop->stash_count == 0)
				loop->stash_head = 0;
			deliver(loop, &first);
			total++;
			continue;
		}
		struct completion batch[REAP_BATCH];
		unsigned count = take(loop, batch, REAP_BATCH);
		if (count == 0)
			break;
		for (unsigned i = 0; i < count; i++)
			deliver(loop, &batch[i]);
		total += count;
	}
	return total > 0;
}

static bool stash_completions(struct loop *loop)
{
	size_t end = loop->stash_head + loop->stash_count;
	size_t ready = io_uring_cq_ready(&loop->ring);
	if (end + ready > loop->stash_size) {
		size_t size = (end + ready) * 2;
		struct completion *grown = reallocarray(loop->stash, size, sizeof(*grown));
		if (!grown)
			return false;
		loop->stash = grown;
		loop->stash_size = size;
	}
	loop->stash_count += take(loop, loop->stash + end, (unsigned)ready);
	return true;
}

static bool run_deferred(struct loop *loop)
{
	struct loop_op *op = loop->deferred;
	if (!op)
		return false;
	loop->deferred = NULL;
	loop->deferred_end = &loop->deferred;
	while (op) {
		struct loop_op *next = op->next;
		op->kind = OP_IDLE;
		op->done(op, op->result);
		op = next;
	}
	return true;
}

/* ---- submission ---- */

struct io_uring_sqe *ring_make_room(struct loop *loop)
{
	struct io_uring_sqe *sqe;
	while (!loop->broken) {
		int r = io_uring_submit(&loop->ring);
		loop->statistics.submissions++;
		sqe = io_uring_get_sqe(&loop->ring);
		if (sqe)
			return sqe;
		/* Old kernels refuse to submit (-EBUSY) while completions have no room; -EAGAIN: the kernel is short of memory. */
		if (r == -EBUSY && stash_completions(loop))
			r = io_uring_get_events(&loop->ring);
		if (r == -EAGAIN || r == -EINTR || r >= 0)
			sched_yield();
		else
			loop->broken = r;
	}
	return NULL;
}

/* Enters the kernel when there is something to submit or to fetch, or to wait for at least one completion. */
static int enter(struct loop *loop, bool wait)
{
	int r;
	if (wait) {
		loop->statistics.waits++;
		r = io_uring_submit_and_wait(&loop->ring, 1);
	} else if (io_uring_sq_ready(&loop->ring)) {
		loop->statistics.submissions++;
		r = io_uring_submit_and_get_events(&loop->ring);
	} else if (IO_URING_READ_ONCE(*loop->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) {
		r = io_uring_get_events(&loop->ring);
	} else {
		return 0;
	}
	/* -EBUSY: completions first; they are reaped in the next turn. */
	if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY && r != -ETIME && !loop->broken)
		loop->broken = r;
	return loop->broken;
}

static bool is_dry(const struct loop *loop)
{
	return !loop->deferred && !loop->stash_count && !io_uring_cq_ready(&loop->ring) && !post_box_has(&loop->posts);
}

/* Looks for work as long as that seems to pay. True when there is some. */
static bool look_on(struct loop *loop)
{
	struct spin *spin = &loop->spin;
	bool go_on = spin_start(spin, clock_now_ns());
	if (!go_on)
		return false;
	loop->statistics.spins++;
	while (go_on) {
		if (enter(loop, false) < 0 || !is_dry(loop) || (loop->poller.look && loop->poller.look(loop->poller.argument))) {
			loop->statistics.spins_paid++;
			spin_paid(spin);
			return true;
		}
		if (spin_relax(spin))
			go_on = spin_continue(spin, clock_now_ns());
	}
	return false;
}

int loop_turn(struct loop *loop, bool wait)
{
	if (loop->broken)
		return loop->broken;
	loop->statistics.turns++;
	bool found = run_deferred(loop);
	found |= reap(loop);
	found |= post_box_run(&loop->posts);
	if (loop->poller.look)
		found |= loop->poller.look(loop->poller.argument);
	if (found || !wait || loop->stop || !is_dry(loop))
		return enter(loop, false);

	/* What was started in this turn goes out before anybody looks or sleeps; it may be complete at once. */
	if (io_uring_sq_ready(&loop->ring) && loop->spin.max_ns) {
		int r = enter(loop, false);
		if (r < 0 || !is_dry(loop))
			return r;
	}
	if (look_on(loop))
		return loop->broken;
	if (loop->poller.before_wait && loop->poller.before_wait(loop->poller.argument)) {
		spin_paid(&loop->spin);
		return enter(loop, false);
	}
	if (!post_box_doze(&loop->posts)) {
		spin_paid(&loop->spin);
		return enter(loop, false);
	}
	int r = enter(loop, true);
	post_box_wake(&loop->posts);
	spin_slept(&loop->spin, clock_now_ns());
	return r;
}

int loop_run(struct loop *loop)
{
	loop->stop = false;
	int r = 0;
	while (!loop->stop && r == 0)
		r = loop_turn(loop, true);
	return r;
}
