/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The slots: all memory that commands in flight need, mapped once and touched as far as the LUN is used.
 *
 *     memory      | slot, its image request | slot, its image request | …      stride: an odd number of cache lines, so that the same
 *     iov_memory  | iov_capacity entries     | …                                members of all slots don't fall into the same cache sets
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "tcmu/slot.h"

#define LINE 64u

static size_t odd_lines(size_t size)
{
	size_t lines = (size + LINE - 1) / LINE;
	return (lines | 1) * LINE;
}

static void *map(size_t length)
{
	void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return memory == MAP_FAILED ? NULL : memory;
}

struct slot *slot_pool_at(const struct slot_pool *pool, unsigned index)
{
	return (struct slot *)((char *)pool->memory + index * pool->stride);
}

bool slot_pool_holds(const struct slot_pool *pool, const void *address)
{
	const char *at = address, *start = pool->memory;
	if (at < start || at >= start + pool->count * pool->stride)
		return false;
	const struct slot *slot = slot_pool_at(pool, (unsigned)((size_t)(at - start) / pool->stride));
	return address == &slot->command.query;
}

int slot_pool_init(struct lun *lun, unsigned count)
{
	struct slot_pool *pool = &lun->slots;
	size_t request_offset = align_up(sizeof(struct slot), LINE);
	size_t iov_stride = odd_lines(lun->iov_capacity * sizeof(struct iovec));
	*pool = (struct slot_pool){ .count = count, .stride = odd_lines(request_offset + image_request_size(lun->image)) };
	pool->length = pool->stride * count;
	pool->iov_length = iov_stride * count;
	pool->memory = map(pool->length);
	pool->iov_memory = map(pool->iov_length);
	if (!pool->memory || !pool->iov_memory) {
		slot_pool_destroy(pool);
		return -ENOMEM;
	}
	for (unsigned i = count; i-- > 0;) {
		struct slot *slot = slot_pool_at(pool, i);
		slot->lun = lun;
		slot->request = (struct image_request *)((char *)slot + request_offset);
		slot->iov = (struct iovec *)((char *)pool->iov_memory + i * iov_stride);
		list_init(&slot->node);
		image_request_init(lun->image, slot->request);
		slot_give(pool, slot);
	}
	return 0;
}

void slot_pool_destroy(struct slot_pool *pool)
{
	if (pool->memory)
		munmap(pool->memory, pool->length);
	if (pool->iov_memory)
		munmap(pool->iov_memory, pool->iov_length);
	*pool = (struct slot_pool){ 0 };
}
