/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * luks: what a LUKS volume holds, on the storage of a child image.
 *
 *     child:  │ header and key slots │ payload: sector 0 │ sector 1 │ …          guest offset + payload_offset
 *
 * Owner: the worker's thread. The guest's memory is never changed by a write, and is read once: its ciphertext is made in a buffer of ours, since the guest may go on changing what
 * it is having written. A read is decrypted where it is: nobody sees it before the request completes.
 *
 * A discarded sector reads as what decryption makes of zeros, which is noise: so zeros are written, encrypted, and discards are passed on only where discard=yes says so (which tells
 * whoever sees the storage what is in use). What the image holds is all the same to the storage, and all of it counts as allocated.
 */
#include "luks.h"

#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "cipher.h"
#include "header.h"

static void end(struct luks_request *r, int result)
{
	luks_child_give(r->luks, r->child);
	lunkit_request_done(r->request, result);
}

struct lunkit_child_request *luks_child_take(struct luks *luks)
{
	return luks->child_count ? luks->children[--luks->child_count] : lunkit_child_request_new(luks->child);
}

void luks_child_give(struct luks *luks, struct lunkit_child_request *child)
{
	if (luks->child_count == luks->child_room) {
		unsigned room = MAX(luks->child_room * 2, 16u);
		struct lunkit_child_request **grown = reallocarray(luks->children, room, sizeof(struct lunkit_child_request *));
		if (!grown) {
			lunkit_child_request_free(child);
			return;
		}
		luks->children = grown;
		luks->child_room = room;
	}
	luks->children[luks->child_count++] = child;
}

/* The child's request for the whole of ours, with these entries. */
static void submit(struct luks_request *r, const struct iovec *iov, unsigned count, void (*done)(struct lunkit_child_request *, int))
{
	struct luks *luks = r->luks;
	const struct lunkit_request *request = r->request;
	r->child->request = (struct lunkit_request){
		.op = request->op,
		.flags = request->flags,
		.offset = request->op == LUNKIT_FLUSH ? 0 : request->offset + luks->facts.payload_offset,
		.length = request->length,
		.iov = iov,
		.iov_count = count,
		.memory = r->child->request.memory,
	};
	r->child->done = done;
	r->child->user = r;
	lunkit_child_submit(luks->child, r->child);
}

/* ---- reading ---- */

static void read_done(struct lunkit_child_request *child, int result)
{
	struct luks_request *r = child->user;
	uint64_t offset = r->request->offset;
	for (unsigned i = 0; i < r->request->iov_count && result == 0; i++) {
		const struct iovec *iov = &r->request->iov[i];
		result = cipher_decrypt(r->luks->cipher, offset, iov->iov_base, iov->iov_base, iov->iov_len);
		offset += iov->iov_len;
	}
	end(r, result);
}

/* ---- writing ---- */

static void write_encrypted(struct luks_request *r);

static void give_buffer(struct luks_request *r)
{
	struct luks_request *next = pool_give(&r->luks->pool, r);
	if (next)
		write_encrypted(next);
}

static void write_done(struct lunkit_child_request *child, int result)
{
	struct luks_request *r = child->user;
	give_buffer(r);
	end(r, result);
}

/* With a buffer at hand. */
static void write_encrypted(struct luks_request *r)
{
	const struct lunkit_request *request = r->request;
	uint64_t done = 0;
	for (unsigned i = 0; i < request->iov_count; i++) {
		const struct iovec *iov = &request->iov[i];
		int result = cipher_encrypt(r->luks->cipher, request->offset + done, iov->iov_base, r->buffer + done, iov->iov_len);
		if (result < 0) {
			give_buffer(r);
			end(r, result);
			return;
		}
		done += iov->iov_len;
	}
	r->iov = (struct iovec){ r->buffer, request->length };
	submit(r, &r->iov, 1, write_done);
}

static void passed_on(struct lunkit_child_request *child, int result)
{
	end(child->user, result);
}

static void luks_submit(void *state, struct lunkit_request *request)
{
	struct luks *luks = state;
	struct luks_request *r = request->memory;
	*r = (struct luks_request){ .luks = luks, .request = request, .child = luks_child_take(luks) };
	if (!r->child) {
		lunkit_request_done(request, -ENOMEM);
		return;
	}
	if (!luks->cipher && request->op != LUNKIT_FLUSH) {
		end(r, -EACCES); /* somebody reads what was opened for looking only */
		return;
	}
	int result;
	switch (request->op) {
	case LUNKIT_READ:
		submit(r, request->iov, request->iov_count, read_done);
		return;
	case LUNKIT_WRITE:
		result = pool_take(&luks->pool, r, request->length);
		if (result == 0)
			write_encrypted(r);
		else if (result != -EAGAIN)
			end(r, result);
		return;
	case LUNKIT_FLUSH:
	case LUNKIT_DISCARD:
		submit(r, NULL, 0, passed_on);
		return;
	case LUNKIT_WRITE_ZEROES:
	case LUNKIT_EXTENTS:
		break; /* the core's: they are not among the limits' flags */
	}
	end(r, -EOPNOTSUPP);
}

static void luks_limits(void *state, struct lunkit_limits *limits)
{
	const struct luks *luks = state;
	const struct lunkit_limits *child = lunkit_child_limits(luks->child);
	if (luks->locked)
		return;
	unsigned sector = luks->facts.sector_size;
	/* The place of the data may be less aligned than the storage would like: the child's core does then what has to be done. */
	limits->size = luks_size(luks);
	limits->block_size = MAX(child->block_size, sector == 4096 ? 4096u : 512u);
	limits->physical_block_size = MAX(child->physical_block_size, sector);
	limits->request_alignment = MAX(sector, child->request_alignment);
	limits->memory_alignment = MAX(sector, child->memory_alignment);
	limits->max_iov = child->max_iov;
	limits->max_transfer = MIN(child->max_transfer, LUKS_TRANSFER_MAX);
	limits->optimal_transfer = child->optimal_transfer;
	limits->flags =
		LUNKIT_CAN_FUA | LUNKIT_FRESH_IS_NOISE | (child->flags & (LUNKIT_NEEDS_FLUSH | LUNKIT_READ_ONLY | LUNKIT_ROTATIONAL));
	if (luks->discard && child->flags & LUNKIT_CAN_DISCARD) {
		limits->flags |= LUNKIT_CAN_DISCARD;
		limits->discard_granularity = MAX(child->discard_granularity, sector);
		limits->max_discard = child->max_discard;
	}
}

static bool luks_busy(void *state)
{
	const struct luks *luks = state;
	return lunkit_child_busy(luks->child);
}

static const struct lunkit_crypt crypt = {
	.format = header_format,
	.describe = header_describe,
	.unlock = header_unlock,
	.change = header_change,
	.cipher_free = cipher_free,
	.encrypt = cipher_encrypt,
	.decrypt = cipher_decrypt,
	.info = luks_add_facts,
};

static const struct lunkit_handler luks_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "luks",
	.description = "an encrypted disk (LUKS, or plain dm-crypt) in a file or block device",
	.reference_help = "PATH",
	.options = luks_options,
	.request_size = sizeof(struct luks_request),
	.open = luks_open,
	.close = luks_close,
	.limits = luks_limits,
	.submit = luks_submit,
	.create = luks_create,
	.info = luks_info,
	.resize = luks_resize,
	.children = (const char *const[]){ "raw", NULL },
	.busy = luks_busy,
	.key = luks_key,
	.crypt = &crypt,
};

LUNKIT_HANDLER(luks_handler)
