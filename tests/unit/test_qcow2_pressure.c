/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walks over more tables than the cache takes, on storage that answers when it likes: nearly all that is in the cache is dirty or being written, and what a walk
 * has just got is all that could be evicted.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fakehost/fakehost.h"
#include "fakehost/qcow2_check.h"
#include "fakehost/scenario.h"

#define MIB ((uint64_t)1 << 20)
#define PATH SCENARIO_FOLDER "/image"
/* Clusters of 512 bytes: an L2 table maps 32 KiB, and is one slice. The cache holds 2050 at the least. */
#define SIZE (96 * MIB)

struct probe {
	struct image_job job; /* first */
	bool ended;
	int result;
};

static void ended(struct image_job *job, int result)
{
	struct probe *probe = (struct probe *)job;
	probe->ended = true;
	probe->result = result;
}

static int snapshot(struct fakehost *fake, struct image *image, enum lunkit_snapshot_op op)
{
	struct probe probe = { .job.done = ended };
	image_snapshot(image, &probe.job, op, "s");
	fakehost_run_until(fake, &probe.ended);
	return probe.result;
}

static void walks_keep_what_they_look_at(void **state)
{
	struct lunkit_error err;
	struct qcow2_findings found;
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		const struct fakehost_config config = { .seed = seed };
		const struct image_params params = {
			.name = PATH, .options = "cluster-size=512;preallocation=metadata", .size = SIZE, .cache = LUNKIT_CACHE_NONE
		};
		const struct image_params small = { .name = PATH, .options = "cache-size=1M", .cache = LUNKIT_CACHE_NONE };
		struct fakehost *fake = fakehost_new(&config);
		if (image_create(&fake->host, scenario_handler("qcow2"), &params, &err) < 0)
			fail_msg("%s", err.message);
		struct image *image = fakehost_open(fake, scenario_handler("qcow2"), &small);
		assert_int_equal(snapshot(fake, image, LUNKIT_SNAPSHOT_CREATE), 0);
		assert_int_equal(snapshot(fake, image, LUNKIT_SNAPSHOT_REVERT), 0);
		assert_int_equal(snapshot(fake, image, LUNKIT_SNAPSHOT_DELETE), 0);
		fakehost_close(fake, image);
		const struct fakehost_file *file = fakehost_find(fake, PATH);
		qcow2_find(file->data, file->size, &found);
		assert_int_equal(found.corruptions, 0);
		assert_int_equal(found.stale_copied, 0);
		assert_int_equal(found.early_copied, 0);
		fakehost_free(fake);
	}
}

/* ---- requests ---- */

#define WRITES 3000u
#define DEPTH 256u
#define TABLE ((uint64_t)32 << 10)

struct writes {
	struct image *image;
	unsigned next, left;
	bool all, may_fail;
};

struct writer {
	struct writes *writes;
	struct image_request *request;
	struct iovec iov;
	bool submitting, again;
};

static void submit(struct writer *writer)
{
	struct writes *writes = writer->writes;
	writer->submitting = true;
	do {
		writer->again = false;
		if (writes->next == WRITES)
			break;
		writer->request->request.offset = writes->next++ * TABLE;
		image_submit(writes->image, writer->request);
	} while (writer->again);
	writer->submitting = false;
}

static void written(struct image_request *request, int result)
{
	struct writer *writer = request->user;
	if (result != -EIO || !writer->writes->may_fail)
		assert_int_equal(result, 0);
	writer->writes->all = --writer->writes->left == 0;
	writer->again = true;
	if (!writer->submitting)
		submit(writer);
}

static struct fakehost *make(uint64_t seed, struct image **ret)
{
	struct lunkit_error err;
	const struct fakehost_config config = { .seed = seed };
	const struct image_params params = { .name = PATH, .options = "cluster-size=512", .size = SIZE, .cache = LUNKIT_CACHE_NONE };
	const struct image_params small = { .name = PATH, .options = "cache-size=1M", .cache = LUNKIT_CACHE_NONE };
	struct fakehost *fake = fakehost_new(&config);
	if (image_create(&fake->host, scenario_handler("qcow2"), &params, &err) < 0)
		fail_msg("%s", err.message);
	*ret = fakehost_open(fake, scenario_handler("qcow2"), &small);
	return fake;
}

static uint8_t data[512] __attribute__((aligned(4096)));

/* Each write needs a table of its own, and there is room for two thirds of them. */
static void write_everywhere(struct fakehost *fake, struct image *image, bool may_fail)
{
	static struct writer writers[DEPTH];
	struct writes writes = { .image = image, .left = WRITES, .may_fail = may_fail };
	memset(data, 'x', sizeof(data));
	for (unsigned i = 0; i < DEPTH; i++) {
		struct writer *writer = &writers[i];
		*writer = (struct writer){ .writes = &writes, .iov = { data, sizeof(data) } };
		writer->request = malloc(image_request_size(image));
		image_request_init(image, writer->request);
		writer->request->request.op = LUNKIT_WRITE;
		writer->request->request.flags = 0;
		writer->request->request.length = sizeof(data);
		writer->request->request.iov = &writer->iov;
		writer->request->request.iov_count = 1;
		writer->request->done = written;
		writer->request->user = writer;
		submit(writer);
	}
	fakehost_run_until(fake, &writes.all);
	for (unsigned i = 0; i < DEPTH; i++)
		free(writers[i].request);
}

static void writes_wait_for_room_and_get_it(void **state)
{
	struct qcow2_findings found;
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct image *image;
		struct fakehost *fake = make(seed, &image);
		write_everywhere(fake, image, false);
		fakehost_close(fake, image);
		const struct fakehost_file *file = fakehost_find(fake, PATH);
		qcow2_find(file->data, file->size, &found);
		assert_int_equal(found.corruptions, 0);
		fakehost_free(fake);
	}
}

/* What is dirty stays so after a flush that failed: it may fill the cache, and all can be read nevertheless. */
static void all_can_be_read_after_a_failed_flush(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct image *image;
		struct fakehost *fake = make(seed, &image);
		fakehost_arm(fake, &(struct fakehost_fault){ .ops = 1u << FAKEHOST_SYNC, .nth = 1 + seed % 2, .error = -EIO });
		write_everywhere(fake, image, true);
		assert_true(fake->fault_hits > 0);
		for (unsigned i = 0; i < WRITES; i++)
			assert_int_equal(fakehost_request(fake, image, LUNKIT_READ, 0, i * TABLE, data, sizeof(data)), 0);
		fakehost_close(fake, image);
		fakehost_free(fake);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_wait_for_room_and_get_it),
		cmocka_unit_test(all_can_be_read_after_a_failed_flush),
		cmocka_unit_test(walks_keep_what_they_look_at),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
