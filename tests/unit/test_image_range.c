/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image_fake.h"

static const struct lunkit_limits limits = { .request_alignment = 1024, .flags = LUNKIT_NEEDS_FLUSH };

struct lock_probe {
	struct image_lock lock; /* first member */
	int granted;
};

static void note_granted(struct image_lock *lock)
{
	((struct lock_probe *)lock)->granted++;
}

#define LOCK(from, bytes)                                                                                                                  \
	{                                                                                                                                  \
		.lock = {.offset = (from), .length = (bytes), .granted = note_granted }                                                    \
	}

static char buffer[16384];

static void start(struct slot *slot, enum lunkit_op op, uint64_t offset, uint64_t length)
{
	slot->iov[0] = (struct iovec){ buffer, length };
	slot_submit(slot, op, 0, offset, length, 1);
}

static void drain_handler(void)
{
	while (fake_step())
		;
}

struct bench {
	struct image *image;
	struct slot slot[4];
};

static void begin(struct bench *bench, void **state)
{
	bench->image = fake_image(*state, &limits);
	for (unsigned i = 0; i < 4; i++)
		slot_init(bench->image, &bench->slot[i]);
}

static void end(struct bench *bench)
{
	for (unsigned i = 0; i < 4; i++)
		slot_free(&bench->slot[i]);
	assert_int_equal(image_in_flight(bench->image), 0);
	image_close(bench->image);
}

static void a_lock_waits_for_writes_and_writes_for_it(void **state)
{
	struct bench b;
	begin(&b, state);
	struct lock_probe lock = LOCK(4096, 1024);
	start(&b.slot[0], LUNKIT_WRITE, 4096, 2048);
	start(&b.slot[1], LUNKIT_WRITE, 8192, 1024); /* elsewhere */
	image_lock(b.image, &lock.lock);
	assert_int_equal(lock.granted, 0);
	start(&b.slot[2], LUNKIT_WRITE, 4096, 1024); /* behind the lock */
	start(&b.slot[3], LUNKIT_READ, 4096, 1024);  /* reads pass */
	assert_int_equal(fake.pending_count, 3);
	drain_handler();
	assert_int_equal(lock.granted, 1);
	assert_true(b.slot[0].calls && b.slot[1].calls && b.slot[3].calls);
	assert_int_equal(b.slot[2].calls, 0);

	/* The owner's own write passes; another's elsewhere too. */
	image_request_set_lock(b.slot[0].request, &lock.lock);
	start(&b.slot[0], LUNKIT_WRITE, 4096, 1024);
	start(&b.slot[1], LUNKIT_WRITE, 5120, 1024);
	drain_handler();
	assert_true(b.slot[0].calls && b.slot[1].calls && !b.slot[2].calls);
	image_request_set_lock(b.slot[0].request, NULL);
	image_unlock(b.image, &lock.lock);
	drain_handler();
	assert_int_equal(b.slot[2].calls, 1);
	end(&b);
}

static void discards_and_zeroes_wait_too(void **state)
{
	struct bench b;
	begin(&b, state);
	struct lock_probe lock = LOCK(0, 1024);
	image_lock(b.image, &lock.lock);
	assert_int_equal(lock.granted, 1);
	start(&b.slot[0], LUNKIT_WRITE_ZEROES, 0, 4096);
	assert_int_equal(fake.pending_count, 0);
	image_unlock(b.image, &lock.lock);
	drain_handler();
	assert_int_equal(b.slot[0].calls, 1);
	end(&b);
}

static void locks_come_in_order(void **state)
{
	struct bench b;
	begin(&b, state);
	struct lock_probe first = LOCK(0, 4096), second = LOCK(2048, 4096), third = LOCK(5120, 1024), gone = LOCK(0, 8192);
	image_lock(b.image, &first.lock);
	image_lock(b.image, &second.lock);
	image_lock(b.image, &third.lock); /* free, but second came before: no starvation */
	image_lock(b.image, &gone.lock);
	assert_true(first.granted && !second.granted && !third.granted);
	image_unlock(b.image, &gone.lock); /* given up while it waited */
	image_unlock(b.image, &first.lock);
	assert_true(second.granted && !third.granted);
	image_unlock(b.image, &second.lock);
	assert_int_equal(third.granted, 1);
	image_unlock(b.image, &third.lock);
	assert_int_equal(gone.granted, 0);
	end(&b);
}

/* Two owners within one block of the handler's, each writing a part of it: they exclude each other instead of waiting for each other. */
static void locks_within_a_block_do_not_deadlock(void **state)
{
	struct bench b;
	begin(&b, state);
	struct lock_probe a = LOCK(0, 512), c = LOCK(512, 512);
	image_lock(b.image, &a.lock);
	image_lock(b.image, &c.lock);
	assert_true(a.granted && !c.granted);
	image_request_set_lock(b.slot[0].request, &a.lock);
	image_request_set_lock(b.slot[1].request, &c.lock);
	memset(buffer, 'a', 512);
	start(&b.slot[0], LUNKIT_WRITE, 0, 512);
	drain_handler();
	assert_int_equal(b.slot[0].calls, 1);
	image_unlock(b.image, &a.lock);
	assert_int_equal(c.granted, 1);
	memset(buffer, 'c', 512);
	start(&b.slot[1], LUNKIT_WRITE, 512, 512);
	drain_handler();
	assert_int_equal(b.slot[1].calls, 1);
	image_unlock(b.image, &c.lock);
	assert_int_equal(fake.data[511], 'a');
	assert_int_equal(fake.data[512], 'c');
	end(&b);
}

/* The owner's write does not queue behind others that wait for the owner. */
static void an_owner_passes_those_who_wait_for_it(void **state)
{
	struct bench b;
	begin(&b, state);
	struct lock_probe lock = LOCK(0, 1024), next = LOCK(0, 1024);
	image_lock(b.image, &lock.lock);
	image_lock(b.image, &next.lock);
	image_request_set_lock(b.slot[0].request, &lock.lock);
	start(&b.slot[0], LUNKIT_WRITE, 0, 100); /* a partial block: exclusive itself */
	drain_handler();
	assert_int_equal(b.slot[0].calls, 1);
	image_unlock(b.image, &lock.lock);
	assert_int_equal(next.granted, 1);
	image_unlock(b.image, &next.lock);
	end(&b);
}

struct drain_probe {
	struct loop_op op; /* first member */
	int calls;
};

static void note_drained(struct loop_op *op, int result)
{
	assert_int_equal(result, 0);
	((struct drain_probe *)op)->calls++;
}

static void a_drain_waits_for_what_runs_and_holds_the_rest(void **state)
{
	struct fixture *fixture = *state;
	struct bench b;
	begin(&b, state);
	struct drain_probe drain = { .op.done = note_drained }, other = drain;
	start(&b.slot[0], LUNKIT_WRITE, 0, 1024);
	image_drain(b.image, &drain.op);
	start(&b.slot[1], LUNKIT_READ, 0, 1024);
	loop_turn(fixture->loop, false);
	assert_int_equal(drain.calls, 0);
	assert_int_equal(fake.pending_count, 1);
	drain_handler();
	assert_int_equal(drain.calls, 0); /* from the loop, not from within a completion */
	loop_turn(fixture->loop, false);
	assert_int_equal(drain.calls, 1);
	assert_int_equal(b.slot[1].calls, 0);
	/* Drains nest. */
	image_drain(b.image, &other.op);
	loop_turn(fixture->loop, false);
	assert_int_equal(other.calls, 1);
	image_resume(b.image);
	assert_int_equal(fake.pending_count, 0);
	image_resume(b.image);
	drain_handler();
	assert_int_equal(b.slot[1].calls, 1);
	end(&b);
}

/* Compare and write in the middle of a drain: its next step is held back, and what waits for its lock must not hold up the drain. */
static void a_drain_does_not_wait_for_those_who_wait_for_a_lock(void **state)
{
	struct fixture *fixture = *state;
	struct bench b;
	begin(&b, state);
	struct lock_probe lock = LOCK(0, 1024);
	struct drain_probe drain = { .op.done = note_drained };
	image_lock(b.image, &lock.lock);
	start(&b.slot[0], LUNKIT_WRITE, 0, 1024); /* waits for the lock */
	image_drain(b.image, &drain.op);
	image_request_set_lock(b.slot[1].request, &lock.lock);
	start(&b.slot[1], LUNKIT_WRITE, 0, 1024); /* the owner's: held back */
	loop_turn(fixture->loop, false);
	assert_int_equal(drain.calls, 1);
	assert_int_equal(fake.pending_count, 0);
	/* Even an unlock starts nothing while the image is drained. */
	struct lock_probe late = LOCK(4096, 1024);
	image_lock(b.image, &late.lock);
	start(&b.slot[2], LUNKIT_WRITE, 4096, 1024);
	image_unlock(b.image, &late.lock);
	assert_int_equal(fake.pending_count, 0);
	image_resume(b.image);
	assert_int_equal(fake.pending_count, 2);
	drain_handler();
	assert_true(b.slot[1].calls && b.slot[2].calls && !b.slot[0].calls);
	image_unlock(b.image, &lock.lock);
	drain_handler();
	assert_int_equal(b.slot[0].calls, 1);
	end(&b);
}

/* More unaligned requests than there are bounce buffers: they take turns. */
static void bounce_buffers_are_bounded_and_shared(void **state)
{
	struct image *image = fake_image(*state, &limits);
	struct slot slots[40];
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
		slot_init(image, &slots[i]);
		start(&slots[i], i % 2 ? LUNKIT_READ : LUNKIT_WRITE, i * 1024 + 10, 100);
	}
	assert_in_range(fake.pending_count, 1, 16);
	drain_handler();
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++) {
		assert_int_equal(slots[i].calls, 1);
		assert_int_equal(slots[i].result, 0);
		slot_free(&slots[i]);
	}
	image_close(image);
}

static int resize(struct fixture *fixture, struct image *image, struct job_probe *probe, uint64_t size, unsigned flags)
{
	*probe = (struct job_probe){ .job.done = note_job };
	image_resize(image, &probe->job, size, flags);
	while (!probe->calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	return probe->result;
}

static void a_resize_is_checked_and_seen(void **state)
{
	struct bench b;
	begin(&b, state);
	struct job_probe job;
	assert_int_equal(resize(*state, b.image, &job, 100000, 0), -EINVAL);
	assert_int_equal(job.job.err.code, EINVAL);
	assert_int_equal(resize(*state, b.image, &job, FAKE_SIZE / 2, 0), -EINVAL);
	assert_true(job.job.err.hint[0]);
	assert_int_equal(resize(*state, b.image, &job, FAKE_SIZE / 2, 4), -EINVAL);
	assert_int_equal(resize(*state, b.image, &job, UINT64_MAX - 1023, 0), -EINVAL);
	assert_int_equal(fake.resized, 0);
	assert_int_equal(resize(*state, b.image, &job, FAKE_SIZE / 2, LUNKIT_RESIZE_SHRINK), 0);
	assert_int_equal(image_limits(b.image)->size, FAKE_SIZE / 2);
	start(&b.slot[0], LUNKIT_READ, FAKE_SIZE / 2, 1024);
	assert_int_equal(b.slot[0].result, -ERANGE);
	assert_int_equal(resize(*state, b.image, &job, FAKE_SIZE, 0), 0);
	start(&b.slot[0], LUNKIT_READ, FAKE_SIZE / 2, 1024);
	drain_handler();
	assert_int_equal(b.slot[0].result, 0);
	end(&b);
}

static void shrinking_waits_for_what_is_in_flight(void **state)
{
	struct fixture *fixture = *state;
	struct bench b;
	begin(&b, state);
	struct lock_probe lock = LOCK(FAKE_SIZE - 1024, 1024);
	start(&b.slot[0], LUNKIT_WRITE, FAKE_SIZE - 1024, 512);
	image_lock(b.image, &lock.lock);
	start(&b.slot[1], LUNKIT_WRITE, FAKE_SIZE - 1024, 1024); /* waits, and will lie beyond the end */
	struct job_probe job = { .job.done = note_job };
	image_resize(b.image, &job.job, FAKE_SIZE / 2, LUNKIT_RESIZE_SHRINK);
	loop_turn(fixture->loop, false);
	assert_int_equal(job.calls, 0);
	drain_handler();
	while (!job.calls)
		loop_turn(fixture->loop, true);
	assert_int_equal(job.result, 0);
	assert_int_equal(b.slot[0].result, 0);
	assert_int_equal(lock.granted, 1);
	image_unlock(b.image, &lock.lock);
	assert_int_equal(b.slot[1].calls, 1);
	assert_int_equal(b.slot[1].result, -ERANGE);
	end(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_lock_waits_for_writes_and_writes_for_it),
		TEST(discards_and_zeroes_wait_too),
		TEST(locks_come_in_order),
		TEST(locks_within_a_block_do_not_deadlock),
		TEST(an_owner_passes_those_who_wait_for_it),
		TEST(a_drain_waits_for_what_runs_and_holds_the_rest),
		TEST(a_drain_does_not_wait_for_those_who_wait_for_a_lock),
		TEST(bounce_buffers_are_bounded_and_shared),
		TEST(a_resize_is_checked_and_seen),
		TEST(shrinking_waits_for_what_is_in_flight),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	fake_free();
	return r;
}
