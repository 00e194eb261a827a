/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A host for handlers that is fully reproducible: every function of image/handler.h that reaches outside, over files in memory and a scheduler
 * that a seed drives. The shim, children and jobs are lunkit's own (lib/image): only its host.c and file.c and the loop are replaced, by linking
 * the target fakehost before them.
 *
 * An I/O has three moments, in this order and anywhere between others': it is submitted, it takes effect on the file, it completes. What was
 * written is kept in a log with these moments, so that a test can rebuild the file as a power cut may have left it.
 *
 * Promises of the interface are checked on the way: a broken one prints what it was and aborts. Files lie in memfds, so that handlers that
 * look at their descriptor themselves, and other programs by /proc/PID/fd/N, see the same bytes.
 */

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"

enum fakehost_op { FAKEHOST_READ, FAKEHOST_WRITE, FAKEHOST_SYNC, FAKEHOST_ALLOCATE, FAKEHOST_TRUNCATE };

struct fakehost_config {
	uint64_t seed;
	bool record;	    /* keep the log */
	bool direct;	    /* LUNKIT_FILE_DIRECT is granted */
	bool block;	    /* files are devices: what lies behind their end is -ENOSPC, and they keep their size */
	unsigned alignment; /* of direct I/O: offsets, lengths, memory; 0: 512 */
	uint64_t size_max;  /* of a file; 0: 256 MiB */
};

struct fakehost_file {
	char path[128];
	int fd; /* the memfd */
	uint8_t *data;
	uint64_t size;
	uint64_t capacity; /* what would lie behind it is -ENOSPC; UINT64_MAX: none */
	unsigned index;
	unsigned readers, writers; /* locked openings */
	bool removed;
};

/* Moments are numbers that only grow. UINT64_MAX: never. */
enum fakehost_change { FAKEHOST_DATA, FAKEHOST_ZEROS, FAKEHOST_SIZE };
struct fakehost_write {
	enum fakehost_change change;
	unsigned file;
	bool dsync;
	uint64_t offset, length; /* SIZE: length is the new size. DATA and ZEROS beyond the end extend the file, ZEROS as keep_size says. */
	bool keep_size;
	uint8_t *data;
	uint64_t submitted, effected, completed, durable; /* durable: known after fakehost_seal() */
};
struct fakehost_sync {
	unsigned file;
	uint64_t submitted, completed;
};

/* The nth I/O of those kinds fails, and all that follow when sticky. error 0: it moves less than it should, but something. */
struct fakehost_fault {
	unsigned ops; /* 1 << enum fakehost_op */
	uint64_t nth; /* from 1; 0: none fails */
	bool sticky;
	int error;     /* negative */
	unsigned file; /* index + 1; 0: any */
};

struct fakehost_pending;
struct fakehost_opening;

#define FAKEHOST_FILES_MAX 72
struct fakehost {
	struct lunkit_host host; /* first */
	struct fakehost_config config;
	uint64_t random, moment, now_ns;
	struct fakehost_file *files[FAKEHOST_FILES_MAX];
	unsigned file_count;
	struct fakehost_opening *openings;
	unsigned opening_count;
	struct fakehost_pending *pending;
	unsigned pending_count, pending_room, temper;
	struct lunkit_alarm **alarms;
	unsigned alarm_count, alarm_room;
	struct fakehost_write *writes;
	size_t write_count, write_room;
	struct fakehost_sync *syncs;
	size_t sync_count, sync_room;
	struct fakehost_fault fault;
	uint64_t io_count;   /* I/Os that the fault counts */
	uint64_t fault_hits; /* how many failed */
	uint64_t steps;
	bool serving; /* blocking I/O is refused outside of work */
	bool in_work;
};

struct fakehost *fakehost_new(const struct fakehost_config *config);
/* Nothing may be pending and no file open. Takes NULL. */
void fakehost_free(struct fakehost *fake);

/* A new file; content is copied. */
struct fakehost_file *fakehost_add(struct fakehost *fake, const char *path, const void *content, uint64_t size);
/* Replaces the content, behind everybody's back. */
void fakehost_set(struct fakehost *fake, struct fakehost_file *file, const void *content, uint64_t size);
struct fakehost_file *fakehost_find(struct fakehost *fake, const char *path);

/* Does one thing: lets an I/O take effect or complete. False when nothing is pending (alarms may be set). */
bool fakehost_step(struct fakehost *fake);
/* Lets time pass until the first alarm, and rings it. False when none is set. */
bool fakehost_ring(struct fakehost *fake);
/* Steps, and rings alarms where nothing else goes on, until *flag. Aborts when that can't come: something hangs. */
void fakehost_run_until(struct fakehost *fake, const bool *flag);

void fakehost_arm(struct fakehost *fake, const struct fakehost_fault *fault);

/* The moment that is now, and one that is later than it. */
uint64_t fakehost_moment(struct fakehost *fake);
/* Finds out when each write became durable, and sorts the log by effect. */
void fakehost_seal(struct fakehost *fake);
void fakehost_clear_log(struct fakehost *fake);

/* Random numbers for tests: the same sequence for the same seed. */
uint64_t fakehost_random64(uint64_t *state);
static inline uint64_t fakehost_below(uint64_t *state, uint64_t below)
{
	return fakehost_random64(state) % below;
}

/* Opens through the shim. Prints and aborts when that fails, or returns -errno with the error in *err. */
struct image *fakehost_open(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params);
int fakehost_try_open(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params, struct image **ret,
		      struct lunkit_error *err);
void fakehost_close(struct fakehost *fake, struct image *image);
/* One request from beginning to end. */
int fakehost_request(struct fakehost *fake, struct image *image, enum lunkit_op op, unsigned flags, uint64_t offset, void *buffer,
		     uint64_t length);

/* Log lines of the handler are dropped unless this is set. */
extern bool fakehost_verbose;
/* The number of warnings and errors that were logged, and the last of them. */
extern unsigned fakehost_complaints;
extern char fakehost_complaint[256];
