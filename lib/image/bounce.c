/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Buffers for what can't go between guest memory and the storage directly. A bounded number, allocated when first needed; a request that
 * finds none waits for its turn. Whoever holds one waits for the handler only, so the wait ends.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "image/shim.h"

#define BOUNCE_MAX 8
#define BOUNCE_SIZE ((size_t)128 << 10)
#define BOUNCE_ALIGNMENT ((size_t)4096)

int bounce_init(struct bounce_pool *pool)
{
	list_init(&pool->waiting);
	pool->free = calloc(BOUNCE_MAX, sizeof(*pool->free));
	return pool->free ? 0 : -ENOMEM;
}

void bounce_destroy(struct bounce_pool *pool)
{
	while (pool->count)
		free(pool->free[--pool->count]);
	free(pool->free);
}

/* Once, at open: alignments never change while an image is open. */
void bounce_configure(struct bounce_pool *pool, const struct lunkit_limits *limits)
{
	pool->alignment = MAX(BOUNCE_ALIGNMENT, limits->memory_alignment);
	pool->size = BOUNCE_SIZE;
}

int bounce_get(struct image_request *request)
{
	struct bounce_pool *pool = &request->image->bounce;
	if (pool->count) {
		request->shim->bounce = pool->free[--pool->count];
		return 0;
	}
	if (pool->allocated < BOUNCE_MAX) {
		void *buffer = aligned_alloc(pool->alignment, pool->size);
		if (buffer) {
			pool->allocated++;
			request->shim->bounce = buffer;
			return 0;
		}
		if (pool->allocated == 0)
			return -ENOMEM;
	}
	list_add_tail(&pool->waiting, &request->node);
	return -EAGAIN;
}

void bounce_put(struct image_request *request)
{
	struct bounce_pool *pool = &request->image->bounce;
	void *buffer = request->shim->bounce;
	if (!buffer)
		return;
	request->shim->bounce = NULL;
	struct list *node = list_pop(&pool->waiting);
	if (!node) {
		pool->free[pool->count++] = buffer;
		return;
	}
	struct image_request *next = list_entry(node, struct image_request, node);
	next->shim->bounce = buffer;
	shim_advance(next, 0);
}
