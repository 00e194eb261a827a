/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/iov.h"

#include <string.h>

uint64_t iov_length(const struct iovec *iov, unsigned count)
{
	uint64_t length = 0;
	for (unsigned i = 0; i < count; i++)
		length += iov[i].iov_len;
	return length;
}

/* One run of contiguous bytes of a list; next() moves on. */
struct cursor {
	const struct iovec *iov, *end;
	size_t skip, left;
};

static bool cursor_next(struct cursor *cursor, char **ret_base, size_t *ret_length)
{
	while (cursor->iov < cursor->end && cursor->skip >= cursor->iov->iov_len) {
		cursor->skip -= cursor->iov->iov_len;
		cursor->iov++;
	}
	if (cursor->iov == cursor->end || cursor->left == 0)
		return false;
	size_t length = cursor->iov->iov_len - cursor->skip;
	if (length > cursor->left)
		length = cursor->left;
	*ret_base = (char *)cursor->iov->iov_base + cursor->skip;
	*ret_length = length;
	cursor->left -= length;
	cursor->skip += length;
	return true;
}

#define CURSOR(iov, count, offset, length) ((struct cursor){ (iov), (iov) + (count), (offset), (length) })

size_t iov_copy_from(void *to, const struct iovec *iov, unsigned count, size_t offset, size_t length)
{
	struct cursor cursor = CURSOR(iov, count, offset, length);
	char *base;
	size_t part, done = 0;
	for (; cursor_next(&cursor, &base, &part); done += part)
		memcpy((char *)to + done, base, part);
	return done;
}

size_t iov_copy_to(const struct iovec *iov, unsigned count, size_t offset, const void *from, size_t length)
{
	struct cursor cursor = CURSOR(iov, count, offset, length);
	char *base;
	size_t part, done = 0;
	for (; cursor_next(&cursor, &base, &part); done += part)
		memcpy(base, (const char *)from + done, part);
	return done;
}

size_t iov_set(const struct iovec *iov, unsigned count, size_t offset, int byte, size_t length)
{
	struct cursor cursor = CURSOR(iov, count, offset, length);
	char *base;
	size_t part, done = 0;
	for (; cursor_next(&cursor, &base, &part); done += part)
		memset(base, byte, part);
	return done;
}

bool iov_equal(const struct iovec *iov, unsigned count, size_t offset, const void *other, size_t length, size_t *ret_mismatch)
{
	struct cursor cursor = CURSOR(iov, count, offset, length);
	char *base;
	size_t part, done = 0;
	for (; cursor_next(&cursor, &base, &part); done += part) {
		const char *expected = (const char *)other + done;
		if (memcmp(base, expected, part) == 0)
			continue;
		size_t at = 0;
		while (base[at] == expected[at])
			at++;
		*ret_mismatch = done + at;
		return false;
	}
	if (done < length) {
		*ret_mismatch = done;
		return false;
	}
	return true;
}

unsigned iov_slice(struct iovec *out, const struct iovec *iov, unsigned count, size_t offset, size_t length)
{
	struct cursor cursor = CURSOR(iov, count, offset, length);
	char *base;
	size_t part;
	unsigned entries = 0;
	while (cursor_next(&cursor, &base, &part))
		out[entries++] = (struct iovec){ base, part };
	return entries;
}

bool iov_is_aligned(const struct iovec *iov, unsigned count, size_t alignment)
{
	uintptr_t bits = 0;
	for (unsigned i = 0; i < count; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return (bits & (alignment - 1)) == 0;
}
