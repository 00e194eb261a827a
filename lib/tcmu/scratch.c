/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Scratch buffers for commands that look at data themselves (VERIFY, COMPARE AND WRITE, WRITE SAME, …). Such commands are rare: few buffers, made when
 * they are first needed, and a queue for who comes when all are in use.
 */
#include <errno.h>
#include <sys/mman.h>

#include "tcmu/slot.h"

void scratch_init(struct scratch_pool *pool)
{
	*pool = (struct scratch_pool){ 0 };
	list_init(&pool->waiting);
}

void scratch_destroy(struct scratch_pool *pool)
{
	for (unsigned i = 0; i < pool->made; i++)
		munmap(pool->buffers[i], SCSI_SCRATCH_SIZE);
	scratch_init(pool);
}

void scratch_ask(struct slot *slot)
{
	struct scratch_pool *pool = &slot->lun->scratch;
	if (!pool->free_count && pool->made < SCRATCH_BUFFERS_MAX) {
		void *made = mmap(NULL, SCSI_SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (made != MAP_FAILED) {
			pool->buffers[pool->made++] = made;
			pool->free[pool->free_count++] = made;
		} else if (!pool->made) {
			slot_resume(slot, -ENOMEM);
			return;
		}
	}
	if (!pool->free_count) {
		list_add_tail(&pool->waiting, &slot->node);
		return;
	}
	slot->command.scratch = pool->free[--pool->free_count];
	slot_resume(slot, 0);
}

void scratch_give(struct lun *lun, void *buffer)
{
	struct scratch_pool *pool = &lun->scratch;
	struct list *node = list_pop(&pool->waiting);
	if (!node) {
		pool->free[pool->free_count++] = buffer;
		return;
	}
	struct slot *next = list_entry(node, struct slot, node);
	next->command.scratch = buffer;
	slot_resume(next, 0);
}
