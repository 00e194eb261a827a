/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Two threads wake each other a few times through eventfds. The first rounds start the other thread and warm up the caches; the median leaves out what else ran. */
#include "io/wakeup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"

#define POLL_WAKE_UPS 10
#define POLL_NS_MIN 50000
#define POLL_NS_MAX 500000
#define ROUNDS 15
#define STACK_SIZE (128u << 10)

struct pair {
	int there, back; /* eventfds */
};

/* Neither fails on an eventfd except for a signal's sake, and both sides must make all rounds, or one would wait for ever. */
static void wait_for(int fd)
{
	uint64_t count;
	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
}

static void wake(int fd)
{
	uint64_t one = 1;
	while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

static void *answer(void *argument)
{
	const struct pair *pair = argument;
	for (int i = 0; i < ROUNDS; i++) {
		wait_for(pair->there);
		wake(pair->back);
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static uint64_t measure(struct pair *pair)
{
	uint64_t rounds[ROUNDS];
	pthread_attr_t attributes;
	pthread_t thread;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	/* Signals are the first thread's affair. */
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&thread, &attributes, answer, pair);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (r != 0)
		return 0;
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t start = clock_now_ns();
		wake(pair->there);
		wait_for(pair->back);
		rounds[i] = clock_now_ns() - start;
	}
	pthread_join(thread, NULL);
	qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
	return rounds[ROUNDS / 2] / 2;
}

uint64_t wakeup_measure_ns(void)
{
	struct pair pair = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
	uint64_t ns = pair.there >= 0 && pair.back >= 0 ? measure(&pair) : 0;
	if (pair.there >= 0)
		close(pair.there);
	if (pair.back >= 0)
		close(pair.back);
	return ns;
}

uint64_t wakeup_poll_window_ns(void)
{
	uint64_t ns = POLL_WAKE_UPS * wakeup_measure_ns();
	return MIN(MAX(ns, POLL_NS_MIN), POLL_NS_MAX);
}
