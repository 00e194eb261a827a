/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checked.h"
#include "io/loop.h"

struct probe {
	struct loop_op op; /* first member */
	int calls, result;
	struct loop *loop;
};

static void note(struct loop_op *op, int result)
{
	struct probe *probe = (struct probe *)op;
	probe->calls++;
	probe->result = result;
}

#define PROBE() ((struct probe){ .op.done = note })

/* Turns until the probe has been called that often. */
static void run_until(struct loop *loop, const int *calls, int wanted)
{
	while (*calls < wanted)
		assert_int_equal(loop_turn(loop, true), 0);
}

static int setup(void **state)
{
	const struct loop_config config = { .depth = 16, .restrict_ops = true, .poll_max_ns = 20000 };
	struct loop *loop;
	int r = loop_new(&config, &loop);
	if (r < 0)
		return -1;
	*state = loop;
	return 0;
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

static int memory_file(void)
{
	int fd = memfd_create("loop", MFD_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void data_goes_out_and_comes_back(void **state)
{
	struct loop *loop = *state;
	int fd = memory_file();
	char out[2][6] = { "hello", "world" }, in[12] = { 0 };
	const struct iovec two[] = { { out[0], 5 }, { out[1], 5 } };
	struct probe probe = PROBE();
	loop_writev(loop, &probe.op, fd, two, 2, 3, LOOP_DSYNC);
	assert_int_equal(probe.calls, 0);
	run_until(loop, &probe.calls, 1);
	assert_int_equal(probe.result, 10);

	const struct iovec one = { in, sizeof(in) };
	loop_readv(loop, &probe.op, fd, &one, 1, 3);
	run_until(loop, &probe.calls, 2);
	assert_int_equal(probe.result, 10); /* short, as the system call reports it */
	assert_string_equal(in, "helloworld");

	loop_fdatasync(loop, &probe.op, fd);
	run_until(loop, &probe.calls, 3);
	assert_int_equal(probe.result, 0);

	loop_fallocate(loop, &probe.op, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 8);
	run_until(loop, &probe.calls, 4);
	assert_int_equal(probe.result, 0);
	loop_readv(loop, &probe.op, fd, &one, 1, 0);
	run_until(loop, &probe.calls, 5);
	assert_memory_equal(in, "\0\0\0\0\0\0\0\0world", 12);

	loop_readv(loop, &probe.op, -1, &one, 1, 0);
	run_until(loop, &probe.calls, 6);
	assert_int_equal(probe.result, -EBADF);
	close(fd);
}

/* Many more than the submission queue has room for. */
static void a_full_queue_is_no_failure(void **state)
{
	struct loop *loop = *state;
	enum { COUNT = 1000 };
	int fd = memory_file();
	struct probe *probes = calloc(COUNT, sizeof(*probes));
	struct iovec *iov = calloc(COUNT, sizeof(*iov));
	uint32_t *values = calloc(COUNT, sizeof(*values));
	for (unsigned i = 0; i < COUNT; i++) {
		probes[i] = PROBE();
		values[i] = i;
		iov[i] = (struct iovec){ &values[i], sizeof(values[i]) };
		loop_writev(loop, &probes[i].op, fd, &iov[i], 1, i * sizeof(values[i]), 0);
		assert_int_equal(probes[i].calls, 0);
	}
	for (unsigned i = 0; i < COUNT; i++)
		run_until(loop, &probes[i].calls, 1);
	for (unsigned i = 0; i < COUNT; i++) {
		uint32_t value;
		assert_int_equal(probes[i].calls, 1);
		assert_int_equal(probes[i].result, sizeof(value));
		assert_int_equal(pread(fd, &value, sizeof(value), i * sizeof(value)), sizeof(value));
		assert_int_equal(value, i);
	}
	free(values);
	free(iov);
	free(probes);
	close(fd);
}

static void one_turn_submits_once(void **state)
{
	struct loop *loop = *state;
	int fd = memory_file();
	struct probe probes[8];
	char byte = 'x';
	const struct iovec iov = { &byte, 1 };
	struct loop_statistics before, after;
	loop_get_statistics(loop, &before);
	for (unsigned i = 0; i < ARRAY_SIZE(probes); i++) {
		probes[i] = PROBE();
		loop_writev(loop, &probes[i].op, fd, &iov, 1, i, 0);
	}
	assert_int_equal(loop_turn(loop, false), 0);
	loop_get_statistics(loop, &after);
	assert_int_equal(after.operations - before.operations, 8);
	assert_int_equal(after.submissions - before.submissions, 1);
	assert_int_equal(after.waits, before.waits);
	for (unsigned i = 0; i < ARRAY_SIZE(probes); i++)
		run_until(loop, &probes[i].calls, 1);
	close(fd);
}

static void defer_again(struct loop_op *op, int result)
{
	struct probe *probe = (struct probe *)op;
	probe->calls++;
	probe->result = result;
	if (probe->calls < 3)
		loop_defer(probe->loop, op, result + 1);
}

static void deferred_calls_come_in_the_next_turn(void **state)
{
	struct loop *loop = *state;
	struct probe probe = { .op.done = defer_again, .loop = loop }, other = PROBE();
	loop_defer(loop, &probe.op, 5);
	loop_defer(loop, &other.op, -EIO);
	assert_int_equal(probe.calls, 0);
	assert_int_equal(loop_turn(loop, true), 0);
	assert_int_equal(probe.calls, 1);
	assert_int_equal(other.result, -EIO);
	assert_int_equal(loop_turn(loop, true), 0);
	assert_int_equal(probe.calls, 2);
	assert_int_equal(loop_turn(loop, true), 0);
	assert_int_equal(probe.result, 7);
	assert_int_equal(other.calls, 1);
}

static void a_poll_stays_until_stopped(void **state)
{
	struct loop *loop = *state;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct probe probe = PROBE();
	uint64_t value = 1;
	loop_poll_start(loop, &probe.op, fd, POLLIN);
	assert_int_equal(loop_turn(loop, false), 0);
	assert_int_equal(loop_turn(loop, false), 0);
	assert_int_equal(probe.calls, 0);
	/* More often than the kernel's completion queue has entries, so that a poll which ends is armed again. */
	for (int i = 0; i < 200; i++) {
		int calls = probe.calls;
		assert_int_equal(write(fd, &value, sizeof(value)), sizeof(value));
		run_until(loop, &probe.calls, calls + 1);
		assert_true(probe.result & POLLIN);
		assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
		value = 1;
	}
	/* What becomes ready together with the stop is not told. */
	int calls = probe.calls;
	assert_int_equal(write(fd, &value, sizeof(value)), sizeof(value));
	loop_poll_stop(loop, &probe.op);
	run_until(loop, &probe.calls, calls + 1);
	assert_int_equal(probe.result, -ECANCELED);
	loop_poll_stop(loop, &probe.op);
	for (int i = 0; i < 3; i++)
		loop_turn(loop, false);
	assert_int_equal(probe.calls, calls + 1);
	close(fd);
}

static void events_without_turns_do_not_end_a_poll(void **state)
{
	struct loop *loop = *state;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct probe probe = PROBE();
	loop_poll_start(loop, &probe.op, fd, POLLIN);
	loop_turn(loop, false);
	uint64_t value = 1;
	for (int round = 0; round < 3; round++) {
		/* The ring's completion queue overflows: the kernel ends multishot polls then. */
		for (int i = 0; i < 500; i++)
			assert_int_equal(write(fd, &value, sizeof(value)), sizeof(value));
		int calls = probe.calls;
		run_until(loop, &probe.calls, calls + 1);
		assert_true(probe.result > 0);
		assert_int_equal(read(fd, &value, sizeof(value)), sizeof(value));
		value = 1;
		for (int i = 0; i < 20; i++)
			loop_turn(loop, false);
	}
	int calls = probe.calls;
	loop_poll_stop(loop, &probe.op);
	run_until(loop, &probe.calls, calls + 1);
	assert_int_equal(probe.result, -ECANCELED);
	close(fd);
}

static void a_poll_of_nothing_fails_once(void **state)
{
	struct loop *loop = *state;
	struct probe probe = PROBE();
	loop_poll_start(loop, &probe.op, -1, POLLIN);
	run_until(loop, &probe.calls, 1);
	assert_int_equal(probe.result, -EBADF);
}

struct timer_probe {
	struct loop_timer timer; /* first member */
	int calls, result;
};

static void note_timer(struct loop_op *op, int result)
{
	struct timer_probe *probe = (struct timer_probe *)op;
	probe->calls++;
	probe->result = result;
}

static void timers_fire_or_are_stopped(void **state)
{
	struct loop *loop = *state;
	struct timer_probe soon = { .timer.op.done = note_timer }, late = soon;
	loop_timer_stop(loop, &soon.timer); /* not started: nothing happens */
	loop_timer_start(loop, &late.timer, UINT64_C(3600) * 1000000000);
	for (int i = 1; i <= 3; i++) {
		loop_timer_start(loop, &soon.timer, 1000000);
		run_until(loop, &soon.calls, i);
		assert_int_equal(soon.result, -ETIME);
	}
	assert_int_equal(late.calls, 0);
	loop_timer_stop(loop, &late.timer);
	run_until(loop, &late.calls, 1);
	assert_int_equal(late.result, -ECANCELED);
	/* Due and stopped at once: stopped. */
	loop_timer_start(loop, &soon.timer, 0);
	loop_timer_stop(loop, &soon.timer);
	run_until(loop, &soon.calls, 4);
	assert_int_equal(soon.result, -ECANCELED);
}

struct work_probe {
	struct loop_work work; /* first member */
	int value, calls, result;
	pthread_t ran_on;
};

static int work_hard(void *argument)
{
	struct work_probe *probe = argument;
	probe->ran_on = pthread_self();
	usleep(500);
	return probe->value;
}

static void note_work(struct loop_op *op, int result)
{
	struct work_probe *probe = (struct work_probe *)op;
	probe->calls++;
	probe->result = result;
}

static void work_comes_back_with_its_result(void **state)
{
	struct loop *loop = *state;
	struct work_probe probes[20];
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < (int)ARRAY_SIZE(probes); i++) {
			probes[i] = (struct work_probe){ .value = -i, .work = { .op.done = note_work, .function = work_hard } };
			probes[i].work.argument = &probes[i];
			loop_offload(loop, &probes[i].work);
		}
		for (int i = 0; i < (int)ARRAY_SIZE(probes); i++) {
			run_until(loop, &probes[i].calls, 1);
			assert_int_equal(probes[i].result, -i);
			assert_false(pthread_equal(probes[i].ran_on, pthread_self()));
		}
	}
	for (int i = 0; i < (int)ARRAY_SIZE(probes); i++)
		assert_int_equal(probes[i].calls, 1);
}

struct source {
	struct loop *loop;
	int looks, waits, find_at, late, fd;
};

static bool look(void *argument)
{
	struct source *source = argument;
	return ++source->looks == source->find_at;
}

static bool before_wait(void *argument)
{
	struct source *source = argument;
	source->waits++;
	if (source->late-- > 0)
		return true;
	/* What comes between this question and the sleep must end the sleep. */
	uint64_t value = 1;
	assert_int_equal(write(source->fd, &value, sizeof(value)), sizeof(value));
	return false;
}

static void the_poller_is_asked_before_the_loop_sleeps(void **state)
{
	struct loop *loop = *state;
	struct source source = { .loop = loop, .find_at = 1, .late = 1, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	struct probe probe = PROBE();
	loop_poll_start(loop, &probe.op, source.fd, POLLIN);
	const struct loop_poller poller = { look, before_wait, &source };
	loop_set_poller(loop, &poller);
	assert_int_equal(loop_turn(loop, true), 0); /* found: no sleep */
	assert_int_equal(source.waits, 0);
	assert_int_equal(loop_turn(loop, true), 0); /* found by before_wait: no sleep either */
	assert_int_equal(source.waits, 1);
	run_until(loop, &probe.calls, 1);
	assert_int_equal(source.waits, 2);
	close(source.fd);
	loop_set_poller(loop, NULL);
}

static bool find_each_time(void *argument)
{
	struct source *source = argument;
	return ++source->looks % 8 == 0;
}

static void looking_goes_on_while_it_pays(void **state)
{
	struct loop *loop = *state;
	struct source source = { .late = 1 << 30 };
	const struct loop_poller poller = { find_each_time, before_wait, &source };
	loop_set_poller(loop, &poller);
	for (int i = 0; i < 200; i++)
		assert_int_equal(loop_turn(loop, true), 0);
	struct loop_statistics statistics;
	loop_get_statistics(loop, &statistics);
	assert_true(statistics.spins_paid > 0);
	assert_true(statistics.spins_paid <= statistics.spins);
	loop_set_poller(loop, NULL);
}

static void stop_and_count(struct loop_op *op, int result)
{
	struct probe *probe = (struct probe *)op;
	(void)result;
	probe->calls++;
	loop_stop(probe->loop);
}

static void run_ends_with_stop(void **state)
{
	struct loop *loop = *state;
	struct probe probe = { .op.done = stop_and_count, .loop = loop };
	loop_defer(loop, &probe.op, 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(probe.calls, 1);
	loop_defer(loop, &probe.op, 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(probe.calls, 2);
}

#define POSTERS 3
#define POSTS 400

struct poster {
	pthread_t thread;
	struct loop *loop;
	struct probe probes[POSTS];
	int next; /* the number of the post that has to come */
};

static void note_post(struct loop_op *op, int result)
{
	struct probe *probe = (struct probe *)op;
	struct poster *poster = (struct poster *)probe->loop; /* the probe's user */
	assert_int_equal(result, poster->next++);
	probe->calls++;
}

static void *post_all(void *argument)
{
	struct poster *poster = argument;
	for (int i = 0; i < POSTS; i++) {
		loop_post(poster->loop, &poster->probes[i].op, i);
		if (i % 50 == 0)
			usleep(2000); /* long enough for the loop to fall asleep */
	}
	return NULL;
}

static void posts_of_other_threads_come_in_order_and_wake_the_loop(void **state)
{
	struct loop *loop = *state;
	struct poster *posters = calloc(POSTERS, sizeof(*posters));
	loop_listen(loop);
	loop_listen(loop);
	for (int i = 0; i < POSTERS; i++) {
		posters[i].loop = loop;
		for (int j = 0; j < POSTS; j++)
			posters[i].probes[j] = (struct probe){ .op.done = note_post, .loop = (struct loop *)&posters[i] };
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_all, &posters[i]), 0);
	}
	for (int i = 0; i < POSTERS; i++) {
		run_until(loop, &posters[i].next, POSTS); /* hangs if a post gets lost */
		pthread_join(posters[i].thread, NULL);
		for (int j = 0; j < POSTS; j++)
			assert_int_equal(posters[i].probes[j].calls, 1);
	}
	free(posters);
}

static void a_loop_may_be_freed_with_polls_and_helpers(void **state)
{
	(void)state;
	const struct loop_config config = { .depth = 1 };
	struct loop *loop;
	assert_int_equal(loop_new(&config, &loop), 0);
	struct work_probe probe = { .value = 9, .work = { .op.done = note_work, .function = work_hard, .argument = &probe } };
	loop_offload(loop, &probe.work);
	run_until(loop, &probe.calls, 1);
	assert_int_equal(probe.result, 9);
	loop_free(loop);
	loop_free(NULL);
}

static size_t cached_pages(const char *map, size_t size)
{
	unsigned char pages[64];
	size_t count = 0;
	assert_int_equal(mincore((void *)map, size, pages), 0);
	for (size_t i = 0; i < size / 4096; i++)
		count += pages[i] & 1;
	return count;
}

static void the_cache_forgets_a_file(void **state)
{
	struct loop *loop = *state;
	const size_t size = 64 * 4096;
	char name[] = "test_loop.XXXXXX";
	int fd = mkstemp(name);
	assert_true(fd >= 0);
	unlink(name);
	struct statfs fs;
	assert_int_equal(fstatfs(fd, &fs), 0);
	if (fs.f_type == TMPFS_MAGIC) { /* whose files are the page cache */
		close(fd);
		skip();
	}
	char *bytes = calloc(1, size);
	assert_int_equal(pwrite(fd, bytes, size, 0), size);
	free(bytes);
	assert_int_equal(fsync(fd), 0);
	char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(cached_pages(map, size), 64);
	loop_drop_cached(loop, fd);
	assert_int_equal(loop_turn(loop, false), 0);
	for (int i = 0; i < 2000 && cached_pages(map, size); i++)
		usleep(5000);
	assert_int_equal(cached_pages(map, size), 0);
	munmap(map, size);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct loop_config config = { .depth = 8 };
	struct loop *loop;
	int r = loop_new(&config, &loop);
	if (r < 0) {
		print_message("no io_uring here: %s\n", strerror(-r));
		return 77;
	}
	loop_free(loop);
	const struct CMUnitTest tests[] = {
		TEST(data_goes_out_and_comes_back),
		TEST(a_full_queue_is_no_failure),
		TEST(one_turn_submits_once),
		TEST(deferred_calls_come_in_the_next_turn),
		TEST(a_poll_stays_until_stopped),
		TEST(events_without_turns_do_not_end_a_poll),
		TEST(a_poll_of_nothing_fails_once),
		TEST(timers_fire_or_are_stopped),
		TEST(work_comes_back_with_its_result),
		TEST(the_cache_forgets_a_file),
		TEST(the_poller_is_asked_before_the_loop_sleeps),
		TEST(looking_goes_on_while_it_pays),
		TEST(run_ends_with_stop),
		TEST(posts_of_other_threads_come_in_order_and_wake_the_loop),
		cmocka_unit_test(a_loop_may_be_freed_with_polls_and_helpers),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
