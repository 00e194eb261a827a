/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory of the cache's slices. One of these takes the heap two pages, for its alignment, and a page fault each; a walk through the tables of a large
 * image spends a third of its time there.
 *
 *     slab, 2 MiB, aligned:   │ its head │ piece │ piece │ … │        the head is found from a piece by its address
 *
 * The first slab of an image takes pages as they are touched: most images never need another. Further ones are asked for as huge pages. The lowest free piece
 * is taken first, so that what is in use stays dense; a slab that is empty goes back at once, except the first.
 */
#include "slab.h"

#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

#define SLAB_BYTES ((size_t)2 << 20)
#define PIECE_MIN 512
#define WORD_BITS 64

struct slab {
	struct list node;
	size_t used;
	size_t first_word; /* of taken: all before are full */
	uint64_t taken[SLAB_BYTES / PIECE_MIN / WORD_BITS];
};

/* Pieces that the head covers are never given out. */
static size_t head_pieces(const struct slabs *slabs)
{
	return (sizeof(struct slab) + slabs->piece - 1) / slabs->piece;
}

static size_t pieces_of(const struct slabs *slabs)
{
	return SLAB_BYTES / slabs->piece;
}

static bool is_taken(const struct slab *slab, size_t index)
{
	return slab->taken[index / WORD_BITS] >> (index % WORD_BITS) & 1;
}

static void set_taken(struct slab *slab, size_t index)
{
	slab->taken[index / WORD_BITS] |= (uint64_t)1 << (index % WORD_BITS);
}

void slabs_init(struct slabs *slabs, size_t piece)
{
	*slabs = (struct slabs){ .piece = piece };
	list_init(&slabs->room);
	list_init(&slabs->full);
}

/* The kernel aligns no mapping: twice as much is taken, and the ends are given back. */
static void *map_aligned(void)
{
	uint8_t *all = mmap(NULL, 2 * SLAB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	uint8_t *base = (uint8_t *)align_up((uintptr_t)all, SLAB_BYTES);
	if (base > all)
		munmap(all, (size_t)(base - all));
	munmap(base + SLAB_BYTES, (size_t)(all + SLAB_BYTES - base));
	return base;
}

static struct slab *slab_new(struct slabs *slabs)
{
	struct slab *slab = map_aligned();
	if (!slab)
		return NULL;
	if (slabs->count)
		madvise(slab, SLAB_BYTES, MADV_HUGEPAGE); /* where there are none, small ones do */
	size_t head = head_pieces(slabs);
	for (size_t i = 0; i < head; i++)
		set_taken(slab, i);
	ASAN_POISON_MEMORY_REGION((uint8_t *)slab + head * slabs->piece, SLAB_BYTES - head * slabs->piece);
	slabs->count++;
	list_add_tail(&slabs->room, &slab->node);
	return slab;
}

static void slab_free(struct slabs *slabs, struct slab *slab)
{
	list_remove(&slab->node);
	slabs->count--;
	ASAN_UNPOISON_MEMORY_REGION(slab, SLAB_BYTES);
	munmap(slab, SLAB_BYTES);
}

void *slabs_take(struct slabs *slabs)
{
	struct slab *slab = list_empty(&slabs->room) ? slab_new(slabs) : list_entry(slabs->room.next, struct slab, node);
	if (!slab)
		return NULL;
	while (slab->taken[slab->first_word] == UINT64_MAX)
		slab->first_word++;
	size_t index = slab->first_word * WORD_BITS + (size_t)__builtin_ctzll(~slab->taken[slab->first_word]);
	set_taken(slab, index);
	if (++slab->used == pieces_of(slabs) - head_pieces(slabs)) {
		list_remove(&slab->node);
		list_add_tail(&slabs->full, &slab->node);
	}
	void *piece = (uint8_t *)slab + index * slabs->piece;
	ASAN_UNPOISON_MEMORY_REGION(piece, slabs->piece);
	return piece;
}

void slabs_give(struct slabs *slabs, void *piece)
{
	if (!piece)
		return;
	struct slab *slab = (struct slab *)align_down((uintptr_t)piece, SLAB_BYTES);
	size_t index = (size_t)((uint8_t *)piece - (uint8_t *)slab) / slabs->piece, word = index / WORD_BITS;
	ASAN_POISON_MEMORY_REGION(piece, slabs->piece);
	if (slab->used-- == pieces_of(slabs) - head_pieces(slabs)) {
		list_remove(&slab->node);
		list_add_head(&slabs->room, &slab->node);
	}
	slab->taken[word] &= ~((uint64_t)1 << (index % WORD_BITS));
	slab->first_word = MIN(slab->first_word, word);
	if (!slab->used && slabs->count > 1)
		slab_free(slabs, slab);
}

/* Whole pages of free pieces. A huge page that is still in use would be taken apart by this, which costs more than it gives while there is much in use. */
static void trim(const struct slabs *slabs, struct slab *slab)
{
	size_t pieces = pieces_of(slabs), page = (size_t)sysconf(_SC_PAGESIZE);
	for (size_t from = head_pieces(slabs), to; from < pieces; from = to + 1) {
		for (to = from; to < pieces && !is_taken(slab, to); to++)
			;
		uintptr_t begin = align_up((uintptr_t)slab + from * slabs->piece, page),
			  end = align_down((uintptr_t)slab + to * slabs->piece, page);
		if (begin < end)
			madvise((void *)begin, end - begin,
				MADV_DONTNEED); /* private and anonymous: this can't fail in a way that matters */
	}
}

void slabs_trim(struct slabs *slabs)
{
	for (struct list *node = slabs->room.next, *next; node != &slabs->room; node = next) {
		struct slab *slab = list_entry(node, struct slab, node);
		next = node->next;
		if (slab->used)
			trim(slabs, slab);
		else
			slab_free(slabs, slab);
	}
}

void slabs_destroy(struct slabs *slabs)
{
	if (!slabs->piece)
		return;
	while (!list_empty(&slabs->full))
		slab_free(slabs, list_entry(slabs->full.next, struct slab, node));
	while (!list_empty(&slabs->room))
		slab_free(slabs, list_entry(slabs->room.next, struct slab, node));
}
