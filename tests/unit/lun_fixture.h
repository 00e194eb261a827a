/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A LUN between the stand-in for the kernel and a disk in memory, all on one thread: the test decides when the loop turns, when the disk
 * answers and when the kernel looks.
 */

#include "standin/standin.h"
#include "tcmu/lun.h"

#define BLOCK 512u
#define DISK_SIZE (16u << 20)

enum disk_mode { DISK_AT_ONCE, DISK_SOON, DISK_HELD };

struct lun_disk {
	char *content;
	struct lunkit_host *host;
	enum disk_mode mode;
	int result; /* of every request */
	struct lunkit_request *held[1024];
	unsigned held_count;
};
extern struct lun_disk disk;

struct lun_fixture {
	struct loop *loop;
	struct lunkit_host host;
	struct image *image;
	struct standin standin;
	struct lun_config config;
	struct lun *lun;
	int failure;		     /* what lun_on_failure() was told */
	struct scsi_query *asked[8]; /* not answered by itself */
	unsigned asked_count;
	unsigned modes, modes_count; /* the last that the LUN told, and how often it did */
	uint64_t completed_at_modes; /* commands that had their answers then */
};
extern struct lun_fixture fixture;

/* A new disk, image, stand-in and LUN, which is started. */
void fixture_start(const struct standin_config *config, unsigned slots, enum disk_mode mode);
/* cmocka's teardown. */
int fixture_finish(void **state);
/* Another LUN on the same ring, from fixture.config. */
void fixture_start_lun(void);
void fixture_stop_lun(void);
/* For a struct loop_op given to lun_stop(): clears its done member. */
void fixture_stopped(struct loop_op *op, int result);

/* One turn of the loop, then the kernel looks. */
void fixture_turn(void);
void fixture_turns(unsigned count);
/* Until nothing is in flight. */
void fixture_settle(void);
/* Lets the disk answer one of the requests that it holds, or all. */
void fixture_release(unsigned index);
void fixture_release_all(void);

void fixture_submit(struct standin_command *command);
void fixture_submit_cdb(struct standin_command *command, const void *cdb, unsigned cdb_length, enum standin_direction direction, void *data,
			size_t length);
void fixture_assert_sense(const struct standin_command *command, uint8_t key, uint8_t asc, uint8_t ascq);
struct lun_statistics fixture_statistics(void);
