/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Encrypted images: what the guest stores is encrypted, tables and the rest are not. The LUKS header lies in clusters of the file that a header extension names; sectors of 512 bytes
 * are encrypted with their place in the file as the IV. Owner: the worker's thread.
 */

#include "base/list.h"
#include "file.h"
#include "image/crypt.h"

struct qcow2;

struct encryption {
	const struct lunkit_crypt *crypt; /* NULL: the image is not encrypted, or is only looked at without what it takes */
	struct lunkit_cipher *cipher;	  /* NULL: no key; the guest's data can't be read */
	struct lunkit_crypt_facts facts;
	size_t buffer_size;
	struct list free;    /* buffers for what is being written; a list's node at the beginning of each */
	struct list waiting; /* struct scrambling.node: first come, first served */
	unsigned buffers;
};

/* What a write needs while it is under way. In the owner's memory, beside its transfer. */
struct scrambling {
	struct list node;
	struct transfer *transfer;
	void (*done)(struct transfer *transfer, int result);
	uint8_t *buffer;
	struct iovec one;
	const struct iovec *iov;
	unsigned count;
	uint64_t offset, length;
};

void encryption_init(struct qcow2 *q);
void encryption_destroy(struct qcow2 *q);
/* With the header read: finds out about the encryption, and takes the key where there is data to read. */
int encryption_open(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err);
/* Memory that no write uses goes back. */
void encryption_shrink(struct qcow2 *q);
void qcow2_key(void *state, struct lunkit_job *job, const struct lunkit_key_change *change);

/*
 * As transfer_start(), for the guest's data: what is read is decrypted where it is, what is written is encrypted in a buffer of ours, for the guest may change it meanwhile. length is at
 * most buffer_size. The scrambling is the transfer's alone until done().
 */
void data_start(struct qcow2 *q, struct transfer *transfer, struct scrambling *scrambling, bool write, const struct iovec *iov,
		unsigned count, uint64_t offset, uint64_t length);
/* Reads into one buffer. */
void data_read_one(struct qcow2 *q, struct transfer *transfer, struct scrambling *scrambling, void *buffer, uint64_t length,
		   uint64_t offset);
