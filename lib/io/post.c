/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Completions from other threads: helper threads of the loop, threads of a library.
 *
 *     any thread: loop_post() ─► top ─► … ─► NULL   a stack that each pushes on with one exchange; the owner takes it whole and turns it round
 *                      └─ only when the owner sleeps: eventfd ─► the ring's poll ─► owner
 *
 * Whether the owner sleeps is told as Dekker does: the owner says that it will and then looks at the stack, a poster pushes and then looks whether the owner
 * sleeps, each with a full fence in between, so that one of them sees the other. The eventfd is written once a sleep, however many post. A loop that is awake or spins finds
 * the stack by a read of memory.
 */
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "io/ring.h"

int post_box_init(struct post_box *box)
{
	box->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return box->event_fd < 0 ? -errno : 0;
}

void post_box_destroy(struct post_box *box)
{
	close(box->event_fd);
}

/* What was posted is found in the turn that follows. */
static void announced(struct loop_op *op, int result)
{
	struct post_box *box = (struct post_box *)((char *)op - offsetof(struct post_box, event));
	uint64_t count;
	if (result < 0) {
		box->listening = false;
		log_error("other threads cannot be heard: error %d", -result);
		return;
	}
	while (read(box->event_fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

void loop_listen(struct loop *loop)
{
	struct post_box *box = &loop->posts;
	if (box->listening)
		return;
	box->listening = true;
	box->event.done = announced;
	loop_poll_start(loop, &box->event, box->event_fd, POLLIN);
}

void loop_post(struct loop *loop, struct loop_op *op, int result)
{
	struct post_box *box = &loop->posts;
	op->kind = OP_ONCE;
	op->result = result;
	struct loop_op *top = atomic_load_explicit(&box->top, memory_order_relaxed);
	do
		op->next = top;
	while (!atomic_compare_exchange_weak_explicit(&box->top, &top, op, memory_order_release, memory_order_relaxed));
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&box->asleep, memory_order_relaxed) && atomic_exchange(&box->asleep, false)) {
		uint64_t one = 1;
		while (write(box->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
			;
	}
}

bool post_box_doze(struct post_box *box)
{
	if (!box->listening)
		return true;
	atomic_store_explicit(&box->asleep, true, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
	if (!post_box_has(box))
		return true;
	post_box_wake(box);
	return false;
}

bool post_box_run(struct post_box *box)
{
	if (!post_box_has(box))
		return false;
	struct loop_op *op = atomic_exchange_explicit(&box->top, NULL, memory_order_acquire), *first = NULL;
	while (op) {
		struct loop_op *next = op->next;
		op->next = first;
		first = op;
		op = next;
	}
	while (first) {
		struct loop_op *next = first->next;
		first->kind = OP_IDLE;
		first->done(first, first->result);
		first = next;
	}
	return true;
}
