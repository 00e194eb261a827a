/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/secret.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"

static size_t whole_pages(size_t length)
{
	return align_up(MAX(length, (size_t)1), (uint64_t)sysconf(_SC_PAGESIZE));
}

void *secret_new(size_t length)
{
	static bool said;
	size_t size = whole_pages(length);
	if (size < length)
		return NULL;
	void *secret = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (secret == MAP_FAILED)
		return NULL;
	madvise(secret, size, MADV_DONTDUMP);
	madvise(secret, size, MADV_WIPEONFORK);
	if (mlock(secret, size) < 0 && !said) {
		said = true;
		log_warning("a key can't be locked in memory and may reach the swap space: %s (see ulimit -l)", strerror(errno));
	}
	return secret;
}

void secret_free(void *secret, size_t length)
{
	if (!secret)
		return;
	explicit_bzero(secret, length);
	munmap(secret, whole_pages(length));
}
