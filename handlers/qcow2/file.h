/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Waiting for things, and I/O on the image's file. Owner: the worker's thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/handler.h"

struct qcow2;

/* ---- waiting ------------------------------------------------------------------------------------------------------------------------- */

/* Somebody who goes on later. wake() is called once, and the waiter is its owner's again before that. */
struct waiter {
	struct waiter *next;
	void (*wake)(struct waiter *waiter, int result); /* 0, or the -errno that what was waited for ended with */
};

struct waiters {
	struct waiter *first, **end;
};

static inline void waiters_init(struct waiters *waiters)
{
	waiters->first = NULL;
	waiters->end = &waiters->first;
}

static inline void waiters_add(struct waiters *waiters, struct waiter *waiter)
{
	waiter->next = NULL;
	*waiters->end = waiter;
	waiters->end = &waiter->next;
}

/* Wakes those that wait now; those that wait again meanwhile stay. */
void waiters_wake(struct waiters *waiters, int result);

/* ---- I/O ------------------------------------------------------------------------------------------------------------------------------ */

/* A transfer between memory and the file that goes on until all is moved. Reading beyond the file's end gives zeros. */
struct transfer {
	struct lunkit_io io; /* first */
	struct qcow2 *q;
	void (*done)(struct transfer *transfer, int result); /* 0 or -errno; never from inside the call that starts it */
	const struct iovec *iov;
	struct iovec one; /* room for a list of one, and for the entry that a short transfer stopped in */
	uint64_t offset, length, moved;
	bool write;
	struct scrambling *scrambling; /* encrypt.h's, for the guest's data */
};
void transfer_start(struct qcow2 *q, struct transfer *transfer, bool write, const struct iovec *iov, unsigned count, uint64_t offset,
		    uint64_t length);
void transfer_start_one(struct qcow2 *q, struct transfer *transfer, bool write, void *buffer, uint64_t length, uint64_t offset);
/* Ends one that was not started: done(transfer, result), from the event loop. */
void transfer_fail(struct qcow2 *q, struct transfer *transfer, void (*done)(struct transfer *transfer, int result), int result);

/* Zeros for writing; ZEROES_SIZE bytes, aligned to a page. */
#define ZEROES_SIZE ((size_t)64 << 10)
extern uint8_t qcow2_zeroes[ZEROES_SIZE];

/* file.c: opening, and blocking I/O of any alignment for the moments without requests. */
int file_open(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err);
/* Gives up direct I/O: metadata is smaller than its blocks. */
int file_reopen_buffered(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err);
int file_read(const struct qcow2 *q, void *buffer, size_t length, uint64_t offset);
void *file_buffer(const struct qcow2 *q, size_t length); /* aligned for direct I/O; free() */
