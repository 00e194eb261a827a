/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the tests of images share: a loop, an opener that opens, slots, and a request that waits for its end. */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/iov.h"
#include "image/image.h"

struct fixture {
	struct loop *loop;
	struct lunkit_host host;
};

__attribute__((unused)) static int fixture_open(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags,
						struct lunkit_error *err)
{
	(void)argument;
	int mode = O_CLOEXEC | O_NONBLOCK | (flags & LUNKIT_FILE_WRITE ? O_RDWR : O_RDONLY) | (flags & LUNKIT_FILE_DSYNC ? O_DSYNC : 0) |
		   (flags & LUNKIT_FILE_CREATE ? O_CREAT | O_EXCL : 0);
	int fd = open(path, mode | (flags & LUNKIT_FILE_DIRECT ? O_DIRECT : 0), 0600);
	if (fd < 0 && errno == EINVAL && flags & LUNKIT_FILE_DIRECT) {
		flags &= ~LUNKIT_FILE_DIRECT;
		fd = open(path, mode, 0600);
	}
	if (fd < 0)
		return lunkit_error_set(err, errno, "cannot open %s: %s", path, strerror(errno));
	*ret_fd = fd;
	*ret_flags = flags;
	return 0;
}

__attribute__((unused)) static int fixture_remove(void *argument, const char *path, struct lunkit_error *err)
{
	(void)argument;
	return unlink(path) < 0 ? lunkit_error_set(err, errno, "cannot remove %s", path) : 0;
}

__attribute__((unused)) static int fixture_setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	const struct loop_config config = { .depth = 32 };
	if (loop_new(&config, &fixture->loop) < 0)
		return -1;
	fixture->host = (struct lunkit_host){ .loop = fixture->loop, .opener = { fixture_open, fixture_remove, NULL } };
	*state = fixture;
	return 0;
}

__attribute__((unused)) static int fixture_teardown(void **state)
{
	struct fixture *fixture = *state;
	loop_free(fixture->loop);
	free(fixture);
	return 0;
}

struct slot {
	struct image_request *request;
	struct iovec iov[64];
	int calls, result;
};

__attribute__((unused)) static void slot_done(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	slot->calls++;
	slot->result = result;
}

__attribute__((unused)) static void slot_init(struct image *image, struct slot *slot)
{
	*slot = (struct slot){ .request = malloc(image_request_size(image)) };
	assert_non_null(slot->request);
	image_request_init(image, slot->request);
	slot->request->user = slot;
	slot->request->done = slot_done;
}

__attribute__((unused)) static void slot_free(struct slot *slot)
{
	free(slot->request);
}

__attribute__((unused)) static void slot_submit(struct slot *slot, enum lunkit_op op, unsigned flags, uint64_t offset, uint64_t length,
						unsigned iov_count)
{
	struct lunkit_request *request = &slot->request->request;
	request->op = op;
	request->flags = flags;
	request->offset = offset;
	request->length = length;
	request->iov = slot->iov;
	request->iov_count = iov_count;
	slot->calls = 0;
	image_submit(slot->request->image, slot->request);
}

__attribute__((unused)) static int slot_wait(struct fixture *fixture, struct slot *slot)
{
	while (!slot->calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(slot->calls, 1);
	return slot->result;
}

/* One request from beginning to end. */
__attribute__((unused)) static int do_request(struct fixture *fixture, struct slot *slot, enum lunkit_op op, unsigned flags,
					      uint64_t offset, void *buffer, uint64_t length)
{
	slot->iov[0] = (struct iovec){ buffer, length };
	slot_submit(slot, op, flags, offset, length, 1);
	return slot_wait(fixture, slot);
}

/* How a job on an image ended. */
struct job_probe {
	struct image_job job; /* first member */
	int calls, result;
};

__attribute__((unused)) static void note_job(struct image_job *job, int result)
{
	struct job_probe *probe = (struct job_probe *)job;
	probe->calls++;
	probe->result = result;
}
