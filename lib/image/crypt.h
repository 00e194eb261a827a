/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Encryption as the luks handler offers it to others of lunkit's own (lunkit_handler.crypt): LUKS headers and keys, and the cipher of the data. A handler that has something
 * encrypted says where its header is (struct lunkit_crypt_store) and encrypts and decrypts whole sectors at offsets of its choice.
 *
 * Owner: the worker's thread; encrypt() and decrypt() of one cipher may be used on one thread at a time. What takes a key blocks, a second or two: deriving it is meant to.
 */

#include "image/handler.h"

/* Where a header is: size bytes, read and written blocking, at any alignment. */
struct lunkit_crypt_store {
	int (*read)(void *argument, void *buffer, size_t length, uint64_t offset);
	int (*write)(void *argument, const void *buffer, size_t length, uint64_t offset);
	int (*sync)(void *argument);
	void *argument;
	uint64_t size;
	const char *name; /* the image's, for messages */
};

#define LUNKIT_CRYPT_SLOTS 32
struct lunkit_crypt_facts {
	unsigned version; /* 1, 2: LUKS; 0: plain */
	unsigned sector_size, key_bits;
	uint64_t payload_offset; /* bytes: where the data begins, counted from the header's beginning */
	char cipher[64];	 /* "aes-xts-plain64" */
	char uuid[64];		 /* "" for none */
	unsigned slots_total;
	struct {
		bool used;
		char kdf[32]; /* "argon2id", "pbkdf2-sha256" */
	} slots[LUNKIT_CRYPT_SLOTS];
};

struct lunkit_crypt_format {
	unsigned version;	 /* 1 or 2 */
	unsigned sector_size;	 /* 512 or 4096; version 1: 512 */
	unsigned key_bits;	 /* of the volume key: 256 or 512 */
	const char *cipher;	 /* "aes-xts-plain64", … */
	unsigned derivation_ms;	 /* how long a key takes to derive here, 0: a second */
	unsigned derivation_kib; /* version 2: how much memory that takes at most, 0: 128 MiB */
};

struct lunkit_cipher;
struct lunkit_crypt;

/* The luks handler's, where it has been loaded (lunkit_handler.crypt): that is so where there are keys. NULL otherwise. */
__attribute__((visibility("default"))) const struct lunkit_crypt *lunkit_crypt_find(void);

struct lunkit_crypt {
	/*
	 * A new header with one key: *ret_length bytes for the beginning of the image, payload_offset among the facts; freed with free(). It holds no
	 * secret that the key does not protect.
	 */
	int (*format)(const struct lunkit_crypt_format *format, const uint8_t *key, size_t key_length, const char *name,
		      uint8_t **ret_header, size_t *ret_length, struct lunkit_crypt_facts *ret_facts, struct lunkit_error *err);
	/* What the header says, without a key. */
	int (*describe)(const struct lunkit_crypt_store *store, struct lunkit_crypt_facts *ret, struct lunkit_error *err);
	/* -ENOKEY: no key was given (NULL); -EACCES: it does not fit. */
	int (*unlock)(const struct lunkit_crypt_store *store, const uint8_t *key, size_t key_length, struct lunkit_crypt_facts *ret_facts,
		      struct lunkit_cipher **ret, struct lunkit_error *err);
	/* An operation on the header, durable when it returns. An interrupted one leaves the old key working, and maybe the new one too. */
	int (*change)(const struct lunkit_crypt_store *store, const struct lunkit_key_change *change, struct lunkit_error *err);
	void (*cipher_free)(struct lunkit_cipher *cipher); /* takes NULL */
	/* length and offset are multiples of the sector size. in and out are the same or do not overlap. -EIO: libcrypto failed. */
	int (*encrypt)(struct lunkit_cipher *cipher, uint64_t offset, const void *in, void *out, size_t length);
	int (*decrypt)(struct lunkit_cipher *cipher, uint64_t offset, const void *in, void *out, size_t length);
	/* Adds what info shows of an encrypted image. */
	void (*info)(const struct lunkit_crypt_facts *facts, struct lunkit_info *info);
};
