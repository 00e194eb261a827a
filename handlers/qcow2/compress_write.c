/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Writes that are to be compressed, a cluster at a time.
 *
 *     guest's memory ─► (helper thread) copied, packed ─┬─ smaller: pack.c: a place, written with its neighbours ─┬─► L2 entry
 *                                                       └─ not:     a cluster of its own, written as it is ───────┘
 *
 * It is an allocating write like those of cow.c, in the same list: who wants to write there waits for it. What the guest cluster had before is
 * freed. The guest's memory is copied before it is read, since it may change meanwhile and compressors are not made for that.
 *
 * Nothing is taken before it is packed, since nobody knows how much it will be; the L2 table is made before, and its slice asked for again at
 * the end, so that none is pinned while something is waited for.
 */
#include <stdlib.h>
#include <string.h>

#include "pack.h"

#define PACK_BYTES ((uint64_t)32 << 20)
#define PACKS_MIN 3
/* As QEMU does: a negative window size means raw deflate, and 12 bits are what the format allows. */
#define WINDOW_BITS (-12)
#define MEMORY_LEVEL 9

/* ---- on a helper thread ---- */

static size_t pack_zlib(struct pack_tool *tool, const struct pack *pack, size_t length, size_t most)
{
	z_stream *stream = &tool->stream;
	int r = tool->has_stream ? deflateReset(stream)
				 : deflateInit2(stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
	if (r != Z_OK)
		return 0;
	tool->has_stream = true;
	stream->next_in = pack->in;
	stream->avail_in = (uInt)length;
	stream->next_out = pack->out;
	stream->avail_out = (uInt)most;
	return deflate(stream, Z_FINISH) == Z_STREAM_END ? most - stream->avail_out : 0;
}

static size_t pack_zstd(struct pack_tool *tool, const struct pack *pack, size_t length, size_t most)
{
	if (!tool->context)
		tool->context = ZSTD_createCCtx();
	if (!tool->context)
		return 0;
	size_t r = ZSTD_compress2(tool->context, pack->out, most, pack->in, length);
	return ZSTD_isError(r) ? 0 : r;
}

/* There is one for each cluster that is being packed, the first ones are used most. */
static struct pack_tool *take_tool(struct packer *packer)
{
	unsigned i = 0;
	while (atomic_flag_test_and_set_explicit(&packer->tools[i].used, memory_order_acquire))
		i = (i + 1) % PACKS_MAX;
	return &packer->tools[i];
}

static int work_pack(void *argument)
{
	struct pack *pack = argument;
	const struct part *part = pack->cow.part;
	const struct qcow2 *q = pack->cow.q;
	size_t length = 0;
	for (unsigned i = 0; i < part->iov_count; length += part->iov[i++].iov_len)
		memcpy(pack->in + length, part->iov[i].iov_base, part->iov[i].iov_len);
	memset(pack->in + length, 0, q->cluster_size - length);
	/* What would not be smaller is left as it is, also when there is no memory for trying. */
	size_t most = q->cluster_size - 1;
	struct pack_tool *tool = take_tool(q->packer);
	pack->packed = q->header.compression == COMPRESSION_ZSTD ? pack_zstd(tool, pack, q->cluster_size, most)
								 : pack_zlib(tool, pack, q->cluster_size, most);
	atomic_flag_clear_explicit(&tool->used, memory_order_release);
	return 0;
}

/* ---- memory ---- */

static void pack_free(struct pack *pack)
{
	free(pack->in);
	free(pack->out);
	free(pack);
}

static void packer_free(struct packer *packer)
{
	for (struct pack *pack; (pack = packer->free);) {
		packer->free = pack->next;
		pack_free(pack);
	}
	for (unsigned i = 0; i < PACKS_MAX; i++) {
		if (packer->tools[i].has_stream)
			deflateEnd(&packer->tools[i].stream);
		ZSTD_freeCCtx(packer->tools[i].context);
	}
	free(packer->batch[0].data);
	free(packer->batch[1].data);
	free(packer->carry);
	free(packer);
}

void pack_shrink(struct qcow2 *q)
{
	if (!q->packer || q->packer->busy)
		return;
	packer_free(q->packer);
	q->packer = NULL;
}

static int make_packer(struct qcow2 *q)
{
	struct packer *packer = calloc(1, sizeof(*packer));
	if (!packer)
		return -ENOMEM;
	if (pack_init(q, packer) < 0) {
		packer_free(packer);
		return -ENOMEM;
	}
	packer->most = (unsigned)MIN(MAX(PACK_BYTES >> (q->cluster_bits + 1), (uint64_t)PACKS_MIN), (uint64_t)PACKS_MAX);
	waiters_init(&packer->waiters);
	q->packer = packer;
	return 0;
}

/* 0, -EAGAIN (parked), -ENOMEM. */
static int pack_take(struct qcow2 *q, struct waiter *waiter, struct pack **ret)
{
	if (!q->packer && make_packer(q) < 0)
		return -ENOMEM;
	struct packer *packer = q->packer;
	struct pack *pack = packer->free;
	if (pack) {
		packer->free = pack->next;
	} else if (packer->made < packer->most && (pack = calloc(1, sizeof(*pack)))) {
		pack->in = file_buffer(q, q->cluster_size);
		pack->out = malloc(q->cluster_size);
		if (!pack->in || !pack->out) {
			pack_free(pack);
			pack = NULL;
		} else {
			packer->made++;
		}
	}
	if (!pack && !packer->made)
		return -ENOMEM;
	if (!pack) {
		waiters_add(&packer->waiters, waiter);
		return -EAGAIN;
	}
	packer->busy++;
	pack->cow = (struct cow){ .q = q, .clusters = 1 };
	list_init(&pack->cow.node);
	waiters_init(&pack->cow.waiters);
	*ret = pack;
	return 0;
}

static void pack_give(struct pack *pack)
{
	struct packer *packer = pack->cow.q->packer;
	list_remove(&pack->cow.node);
	pack->next = packer->free;
	packer->free = pack;
	packer->busy--;
	if (packer->waiters.first)
		waiters_wake(&packer->waiters, 0);
}

/* ---- the end ---- */

static void end(struct pack *pack, int result)
{
	struct part *part = pack->cow.part;
	struct waiters waiters = pack->cow.waiters;
	if (!waiters.first)
		waiters_init(&waiters);
	pack_give(pack);
	part_done(part, result);
	waiters_wake(&waiters, 0);
}

static uint64_t entry_of(const struct qcow2 *q, const struct pack *pack)
{
	if (!pack->packed)
		return pack->place | ENTRY_COPIED;
	uint64_t sectors = ((pack->place + pack->packed - 1) >> 9) - (pack->place >> 9);
	return L2_COMPRESSED | sectors << (62 - (q->cluster_bits - 8)) | pack->place;
}

/* 0, -EAGAIN (parked), -errno. */
static int show(struct pack *pack)
{
	struct qcow2 *q = pack->cow.q;
	struct slice *slice;
	unsigned index;
	int r = map_for_write(q, pack->cow.cluster << q->cluster_bits, &pack->waiter, &slice, &index);
	if (r == 0)
		r = slice_modify(q, slice);
	if (r < 0)
		return r;
	uint8_t *at = slice->data + (size_t)index * 8;
	map_release(q, get_be64(at));
	put_be64(at, entry_of(q, pack));
	return 0;
}

static void shown_again(struct waiter *waiter, int result)
{
	pack_written(list_entry(waiter, struct pack, waiter), result);
}

void pack_written(struct pack *pack, int result)
{
	struct qcow2 *q = pack->cow.q;
	pack->waiter.wake = shown_again;
	if (result == 0)
		result = show(pack);
	if (result == -EAGAIN)
		return;
	if (result < 0 && pack->place)
		free_later(q, pack->place, pack->packed ? pack->packed : q->cluster_size, false);
	end(pack, result);
}

/* ---- what does not become smaller ---- */

static void plain_written(struct transfer *transfer, int result)
{
	struct pack *pack = (struct pack *)((struct part *)transfer)->cow;
	if (result == 0)
		order_wrote(&transfer->q->order, ORDER_BASE);
	pack_written(pack, result);
}

static void write_plain(struct pack *pack);

static void plain_again(struct waiter *waiter, int result)
{
	struct pack *pack = list_entry(waiter, struct pack, waiter);
	pack_count(pack, true);
	if (result < 0)
		pack_written(pack, result);
	else
		write_plain(pack);
}

static void write_plain(struct pack *pack)
{
	struct qcow2 *q = pack->cow.q;
	struct part *part = pack->cow.part;
	struct run run;
	pack->place = 0;
	pack->waiter.wake = plain_again;
	int r = pack->cow.cluster << q->cluster_bits < q->size ? alloc_run(q, 1, &pack->waiter, &run) : -EIO;
	if (r == -EAGAIN) {
		pack_count(pack, false);
		return;
	}
	if (r < 0) {
		pack_written(pack, r);
		return;
	}
	pack->place = run.offset;
	part->transfer.done = plain_written;
	transfer_start_one(q, &part->transfer, true, pack->in, q->cluster_size, run.offset);
}

/* ---- the beginning ---- */

static void packed(struct lunkit_io *io, int result)
{
	struct pack *pack = list_entry(io, struct pack, work.io);
	(void)result;
	if (pack->packed)
		pack_add(pack->cow.q, pack);
	else
		write_plain(pack);
}

int compress_step(struct qcow2_request *r)
{
	struct qcow2 *q = r->q;
	uint64_t cluster = r->position >> q->cluster_bits;
	struct slice *slice;
	unsigned index;
	struct pack *pack = NULL;
	int s = image_prepare_write(q, &r->waiter);
	if (s < 0)
		return s;
	struct cow *cow = list_empty(&q->cows.active) ? NULL : cow_overlapping(q, cluster, 1);
	if (cow)
		return request_park(r, &cow->waiters);
	if (!free_has_room(q)) {
		commit_want(q);
		return request_park(r, &q->freeing.room);
	}
	s = map_for_write(q, r->position, &r->waiter, &slice, &index);
	if (s == 0)
		s = pack_take(q, &r->waiter, &pack);
	if (s < 0)
		return s;
	struct part *part = part_take(r, MIN(q->cluster_size, r->end - r->position));
	if (!part) {
		pack_give(pack);
		return -ENOMEM;
	}
	part->cow = &pack->cow;
	pack->cow.part = part;
	pack->cow.cluster = cluster;
	list_add_tail(&q->cows.active, &pack->cow.node);
	pack->work = (struct lunkit_work){ .io.done = packed, .function = work_pack, .argument = pack };
	lunkit_work_start(q->host, &pack->work);
	return 0;
}
