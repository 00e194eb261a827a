/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A qcow2 file of any content: looked at, read, mapped, checked, then written to, repaired and closed. The fake host aborts where the handler
 * breaks a promise to its host, and where something never ends.
 *
 *     input: the file's bytes; the first 8 may be "FUZZ" seed(4) to vary what is asked, and are taken off
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "fakehost/fakehost.h"
#include "fakehost/qcow2_check.h"
#include "fakehost/scenario.h"

#define PIECE ((uint64_t)64 << 10)
#define PIECES 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct lunkit_handler *handler;
static bool sane; /* the file's references and refcounts agree */

/* Places at the beginning, at the end and between. */
static uint64_t place(uint64_t size, unsigned i, uint64_t *random)
{
	uint64_t last = size > PIECE ? size - PIECE : 0;
	if (i < 3)
		return MIN(i * PIECE, last);
	return i == 3 ? last : align_down(fakehost_below(random, last + 1), 512);
}

static void read_all(struct fakehost *fake, struct image *image, uint64_t *random)
{
	uint64_t size = image_limits(image)->size;
	uint8_t *buffer = malloc(PIECE);
	struct lunkit_error err;
	char *json = NULL;
	if (!buffer)
		abort();
	for (unsigned i = 0; i < PIECES; i++) {
		uint64_t at = place(size, i, random);
		fakehost_request(fake, image, LUNKIT_READ, 0, at, buffer, MIN(PIECE, size - at));
	}
	fake->serving = false;
	if (image_info(image, &json, &err) == 0)
		free(json);
	fake->serving = true;
	free(buffer);
}

struct extents {
	struct image_request *request;
	bool done;
};

static void extents_done(struct image_request *request, int result)
{
	(void)result;
	((struct extents *)request->user)->done = true;
}

static void map(struct fakehost *fake, struct image *image)
{
	struct lunkit_extent extent[8];
	struct extents extents = { .request = malloc(image_request_size(image)) };
	if (!extents.request)
		abort();
	image_request_init(image, extents.request);
	extents.request->user = &extents;
	extents.request->done = extents_done;
	struct lunkit_request *request = &extents.request->request;
	request->op = LUNKIT_EXTENTS;
	request->offset = 0;
	request->length = image_limits(image)->size;
	request->extents = extent;
	request->extent_capacity = ARRAY_SIZE(extent);
	image_submit(image, extents.request);
	fakehost_run_until(fake, &extents.done);
	free(extents.request);
}

struct job {
	struct image_job job; /* first */
	bool done;
};

static void job_done(struct image_job *job, int result)
{
	(void)result;
	((struct job *)job)->done = true;
}

static void check(struct fakehost *fake, struct image *image, unsigned flags)
{
	struct job job = { .job.done = job_done };
	struct lunkit_check_report report;
	image_check(image, &job.job, flags, &report);
	fakehost_run_until(fake, &job.done);
}

static void write_some(struct fakehost *fake, struct image *image, uint64_t *random)
{
	static const enum lunkit_op ops[] = { LUNKIT_WRITE, LUNKIT_WRITE, LUNKIT_WRITE_ZEROES, LUNKIT_DISCARD, LUNKIT_FLUSH, LUNKIT_READ };
	uint64_t size = image_limits(image)->size;
	uint8_t *buffer = calloc(1, PIECE), *back = malloc(PIECE);
	if (!buffer || !back)
		abort();
	memset(buffer, 0x5a, PIECE);
	for (unsigned i = 0; i < PIECES; i++) {
		enum lunkit_op op = ops[fakehost_below(random, ARRAY_SIZE(ops))];
		uint64_t at = place(size, (unsigned)fakehost_below(random, 8), random), length = 1 + fakehost_below(random, PIECE);
		length = MIN(length, size - at);
		int r = fakehost_request(fake, image, op, 0, at, op == LUNKIT_WRITE || op == LUNKIT_READ ? back : NULL, length);
		if (op != LUNKIT_WRITE || r < 0)
			continue;
		/* What was taken is there, unless clusters lie in each other. */
		memset(buffer, (int)i, length);
		r = fakehost_request(fake, image, LUNKIT_WRITE, 0, at, buffer, length);
		if (r == 0 && fakehost_request(fake, image, LUNKIT_READ, 0, at, back, length) == 0 && sane &&
		    memcmp(buffer, back, length) != 0)
			abort();
	}
	free(buffer);
	free(back);
}

static void try_image(struct fakehost *fake, const struct image_params *params, uint64_t *random)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image *image;
	int r = fakehost_try_open(fake, handler, params, &image, &err);
	if (r < 0) {
		/* A refusal says why. */
		if (!err.message[0] || err.code != -r) {
			fprintf(stderr, "open() returns %d with the error %d: %s\n", r, err.code, err.message);
			abort();
		}
		return;
	}
	read_all(fake, image, random);
	map(fake, image);
	if (!params->read_only) {
		write_some(fake, image, random);
		if (fakehost_below(random, 2))
			check(fake, image, LUNKIT_CHECK_REPAIR_ALL);
		write_some(fake, image, random);
	} else {
		check(fake, image, 0);
	}
	fakehost_close(fake, image);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t random = 1;
	if (size >= 8 && memcmp(data, "FUZZ", 4) == 0) {
		random = get_le32(data + 4);
		data += 8;
		size -= 8;
	}
	if (!handler)
		handler = scenario_handler("qcow2");
	struct qcow2_findings found;
	qcow2_find(data, size, &found);
	sane = !found.corruptions && !found.dirty;
	const struct fakehost_config config = { .seed = random, .size_max = (uint64_t)64 << 20 };
	struct fakehost *fake = fakehost_new(&config);
	static const uint8_t base[4096] = { 1, 2, 3 };
	fakehost_add(fake, SCENARIO_FOLDER "/base.raw", base, sizeof(base));
	fakehost_add(fake, SCENARIO_FOLDER "/top", data, size);
	const struct image_params params[] = {
		{ .name = SCENARIO_FOLDER "/top", .read_only = true },
		{ .name = SCENARIO_FOLDER "/top" },
		{ .name = SCENARIO_FOLDER "/top" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(params); i++)
		try_image(fake, &params[i], &random);
	fakehost_free(fake);
	return 0;
}
