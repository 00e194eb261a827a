/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What qemu-io is to QEMU's engine: does requests to an image with ours, beside a model, which is a plain file of the disk's size.
 *
 *     imgio KIND IMAGE MODEL [OPTIONS] < commands          imgio --create KIND IMAGE SIZE [OPTIONS]
 *
 *     random COUNT SEED UNIT [nodiscard]   many in flight at any byte, UNIT being a size that matters (the cluster's); each read is compared
 *     verify                     the whole disk against the model
 *     map                        its extents: OFFSET LENGTH allocated|zero|zero-allocated|hole
 *     resize SIZE [shrink]       the model too
 *     snapshot create|delete|revert NAME [during]   a snapshot's model is the file MODEL.NAME; during: while random requests go on
 *                                "refused" when refcounts are too narrow
 *     flatten [during], snapshots, check
 *     flush, info
 *
 * Says what is wrong and ends with 1 at the first thing that is.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "engine.h"

#define SLOTS 16
#define LENGTH_MAX ((uint64_t)512 << 10)

struct slot {
	struct image_request *request;
	struct iovec iov[2];
	uint8_t *buffer;
	uint64_t begin, end;
	bool busy;
};

static struct {
	struct engine engine;
	uint8_t *model;
	int model_fd;
	const char *model_path;
	uint64_t size, random, failures;
	struct slot slots[SLOTS];
	unsigned busy;
} io;

static uint64_t below(uint64_t n)
{
	uint64_t z = io.random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return (z ^ z >> 31) % n;
}

__attribute__((noreturn, format(printf, 1, 2))) static void wrong(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stdout, format, args);
	va_end(args);
	fputc('\n', stdout);
	fflush(stdout);
	_exit(1);
}

static void map_model(const char *path)
{
	struct stat status;
	if (path)
		io.model_fd = open(path, O_RDWR | O_CLOEXEC);
	if (io.model)
		munmap(io.model, io.size);
	io.size = image_limits(io.engine.image)->size;
	if (io.model_fd < 0 || ftruncate(io.model_fd, (off_t)io.size) < 0 || fstat(io.model_fd, &status) < 0)
		wrong("the model: %s", strerror(errno));
	io.model = mmap(NULL, io.size, PROT_READ | PROT_WRITE, MAP_SHARED, io.model_fd, 0);
	if (io.model == MAP_FAILED)
		wrong("the model: %s", strerror(errno));
}

static void compare(const uint8_t *data, uint64_t offset, uint64_t length, const char *what)
{
	if (memcmp(data, io.model + offset, length) == 0)
		return;
	uint64_t at = 0;
	while (data[at] == io.model[offset + at])
		at++;
	wrong("%s of %" PRIu64 " + %" PRIu64 ": at %" PRIu64 " there is %#x, not %#x", what, offset, length, offset + at, data[at],
	      io.model[offset + at]);
}

static const char *op_name(enum lunkit_op op)
{
	static const char *const names[LUNKIT_OP_COUNT] = { "read", "write", "flush", "discard", "write_zeroes", "extents" };
	return names[op];
}

static void done(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	const struct lunkit_request *r = &request->request;
	slot->busy = false;
	io.busy--;
	if (result < 0)
		wrong("%s of %" PRIu64 " + %" PRIu64 ": %s", op_name(r->op), r->offset, r->length, strerror(-result));
	if (r->op == LUNKIT_READ)
		compare(slot->buffer, r->offset, r->length, "a read");
	if (r->op == LUNKIT_WRITE)
		memcpy(io.model + r->offset, slot->buffer, r->length);
	if (r->op == LUNKIT_WRITE_ZEROES)
		memset(io.model + r->offset, 0, r->length);
}

static bool is_free(uint64_t begin, uint64_t end)
{
	for (unsigned i = 0; i < SLOTS; i++)
		if (io.slots[i].busy && begin < io.slots[i].end && io.slots[i].begin < end)
			return false;
	return true;
}

static void turn(void)
{
	if (loop_turn(io.engine.loop, true) < 0)
		wrong("the loop broke");
}

static void wait_for_all(void)
{
	while (io.busy)
		turn();
}

/* What a discard leaves is the old data or zeros, sector by sector; the model takes it over. */
static void discard(uint64_t offset, uint64_t length)
{
	wait_for_all();
	uint8_t *now = malloc(length);
	int r = engine_request(&io.engine, LUNKIT_DISCARD, 0, offset, NULL, length);
	if (r == 0)
		r = engine_request(&io.engine, LUNKIT_READ, 0, offset, now, length);
	if (r < 0)
		wrong("a discard of %" PRIu64 " + %" PRIu64 ": %s", offset, length, strerror(-r));
	for (uint64_t at = 0; at < length; at++) {
		if (now[at] != io.model[offset + at] && now[at] != 0)
			wrong("after a discard of %" PRIu64 " + %" PRIu64 ": at %" PRIu64 " there is %#x, neither 0 nor the old %#x",
			      offset, length, offset + at, now[at], io.model[offset + at]);
		io.model[offset + at] = now[at];
	}
	free(now);
}

static void choose_range(uint64_t unit, uint64_t *ret_begin, uint64_t *ret_length)
{
	uint64_t length, begin = below(io.size);
	switch (below(5)) {
	case 0:
		length = 1 + below(3000);
		break;
	case 1:
		begin &= ~(uint64_t)4095;
		length = 4096;
		break;
	case 2:
		begin = begin / unit * unit;
		length = unit * (1 + below(3));
		break;
	case 3:
		begin &= ~(uint64_t)511;
		length = 512 * (1 + below(64));
		break;
	default:
		length = 1 + below(LENGTH_MAX);
		break;
	}
	*ret_begin = begin;
	*ret_length = MIN(MIN(length, LENGTH_MAX), io.size - begin);
}

static void start(struct slot *slot, uint64_t unit, bool discards)
{
	struct lunkit_request *r = &slot->request->request;
	uint64_t begin, length, kind = below(100);
	choose_range(unit, &begin, &length);
	if (kind >= 95) {
		r->op = LUNKIT_FLUSH;
		begin = length = 0;
	} else if (kind >= 88) {
		if (discards)
			discard(begin, length);
		return;
	} else if (!is_free(begin, begin + length)) {
		turn();
		return;
	} else {
		r->op = kind >= 78 ? LUNKIT_WRITE_ZEROES : kind >= 25 ? LUNKIT_WRITE : LUNKIT_READ;
	}
	r->flags = r->op == LUNKIT_WRITE && below(20) == 0 ? LUNKIT_REQUEST_FUA : 0;
	if (r->op == LUNKIT_WRITE_ZEROES && below(2))
		r->flags |= LUNKIT_REQUEST_MAY_DISCARD;
	r->offset = begin;
	r->length = length;
	r->iov_count = 0;
	if (r->op == LUNKIT_READ || r->op == LUNKIT_WRITE) {
		uint64_t part = length > 1 && below(2) ? 1 + below(length - 1) : 0;
		if (part)
			slot->iov[r->iov_count++] = (struct iovec){ slot->buffer, part };
		slot->iov[r->iov_count++] = (struct iovec){ slot->buffer + part, length - part };
	}
	r->iov = slot->iov;
	if (r->op == LUNKIT_WRITE)
		for (uint64_t at = 0, word = below(UINT64_MAX); at < length; at++)
			slot->buffer[at] = (uint8_t)((word >> at % 8 * 8) + at / 256);
	slot->begin = begin;
	slot->end = begin + length;
	slot->busy = true;
	io.busy++;
	image_submit(io.engine.image, slot->request);
}

static void run_random(uint64_t count, uint64_t seed, uint64_t unit, bool discards)
{
	io.random = seed;
	unsigned slots = 1 + (unsigned)below(SLOTS);
	for (unsigned i = 0; i < slots; i++) {
		struct slot *slot = &io.slots[i];
		slot->request = malloc(image_request_size(io.engine.image));
		slot->buffer = aligned_alloc(4096, LENGTH_MAX);
		if (!slot->request || !slot->buffer)
			wrong("no memory");
		image_request_init(io.engine.image, slot->request);
		slot->request->user = slot;
		slot->request->done = done;
	}
	for (uint64_t i = 0; i < count;) {
		struct slot *slot = &io.slots[below(slots)];
		if (slot->busy) {
			turn();
			continue;
		}
		start(slot, unit, discards);
		i++;
	}
	wait_for_all();
	for (unsigned i = 0; i < slots; i++) {
		free(io.slots[i].request);
		free(io.slots[i].buffer);
	}
}

static void verify(void)
{
	uint8_t *buffer = aligned_alloc(4096, LENGTH_MAX);
	for (uint64_t at = 0; buffer && at < io.size; at += LENGTH_MAX) {
		uint64_t part = MIN(LENGTH_MAX, io.size - at);
		int r = engine_request(&io.engine, LUNKIT_READ, 0, at, buffer, part);
		if (r < 0)
			wrong("reading %" PRIu64 " + %" PRIu64 ": %s", at, part, strerror(-r));
		compare(buffer, at, part, "the disk");
	}
	free(buffer);
}

struct waiting {
	bool done;
	int result;
};

static void extents_done(struct image_request *request, int result)
{
	*(struct waiting *)request->user = (struct waiting){ true, result };
}

static void map(void)
{
	static const char *const names[] = { "hole", "allocated", "zero", "zero-allocated" };
	struct lunkit_extent extents[16];
	struct waiting waiting;
	struct image_request *request = malloc(image_request_size(io.engine.image));
	if (!request)
		wrong("no memory");
	image_request_init(io.engine.image, request);
	for (uint64_t at = 0; at < io.size;) {
		waiting.done = false;
		request->user = &waiting;
		request->done = extents_done;
		request->request = (struct lunkit_request){ .op = LUNKIT_EXTENTS,
							    .offset = at,
							    .length = io.size - at,
							    .extents = extents,
							    .extent_capacity = ARRAY_SIZE(extents),
							    .memory = request->request.memory };
		image_submit(io.engine.image, request);
		while (!waiting.done)
			turn();
		if (waiting.result < 0 || request->request.extent_count == 0)
			wrong("extents at %" PRIu64 ": %s", at, strerror(-waiting.result));
		for (unsigned i = 0; i < request->request.extent_count; i++) {
			const struct lunkit_extent *extent = &extents[i];
			if (extent->offset != at)
				wrong("the extents leave %" PRIu64 " out", at);
			printf("%" PRIu64 " %" PRIu64 " %s\n", extent->offset, extent->length, names[extent->flags & 3]);
			at += extent->length;
		}
	}
	free(request);
}

static void resized(struct image_job *job, int result)
{
	(void)result;
	job->done = NULL;
}

static void resize(uint64_t size, bool shrink)
{
	struct image_job job = { .done = resized };
	image_resize(io.engine.image, &job, size, shrink ? LUNKIT_RESIZE_SHRINK : 0);
	while (job.done)
		turn();
	if (job.err.code)
		wrong("resize to %" PRIu64 ": %s", size, job.err.message);
	map_model(NULL);
}

/* ---- snapshots ---- */

static void copy_model(const char *name, bool back)
{
	char path[512];
	snprintf(path, sizeof(path), "%s.%s", io.model_path, name);
	int fd = open(path, back ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0)
		wrong("%s: %s", path, strerror(errno));
	if (back) {
		map_model(NULL);
		if ((uint64_t)status.st_size != io.size)
			wrong("the disk has %" PRIu64 " bytes, and the snapshot %s had %" PRIu64, io.size, name, (uint64_t)status.st_size);
	}
	for (uint64_t at = 0; at < io.size;) {
		ssize_t n = back ? pread(fd, io.model + at, io.size - at, (off_t)at) : pwrite(fd, io.model + at, io.size - at, (off_t)at);
		if (n <= 0)
			wrong("%s: %s", path, strerror(errno));
		at += (uint64_t)n;
	}
	close(fd);
}

/* Ends the job; requests go on meanwhile when seed is not 0. */
static void wait_for_job(struct image_job *job, uint64_t seed, uint64_t unit, const char *what)
{
	while (job->done && seed)
		run_random(20, seed++, MAX(unit, 512u), false);
	while (job->done)
		turn();
	if (job->err.code && job->err.code != EOVERFLOW)
		wrong("%s: %s", what, job->err.message);
}

static void snapshot(const char *op, const char *name, bool during)
{
	struct image_job job = { .done = resized };
	if (strcmp(op, "create") == 0) {
		image_snapshot(io.engine.image, &job, LUNKIT_SNAPSHOT_CREATE, name);
		if (!during)
			copy_model(name, false);
	} else if (strcmp(op, "delete") == 0) {
		image_snapshot(io.engine.image, &job, LUNKIT_SNAPSHOT_DELETE, name);
	} else {
		image_snapshot(io.engine.image, &job, LUNKIT_SNAPSHOT_REVERT, name);
	}
	wait_for_job(&job, during ? 77 : 0, 65536, op);
	if (job.err.code)
		printf("refused %s %s\n", op, name);
	else if (strcmp(op, "revert") == 0)
		copy_model(name, true);
}

static void flatten(bool during)
{
	struct image_job job = { .done = resized };
	image_flatten(io.engine.image, &job);
	wait_for_job(&job, during ? 99 : 0, 65536, "flatten");
}

static void list_snapshots(void)
{
	struct lunkit_snapshots list;
	struct lunkit_error err;
	if (image_snapshot_list(io.engine.image, &list, &err) < 0)
		wrong("snapshots: %s", err.message);
	for (size_t i = 0; i < list.count; i++)
		printf("%s %s %" PRIu64 "\n", list.items[i].id, list.items[i].name, list.items[i].size);
	image_snapshots_free(&list);
}

static void check(void)
{
	struct image_job job = { .done = resized };
	struct lunkit_check_report report;
	image_check(io.engine.image, &job, 0, &report);
	wait_for_job(&job, 0, 0, "check");
	if (report.corruptions || report.leaks)
		wrong("check finds %" PRIu64 " corruptions and %" PRIu64 " leaks: %s", report.corruptions, report.leaks, report.first);
}

static void info(void)
{
	struct lunkit_error err;
	char *json;
	if (image_info(io.engine.image, &json, &err) < 0)
		wrong("info: %s", err.message);
	puts(json);
	free(json);
}

static int create(char **argv)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct image_params params = { .name = argv[3], .size = strtoull(argv[4], NULL, 10), .options = argv[5] };
	if (engine_start(&io.engine, argv[2], 16, 0, &err) < 0 || image_create(&io.engine.host, io.engine.handler, &params, &err) < 0)
		wrong("create: %s", err.message);
	return 0;
}

int main(int argc, char **argv)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (argc >= 5 && strcmp(argv[1], "--create") == 0)
		return create(argv);
	if (argc < 4) {
		fprintf(stderr, "usage: imgio KIND IMAGE MODEL [OPTIONS] < commands\n");
		return 2;
	}
	const struct image_params params = { .name = argv[2],
					     .options = argc > 4 && argv[4][0] ? argv[4] : NULL,
					     .cache = getenv("IMGIO_DIRECT") ? LUNKIT_CACHE_NONE : LUNKIT_CACHE_WRITEBACK };
	if (engine_start(&io.engine, argv[1], SLOTS * 4, 0, &err) < 0 || engine_open(&io.engine, &params, &err) < 0)
		wrong("open: %s", err.message);
	map_model(argv[3]);
	char line[512], word[32], op[16], name[256];
	io.model_path = argv[3];
	while (fgets(line, sizeof(line), stdin)) {
		uint64_t a = 0, b = 0, c = 0;
		if (sscanf(line, "%31s %" SCNu64 " %" SCNu64 " %" SCNu64, word, &a, &b, &c) < 1)
			continue;
		if (strcmp(word, "random") == 0)
			run_random(a, b, MAX(c, 512u), !strstr(line, "nodiscard"));
		else if (strcmp(word, "verify") == 0)
			verify();
		else if (strcmp(word, "map") == 0)
			map();
		else if (strcmp(word, "resize") == 0)
			resize(a, strstr(line, "shrink"));
		else if (strcmp(word, "info") == 0)
			info();
		else if (strcmp(word, "snapshot") == 0 && sscanf(line, "%*s %15s %255s", op, name) == 2)
			snapshot(op, name, strstr(line, " during"));
		else if (strcmp(word, "snapshots") == 0)
			list_snapshots();
		else if (strcmp(word, "flatten") == 0)
			flatten(strstr(line, " during"));
		else if (strcmp(word, "check") == 0)
			check();
		else if (strcmp(word, "flush") != 0)
			wrong("unknown command %s", word);
		else if (engine_request(&io.engine, LUNKIT_FLUSH, 0, 0, NULL, 0) < 0)
			wrong("the flush failed");
	}
	int r = engine_request(&io.engine, LUNKIT_FLUSH, 0, 0, NULL, 0);
	if (r < 0)
		wrong("the last flush: %s", strerror(-r));
	engine_stop(&io.engine);
	return 0;
}
