/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fakehost/workload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define LENGTH_MAX ((uint64_t)256 << 10)
#define MEMORY_ALIGNMENT 4096u
#define PIECES_MAX 8u
#define VERIFY_PIECE ((uint64_t)512 << 10)

struct run;
struct slot {
	struct run *run;
	struct image_request *request;
	struct iovec iov[PIECES_MAX];
	char *memory, *buffer; /* buffer: in memory, not always aligned */
	bool busy;
	enum lunkit_op op;
	uint64_t sector, count, submitted, known;
	uint32_t model_op;
	bool fua;
};

struct run {
	struct fakehost *fake;
	struct image *image;
	struct model *model;
	const struct workload_config *config;
	struct workload_result *result;
	uint64_t random, length_max;
	uint64_t next;		  /* where a sequential stream goes on */
	uint64_t hot, hot_length; /* sectors that are used more than others */
	unsigned busy, slots;
	unsigned weights[5], weight;
	unsigned overlap; /* one of so many writes may overlap others in flight */
	struct slot slot[WORKLOAD_SLOTS_MAX];
};

static uint64_t below(struct run *run, uint64_t n)
{
	return fakehost_below(&run->random, n);
}

static const char *op_name(enum lunkit_op op)
{
	static const char *const names[LUNKIT_OP_COUNT] = { "read", "write", "flush", "discard", "write_zeroes", "extents" };
	return names[op];
}

static void done(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	struct run *run = slot->run;
	struct workload_result *out = run->result;
	uint64_t now = fakehost_moment(run->fake);
	slot->busy = false;
	run->busy--;
	if (result < 0) {
		if (!out->failed++)
			out->first_error = result;
		if (!run->config->errors_expected && !out->unexpected++)
			snprintf(out->text, sizeof(out->text), "%s of sector %llu + %llu failed: %s", op_name(slot->op),
				 (unsigned long long)slot->sector, (unsigned long long)slot->count, strerror(-result));
	}
	switch (slot->op) {
	case LUNKIT_READ:
		if (result == 0 && !out->wrong &&
		    !model_check(run->model, slot->sector, slot->buffer, slot->count, false, slot->known, now, out->text,
				 sizeof(out->text)))
			out->wrong = true;
		return;
	case LUNKIT_WRITE:
	case LUNKIT_WRITE_ZEROES:
	case LUNKIT_DISCARD:
		model_end(run->model, slot->model_op, now, result < 0);
		if (slot->fua && result == 0)
			run->model->ops[slot->model_op].durable = now;
		return;
	case LUNKIT_FLUSH:
		if (result == 0) {
			model_flushed(run->model, slot->submitted, now);
			out->flushed++;
		}
		return;
	case LUNKIT_EXTENTS:
		return;
	}
}

static bool overlaps(const struct run *run, uint64_t sector, uint64_t count)
{
	for (unsigned i = 0; i < run->slots; i++) {
		const struct slot *slot = &run->slot[i];
		if (slot->busy && slot->op != LUNKIT_FLUSH && slot->op != LUNKIT_READ &&
		    range_overlaps(slot->sector, slot->count, sector, count))
			return true;
	}
	return false;
}

static void choose_range(struct run *run, struct slot *slot)
{
	uint64_t sectors = run->model->sectors, cluster = MAX(run->config->cluster_size / MODEL_SECTOR, 1u);
	uint64_t longest = MIN(run->length_max / MODEL_SECTOR, sectors), count;
	bool whole = false;
	switch (below(run, 6)) {
	case 0:
		count = 1 + below(run, 4);
		break;
	case 1:
	case 2:
		count = 8;
		break;
	case 3:
		count = cluster * (1 + below(run, 3));
		whole = true;
		break;
	case 4:
		count = 1 + below(run, cluster * 2);
		break;
	default:
		count = 1 + below(run, longest);
		whole = below(run, 2);
		break;
	}
	count = MIN(count, longest);
	uint64_t at;
	if (run->config->sequential || below(run, 8) == 0)
		at = run->next;
	else if (below(run, 2))
		at = run->hot + below(run, run->hot_length);
	else
		at = below(run, sectors);
	if (whole)
		at = at / cluster * cluster;
	else if (below(run, 2))
		at &= ~(uint64_t)7;
	if (at >= sectors)
		at = 0;
	slot->sector = at;
	slot->count = MIN(count, sectors - at);
	run->next = at + slot->count;
}

static enum lunkit_op choose_op(struct run *run)
{
	static const enum lunkit_op ops[] = { LUNKIT_READ, LUNKIT_WRITE, LUNKIT_WRITE_ZEROES, LUNKIT_DISCARD, LUNKIT_FLUSH };
	uint64_t at = below(run, run->weight);
	for (unsigned i = 0; i < 5; i++) {
		if (at < run->weights[i])
			return ops[i];
		at -= run->weights[i];
	}
	return LUNKIT_WRITE;
}

/* Cuts the buffer into pieces of whole sectors. */
static unsigned cut(struct run *run, struct slot *slot)
{
	uint64_t wanted = 1 + below(run, PIECES_MAX);
	unsigned pieces = (unsigned)MIN(wanted, slot->count);
	char *at = slot->buffer;
	uint64_t left = slot->count;
	for (unsigned i = 0; i < pieces; i++) {
		uint64_t part = i + 1 == pieces ? left : MAX(left / (pieces - i), 1u);
		slot->iov[i] = (struct iovec){ at, part * MODEL_SECTOR };
		at += part * MODEL_SECTOR;
		left -= part;
	}
	return pieces;
}

static bool may_compress(const struct run *run, const struct lunkit_request *request)
{
	const struct lunkit_limits *limits = image_limits(run->image);
	uint64_t unit = limits->compress_unit, end = request->offset + request->length;
	return unit && is_aligned(request->offset, unit) && (is_aligned(end, unit) || end == limits->size);
}

static void start(struct run *run, struct slot *slot)
{
	struct lunkit_request *request = &slot->request->request;
	slot->op = choose_op(run);
	slot->fua = false;
	choose_range(run, slot);
	if (slot->op == LUNKIT_FLUSH)
		slot->sector = slot->count = 0;
	else if (slot->op != LUNKIT_READ && overlaps(run, slot->sector, slot->count) && below(run, run->overlap))
		return;
	slot->buffer = slot->memory + (below(run, 24) ? 0 : 1 + below(run, 600));
	slot->known = slot->submitted = fakehost_moment(run->fake);
	request->op = slot->op;
	request->flags = 0;
	request->offset = slot->sector * MODEL_SECTOR;
	request->length = slot->count * MODEL_SECTOR;
	request->iov_count = 0;
	request->iov = slot->iov;
	if (slot->op == LUNKIT_READ || slot->op == LUNKIT_WRITE)
		request->iov_count = cut(run, slot);
	if (slot->op == LUNKIT_READ)
		memset(slot->buffer, 0xee, request->length);
	if (slot->op == LUNKIT_WRITE || slot->op == LUNKIT_WRITE_ZEROES) {
		slot->fua = below(run, 24) == 0;
		request->flags = slot->fua ? LUNKIT_REQUEST_FUA : 0;
		if (slot->op == LUNKIT_WRITE_ZEROES && below(run, 2))
			request->flags |= LUNKIT_REQUEST_MAY_DISCARD;
		if (slot->op == LUNKIT_WRITE && may_compress(run, request) && below(run, 2))
			request->flags |= LUNKIT_REQUEST_COMPRESS;
	}
	if (slot->op == LUNKIT_WRITE || slot->op == LUNKIT_WRITE_ZEROES || slot->op == LUNKIT_DISCARD)
		slot->model_op = model_begin(run->model,
					     slot->op == LUNKIT_WRITE	       ? MODEL_WRITE
					     : slot->op == LUNKIT_WRITE_ZEROES ? MODEL_ZERO
									       : MODEL_DISCARD,
					     slot->sector, slot->count, slot->submitted);
	if (slot->op == LUNKIT_WRITE)
		model_fill(slot->buffer, slot->model_op, slot->sector, slot->count);
	slot->busy = true;
	run->busy++;
	image_submit(run->image, slot->request);
}

static void step(struct run *run)
{
	static const bool never = false;
	if (!fakehost_step(run->fake) && run->busy && !fakehost_ring(run->fake))
		fakehost_run_until(run->fake, &never); /* says that something hangs */
}

static void choose_weights(struct run *run)
{
	/* Flushes after little are what makes the order of writes matter. */
	static const unsigned mixes[][5] = {
		{ 10, 60, 8, 8, 6 }, { 10, 60, 2, 30, 4 }, { 5, 80, 0, 0, 3 },	 { 10, 40, 30, 10, 10 }, { 40, 40, 5, 5, 1 },
		{ 5, 50, 5, 5, 30 }, { 5, 45, 30, 0, 25 }, { 2, 40, 0, 30, 25 }, { 2, 40, 15, 15, 30 },
	};
	const struct workload_config *config = run->config;
	const unsigned given[5] = { config->reads, config->writes, config->zeroes, config->discards, config->flushes };
	const unsigned *mix = mixes[below(run, ARRAY_SIZE(mixes))];
	for (unsigned i = 0; i < 5; i++)
		run->weight += given[i];
	if (run->weight)
		mix = given;
	run->weight = 0;
	for (unsigned i = 0; i < 5; i++) {
		run->weights[i] = i == 3 && config->no_discard ? 0 : mix[i];
		run->weight += run->weights[i];
	}
}

static void prepare(struct run *run)
{
	static const unsigned depths[] = { 1, 2, 4, 8, 16, 32 };
	const struct workload_config *config = run->config;
	run->random = config->seed * 2654435761u + 17;
	run->slots = config->slots ? MIN(config->slots, WORKLOAD_SLOTS_MAX) : depths[below(run, ARRAY_SIZE(depths))];
	if (config->sequential)
		run->slots = 1;
	run->length_max = config->length_max ? config->length_max : LENGTH_MAX;
	run->hot_length = MAX(run->model->sectors / (4 << below(run, 4)), 1u);
	run->hot = below(run, run->model->sectors);
	run->overlap = below(run, 4) ? 1000000 : 3;
	choose_weights(run);
	for (unsigned i = 0; i < run->slots; i++) {
		struct slot *slot = &run->slot[i];
		slot->run = run;
		slot->memory = aligned_alloc(MEMORY_ALIGNMENT, align_up(run->length_max + 1024, MEMORY_ALIGNMENT));
		slot->request = malloc(image_request_size(run->image));
		if (!slot->memory || !slot->request)
			abort();
		image_request_init(run->image, slot->request);
		slot->request->user = slot;
		slot->request->done = done;
	}
}

void workload_run(struct fakehost *fake, struct image *image, struct model *model, const struct workload_config *config,
		  struct workload_result *ret)
{
	struct run *run = calloc(1, sizeof(*run));
	if (!run)
		abort();
	*ret = (struct workload_result){ 0 };
	*run = (struct run){ .fake = fake, .image = image, .model = model, .config = config, .result = ret };
	prepare(run);
	for (unsigned started = 0; started < config->requests && !ret->wrong;) {
		struct slot *slot = &run->slot[below(run, run->slots)];
		if (config->tick)
			config->tick(config->tick_argument);
		if (!slot->busy && below(run, 4)) {
			start(run, slot);
			started++;
		} else {
			step(run);
		}
	}
	while (run->busy)
		step(run);
	for (unsigned i = 0; i < run->slots; i++) {
		free(run->slot[i].memory);
		free(run->slot[i].request);
	}
	free(run);
}

bool workload_verify(struct fakehost *fake, struct image *image, const struct model *model, bool after_cut, uint64_t known, uint64_t now,
		     char *text, unsigned size)
{
	/* A cut while the disk was smaller leaves it so. */
	uint64_t end = MIN(model->sectors * MODEL_SECTOR, image_limits(image)->size), piece = MIN(VERIFY_PIECE, end);
	char *buffer = aligned_alloc(MEMORY_ALIGNMENT, align_up(piece, MEMORY_ALIGNMENT));
	bool good = true;
	if (!buffer)
		abort();
	for (uint64_t at = 0; at < end && good; at += piece) {
		uint64_t part = MIN(piece, end - at);
		int r = fakehost_request(fake, image, LUNKIT_READ, 0, at, buffer, part);
		if (r < 0) {
			snprintf(text, size, "reading %llu bytes at %llu failed: %s", (unsigned long long)part, (unsigned long long)at,
				 strerror(-r));
			good = false;
		} else {
			good = model_check(model, at / MODEL_SECTOR, buffer, part / MODEL_SECTOR, after_cut, known, now, text, size);
		}
	}
	free(buffer);
	return good;
}
