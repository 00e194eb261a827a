/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     read    file ─► memory ─► decrypted there ─► done
 *     write   memory ─► encrypted into a buffer ─► file ─► done; who finds no buffer waits for one, and holds nothing meanwhile that a buffer's user could need
 *
 * The tables are not encrypted, so what reads as zeros (no cluster, the zero flag) does so for everybody: only clusters with data go through here. A cluster that was never written is not
 * zeros once it is decrypted, so that write.c's short way (mapping a fresh cluster first) is closed for encrypted images.
 */
#include "encrypt.h"

#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

#define BUFFER_MIN ((size_t)1 << 20)
#define BUFFER_BYTES_MAX ((size_t)64 << 20) /* touched as far as they are used */

void encryption_init(struct qcow2 *q)
{
	list_init(&q->encryption.free);
	list_init(&q->encryption.waiting);
}

void encryption_shrink(struct qcow2 *q)
{
	for (struct list *node; (node = list_pop(&q->encryption.free));) {
		free(node);
		q->encryption.buffers--;
	}
}

void encryption_destroy(struct qcow2 *q)
{
	if (!q->encryption.crypt)
		return;
	encryption_shrink(q);
	q->encryption.crypt->cipher_free(q->encryption.cipher);
}

/* ---- the header's place ---- */

static int store_read(void *argument, void *buffer, size_t length, uint64_t offset)
{
	const struct qcow2 *q = argument;
	return file_read(q, buffer, length, q->header.crypt_offset + offset);
}

static int store_write(void *argument, const void *buffer, size_t length, uint64_t offset)
{
	struct qcow2 *q = argument;
	uint64_t alignment = q->geometry.offset_alignment, at = q->header.crypt_offset + offset;
	uint64_t from = align_down(at, alignment), to = align_up(at + length, alignment);
	uint8_t *aligned = file_buffer(q, to - from);
	if (!aligned)
		return -ENOMEM;
	int r = file_read(q, aligned, to - from, from);
	if (r == 0) {
		memcpy(aligned + (at - from), buffer, length);
		r = lunkit_file_write(q->host, q->fd, aligned, to - from, from);
	}
	free(aligned);
	return r;
}

static int store_sync(void *argument)
{
	struct qcow2 *q = argument;
	return lunkit_file_sync(q->host, q->fd);
}

static struct lunkit_crypt_store store_of(struct qcow2 *q)
{
	return (struct lunkit_crypt_store){
		.read = store_read,
		.write = store_write,
		.sync = store_sync,
		.argument = q,
		.size = q->header.crypt_length,
		.name = q->name,
	};
}

/* ---- opening ---- */

int encryption_open(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err)
{
	struct encryption *encryption = &q->encryption;
	size_t key_length = 0;
	if (!q->header.crypt_method)
		return 0;
	const uint8_t *key = lunkit_params_key(params, &key_length);
	const struct lunkit_crypt *crypt = lunkit_crypt_find();
	if (!crypt && params->look_only)
		return 0;
	if (!crypt && !key) {
		lunkit_error_set(err, ENOKEY, "%.300s is encrypted, and no key was given", q->name);
		return lunkit_error_hint(err, "--key-file FILE; FILE holds the passphrase, without a newline at its end.");
	}
	if (!crypt) {
		lunkit_error_set(err, ENOENT, "%.300s is encrypted, and the handler for encryption is missing", q->name);
		return lunkit_error_hint(err, "Is lunkit installed completely?");
	}
	struct lunkit_crypt_store store = store_of(q);
	int r = params->look_only && !key ? crypt->describe(&store, &encryption->facts, err)
					  : crypt->unlock(&store, key, key_length, &encryption->facts, &encryption->cipher, err);
	if (r < 0)
		return r;
	encryption->crypt = crypt;
	encryption->buffer_size = MAX(BUFFER_MIN, q->cluster_size);
	if (encryption->facts.sector_size != 512)
		return lunkit_error_set(err, ENOTSUP, "%.300s: encrypted sectors of %u bytes are not possible in qcow2", q->name,
					encryption->facts.sector_size);
	return 0;
}

void qcow2_key(void *state, struct lunkit_job *job, const struct lunkit_key_change *change)
{
	struct qcow2 *q = state;
	struct lunkit_error *err = lunkit_job_error(job);
	const struct lunkit_crypt *crypt = lunkit_crypt_find();
	struct lunkit_crypt_store store = store_of(q);
	if (!q->header.crypt_method) {
		lunkit_error_set(err, EOPNOTSUPP, "%.300s is not encrypted", q->name);
		lunkit_job_done(job,
				lunkit_error_hint(
					err, "`lunkit clone --full` makes an encrypted copy: ;encrypt=luks behind the new image's name."));
		return;
	}
	lunkit_job_done(job, crypt ? crypt->change(&store, change, err)
				   : lunkit_error_set(err, ENOENT, "%.300s: the handler for encryption is missing", q->name));
}

/* ---- data ---- */

static void read_done(struct transfer *transfer, int result)
{
	struct scrambling *s = transfer->scrambling;
	struct encryption *encryption = &transfer->q->encryption;
	uint64_t offset = s->offset;
	for (unsigned i = 0; i < s->count && result == 0; i++) {
		void *memory = s->iov[i].iov_base;
		result = encryption->crypt->decrypt(encryption->cipher, offset, memory, memory, s->iov[i].iov_len);
		offset += s->iov[i].iov_len;
	}
	s->done(transfer, result);
}

static void write_scrambled(struct qcow2 *q, struct scrambling *s);

/* The next in line gets the buffer, before the one who gives it is told that it has finished. */
static void buffer_give(struct qcow2 *q, uint8_t *buffer)
{
	struct encryption *encryption = &q->encryption;
	struct list *node = list_pop(&encryption->waiting);
	if (!node) {
		list_add_head(&encryption->free, (struct list *)buffer);
		return;
	}
	struct scrambling *next = list_entry(node, struct scrambling, node);
	next->buffer = buffer;
	write_scrambled(q, next);
}

static bool buffer_take(struct encryption *encryption, struct scrambling *s)
{
	s->buffer = (uint8_t *)list_pop(&encryption->free);
	if (s->buffer)
		return true;
	if ((encryption->buffers + 1) * encryption->buffer_size > BUFFER_BYTES_MAX)
		return false;
	s->buffer = aligned_alloc(4096, encryption->buffer_size);
	encryption->buffers += s->buffer != NULL;
	/* Without memory one waits for those who have a buffer; somebody has to. */
	return s->buffer || !encryption->buffers;
}

static void write_done(struct transfer *transfer, int result)
{
	struct scrambling *s = transfer->scrambling;
	struct qcow2 *q = transfer->q;
	buffer_give(q, s->buffer);
	s->done(transfer, result);
}

/* Failed before anything went out; told as every end is, from the event loop. */
static void fail(struct qcow2 *q, struct scrambling *s, int result)
{
	if (s->buffer)
		buffer_give(q, s->buffer);
	transfer_fail(q, s->transfer, s->done, result);
}

static void write_scrambled(struct qcow2 *q, struct scrambling *s)
{
	struct encryption *encryption = &q->encryption;
	uint64_t done = 0;
	for (unsigned i = 0; i < s->count; i++) {
		int r = encryption->crypt->encrypt(encryption->cipher, s->offset + done, s->iov[i].iov_base, s->buffer + done,
						   s->iov[i].iov_len);
		if (r < 0) {
			fail(q, s, r);
			return;
		}
		done += s->iov[i].iov_len;
	}
	s->one = (struct iovec){ s->buffer, s->length };
	s->transfer->done = write_done;
	transfer_start(q, s->transfer, true, &s->one, 1, s->offset, s->length);
}

void data_start(struct qcow2 *q, struct transfer *transfer, struct scrambling *s, bool write, const struct iovec *iov, unsigned count,
		uint64_t offset, uint64_t length)
{
	if (__builtin_expect(!q->header.crypt_method, 1)) {
		transfer_start(q, transfer, write, iov, count, offset, length);
		return;
	}
	s->transfer = transfer;
	s->done = transfer->done;
	s->buffer = NULL;
	s->iov = iov;
	s->count = count;
	s->offset = offset;
	s->length = length;
	transfer->scrambling = s;
	if (!q->encryption.cipher || length > q->encryption.buffer_size) {
		fail(q, s, q->encryption.cipher ? -EINVAL : -EACCES);
	} else if (!write) {
		transfer->done = read_done;
		transfer_start(q, transfer, false, iov, count, offset, length);
	} else if (!buffer_take(&q->encryption, s)) {
		list_add_tail(&q->encryption.waiting, &s->node);
	} else if (!s->buffer) {
		fail(q, s, -ENOMEM);
	} else {
		write_scrambled(q, s);
	}
}

void data_read_one(struct qcow2 *q, struct transfer *transfer, struct scrambling *s, void *buffer, uint64_t length, uint64_t offset)
{
	if (!q->header.crypt_method) {
		transfer_start_one(q, transfer, false, buffer, length, offset);
		return;
	}
	s->one = (struct iovec){ buffer, length };
	data_start(q, transfer, s, false, &s->one, 1, offset, length);
}
