/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The cipher of the data: whole sectors, each with the IV that dm-crypt gives it. Owner: one thread at a time. */

#include <stddef.h>
#include <stdint.h>

#include "image/crypt.h"

/* Whether there is such a cipher here, before a key is derived for it; -ENOTSUP names it. */
int cipher_check(const char *spec, size_t key_bytes, const char *name, struct lunkit_error *err);
/*
 * spec: "aes-xts-plain64" and what else cipher.c lists; anything else is -ENOTSUP with its name. key: the volume key, key_bytes long; copied into the cipher's own contexts, which
 * wipe it.
 */
int cipher_new(const char *spec, const uint8_t *key, size_t key_bytes, unsigned sector_size, const char *name, struct lunkit_cipher **ret,
	       struct lunkit_error *err);
void cipher_free(struct lunkit_cipher *cipher);
int cipher_encrypt(struct lunkit_cipher *cipher, uint64_t offset, const void *in, void *out, size_t length);
int cipher_decrypt(struct lunkit_cipher *cipher, uint64_t offset, const void *in, void *out, size_t length);
