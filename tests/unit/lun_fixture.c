/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/iov.h"
#include "lun_fixture.h"

struct lun_disk disk;
struct lun_fixture fixture;

/* ---- the disk ---- */

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

/* ---- the LUN ---- */

static void failed(void *argument, int result)
{
	((struct lun_fixture *)argument)->failure = result;
}

static void note_modes(void *argument, unsigned modes)
{
	struct lun_fixture *the = argument;
	the->modes = modes;
	the->modes_count++;
	standin_reap(&the->standin);
	the->completed_at_modes = the->standin.completed;
}

static void ask(void *argument, struct scsi_query *query)
{
	struct lun_fixture *the = argument;
	the->asked[the->asked_count++] = query;
}

void fixture_start_lun(void)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(lun_new(&fixture.config, &fixture.lun, &err), 0);
	lun_on_failure(fixture.lun, failed, &fixture);
	lun_start(fixture.lun);
}

void fixture_start(const struct standin_config *config, unsigned slots, enum disk_mode mode)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	fixture = (struct lun_fixture){ 0 };
	memset(&disk, 0, sizeof(disk));
	disk.content = calloc(1, DISK_SIZE);
	disk.mode = mode;
	assert_int_equal(loop_new(&(struct loop_config){ .depth = 64 }, &fixture.loop), 0);
	fixture.host.loop = fixture.loop;
	const struct lunkit_handler *handler;
	assert_int_equal(handler_adopt(&disk_handler, &handler, &err), 0);
	assert_int_equal(image_open(&fixture.host, handler, &(struct image_params){ .name = "disk" }, &fixture.image, &err), 0);
	standin_new(&fixture.standin, config);
	fixture.config = (struct lun_config){
		.loop = fixture.loop,
		.image = fixture.image,
		.ring = { fixture.standin.base, fixture.standin.length, fixture.standin.kick_fd, fixture.standin.doorbell_fd, 8 },
		.control = { ask, note_modes, &fixture },
		.identity = { .serial = "serial", .vendor = "LUNKIT", .product = "memory", .revision = "0" },
		.block_size = BLOCK,
		.write_cache = true,
		.slots = slots,
	};
	fixture_start_lun();
}

void fixture_turn(void)
{
	assert_int_equal(loop_turn(fixture.loop, false), 0);
	standin_reap(&fixture.standin);
}

void fixture_turns(unsigned count)
{
	while (count--)
		fixture_turn();
}

void fixture_settle(void)
{
	for (unsigned i = 0; fixture.standin.in_flight; i++) {
		assert_true(i < 100000);
		fixture_turn();
	}
}

void fixture_stopped(struct loop_op *op, int result)
{
	assert_int_equal(result, 0);
	op->done = NULL;
}

void fixture_stop_lun(void)
{
	struct loop_op op = { .done = fixture_stopped };
	lun_stop(fixture.lun, &op);
	for (unsigned i = 0; op.done; i++) {
		assert_true(i < 1000);
		fixture_turn();
	}
	lun_free(fixture.lun);
	fixture.lun = NULL;
}

int fixture_finish(void **state)
{
	(void)state;
	if (fixture.lun)
		fixture_stop_lun();
	if (!fixture.loop)
		return 0;
	standin_free(&fixture.standin);
	image_close(fixture.image);
	loop_free(fixture.loop);
	free(disk.content);
	fixture = (struct lun_fixture){ 0 };
	return 0;
}

void fixture_release(unsigned index)
{
	struct lunkit_request *request = disk.held[index];
	memmove(&disk.held[index], &disk.held[index + 1], (--disk.held_count - index) * sizeof(disk.held[0]));
	disk_answer(request);
}

void fixture_release_all(void)
{
	while (disk.held_count)
		fixture_release(0);
}

void fixture_submit(struct standin_command *command)
{
	assert_int_equal(standin_submit(&fixture.standin, command), 0);
}

void fixture_submit_cdb(struct standin_command *command, const void *cdb, unsigned cdb_length, enum standin_direction direction, void *data,
			size_t length)
{
	memcpy(command->cdb, cdb, cdb_length);
	command->cdb_length = cdb_length;
	command->direction = direction;
	command->data = data;
	command->length = length;
	fixture_submit(command);
}

void fixture_assert_sense(const struct standin_command *command, uint8_t key, uint8_t asc, uint8_t ascq)
{
	assert_false(command->in_flight);
	assert_int_equal(command->status, SCSI_CHECK_CONDITION);
	assert_int_equal(command->sense[0] & 0x7f, 0x70);
	assert_int_equal(command->sense[2] & 0xf, key);
	assert_int_equal(command->sense[12], asc);
	assert_int_equal(command->sense[13], ascq);
}

struct lun_statistics fixture_statistics(void)
{
	struct lun_statistics result;
	lun_get_statistics(fixture.lun, &result);
	return result;
}
