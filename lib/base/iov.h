/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Scatter lists: arrays of struct iovec seen as one run of bytes. Offsets and lengths are bytes into that run. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

uint64_t iov_length(const struct iovec *iov, unsigned count);

/* Each returns how many bytes it moved: less than length only where the list ends. */
size_t iov_copy_from(void *to, const struct iovec *iov, unsigned count, size_t offset, size_t length);
size_t iov_copy_to(const struct iovec *iov, unsigned count, size_t offset, const void *from, size_t length);
size_t iov_set(const struct iovec *iov, unsigned count, size_t offset, int byte, size_t length);

/*
 * Compares length bytes of the list from offset with other. True when equal; else *ret_mismatch is the first differing byte, counted
 * from offset.
 */
bool iov_equal(const struct iovec *iov, unsigned count, size_t offset, const void *other, size_t length, size_t *ret_mismatch);

/*
 * Writes the part [offset, offset + length) of the list to out, which has room for count entries (enough for any part). Returns the
 * number of entries written; 0 when length is 0.
 */
unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned count, size_t offset, size_t length);

/* True when every base address and length is a multiple of alignment, a power of two. */
bool iov_is_aligned(const struct iovec *iov, unsigned count, size_t alignment);
