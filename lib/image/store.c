/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A slot's buffer into the target, a run of units after the other:
 *
 *     buffer:   │ data │ data │ 0000 │ 0000 │ data │          units of the target: 4 KiB to 64 KiB, or what is compressed together
 *     written:  │◄── WRITE ──►│◄─ nothing, ─►│◄ WRITE ►│      or WRITE_ZEROES, where the target does not read as zeros already
 *
 * The pieces of one slot follow each other; the slots run side by side.
 */
#include <errno.h>

#include "base/checked.h"
#include "image/copying.h"

/* What a target zeroes by itself takes little time a byte, whatever it does. */
#define ZEROES_MAX ((uint64_t)64 << 20)
#define ZEROES_WRITTEN_MAX ((uint64_t)2 << 20)

typedef uint64_t words __attribute__((vector_size(32)));

bool is_all_zero(const uint8_t *data, size_t length)
{
	const words *at = (const words *)__builtin_assume_aligned(data, 64);
	for (size_t left = length / 64; left--; at += 2) {
		words any = at[0] | at[1];
		if (any[0] | any[1] | any[2] | any[3])
			return false;
	}
	return true;
}

uint64_t store_most_zeroes(const struct copying *copying)
{
	if (copying->options.target_is_zero)
		return UINT64_MAX;
	const struct lunkit_limits *limits = image_limits(copying->target);
	uint64_t most = limits->flags & LUNKIT_CAN_WRITE_ZEROES ? MIN(limits->max_write_zeroes, ZEROES_MAX) : ZEROES_WRITTEN_MAX;
	return MAX(align_down(most, copying->unit), copying->unit);
}

static void submit(struct slot *slot, enum lunkit_op op, uint64_t offset, uint64_t length,
		   void (*done)(struct image_request *request, int result))
{
	struct copying *copying = slot->copying;
	struct lunkit_request *request = &slot->write->request;
	request->op = op;
	request->offset = offset;
	request->length = length;
	if (op == LUNKIT_WRITE) {
		slot->write_iov = (struct iovec){ slot->buffer + (offset - slot->offset), length };
		request->flags = copying->options.compress ? LUNKIT_REQUEST_COMPRESS : 0;
		request->iov = &slot->write_iov;
		request->iov_count = 1;
		copying->bytes_written += length;
	} else {
		request->flags = LUNKIT_REQUEST_MAY_DISCARD;
		request->iov_count = 0;
	}
	slot->write->done = done;
	slot->write->user = slot;
	image_submit(copying->target, slot->write);
}

static void piece_done(struct image_request *request, int result);

/* The units from the position on that are alike. */
static uint64_t next_piece(const struct slot *slot, bool *ret_zero)
{
	uint64_t unit = slot->copying->unit, at = slot->position;
	bool zero = false;
	while (at < slot->length) {
		uint64_t part = MIN(unit, slot->length - at);
		bool now = is_all_zero(slot->buffer + at, part);
		if (at == slot->position)
			zero = now;
		else if (now != zero)
			break;
		at += part;
	}
	*ret_zero = zero;
	return at - slot->position;
}

static void store_on(struct slot *slot)
{
	struct copying *copying = slot->copying;
	slot->stepping = true;
	do {
		slot->go_on = false;
		slot->position += slot->piece;
		slot->piece = 0;
		/* After somebody else's failure nothing more is written: the copy is of no use. */
		while (!slot->result && !copying->result && slot->position < slot->length) {
			bool zero;
			slot->piece = next_piece(slot, &zero);
			if (!zero || !copying->options.target_is_zero) {
				submit(slot, zero ? LUNKIT_WRITE_ZEROES : LUNKIT_WRITE, slot->offset + slot->position, slot->piece,
				       piece_done);
				break;
			}
			slot->position += slot->piece;
			slot->piece = 0;
		}
	} while (slot->go_on);
	slot->stepping = false;
	if (!slot->piece)
		slot->stored(slot, slot->result);
}

static void piece_done(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	if (result < 0)
		slot->result = copying_fail_request(slot->copying, result, slot->copying->target, &request->request);
	slot->go_on = true;
	if (!slot->stepping)
		store_on(slot);
}

void slot_store(struct slot *slot, uint64_t offset, uint64_t length, void (*stored)(struct slot *slot, int result))
{
	slot->offset = offset;
	slot->length = length;
	slot->position = slot->piece = 0;
	slot->result = 0;
	slot->stored = stored;
	store_on(slot);
}

static void zeroed(struct image_request *request, int result)
{
	struct slot *slot = request->user;
	if (result < 0)
		copying_fail_request(slot->copying, result, slot->copying->target, &request->request);
	slot->stored(slot, result);
}

void slot_store_zeroes(struct slot *slot, uint64_t offset, uint64_t length, void (*stored)(struct slot *slot, int result))
{
	slot->offset = offset;
	slot->length = length;
	slot->stored = stored;
	submit(slot, LUNKIT_WRITE_ZEROES, offset, length, zeroed);
}
