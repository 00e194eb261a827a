/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Drives a real worker with random 4 KiB reads or writes at one depth and prints what it did:
 *
 *     ring KIND NAME read|write DEPTH SECONDS
 *     requests/s, the worker's user and system µs a request, this program's µs a request, requests a doorbell
 *
 * This program stands for the kernel and the initiator: it copies data into and out of the data area as target_core_user does, kicks once
 * for what it queued together, and looks at the ring for a moment before it sleeps.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "standin/worker.h"

#define SIZE 4096u
#define BLOCK 512u
#define SPIN_NS 5000 /* where two processors serve three threads, looking for longer takes time from the worker */
#define WARM_UP_NS 200000000u

static struct {
	struct standin standin;
	bool writes, stopping;
	uint64_t spots, random, completed;
	unsigned started;
} bench;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void start(struct standin_command *command)
{
	/* xorshift: the generator must not be what is measured */
	bench.random ^= bench.random << 13;
	bench.random ^= bench.random >> 7;
	bench.random ^= bench.random << 17;
	uint64_t lba = bench.random % bench.spots * (SIZE / BLOCK);
	if (bench.writes)
		standin_write16(command, lba, SIZE / BLOCK, BLOCK, command->data, false);
	else
		standin_read16(command, lba, SIZE / BLOCK, BLOCK, command->data);
	if (standin_submit(&bench.standin, command) < 0) {
		fprintf(stderr, "ring: the ring is full\n");
		exit(1);
	}
	bench.started++;
}

static void done(struct standin_command *command)
{
	if (command->status) {
		fprintf(stderr, "ring: a command ended with status %#x, sense %x/%02x/%02x\n", command->status, command->sense[2],
			command->sense[12], command->sense[13]);
		exit(1);
	}
	bench.completed++;
	if (!bench.stopping)
		start(command);
}

/* One round of the kernel's work. */
static void serve(void)
{
	bench.started = 0;
	if (!standin_reap(&bench.standin)) {
		uint64_t until = now_ns() + SPIN_NS;
		do {
			for (unsigned i = 0; i < 32; i++)
				__builtin_ia32_pause();
			if (standin_reap(&bench.standin))
				goto kick;
			sched_yield();
		} while (now_ns() < until);
		if (!standin_wait(&bench.standin, 10000)) {
			fprintf(stderr, "ring: the worker does not answer\n");
			exit(1);
		}
		standin_reap(&bench.standin);
	}
kick:
	if (bench.started)
		standin_kick(&bench.standin);
}

static double own_seconds(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	unsigned depth = argc == 6 ? (unsigned)strtoul(argv[4], NULL, 10) : 0;
	double seconds = argc == 6 ? strtod(argv[5], NULL) : 0;
	if (!depth || depth > 1024 || seconds <= 0 || (strcmp(argv[3], "read") && strcmp(argv[3], "write"))) {
		fprintf(stderr, "usage: %s KIND NAME read|write DEPTH SECONDS\n", argv[0]);
		return 2;
	}
	struct standin_image image = {
		.kind = argv[1], .name = argv[2], .cache = LUNKIT_CACHE_NONE, .write_cache = true, .block_size = BLOCK
	};
	bench.writes = !strcmp(argv[3], "write");
	bench.random = 88172645463325252u;
	standin_new(&bench.standin, &(struct standin_config){ .quiet = true });
	struct standin_worker worker;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (standin_worker_start(&worker, &bench.standin, &image, &err) < 0) {
		fprintf(stderr, "ring: %s\n", err.message);
		return 1;
	}
	if (worker.notice[0])
		fprintf(stderr, "ring: %s\n", worker.notice);
	bench.spots = worker.size / SIZE;

	struct standin_command *commands = calloc(depth, sizeof(*commands));
	char *data = aligned_alloc(SIZE, (size_t)depth * SIZE);
	if (!commands || !data)
		return 1;
	memset(data, 0xa5, (size_t)depth * SIZE);
	for (unsigned i = 0; i < depth; i++) {
		commands[i].data = data + (size_t)i * SIZE;
		commands[i].done = done;
		start(&commands[i]);
	}
	standin_kick(&bench.standin);

	for (uint64_t end = now_ns() + WARM_UP_NS; now_ns() < end;)
		serve();
	double user, system, user_end, system_end, own = own_seconds();
	uint64_t first = bench.completed, doorbells = bench.standin.doorbells, begin = now_ns();
	standin_worker_times(&worker, &user, &system);
	uint64_t end = begin + (uint64_t)(seconds * 1e9);
	while (now_ns() < end)
		serve();
	double elapsed = (double)(now_ns() - begin) / 1e9, requests = (double)(bench.completed - first);
	standin_worker_times(&worker, &user_end, &system_end);
	own = own_seconds() - own;
	doorbells = bench.standin.doorbells - doorbells;
	bench.stopping = true;
	while (bench.standin.in_flight)
		serve();
	int status = standin_worker_stop(&worker);
	printf("%.0f %.3f %.3f %.3f %.1f\n", requests / elapsed, (user_end - user) / requests * 1e6, (system_end - system) / requests * 1e6,
	       own / requests * 1e6, doorbells ? requests / (double)doorbells : 0);
	free(commands);
	free(data);
	standin_free(&bench.standin);
	return status ? 1 : 0;
}
