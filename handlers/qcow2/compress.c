/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Compressed clusters: read and unpacked on a helper thread, and a few kept, since a disk is read in smaller pieces than clusters.
 *
 *     empty ─► reading ─► unpacking ─► ready ─► (another cluster's turn) reading …
 *
 * What is packed may lie anywhere, to the byte, next to others of its kind; the length in its entry is rounded up to sectors, so that bytes of a
 * neighbour follow. The output is exactly one cluster, whatever the input says: the memory that a hostile image can ask for is bounded by
 * BLOBS_MAX clusters.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "qcow2.h"

#define BLOB_BYTES ((uint64_t)8 << 20)
/* A negative window size means raw deflate, and 12 bits are what the format allows. */
#define WINDOW_BITS (-12)

static int unpack_zlib(const uint8_t *in, size_t in_length, uint8_t *out, size_t out_length)
{
	z_stream stream = {
		.next_in = (Bytef *)(uintptr_t)in, .avail_in = (uInt)in_length, .next_out = out, .avail_out = (uInt)out_length
	};
	if (inflateInit2(&stream, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	int r = inflate(&stream, Z_FINISH);
	/* Z_BUF_ERROR: the output is full, and more input follows, which is a neighbour's. */
	bool good = (r == Z_STREAM_END || r == Z_BUF_ERROR) && stream.avail_out == 0;
	inflateEnd(&stream);
	return good ? 0 : -EIO;
}

static int unpack_zstd(const uint8_t *in, size_t in_length, uint8_t *out, size_t out_length)
{
	ZSTD_inBuffer input = { in, in_length, 0 };
	ZSTD_outBuffer output = { out, out_length, 0 };
	ZSTD_DCtx *context = ZSTD_createDCtx();
	if (!context)
		return -ENOMEM;
	int result = 0;
	while (output.pos < output.size && result == 0) {
		size_t in_before = input.pos, out_before = output.pos;
		size_t r = ZSTD_decompressStream(context, &output, &input);
		if (ZSTD_isError(r) || (input.pos == in_before && output.pos == out_before))
			result = -EIO;
	}
	ZSTD_freeDCtx(context);
	return result;
}

int decompress(unsigned compression, const uint8_t *in, size_t in_length, uint8_t *out, size_t out_length)
{
	return compression == COMPRESSION_ZSTD ? unpack_zstd(in, in_length, out, out_length) : unpack_zlib(in, in_length, out, out_length);
}

/* ---- the few that are kept ---- */

void blob_init(struct qcow2 *q)
{
	q->blobs.count = (unsigned)MIN(MAX(BLOB_BYTES >> q->cluster_bits, (uint64_t)2), (uint64_t)BLOBS_MAX);
	waiters_init(&q->blobs.free);
	for (unsigned i = 0; i < BLOBS_MAX; i++)
		waiters_init(&q->blobs.blob[i].waiters);
}

static void blob_free(struct blob *blob)
{
	free(blob->data);
	free(blob->packed);
	blob->data = blob->packed = NULL;
	blob->state = BLOB_EMPTY;
}

/* Takes one that nobody needs: an empty one, else the one that was used longest ago. */
static struct blob *blob_choose(struct qcow2 *q)
{
	struct blob *best = NULL;
	for (unsigned i = 0; i < q->blobs.count; i++) {
		struct blob *blob = &q->blobs.blob[i];
		if (blob->state == BLOB_EMPTY)
			return blob;
		if (blob->state == BLOB_READY && !blob->users && (!best || blob->used < best->used))
			best = blob;
	}
	return best;
}

static void blob_end(struct blob *blob, int result)
{
	struct waiters waiters = blob->waiters;
	if (!waiters.first)
		waiters_init(&waiters);
	waiters_init(&blob->waiters);
	blob->state = result < 0 || blob->forgotten ? BLOB_EMPTY : BLOB_READY;
	/* Something else may have been there already when it was read. Who waits looks at the map again, and finds out where he is now. */
	waiters_wake(&waiters, blob->forgotten ? 0 : result);
	waiters_wake(&blob->q->blobs.free, 0);
}

static int work_unpack(void *argument)
{
	struct blob *blob = argument;
	return decompress(blob->q->header.compression, blob->packed + blob->skip, blob->length, blob->data, blob->q->cluster_size);
}

static void unpacked(struct lunkit_io *io, int result)
{
	struct blob *blob = list_entry(io, struct blob, work.io);
	if (result == -EIO && !blob->forgotten)
		lunkit_log(LUNKIT_LOG_ERROR, "%s: the compressed cluster with entry %#llx is damaged", blob->q->name,
			   (unsigned long long)blob->entry);
	blob_end(blob, result);
}

static void packed_read(struct transfer *transfer, int result)
{
	struct blob *blob = list_entry(transfer, struct blob, transfer);
	if (result < 0) {
		blob_end(blob, result);
		return;
	}
	blob->state = BLOB_UNPACKING;
	blob->work = (struct lunkit_work){ .io.done = unpacked, .function = work_unpack, .argument = blob };
	lunkit_work_start(blob->q->host, &blob->work);
}

static int blob_start(struct qcow2 *q, struct blob *blob, uint64_t entry, struct waiter *waiter)
{
	uint64_t offset, alignment = MAX(q->geometry.offset_alignment, 512u);
	if (!blob->data) {
		blob->data = file_buffer(q, q->cluster_size);
		blob->packed = file_buffer(q, 2 * q->cluster_size + 2 * alignment);
	}
	if (!blob->data || !blob->packed) {
		blob_free(blob);
		return -ENOMEM;
	}
	blob->q = q;
	blob->entry = entry;
	blob->forgotten = false;
	map_compressed(q, entry, &offset, &blob->length);
	uint64_t from = align_down(offset, alignment), to = align_up(offset + blob->length, alignment);
	blob->skip = offset - from;
	if (to - from > 2 * q->cluster_size + 2 * alignment) {
		blob->state = BLOB_EMPTY;
		return -EIO;
	}
	blob->state = BLOB_READING;
	blob->transfer.done = packed_read;
	waiters_add(&blob->waiters, waiter);
	transfer_start_one(q, &blob->transfer, false, blob->packed, to - from, from);
	return -EAGAIN;
}

int blob_get(struct qcow2 *q, uint64_t entry, struct waiter *waiter, struct blob **ret)
{
	entry &= ~ENTRY_COPIED;
	for (unsigned i = 0; i < q->blobs.count; i++) {
		struct blob *blob = &q->blobs.blob[i];
		if (blob->state == BLOB_EMPTY || blob->forgotten || blob->entry != entry)
			continue;
		if (blob->state != BLOB_READY) {
			waiters_add(&blob->waiters, waiter);
			return -EAGAIN;
		}
		blob->users++;
		blob->used = ++q->blobs.clock;
		*ret = blob;
		return 0;
	}
	struct blob *blob = blob_choose(q);
	if (blob)
		return blob_start(q, blob, entry, waiter);
	waiters_add(&q->blobs.free, waiter);
	return -EAGAIN;
}

void blob_put(struct qcow2 *q, struct blob *blob)
{
	if (--blob->users)
		return;
	if (blob->forgotten)
		blob->state = BLOB_EMPTY;
	waiters_wake(&q->blobs.free, 0);
}

/* One that is being read or used is given up when that ends: who waits for it holds nothing that would keep its place from being used again. */
void blob_forget(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	for (unsigned i = 0; i < q->blobs.count; i++) {
		struct blob *blob = &q->blobs.blob[i];
		uint64_t other, other_length;
		if (blob->state == BLOB_EMPTY || blob->forgotten)
			continue;
		map_compressed(q, blob->entry, &other, &other_length);
		if (!range_overlaps(offset, length, other, other_length))
			continue;
		if (blob->state == BLOB_READY && !blob->users)
			blob->state = BLOB_EMPTY;
		else
			blob->forgotten = true;
	}
}

void blob_shrink(struct qcow2 *q)
{
	for (unsigned i = 0; i < BLOBS_MAX; i++)
		if (!q->blobs.blob[i].users && (q->blobs.blob[i].state == BLOB_READY || q->blobs.blob[i].state == BLOB_EMPTY))
			blob_free(&q->blobs.blob[i]);
}
