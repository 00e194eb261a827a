/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The process that serves an image is killed, and another goes on: whatever was acknowledged is there, flushed or not. A child works on the image and tells in
 * shared memory what it began and what was acknowledged; it is killed in the middle, by itself, and the next one finds the image as it was left.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "qcow2_fixture.h"

#define BLOCK 4096u
#define BLOCKS 2048u
#define DEPTH 8
#define ROUNDS 6
#define LENGTH_MAX 32u /* blocks */

/* Of each block. The content is the number, over and over. */
struct block {
	uint32_t acknowledged, begun;
	bool busy;
};

struct worker {
	struct fixture *fixture;
	struct image *image;
	struct block *blocks;
	unsigned cluster_blocks, left;
	uint32_t next, random;
};

struct op {
	struct slot slot;
	struct worker *worker;
	unsigned first, count;
	uint32_t *buffer;
};

static struct image *must_open(struct fixture *fixture, bool survive)
{
	struct lunkit_error err;
	struct image *image;
	const struct image_params params = { .name = path, .survive = survive };
	int r;
	/* The I/O of one that was killed holds the image's lock until it has ended. */
	while ((r = image_open(&fixture->host, qcow2_handler(), &params, &image, &err)) == -EAGAIN)
		usleep(10000);
	if (r < 0)
		fail_msg("%s", err.message);
	return image;
}

static uint32_t roll(struct worker *worker, uint32_t below)
{
	worker->random = worker->random * 1664525u + 1013904223u;
	return (worker->random >> 8) % below;
}

/* ---- the child ---- */

static void op_start(struct op *op);

static void op_done(struct image_request *request, int result)
{
	struct op *op = request->user;
	struct worker *worker = op->worker;
	if (result < 0)
		_exit(1);
	for (unsigned i = op->first; i < op->first + op->count; i++) {
		worker->blocks[i].acknowledged = worker->blocks[i].begun;
		worker->blocks[i].busy = false;
	}
	if (worker->left-- == 0)
		kill(getpid(), SIGKILL);
	op->slot.calls++;
}

static bool is_free(const struct worker *worker, unsigned first, unsigned count)
{
	for (unsigned i = first; i < first + count; i++)
		if (worker->blocks[i].busy)
			return false;
	return true;
}

static void op_start(struct op *op)
{
	struct worker *worker = op->worker;
	enum lunkit_op kind = roll(worker, 8) ? LUNKIT_WRITE : roll(worker, 2) ? LUNKIT_DISCARD : LUNKIT_WRITE_ZEROES;
	do {
		op->count = 1 + roll(worker, LENGTH_MAX);
		op->first = roll(worker, BLOCKS - op->count + 1);
		if (kind == LUNKIT_DISCARD) { /* whole clusters: less may do nothing */
			op->first -= op->first % worker->cluster_blocks;
			op->count = worker->cluster_blocks;
		}
	} while (!is_free(worker, op->first, op->count));
	uint32_t value = kind == LUNKIT_WRITE ? ++worker->next : 0;
	for (unsigned i = op->first; i < op->first + op->count; i++) {
		worker->blocks[i].begun = value;
		worker->blocks[i].busy = true;
	}
	for (unsigned i = 0; i < op->count * BLOCK / sizeof(value); i++)
		op->buffer[i] = value;
	op->slot.iov[0] = (struct iovec){ op->buffer, op->count * BLOCK };
	slot_submit(&op->slot, kind, 0, (uint64_t)op->first * BLOCK, (uint64_t)op->count * BLOCK, 1);
}

/* Works until it kills itself. */
static void work(struct block *blocks, unsigned cluster_size, unsigned round)
{
	void *state;
	if (fixture_setup(&state) < 0)
		_exit(2);
	struct worker worker = {
		.fixture = state,
		.image = must_open(state, true),
		.blocks = blocks,
		.cluster_blocks = MAX(cluster_size / BLOCK, 1u),
		.left = 40 + round * 37,
		.next = round * 100000,
		.random = round + cluster_size,
	};
	struct op ops[DEPTH];
	for (unsigned i = 0; i < DEPTH; i++) {
		ops[i] = (struct op){ .worker = &worker, .buffer = aligned_alloc(BLOCK, MAX(LENGTH_MAX, worker.cluster_blocks) * BLOCK) };
		slot_init(worker.image, &ops[i].slot);
		ops[i].slot.request->user = &ops[i];
		ops[i].slot.request->done = op_done;
		op_start(&ops[i]);
	}
	for (;;) {
		if (loop_turn(worker.fixture->loop, true) < 0)
			_exit(3);
		for (unsigned i = 0; i < DEPTH; i++)
			if (ops[i].slot.calls)
				op_start(&ops[i]);
	}
}

/* ---- the parent ---- */

static void compare(struct fixture *fixture, struct block *blocks)
{
	struct image *image = must_open(fixture, false);
	struct slot slot;
	uint32_t *buffer = aligned_alloc(BLOCK, BLOCK);
	slot_init(image, &slot);
	for (unsigned i = 0; i < BLOCKS; i++) {
		assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, (uint64_t)i * BLOCK, buffer, BLOCK), 0);
		bool old = true, new = blocks[i].busy;
		for (unsigned j = 0; j < BLOCK / sizeof(*buffer); j++) {
			old = old && buffer[j] == blocks[i].acknowledged;
			new = new &&buffer[j] == blocks[i].begun;
		}
		if (!old && !new)
			fail_msg("block %u holds %u; acknowledged was %u", i, buffer[0], blocks[i].acknowledged);
		blocks[i].acknowledged = buffer[0];
		blocks[i].busy = false;
	}
	slot_free(&slot);
	free(buffer);
	image_close(image);
}

static void survive(struct fixture *fixture, const char *options, unsigned cluster_size)
{
	struct lunkit_error err;
	const struct image_params params = { .name = path, .size = BLOCKS * BLOCK, .options = options };
	struct block *blocks = mmap(NULL, BLOCKS * sizeof(*blocks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(blocks != MAP_FAILED);
	if (image_create(&fixture->host, qcow2_handler(), &params, &err) < 0)
		fail_msg("%s: %s", options, err.message);
	for (unsigned round = 0; round < ROUNDS; round++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			work(blocks, cluster_size, round);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
			fail_msg("the child ended with status %#x", (unsigned)status);
		compare(fixture, blocks);
	}
	munmap(blocks, BLOCKS * sizeof(*blocks));
	/* 3: leaks, which is all that may be wrong */
	if (have_qemu()) {
		int status = command("qemu-img check -q -f qcow2 %s >/dev/null 2>&1", path);
		assert_true(status == 0 || status == 3);
	}
	unlink(path);
}

static void usual_clusters(void **state)
{
	survive(*state, "cluster-size=64k", 65536);
}

static void small_clusters(void **state)
{
	survive(*state, "cluster-size=4k", 4096);
}

static void large_clusters(void **state)
{
	survive(*state, "cluster-size=1M", 1u << 20);
}

static void lazy_refcounts(void **state)
{
	survive(*state, "cluster-size=64k;lazy-refcounts=yes", 65536);
}

struct check {
	struct image_job job;
	int result;
};

static void checked(struct image_job *job, int result)
{
	((struct check *)job)->result = result;
}

/* What is counted ahead is nobody's leak while the image is open, and is not left behind when it is closed. */
static void counted_ahead_is_no_leak(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err;
	struct lunkit_check_report report;
	struct slot slot;
	static uint8_t buffer[BLOCK] __attribute__((aligned(4096)));
	const struct image_params params = { .name = path, .size = BLOCKS * BLOCK };
	assert_int_equal(image_create(&fixture->host, qcow2_handler(), &params, &err), 0);
	struct image *image = must_open(fixture, true);
	slot_init(image, &slot);
	for (unsigned i = 0; i < 3; i++) {
		struct check check = { .job.done = checked, .result = 1 };
		assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, 0, (uint64_t)i * 5 * MIB / 2, buffer, BLOCK), 0);
		image_check(image, &check.job, LUNKIT_CHECK_REPAIR_ALL, &report);
		while (check.result == 1)
			assert_true(loop_turn(fixture->loop, true) >= 0);
		assert_int_equal(check.result, 0);
		assert_int_equal(report.leaks + report.leaks_fixed + report.corruptions + report.corruptions_fixed, 0);
		assert_int_equal(report.allocated_clusters, i + 1);
	}
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, 0, 7 * MIB, buffer, BLOCK), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_FLUSH, 0, 0, NULL, 0), 0);
	slot_free(&slot);
	image_close(image);
	if (have_qemu())
		assert_int_equal(command("qemu-img check -q -f qcow2 %s >/dev/null 2>&1", path), 0);
	unlink(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = { TEST(usual_clusters), TEST(small_clusters), TEST(large_clusters), TEST(lazy_refcounts),
					    TEST(counted_ahead_is_no_leak) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
