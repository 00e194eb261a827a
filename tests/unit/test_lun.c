/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A LUN between the stand-in for the kernel and a disk in memory, all on one thread: the test decides when the loop turns, when the disk
 * answers and when the kernel looks.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/iov.h"
#include "standin/standin.h"
#include "tcmu/lun.h"

/* struct tcmu_mailbox and entries, at the offsets that linux/target_core_user.h gives them */
#define RING_OFFSET 128
#define ENTRY_IOV 48
#define TMR_ABORT_TASK 1
#define TMR_LUN_RESET 5

#define BLOCK 512u
#define DISK_SIZE (16u << 20)

/* ---- the disk ---- */

enum disk_mode { DISK_AT_ONCE, DISK_SOON, DISK_HELD };

static struct {
	char *content;
	struct lunkit_host *host;
	enum disk_mode mode;
	int result; /* of every request */
	struct lunkit_request *held[1024];
	unsigned held_count;
} disk;

struct disk_request {
	struct lunkit_io io;
	struct lunkit_request *request;
};

static void disk_answer(struct lunkit_request *request)
{
	char *at = disk.content + request->offset;
	if (disk.result == 0) {
		switch (request->op) {
		case LUNKIT_READ:
			iov_copy_to(request->iov, request->iov_count, 0, at, request->length);
			break;
		case LUNKIT_WRITE:
			iov_copy_from(at, request->iov, request->iov_count, 0, request->length);
			break;
		case LUNKIT_DISCARD:
		case LUNKIT_WRITE_ZEROES:
			memset(at, 0, request->length);
			break;
		case LUNKIT_FLUSH:
		case LUNKIT_EXTENTS:
			break;
		}
	}
	lunkit_request_done(request, disk.result);
}

static void disk_soon(struct lunkit_io *io, int result)
{
	(void)result;
	disk_answer(((struct disk_request *)io)->request);
}

static int disk_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	(void)err;
	disk.host = params->host;
	*ret_state = &disk;
	return 0;
}

static void disk_close(void *state)
{
	(void)state;
}

static void disk_limits(void *state, struct lunkit_limits *limits)
{
	(void)state;
	limits->size = DISK_SIZE;
	limits->flags = LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_CAN_FUA | LUNKIT_NEEDS_FLUSH;
	limits->max_iov = 4096;
}

static void disk_submit(void *state, struct lunkit_request *request)
{
	(void)state;
	switch (disk.mode) {
	case DISK_AT_ONCE:
		disk_answer(request);
		return;
	case DISK_SOON: {
		struct disk_request *soon = request->memory;
		soon->request = request;
		soon->io.done = disk_soon;
		lunkit_io_defer(disk.host, &soon->io, 0);
		return;
	}
	case DISK_HELD:
		disk.held[disk.held_count++] = request;
		return;
	}
}

static const struct lunkit_handler disk_handler = {
	.struct_size = sizeof(disk_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "memory",
	.description = "memory",
	.reference_help = "NAME",
	.request_size = sizeof(struct disk_request),
	.open = disk_open,
	.close = disk_close,
	.limits = disk_limits,
	.submit = disk_submit,
};

/* ---- the bench ---- */

struct bench {
	struct loop *loop;
	struct lunkit_host host;
	struct image *image;
	struct standin standin;
	struct lun_config config;
	struct lun *lun;
	int failure;
	struct scsi_query *asked[8];
	unsigned asked_count;
};

static struct bench bench;

static void failed(void *argument, int result)
{
	((struct bench *)argument)->failure = result;
}

static void ask(void *argument, struct scsi_query *query)
{
	struct bench *the = argument;
	the->asked[the->asked_count++] = query;
}

static void start_lun(void)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(lun_new(&bench.config, &bench.lun, &err), 0);
	lun_on_failure(bench.lun, failed, &bench);
	lun_start(bench.lun);
}

static void start(const struct standin_config *config, unsigned slots, enum disk_mode mode)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	bench = (struct bench){ 0 };
	memset(&disk, 0, sizeof(disk));
	disk.content = calloc(1, DISK_SIZE);
	disk.mode = mode;
	assert_int_equal(loop_new(&(struct loop_config){ .depth = 64 }, &bench.loop), 0);
	bench.host.loop = bench.loop;
	const struct lunkit_handler *handler;
	assert_int_equal(handler_adopt(&disk_handler, &handler, &err), 0);
	assert_int_equal(image_open(&bench.host, handler, &(struct image_params){ .name = "disk" }, &bench.image, &err), 0);
	standin_new(&bench.standin, config);
	bench.config = (struct lun_config){
		.loop = bench.loop,
		.image = bench.image,
		.ring = { bench.standin.base, bench.standin.length, bench.standin.kick_fd, bench.standin.doorbell_fd, 8 },
		.control = { ask, &bench },
		.identity = { .serial = "serial", .vendor = "LUNKIT", .product = "memory", .revision = "0" },
		.block_size = BLOCK,
		.write_cache = true,
		.slots = slots,
	};
	start_lun();
}

static void turn(void)
{
	assert_int_equal(loop_turn(bench.loop, false), 0);
	standin_reap(&bench.standin);
}

static void turns(unsigned count)
{
	while (count--)
		turn();
}

static void settle(void)
{
	for (unsigned i = 0; bench.standin.in_flight; i++) {
		assert_true(i < 100000);
		turn();
	}
}

static void stopped(struct loop_op *op, int result)
{
	assert_int_equal(result, 0);
	op->done = NULL;
}

static void stop_lun(void)
{
	struct loop_op op = { .done = stopped };
	lun_stop(bench.lun, &op);
	for (unsigned i = 0; op.done; i++) {
		assert_true(i < 1000);
		turn();
	}
	lun_free(bench.lun);
	bench.lun = NULL;
}

static int finish(void **state)
{
	(void)state;
	if (bench.lun)
		stop_lun();
	if (!bench.loop)
		return 0;
	standin_free(&bench.standin);
	image_close(bench.image);
	loop_free(bench.loop);
	free(disk.content);
	bench = (struct bench){ 0 };
	return 0;
}

static void release(unsigned index)
{
	struct lunkit_request *request = disk.held[index];
	memmove(&disk.held[index], &disk.held[index + 1], (--disk.held_count - index) * sizeof(disk.held[0]));
	disk_answer(request);
}

static void release_all(void)
{
	while (disk.held_count)
		release(0);
}

static void submit(struct standin_command *command)
{
	assert_int_equal(standin_submit(&bench.standin, command), 0);
}

static void submit_cdb(struct standin_command *command, const void *cdb, unsigned cdb_length, enum standin_direction direction, void *data,
		       size_t length)
{
	memcpy(command->cdb, cdb, cdb_length);
	command->cdb_length = cdb_length;
	command->direction = direction;
	command->data = data;
	command->length = length;
	submit(command);
}

static void assert_sense(const struct standin_command *command, uint8_t key, uint8_t asc, uint8_t ascq)
{
	assert_false(command->in_flight);
	assert_int_equal(command->status, SCSI_CHECK_CONDITION);
	assert_int_equal(command->sense[0] & 0x7f, 0x70);
	assert_int_equal(command->sense[2] & 0xf, key);
	assert_int_equal(command->sense[12], asc);
	assert_int_equal(command->sense[13], ascq);
}

static struct lun_statistics statistics(void)
{
	struct lun_statistics result;
	lun_get_statistics(bench.lun, &result);
	return result;
}

/* ---- reads and writes ---- */

#define DEPTH 64
#define LARGEST 64u /* blocks */

/* Random writes and reads that don't overlap while in flight, checked against a model. */
static void round_trips(const struct standin_config *config, enum disk_mode mode, unsigned rounds)
{
	start(config, 0, mode);
	char *model = calloc(1, DISK_SIZE);
	static struct standin_command commands[DEPTH];
	char(*data)[LARGEST * BLOCK] = calloc(DEPTH, sizeof(*data));
	uint64_t lbas[DEPTH];
	unsigned seed = 1;
	uint32_t lane = DISK_SIZE / BLOCK / DEPTH;
	for (unsigned round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < DEPTH; i++) {
			uint32_t blocks = 1 + (uint32_t)rand_r(&seed) % LARGEST;
			lbas[i] = i * lane + (uint32_t)rand_r(&seed) % (lane - blocks);
			if (rand_r(&seed) % 2) {
				memset(data[i], 0x5a, sizeof(data[i]));
				standin_read16(&commands[i], lbas[i], blocks, BLOCK, data[i]);
			} else {
				for (size_t at = 0; at < blocks * BLOCK; at++)
					data[i][at] = (char)rand_r(&seed);
				memcpy(model + lbas[i] * BLOCK, data[i], blocks * BLOCK);
				standin_write16(&commands[i], lbas[i], blocks, BLOCK, data[i], rand_r(&seed) % 4 == 0);
			}
			while (standin_submit(&bench.standin, &commands[i]) == -EBUSY)
				turn();
			if (rand_r(&seed) % 8 == 0)
				turn();
		}
		settle();
		for (unsigned i = 0; i < DEPTH; i++) {
			assert_int_equal(commands[i].status, 0);
			if (commands[i].direction == STANDIN_IN) {
				assert_int_equal(commands[i].data_in_length, commands[i].length);
				assert_memory_equal(data[i], model + lbas[i] * BLOCK, commands[i].length);
			}
		}
	}
	assert_memory_equal(disk.content, model, DISK_SIZE);
	assert_int_equal(statistics().commands, rounds * DEPTH);
	assert_int_equal(statistics().in_flight, 0);
	assert_int_equal(statistics().errors, 0);
	free(model);
	free(data);
}

static void test_round_trips_at_once(void **state)
{
	(void)state;
	round_trips(&(struct standin_config){ 0 }, DISK_AT_ONCE, 20);
}

static void test_round_trips_later(void **state)
{
	(void)state;
	round_trips(&(struct standin_config){ 0 }, DISK_SOON, 20);
}

static void test_round_trips_scattered_in_a_small_ring(void **state)
{
	(void)state;
	round_trips(&(struct standin_config){ .ring_bytes = 8192, .data_bytes = 1 << 20, .scattered = true }, DISK_SOON, 20);
	assert_true(bench.standin.completed > 1000);
}

static void test_largest_transfer(void **state)
{
	(void)state;
	start(&(struct standin_config){ .scattered = true }, 0, DISK_AT_ONCE);
	size_t length = 8u << 20;
	char *data = malloc(length), *back = malloc(length);
	for (size_t i = 0; i < length; i++)
		data[i] = (char)(i * 7 + i / 4096);
	struct standin_command command = { 0 };
	standin_write16(&command, 16, (uint32_t)(length / BLOCK), BLOCK, data, false);
	submit(&command);
	settle();
	assert_int_equal(command.status, 0);
	assert_memory_equal(disk.content + 16 * BLOCK, data, length);
	standin_read16(&command, 16, (uint32_t)(length / BLOCK), BLOCK, back);
	submit(&command);
	settle();
	assert_int_equal(command.status, 0);
	assert_memory_equal(back, data, length);
	free(data);
	free(back);
}

static void test_out_of_order(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command commands[4] = { 0 };
	char data[4][BLOCK];
	for (unsigned i = 0; i < 4; i++) {
		memset(disk.content + i * BLOCK, 'a' + (int)i, BLOCK);
		standin_read16(&commands[i], i, 1, BLOCK, data[i]);
		submit(&commands[i]);
	}
	turn();
	assert_int_equal(disk.held_count, 4);
	for (unsigned left = 4; left-- > 0;) {
		release(left);
		turn();
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(commands[i].in_flight, i < left);
		assert_int_equal(data[left][BLOCK - 1], 'a' + (int)left);
	}
}

static void test_more_commands_than_slots(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 8, DISK_HELD);
	static struct standin_command commands[256];
	static char data[256][BLOCK];
	for (unsigned i = 0; i < 256; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		standin_read16(&commands[i], i, 1, BLOCK, data[i]);
		disk.content[i * BLOCK] = (char)i;
		submit(&commands[i]);
	}
	unsigned seed = 7;
	for (unsigned done = 0; done < 256; done++) {
		turns(2);
		assert_int_equal(statistics().in_flight, done <= 248 ? 8 : 256 - done);
		release((unsigned)rand_r(&seed) % disk.held_count);
	}
	settle();
	for (unsigned i = 0; i < 256; i++) {
		assert_int_equal(commands[i].status, 0);
		assert_int_equal((uint8_t)data[i][0], i);
	}
}

static void test_depth_256(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command commands[256];
	static char data[256][BLOCK];
	for (unsigned i = 0; i < 256; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		memset(data[i], (int)i, BLOCK);
		standin_write16(&commands[i], i, 1, BLOCK, data[i], false);
		submit(&commands[i]);
	}
	turns(8);
	assert_int_equal(disk.held_count, 256);
	release_all();
	settle();
	for (unsigned i = 0; i < 256; i++)
		assert_memory_equal(disk.content + i * BLOCK, data[i], BLOCK);
}

static void test_one_doorbell_a_batch(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	turn();
	static struct standin_command commands[16];
	for (unsigned i = 0; i < 16; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		standin_flush(&commands[i]);
		submit(&commands[i]);
	}
	uint64_t before = statistics().doorbells;
	turn();
	assert_int_equal(bench.standin.in_flight, 0);
	assert_int_equal(statistics().doorbells, before + 1);
}

/* ---- commands with more than one step ---- */

static void compare_and_write(struct standin_command *command, uint64_t lba, char *data)
{
	uint8_t cdb[16] = { 0x89, [9] = (uint8_t)lba, [13] = 1 };
	submit_cdb(command, cdb, 16, STANDIN_OUT, data, 2 * BLOCK);
}

static void test_compare_and_write_is_atomic(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_SOON);
	static struct standin_command commands[16];
	static char data[16][2 * BLOCK];
	for (unsigned round = 0; round < 20; round++) {
		uint64_t lba = round;
		for (unsigned i = 0; i < 16; i++) {
			memset(&commands[i], 0, sizeof(commands[i]));
			memset(data[i], 0, BLOCK);
			memset(data[i] + BLOCK, 'A' + (int)i, BLOCK);
			compare_and_write(&commands[i], lba, data[i]);
		}
		settle();
		unsigned winners = 0;
		for (unsigned i = 0; i < 16; i++) {
			if (commands[i].status == 0) {
				winners++;
				assert_memory_equal(disk.content + lba * BLOCK, data[i] + BLOCK, BLOCK);
			} else {
				assert_sense(&commands[i], 0xe, 0x1d, 0);
			}
		}
		assert_int_equal(winners, 1);
	}
}

/* Whatever the order, a plain write can only be the last, or make the comparison fail. */
static void test_compare_and_write_against_a_write(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_SOON);
	for (unsigned round = 0; round < 16; round++) {
		struct standin_command compare = { 0 }, write = { 0 };
		char both[2 * BLOCK] = { 0 }, plain[BLOCK];
		uint64_t lba = round;
		memset(both + BLOCK, 'A', BLOCK);
		memset(plain, 'B', BLOCK);
		standin_write16(&write, lba, 1, BLOCK, plain, false);
		if (round % 4 < 2)
			submit(&write);
		compare_and_write(&compare, lba, both);
		for (unsigned i = 0; i < round / 4; i++)
			turn();
		if (round % 4 >= 2)
			submit(&write);
		settle();
		assert_int_equal(write.status, 0);
		assert_memory_equal(disk.content + lba * BLOCK, plain, BLOCK);
	}
}

static void verify_bytes(struct standin_command *command, uint64_t lba, void *data)
{
	uint8_t cdb[16] = { 0x8f, 0x02, [9] = (uint8_t)lba, [13] = 1 };
	submit_cdb(command, cdb, 16, STANDIN_OUT, data, BLOCK);
}

static void test_more_scratch_than_there_is(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command commands[12];
	static char data[12][BLOCK];
	for (unsigned i = 0; i < 12; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		memset(data[i], i == 5 ? 1 : 0, BLOCK);
		verify_bytes(&commands[i], i, data[i]);
	}
	turns(2);
	assert_int_equal(disk.held_count, 4);
	while (bench.standin.in_flight) {
		release(0);
		turns(2);
		assert_in_range(disk.held_count, 0, 4);
	}
	for (unsigned i = 0; i < 12; i++) {
		if (i == 5)
			assert_sense(&commands[i], 0xe, 0x1d, 0);
		else
			assert_int_equal(commands[i].status, 0);
	}
}

/* ---- task management ---- */

static void test_abort_waits_for_io(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command read = { 0 }, other = { 0 };
	char data[2][BLOCK];
	standin_read16(&read, 0, 1, BLOCK, data[0]);
	standin_read16(&other, 1, 1, BLOCK, data[1]);
	submit(&read);
	submit(&other);
	turn();
	uint16_t ids[2] = { read.id, 4000 };
	assert_int_equal(standin_tmr(&bench.standin, TMR_ABORT_TASK, ids, 2), 0);
	turns(2);
	assert_true(read.in_flight);
	release(1);
	turn();
	assert_false(other.in_flight);
	assert_int_equal(other.status, 0);
	assert_int_equal(statistics().aborted, 0);
	release(0);
	turn();
	assert_false(read.in_flight);
	assert_int_equal(statistics().aborted, 1);
	assert_int_equal(bench.standin.cleaned, bench.standin.head);
}

static void test_abort_takes_back_what_waits(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	static struct standin_command commands[6];
	static char data[6][BLOCK];
	uint16_t ids[6];
	for (unsigned i = 0; i < 6; i++) {
		memset(&commands[i], 0, sizeof(commands[i]));
		verify_bytes(&commands[i], i, data[i]);
	}
	turns(2);
	for (unsigned i = 0; i < 6; i++)
		ids[i] = commands[i].id;
	assert_int_equal(standin_tmr(&bench.standin, TMR_LUN_RESET, ids, 6), 0);
	turn();
	/* the two that waited for a buffer */
	assert_int_equal(bench.standin.in_flight, 4);
	assert_int_equal(commands[4].status, SCSI_TASK_ABORTED);
	assert_int_equal(commands[5].status, SCSI_TASK_ABORTED);
	release_all();
	settle();
	assert_int_equal(statistics().aborted, 6);
	/* the buffers are there again */
	for (unsigned i = 0; i < 6; i++)
		verify_bytes(&commands[i], i, data[i]);
	turns(2);
	assert_int_equal(disk.held_count, 4);
	while (bench.standin.in_flight) {
		release_all();
		turns(2);
	}
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(commands[i].status, 0);
}

/* Between its read and its write: the write never happens, the lock is given back. */
static void test_abort_between_steps(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command compare = { 0 }, write = { 0 };
	char both[2 * BLOCK] = { 0 }, plain[BLOCK];
	memset(both + BLOCK, 'A', BLOCK);
	memset(plain, 'B', BLOCK);
	compare_and_write(&compare, 3, both);
	turn();
	assert_int_equal(disk.held_count, 1);
	standin_write16(&write, 3, 1, BLOCK, plain, false);
	submit(&write);
	assert_int_equal(standin_tmr(&bench.standin, TMR_ABORT_TASK, &compare.id, 1), 0);
	turn();
	assert_int_equal(disk.held_count, 1);
	release(0);
	turn();
	assert_false(compare.in_flight);
	assert_int_equal(compare.status, SCSI_TASK_ABORTED);
	assert_int_equal(disk.content[3 * BLOCK], 0);
	assert_int_equal(disk.held_count, 1);
	release_all();
	settle();
	assert_int_equal(disk.content[3 * BLOCK], 'B');
}

static void test_reset_puts_modes_back(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	char data[BLOCK];
	submit_cdb(&command, (uint8_t[6]){ 0x1b }, 6, STANDIN_NONE, NULL, 0);
	settle();
	assert_int_equal(command.status, 0);
	standin_read16(&command, 0, 1, BLOCK, data);
	submit(&command);
	settle();
	assert_sense(&command, 2, 4, 2);
	assert_int_equal(standin_tmr(&bench.standin, TMR_LUN_RESET, NULL, 0), 0);
	turn();
	assert_int_equal(bench.standin.cleaned, bench.standin.head);
	submit(&command);
	settle();
	assert_int_equal(command.status, 0);
}

/* ---- the end and the beginning ---- */

static void test_drain_finishes_and_leaves_the_rest(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_HELD);
	struct standin_command first = { 0 }, second = { 0 };
	char data[2][BLOCK];
	standin_read16(&first, 0, 1, BLOCK, data[0]);
	standin_read16(&second, 1, 1, BLOCK, data[1]);
	disk.content[BLOCK] = 'x';
	submit(&first);
	turn();
	struct loop_op op = { .done = stopped };
	lun_stop(bench.lun, &op);
	submit(&second);
	turns(5);
	assert_non_null(op.done);
	assert_int_equal(disk.held_count, 1);
	release(0);
	turns(5);
	assert_null(op.done);
	assert_false(first.in_flight);
	assert_true(second.in_flight);
	lun_free(bench.lun);

	/* the next one finds it in the ring */
	start_lun();
	turn();
	assert_int_equal(disk.held_count, 1);
	release(0);
	turn();
	assert_false(second.in_flight);
	assert_int_equal(data[1][0], 'x');
}

static void test_stop_without_start(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	stop_lun();
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(lun_new(&bench.config, &bench.lun, &err), 0);
	stop_lun();
	lun_free(NULL);
}

static void test_new_refuses(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct lun *untouched = NULL;
	struct lun_config config = bench.config;
	config.block_size = 1024;
	assert_int_equal(lun_new(&config, &untouched, &err), -EINVAL);
	assert_non_null(strstr(err.message, "1024"));
	config = bench.config;
	config.ring.length = 64;
	assert_int_equal(lun_new(&config, &untouched, &err), -EPROTO);
	config = bench.config;
	config.ring.word = 2;
	assert_int_equal(lun_new(&config, &untouched, &err), -EINVAL);
	assert_null(untouched);
}

/* ---- bad rings ---- */

static void test_damaged_ring_is_a_failure(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	standin_flush(&command);
	uint32_t position = bench.standin.head;
	submit(&command);
	memset(bench.standin.base + RING_OFFSET + position, 0xff, 4);
	assert_int_equal(loop_turn(bench.loop, false), 0);
	assert_int_equal(bench.failure, -EPROTO);
	assert_int_equal(loop_turn(bench.loop, false), 0);
	assert_int_equal(statistics().commands, 0);
}

static void test_unreadable_command_is_answered(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command bad = { 0 }, good = { 0 };
	char data[2][BLOCK];
	standin_read16(&bad, 0, 1, BLOCK, data[0]);
	standin_read16(&good, 0, 1, BLOCK, data[1]);
	uint32_t position = bench.standin.head;
	submit(&bad);
	submit(&good);
	uint64_t outside = bench.standin.length;
	memcpy(bench.standin.base + RING_OFFSET + position + ENTRY_IOV, &outside, sizeof(outside));
	settle();
	assert_sense(&bad, 4, 0x44, 0);
	assert_int_equal(good.status, 0);
	assert_int_equal(bench.failure, 0);
	assert_int_equal(statistics().errors, 1);
}

static void test_unknown_opcode(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	submit_cdb(&command, (uint8_t[10]){ 0xc1 }, 10, STANDIN_NONE, NULL, 0);
	settle();
	assert_sense(&command, 5, 0x20, 0);
}

/* ---- answers ---- */

static void ask_answered_at_once(void *argument, struct scsi_query *query)
{
	struct bench *the = argument;
	the->asked_count++;
	lun_query_done(the->lun, query, -ESHUTDOWN);
}

static void answer_queries_at_once(void)
{
	stop_lun();
	bench.config.control.ask = ask_answered_at_once;
	start_lun();
}

static void test_short_data_in(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	answer_queries_at_once();
	struct standin_command command = { 0 };
	uint8_t data[256];
	memset(data, 0xee, sizeof(data));
	submit_cdb(&command, (uint8_t[6]){ 0x12, 0, 0, 0, 36 }, 6, STANDIN_IN, data, sizeof(data));
	settle();
	assert_int_equal(command.status, 0);
	assert_int_equal(command.data_in_length, 36);
	assert_memory_equal(data + 8, "LUNKIT", 6);
	assert_int_equal(data[36], 0xee);
}

static void test_io_error_becomes_sense(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	char data[BLOCK];
	disk.result = -ENOSPC;
	standin_write16(&command, 0, 1, BLOCK, data, false);
	submit(&command);
	settle();
	assert_sense(&command, 7, 0x27, 7);
}

static void test_queries(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command commands[2] = { 0 };
	uint8_t data[2][64] = { 0 };
	uint8_t cdb[12] = { 0xa3, 0x0a, [9] = 64 };
	for (unsigned i = 0; i < 2; i++)
		submit_cdb(&commands[i], cdb, 12, STANDIN_IN, data[i], 64);
	turns(3);
	assert_int_equal(bench.asked_count, 2);
	assert_int_equal(bench.standin.in_flight, 2);

	struct scsi_query stray = { 0 };
	lun_query_done(bench.lun, &stray, 0);

	assert_int_equal(bench.asked[1]->question, SCSI_ASK_PORT_GROUPS);
	bench.asked[1]->port_groups = (struct scsi_port_groups){ .count = 1, .groups[0] = { .id = 0x1234, .port_count = 0 } };
	lun_query_done(bench.lun, bench.asked[1], 0);
	lun_query_done(bench.lun, bench.asked[1], 0); /* said twice: the second is no answer */
	turn();
	assert_true(commands[0].in_flight);
	assert_false(commands[1].in_flight);
	assert_int_equal(commands[1].status, 0);
	assert_int_equal(get_be16(data[1] + 4 + 2), 0x1234);

	lun_query_done(bench.lun, bench.asked[0], -EIO);
	settle();
	assert_int_not_equal(commands[0].status, 0);
}

static void test_query_answered_at_once(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	answer_queries_at_once();
	struct standin_command command = { 0 };
	uint8_t data[64], cdb[12] = { 0xa3, 0x0a, [9] = 64 };
	submit_cdb(&command, cdb, 12, STANDIN_IN, data, 64);
	settle();
	assert_int_equal(bench.asked_count, 1);
	assert_int_not_equal(command.status, 0);
}

static void test_capacity_changes(void **state)
{
	(void)state;
	start(&(struct standin_config){ 0 }, 0, DISK_AT_ONCE);
	struct standin_command command = { 0 };
	uint8_t data[8];
	lun_set_capacity(bench.lun, UINT64_MAX); /* as it is */
	submit_cdb(&command, (uint8_t[10]){ 0x25 }, 10, STANDIN_IN, data, 8);
	settle();
	assert_int_equal(command.status, 0);
	assert_int_equal(get_be32(data), DISK_SIZE / BLOCK - 1);
	lun_set_capacity(bench.lun, 1 << 20);
	submit(&command);
	settle();
	assert_sense(&command, 6, 0x2a, 9);
	submit(&command);
	settle();
	assert_int_equal(get_be32(data), (1 << 20) / BLOCK - 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, finish)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trips_at_once),
		TEST(test_round_trips_later),
		TEST(test_round_trips_scattered_in_a_small_ring),
		TEST(test_largest_transfer),
		TEST(test_out_of_order),
		TEST(test_more_commands_than_slots),
		TEST(test_depth_256),
		TEST(test_one_doorbell_a_batch),
		TEST(test_compare_and_write_is_atomic),
		TEST(test_compare_and_write_against_a_write),
		TEST(test_more_scratch_than_there_is),
		TEST(test_abort_waits_for_io),
		TEST(test_abort_takes_back_what_waits),
		TEST(test_abort_between_steps),
		TEST(test_reset_puts_modes_back),
		TEST(test_drain_finishes_and_leaves_the_rest),
		TEST(test_stop_without_start),
		TEST(test_new_refuses),
		TEST(test_damaged_ring_is_a_failure),
		TEST(test_unreadable_command_is_answered),
		TEST(test_unknown_opcode),
		TEST(test_short_data_in),
		TEST(test_io_error_becomes_sense),
		TEST(test_queries),
		TEST(test_query_answered_at_once),
		TEST(test_capacity_changes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
