/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads and writes in pieces: too long, in too many parts, or not aligned as the handler wants it. Each piece is one of
 *
 *     direct:   whole blocks, a slice of the guest's own memory
 *     bounced:  whole blocks, copied through a buffer
 *     partial:  a part of one block: read the block, change the part, write it back (writes), or copy the part out (reads)
 *
 *     guest:          ......|========================|===....
 *     blocks:    [--------)[--------)[--------)[--------)
 *     pieces:     partial │     direct or bounced  │ partial
 *
 * A write with a partial piece has its range exclusively (request.c), so nobody changes the rest of the block in between. Guest memory is
 * read once: what is copied to a buffer is what is written.
 */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "base/iov.h"
#include "image/shim.h"

static uint64_t alignment_of(const struct image *image)
{
	return image->request_mask + 1;
}

/*
 * Takes up to limit bytes, whole blocks, of the user's list from offset skip into the shim's own list. Returns the bytes taken, 0 when
 * not even one block fits or when the memory is not aligned.
 */
static uint64_t slice(struct image_request *request, uint64_t skip, uint64_t limit)
{
	const struct image *image = request->image;
	const struct lunkit_request *user = &request->request;
	struct image_shim *shim = request->shim;
	unsigned room = MIN(image->limits.max_iov, SHIM_SLICE_MAX), used = 0;
	uint64_t taken = 0;
	for (unsigned i = 0; i < user->iov_count && used < room && taken < limit; i++) {
		uint64_t length = user->iov[i].iov_len;
		if (skip >= length) {
			skip -= length;
			continue;
		}
		struct iovec part = { (char *)user->iov[i].iov_base + skip, MIN(length - skip, limit - taken) };
		skip = 0;
		if (((uintptr_t)part.iov_base | part.iov_len) & image->memory_mask)
			break;
		shim->slice[used++] = part;
		taken += part.iov_len;
	}
	uint64_t whole = align_down(taken, alignment_of(image));
	for (uint64_t cut = taken - whole; cut;) {
		struct iovec *last = &shim->slice[used - 1];
		size_t part = MIN(cut, last->iov_len);
		last->iov_len -= part;
		cut -= part;
		if (last->iov_len == 0)
			used--;
		else if (last->iov_len & image->memory_mask)
			return 0;
	}
	shim->sub.iov = shim->slice;
	shim->sub.iov_count = used;
	return whole;
}

static enum step send_rw(struct image_request *request, enum lunkit_op op, uint64_t offset, uint64_t length, enum shim_phase phase)
{
	struct lunkit_request *sub = &request->shim->sub;
	sub->op = op;
	sub->flags = op == LUNKIT_WRITE && !request->shim->flush_after ? request->request.flags & LUNKIT_REQUEST_FUA : 0;
	/* A hint, and one that a piece may be too small for. */
	if (op == LUNKIT_WRITE && request->request.flags & LUNKIT_REQUEST_COMPRESS && may_compress(request->image, offset, length))
		sub->flags |= LUNKIT_REQUEST_COMPRESS;
	sub->offset = offset;
	sub->length = length;
	return shim_send(request, phase);
}

static enum step send_bounced(struct image_request *request, enum lunkit_op op, uint64_t offset, uint64_t length, enum shim_phase phase)
{
	struct image_shim *shim = request->shim;
	shim->slice[0] = (struct iovec){ shim->bounce, length };
	shim->sub.iov = shim->slice;
	shim->sub.iov_count = 1;
	return send_rw(request, op, offset, length, phase);
}

/* False when the request has to wait for a buffer or has failed: then *ret_step says which. */
static bool have_bounce(struct image_request *request, enum step *ret_step, int *ret_result)
{
	if (request->shim->bounce)
		return true;
	int r = bounce_get(request);
	if (r == 0)
		return true;
	request->shim->phase = PHASE_NEXT;
	*ret_step = STEP_WAIT;
	if (r != -EAGAIN) {
		*ret_result = r;
		*ret_step = STEP_DONE;
	}
	return false;
}

/* The largest bounced piece, whole blocks. */
static uint64_t bounce_limit(const struct image *image)
{
	return MIN(image->bounce.size, image->limits.max_transfer);
}

enum step step_read(struct image_request *request, int result, int *ret_result)
{
	struct image *image = request->image;
	struct image_shim *shim = request->shim;
	const struct lunkit_request *user = &request->request;
	uint64_t alignment = alignment_of(image);
	if (result != 0) {
		*ret_result = result;
		return STEP_DONE;
	}
	if (shim->phase == PHASE_OLD_BLOCK) {
		/* A bounced piece: it began at the block before the position. */
		uint64_t skip = shim->position - shim->sub.offset;
		iov_copy_to(user->iov, user->iov_count, shim->position - user->offset, (char *)shim->bounce + skip, shim->piece);
	}
	shim->position += shim->piece;
	shim->piece = 0;
	uint64_t left = shim->end - shim->position;
	if (left == 0) {
		*ret_result = 0;
		return STEP_DONE;
	}
	if (is_aligned(shim->position, alignment) && left >= alignment) {
		shim->piece = slice(request, shim->position - user->offset, MIN(align_down(left, alignment), image->limits.max_transfer));
		if (shim->piece)
			return send_rw(request, LUNKIT_READ, shim->position, shim->piece, PHASE_PIECE);
	}
	enum step step;
	if (!have_bounce(request, &step, ret_result))
		return step;
	uint64_t begin = align_down(shim->position, alignment);
	uint64_t end = MIN(align_up(shim->end, alignment), begin + bounce_limit(image));
	shim->piece = MIN(end, shim->end) - shim->position;
	return send_bounced(request, LUNKIT_READ, begin, end - begin, PHASE_OLD_BLOCK);
}

/* The block that holds position has been read: the part changes, the whole goes back. */
static enum step write_back(struct image_request *request)
{
	struct image_shim *shim = request->shim;
	const struct lunkit_request *user = &request->request;
	char *part = (char *)shim->bounce + (shim->position - shim->sub.offset);
	if (user->op == LUNKIT_WRITE)
		iov_copy_from(part, user->iov, user->iov_count, shim->position - user->offset, shim->piece);
	else
		memset(part, 0, shim->piece);
	return send_bounced(request, LUNKIT_WRITE, shim->sub.offset, shim->sub.length, PHASE_PIECE);
}

static enum step write_partial(struct image_request *request, uint64_t left, int *ret_result)
{
	struct image_shim *shim = request->shim;
	uint64_t alignment = alignment_of(request->image), begin = align_down(shim->position, alignment);
	enum step step;
	if (!have_bounce(request, &step, ret_result))
		return step;
	shim->piece = MIN(begin + alignment - shim->position, left);
	return send_bounced(request, LUNKIT_READ, begin, alignment, PHASE_OLD_BLOCK);
}

static enum step write_whole(struct image_request *request, uint64_t left, int *ret_result)
{
	struct image_shim *shim = request->shim;
	struct image *image = request->image;
	const struct lunkit_request *user = &request->request;
	if (user->op == LUNKIT_WRITE_ZEROES)
		return emulate_send_zeroes(request, left);
	shim->piece = slice(request, shim->position - user->offset, MIN(left, image->limits.max_transfer));
	if (shim->piece)
		return send_rw(request, LUNKIT_WRITE, shim->position, shim->piece, PHASE_PIECE);
	enum step step;
	if (!have_bounce(request, &step, ret_result))
		return step;
	shim->piece = MIN(left, bounce_limit(image));
	iov_copy_from(shim->bounce, user->iov, user->iov_count, shim->position - user->offset, shim->piece);
	return send_bounced(request, LUNKIT_WRITE, shim->position, shim->piece, PHASE_PIECE);
}

enum step step_write(struct image_request *request, int result, int *ret_result)
{
	struct image_shim *shim = request->shim;
	uint64_t alignment = alignment_of(request->image);
	if (result == -EOPNOTSUPP && shim->phase == PHASE_PIECE && shim->sub.op == LUNKIT_WRITE_ZEROES) {
		image_drop_flag(request->image, LUNKIT_CAN_WRITE_ZEROES);
		shim->piece = 0; /* the same once more, with writes */
	} else if (result != 0 || shim->phase == PHASE_FLUSH) {
		*ret_result = result;
		return STEP_DONE;
	}
	if (shim->phase == PHASE_OLD_BLOCK)
		return write_back(request);
	shim->position += shim->piece;
	shim->piece = 0;
	uint64_t left = shim->end - shim->position;
	if (left == 0)
		return emulate_flush_after(request, ret_result);
	if (!is_aligned(shim->position, alignment) || left < alignment)
		return write_partial(request, left, ret_result);
	return write_whole(request, align_down(left, alignment), ret_result);
}
