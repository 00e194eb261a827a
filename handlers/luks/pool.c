/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Buffers of two sizes, for most requests are small. They are kept when they are given back; at most 8 MiB of small and 16 MiB of large ones exist, and who finds none waits.
 * A waiter takes the next buffer of its size.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "luks.h"

#define ALIGNMENT 4096

static const struct {
	uint64_t length;
	unsigned most;
} sizes[] = { { (uint64_t)64 << 10, 128 }, { LUKS_TRANSFER_MAX, 16 } };

void pool_init(struct pool *pool)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		list_init(&pool->free[i]);
	list_init(&pool->waiting);
}

void pool_destroy(struct pool *pool)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (struct list *node; (node = list_pop(&pool->free[i]));)
			free(node); /* the node stands at the buffer's beginning */
}

/* False: there is none, and no more may be made. */
static bool take(struct pool *pool, bool large, uint8_t **ret)
{
	*ret = (uint8_t *)list_pop(&pool->free[large]);
	if (*ret)
		return true;
	if (pool->allocated[large] == sizes[large].most)
		return false;
	*ret = aligned_alloc(ALIGNMENT, sizes[large].length);
	pool->allocated[large] += *ret != NULL;
	return true;
}

int pool_take(struct pool *pool, struct luks_request *request, uint64_t length)
{
	request->large = length > sizes[0].length;
	if (take(pool, request->large, &request->buffer))
		return request->buffer ? 0 : -ENOMEM;
	list_add_tail(&pool->waiting, &request->node);
	return -EAGAIN;
}

struct luks_request *pool_give(struct pool *pool, struct luks_request *request)
{
	list_for_each_safe (node, &pool->waiting) {
		struct luks_request *waiter = list_entry(node, struct luks_request, node);
		if (waiter->large != request->large)
			continue;
		list_remove(node);
		waiter->buffer = request->buffer;
		return waiter;
	}
	list_add_tail(&pool->free[request->large], (struct list *)request->buffer);
	return NULL;
}
