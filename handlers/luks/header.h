/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* LUKS headers and their keys, by libcryptsetup. All of it blocks. Owner: the worker's thread. */

#include "image/crypt.h"

/* What deriving a key costs where nobody says otherwise: a worker that is started again has to do it before it serves the disk. */
#define HEADER_DERIVATION_MS 1000u
#define HEADER_DERIVATION_KIB (128u << 10)

/* For tests: deriving a key that is put in costs next to nothing. */
extern bool header_cheap_keys;

int header_format(const struct lunkit_crypt_format *format, const uint8_t *key, size_t key_length, const char *name, uint8_t **ret_header,
		  size_t *ret_length, struct lunkit_crypt_facts *ret_facts, struct lunkit_error *err);
int header_describe(const struct lunkit_crypt_store *store, struct lunkit_crypt_facts *ret, struct lunkit_error *err);
int header_unlock(const struct lunkit_crypt_store *store, const uint8_t *key, size_t key_length, struct lunkit_crypt_facts *ret_facts,
		  struct lunkit_cipher **ret, struct lunkit_error *err);
int header_change(const struct lunkit_crypt_store *store, const struct lunkit_key_change *change, struct lunkit_error *err);

/*
 * What can be said of a header from its first bytes alone, before libcryptsetup sees it: its version, and how many bytes of the image may belong to it. -EINVAL with a message when
 * it is none or contradicts itself. first: HEADER_FIRST bytes; room: bytes that there are.
 */
#define HEADER_FIRST ((size_t)592)
int header_measure(const uint8_t *first, uint64_t room, const char *name, unsigned *ret_version, uint64_t *ret_length,
		   struct lunkit_error *err);
