/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drives lunkit's engine as `qemu-img bench` drives QEMU's: the same requests in the same order, the same number in flight, each with a buffer of
 * its own; with a flush interval, what is in flight is waited for, flushed, and then it goes on.
 *
 *     image KIND PATH read|write COUNT DEPTH SIZE STEP FLUSH-INTERVAL none|writeback|survive [OPTIONS [KEY-FILE]]
 *     seconds user-seconds system-seconds
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "engine.h"
#include "io/wakeup.h"

static struct {
	struct engine engine;
	enum lunkit_op op;
	uint64_t offset, step, image_size, size;
	unsigned left; /* requests that have not completed */
	unsigned in_flight, depth, flush_interval;
	bool flushing;
	struct image_request *flush, **idle;
	unsigned idle_count;
} bench;

__attribute__((noreturn)) static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "image: %s: %s\n", what, why);
	exit(1);
}

static void start_some(void)
{
	while (bench.left > bench.in_flight && bench.in_flight < bench.depth && !bench.flushing) {
		struct image_request *request = bench.idle[--bench.idle_count];
		request->request.offset = bench.offset;
		bench.offset = (bench.offset + bench.step) % bench.image_size;
		bench.in_flight++;
		image_submit(bench.engine.image, request);
	}
}

static void flushed(struct image_request *request, int result)
{
	(void)request;
	if (result < 0)
		give_up("a flush", strerror(-result));
	bench.flushing = false;
	start_some();
}

static void done(struct image_request *request, int result)
{
	if (result < 0)
		give_up("a request", strerror(-result));
	unsigned remaining = bench.left - bench.in_flight;
	bench.left--;
	bench.in_flight--;
	bench.idle[bench.idle_count++] = request;
	if (bench.flush_interval && remaining % bench.flush_interval == 0) {
		if (bench.in_flight)
			return;
		bench.flushing = true;
		image_submit(bench.engine.image, bench.flush);
		return;
	}
	start_some();
}

static struct image_request *new_request(enum lunkit_op op, void (*when_done)(struct image_request *, int))
{
	struct image_request *request = malloc(image_request_size(bench.engine.image));
	if (!request)
		give_up("memory", "there is not enough");
	image_request_init(bench.engine.image, request);
	request->request.op = op;
	request->done = when_done;
	return request;
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double seconds(struct timeval time)
{
	return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (argc < 10) {
		fprintf(stderr, "usage: %s KIND PATH read|write COUNT DEPTH SIZE STEP FLUSH-INTERVAL none|writeback [OPTIONS [KEY-FILE]]\n",
			argv[0]);
		return 2;
	}
	bench.op = strcmp(argv[3], "read") == 0 ? LUNKIT_READ : LUNKIT_WRITE;
	bench.left = (unsigned)strtoul(argv[4], NULL, 10);
	bench.depth = (unsigned)strtoul(argv[5], NULL, 10);
	bench.size = strtoull(argv[6], NULL, 10);
	bench.step = strtoull(argv[7], NULL, 10);
	bench.flush_interval = (unsigned)strtoul(argv[8], NULL, 10);
	const struct image_params params = { .name = argv[2],
					     .options = argc > 10 && argv[10][0] ? argv[10] : NULL,
					     .cache = strcmp(argv[9], "writeback") == 0 ? LUNKIT_CACHE_WRITEBACK : LUNKIT_CACHE_NONE,
					     .survive = strcmp(argv[9], "survive") == 0,
					     .read_only = bench.op == LUNKIT_READ };
	if (!bench.left || !bench.depth || bench.depth > 4096 || !bench.size || !bench.step)
		give_up("arguments", "a number is missing");
	if (engine_start(&bench.engine, argv[1], bench.depth, wakeup_poll_window_ns(), &err) < 0 ||
	    (argc > 11 && engine_take_key(&bench.engine, argv[11], &err) < 0) || engine_open(&bench.engine, &params, &err) < 0)
		give_up(argv[2], err.message);
	bench.image_size = image_limits(bench.engine.image)->size;
	char *memory = aligned_alloc(4096, (bench.size + 4095) / 4096 * 4096 * bench.depth);
	struct iovec *iov = calloc(bench.depth, sizeof(*iov));
	bench.idle = calloc(bench.depth, sizeof(struct image_request *));
	if (!memory || !iov || !bench.idle)
		give_up("memory", "there is not enough");
	memset(memory, 0xa5, bench.size * bench.depth);
	bench.flush = new_request(LUNKIT_FLUSH, flushed);
	for (unsigned i = 0; i < bench.depth; i++) {
		iov[i] = (struct iovec){ memory + i * bench.size, bench.size };
		struct image_request *request = new_request(bench.op, done);
		request->request.length = bench.size;
		request->request.iov = &iov[i];
		request->request.iov_count = 1;
		bench.idle[bench.idle_count++] = request;
	}
	struct rusage before, after;
	getrusage(RUSAGE_SELF, &before);
	double begin = now();
	start_some();
	while (bench.left || bench.flushing)
		if (loop_turn(bench.engine.loop, true) < 0)
			give_up("the loop", "it broke");
	double elapsed = now() - begin;
	getrusage(RUSAGE_SELF, &after);
	printf("%.6f %.6f %.6f\n", elapsed, seconds(after.ru_utime) - seconds(before.ru_utime),
	       seconds(after.ru_stime) - seconds(before.ru_stime));
	int r = engine_request(&bench.engine, LUNKIT_FLUSH, 0, 0, NULL, 0);
	if (r < 0 && bench.op == LUNKIT_WRITE)
		give_up("the last flush", strerror(-r));
	for (unsigned i = 0; i < bench.idle_count; i++)
		free(bench.idle[i]);
	free(bench.flush);
	free(bench.idle);
	free(iov);
	free(memory);
	engine_stop(&bench.engine);
	return 0;
}
