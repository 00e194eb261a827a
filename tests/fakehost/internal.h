/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "fakehost/fakehost.h"

struct fakehost_opening {
	int fd;
	struct fakehost_file *file;
	bool write, dsync, direct, locked;
};

enum pending_kind { PENDING_READ, PENDING_WRITE, PENDING_SYNC, PENDING_ALLOCATE, PENDING_DEFER, PENDING_WORK };

struct fakehost_pending {
	enum pending_kind kind;
	bool effected;
	struct lunkit_io *io;
	struct fakehost_opening opening;
	const struct iovec *iov;
	unsigned count, flags;
	int mode, result;
	uint64_t offset, length, submitted;
	size_t write; /* index in the log + 1 */
};

static inline struct fakehost *fakehost_of(struct lunkit_host *host)
{
	return (struct fakehost *)host;
}

__attribute__((noreturn, format(printf, 1, 2))) void fakehost_broken(const char *format, ...);
struct fakehost_opening *fakehost_opening(struct fakehost *fake, int fd);

/* What the files do. Results as of system calls. *ret_write: index in the log + 1, 0: none; fakehost_complete_write() ends it. */
int fakehost_do_read(struct fakehost *fake, struct fakehost_file *file, const struct iovec *iov, unsigned count, uint64_t offset);
int fakehost_do_write(struct fakehost *fake, struct fakehost_file *file, const struct iovec *iov, unsigned count, uint64_t offset,
		      bool dsync, uint64_t submitted, size_t *ret_write);
int fakehost_do_allocate(struct fakehost *fake, struct fakehost_file *file, int mode, uint64_t offset, uint64_t length, uint64_t submitted,
			 size_t *ret_write);
int fakehost_do_truncate(struct fakehost *fake, struct fakehost_file *file, uint64_t size, uint64_t submitted, size_t *ret_write);
int fakehost_do_sync(struct fakehost *fake, struct fakehost_file *file);
void fakehost_complete_write(struct fakehost *fake, size_t write, int result);
void fakehost_complete_sync(struct fakehost *fake, struct fakehost_file *file, uint64_t submitted, int result);

void *fakehost_grow(void *array, unsigned count, unsigned *room, size_t size);
