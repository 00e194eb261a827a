/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Snapshots by lunkit's engine in one process: how long an operation takes, and how long it holds what goes on meanwhile.
 *
 *     snapshot fill PATH COUNT STEP                        a block of zeros into each of COUNT clusters, STEP clusters apart, around the image
 *     snapshot create|revert|delete PATH NAME              prints the operation's milliseconds, without opening and closing
 *     snapshot create|revert|delete PATH NAME DEPTH STEP   the same while DEPTH blocks are read and written, in turn, STEP clusters apart
 *
 * The last one begins with a while of requests alone and prints, in milliseconds: the mean and the longest gap between two completions in that while; the
 * longest gap that has a part of the operation in it; the longest that a request took which was under way during the operation; the operation's own time.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

#define BLOCK 4096u
#define CLUSTER 65536u
#define ALONE 0.3  /* seconds of requests before the operation */
#define AFTER 0.02 /* and behind it: so that the gap at its end is seen whole */

struct slot {
	struct image_request *request;
	struct iovec iov;
	double submitted;
};

static struct {
	struct engine engine;
	struct slot *slots, **idle;
	unsigned depth, idle_count;
	uint64_t offset, step, submitted;
	bool only_writes;
	/* what is measured, in seconds */
	struct image_job job;
	double begin, first, last, ended; /* of the operation; completions; 0: not yet */
	double longest_alone, longest_during, slowest;
	uint64_t completions_alone;
	int result;
} bench;

__attribute__((noreturn)) static void give_up(const char *what, const char *why)
{
	fprintf(stderr, "snapshot: %s: %s\n", what, why);
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

/* A gap belongs to the operation when a part of it does. */
static void measure(const struct slot *slot)
{
	double time = now();
	double gap = bench.last > 0 ? time - bench.last : 0;
	if (bench.begin == 0) {
		if (bench.first == 0)
			bench.first = time;
		else
			bench.completions_alone++;
		bench.longest_alone = larger(bench.longest_alone, gap);
	} else if (bench.ended == 0 || bench.last < bench.ended) {
		bench.longest_during = larger(bench.longest_during, gap);
	}
	if (bench.begin > 0 && (bench.ended == 0 || slot->submitted < bench.ended))
		bench.slowest = larger(bench.slowest, time - slot->submitted);
	bench.last = time;
}

static void done(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	if (result < 0)
		give_up("a request", strerror(-result));
	measure(slot);
	bench.idle[bench.idle_count++] = slot;
}

static void submit_one(void)
{
	struct slot *slot = bench.idle[--bench.idle_count];
	struct lunkit_request *request = &slot->request->request;
	request->op = bench.only_writes || bench.submitted & 1 ? LUNKIT_WRITE : LUNKIT_READ;
	request->offset = bench.offset;
	bench.offset = (bench.offset + bench.step) % image_limits(bench.engine.image)->size;
	bench.submitted++;
	slot->submitted = now();
	image_submit(bench.engine.image, slot->request);
}

/* Starts what may be started, once around, and takes what has completed. */
static void turn(bool may_submit)
{
	for (unsigned count = bench.idle_count; may_submit && count; count--)
		submit_one();
	bool waits = bench.idle_count < bench.depth || !bench.depth;
	if (loop_turn(bench.engine.loop, waits) < 0)
		give_up("the loop", "it broke");
}

static void finish_requests(void)
{
	while (bench.idle_count < bench.depth)
		turn(false);
}

static void make_slots(unsigned depth, uint64_t step)
{
	uint8_t *memory = aligned_alloc(BLOCK, (size_t)BLOCK * depth);
	bench.slots = calloc(depth, sizeof(*bench.slots));
	bench.idle = calloc(depth, sizeof(struct slot *));
	if (!memory || !bench.slots || !bench.idle)
		give_up("memory", "there is not enough");
	memset(memory, 0, (size_t)BLOCK * depth);
	bench.depth = depth;
	bench.step = step * CLUSTER;
	for (unsigned i = 0; i < depth; i++) {
		struct slot *slot = &bench.slots[i];
		slot->request = malloc(image_request_size(bench.engine.image));
		if (!slot->request)
			give_up("memory", "there is not enough");
		image_request_init(bench.engine.image, slot->request);
		slot->iov = (struct iovec){ memory + (size_t)i * BLOCK, BLOCK };
		slot->request->done = done;
		slot->request->user = slot;
		slot->request->request.length = BLOCK;
		slot->request->request.iov = &slot->iov;
		slot->request->request.iov_count = 1;
		bench.idle[bench.idle_count++] = slot;
	}
}

static void drop_slots(void)
{
	for (unsigned i = 0; i < bench.depth; i++)
		free(bench.slots[i].request);
	if (bench.depth)
		free(bench.slots[0].iov.iov_base);
	free(bench.slots);
	free(bench.idle);
}

static void job_done(struct image_job *job, int result)
{
	(void)job;
	bench.result = result;
	bench.ended = now();
}

static void start_operation(const char *op, const char *name)
{
	enum lunkit_snapshot_op code = LUNKIT_SNAPSHOT_CREATE;
	if (strcmp(op, "delete") == 0)
		code = LUNKIT_SNAPSHOT_DELETE;
	else if (strcmp(op, "revert") == 0)
		code = LUNKIT_SNAPSHOT_REVERT;
	else if (strcmp(op, "create") != 0)
		give_up(op, "there is no such operation");
	bench.job.done = job_done;
	bench.begin = now();
	image_snapshot(bench.engine.image, &bench.job, code, name);
}

static void operate(const char *op, const char *name)
{
	double until = now() + ALONE;
	while (bench.depth && now() < until)
		turn(true);
	start_operation(op, name);
	while (bench.ended == 0)
		turn(true);
	if (bench.result < 0)
		give_up(op, bench.job.err.message);
	while (bench.depth && now() < bench.ended + AFTER)
		turn(true);
	finish_requests();
	double took = (bench.ended - bench.begin) * 1e3;
	if (!bench.depth) {
		printf("%.3f\n", took);
		return;
	}
	if (!bench.completions_alone)
		give_up("requests", "none completed before the operation");
	printf("%.4f %.3f %.3f %.3f %.3f\n", ALONE * 1e3 / (double)bench.completions_alone, bench.longest_alone * 1e3,
	       bench.longest_during * 1e3, bench.slowest * 1e3, took);
}

static void fill(unsigned long count)
{
	bench.only_writes = true;
	while (bench.submitted < count) {
		for (unsigned left = bench.idle_count; left && bench.submitted < count; left--)
			submit_one();
		turn(false);
	}
	finish_requests();
}

int main(int argc, char **argv)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	bool fills = argc == 5 && strcmp(argv[1], "fill") == 0;
	if (!fills && argc != 4 && argc != 6) {
		fprintf(stderr, "usage: %s fill PATH COUNT STEP\n       %s create|revert|delete PATH NAME [DEPTH STEP]\n", argv[0],
			argv[0]);
		return 2;
	}
	unsigned depth = fills ? 32 : argc == 6 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
	uint64_t step = argc > 4 ? strtoull(argv[argc - 1], NULL, 10) : 0;
	if (depth > 4096 || (argc > 4 && (!depth || !step)))
		give_up("arguments", "a number is missing");
	/* Alone as qemu-img does it; beside requests as a LUN does. */
	const struct image_params params = { .name = argv[2], .cache = depth && !fills ? LUNKIT_CACHE_NONE : LUNKIT_CACHE_WRITEBACK };
	if (engine_start(&bench.engine, "qcow2", depth, 0, &err) < 0 || engine_open(&bench.engine, &params, &err) < 0)
		give_up(argv[2], err.message);
	if (depth)
		make_slots(depth, step);
	if (fills)
		fill(strtoul(argv[3], NULL, 10));
	else
		operate(argv[1], argv[3]);
	int r = engine_request(&bench.engine, LUNKIT_FLUSH, 0, 0, NULL, 0);
	if (r < 0)
		give_up("the last flush", strerror(-r));
	drop_slots();
	engine_stop(&bench.engine);
	return 0;
}
