/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * AES on sectors, by libcrypto.
 *
 *     offset ─► sector number in units of 512 bytes, whatever the sector size (dm-crypt without iv_large_sectors) ─► IV
 *         plain64        the number, little-endian, in 16 bytes
 *         essiv:sha256   that, encrypted with AES under SHA-256 of the key
 *
 * One context a direction, keyed once; a sector costs setting its IV and one call. Left out on purpose: several threads for a large request. On the machines measured a
 * megabyte takes 0.2 to 0.4 ms, and handing pieces over and waiting for the last costs a loop that has other requests to encrypt more than it gains.
 */
#include "cipher.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"

#define IV_UNIT_BITS 9
#define IV_BYTES 16

enum cipher_iv { IV_PLAIN64, IV_ESSIV };

struct lunkit_cipher {
	EVP_CIPHER_CTX *encrypt, *decrypt;
	EVP_CIPHER_CTX *essiv; /* NULL: plain64 */
	unsigned sector_size;
};

static const struct {
	const char *spec;
	size_t key_bytes;
	const EVP_CIPHER *(*algorithm)(void);
	enum cipher_iv iv;
} kinds[] = {
	{ "aes-xts-plain64", 64, EVP_aes_256_xts, IV_PLAIN64 },	   { "aes-xts-plain64", 32, EVP_aes_128_xts, IV_PLAIN64 },
	{ "aes-cbc-essiv:sha256", 32, EVP_aes_256_cbc, IV_ESSIV }, { "aes-cbc-essiv:sha256", 16, EVP_aes_128_cbc, IV_ESSIV },
	{ "aes-cbc-plain64", 32, EVP_aes_256_cbc, IV_PLAIN64 },	   { "aes-cbc-plain64", 16, EVP_aes_128_cbc, IV_PLAIN64 },
};

void cipher_free(struct lunkit_cipher *cipher)
{
	if (!cipher)
		return;
	/* each wipes its key */
	EVP_CIPHER_CTX_free(cipher->encrypt);
	EVP_CIPHER_CTX_free(cipher->decrypt);
	EVP_CIPHER_CTX_free(cipher->essiv);
	free(cipher);
}

static EVP_CIPHER_CTX *new_context(const EVP_CIPHER *algorithm, const uint8_t *key, int encrypt)
{
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	if (context &&
	    (EVP_CipherInit_ex(context, algorithm, NULL, key, NULL, encrypt) != 1 || EVP_CIPHER_CTX_set_padding(context, 0) != 1)) {
		EVP_CIPHER_CTX_free(context);
		return NULL;
	}
	return context;
}

static EVP_CIPHER_CTX *new_essiv(const uint8_t *key, size_t key_bytes)
{
	uint8_t hash[32];
	unsigned length = sizeof(hash);
	if (EVP_Digest(key, key_bytes, hash, &length, EVP_sha256(), NULL) != 1)
		return NULL;
	EVP_CIPHER_CTX *context = new_context(EVP_aes_256_ecb(), hash, 1);
	explicit_bzero(hash, sizeof(hash));
	return context;
}

static int unknown(const char *spec, size_t key_bytes, const char *name, struct lunkit_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i].spec, spec) == 0) {
			lunkit_error_set(err, ENOTSUP, "%.300s: %.64s with a key of %zu bits is not supported", name, spec, key_bytes * 8);
			return lunkit_error_hint(err, "%s takes %s bits.", spec, strstr(spec, "xts") ? "256 or 512" : "128 or 256");
		}
	lunkit_error_set(err, ENOTSUP, "%.300s: the cipher %.64s is not supported", name, spec);
	return lunkit_error_hint(
		err, "aes-xts-plain64, aes-cbc-essiv:sha256 and aes-cbc-plain64 are; copy the image with the tool that made it.");
}

static size_t find(const char *spec, size_t key_bytes)
{
	size_t kind = 0;
	while (kind < ARRAY_SIZE(kinds) && (strcmp(kinds[kind].spec, spec) != 0 || kinds[kind].key_bytes != key_bytes))
		kind++;
	return kind;
}

int cipher_check(const char *spec, size_t key_bytes, const char *name, struct lunkit_error *err)
{
	return find(spec, key_bytes) < ARRAY_SIZE(kinds) ? 0 : unknown(spec, key_bytes, name, err);
}

int cipher_new(const char *spec, const uint8_t *key, size_t key_bytes, unsigned sector_size, const char *name, struct lunkit_cipher **ret,
	       struct lunkit_error *err)
{
	size_t kind = find(spec, key_bytes);
	if (kind == ARRAY_SIZE(kinds))
		return unknown(spec, key_bytes, name, err);
	struct lunkit_cipher *cipher = calloc(1, sizeof(*cipher));
	if (!cipher)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", name);
	cipher->sector_size = sector_size;
	cipher->encrypt = new_context(kinds[kind].algorithm(), key, 1);
	cipher->decrypt = new_context(kinds[kind].algorithm(), key, 0);
	if (kinds[kind].iv == IV_ESSIV)
		cipher->essiv = new_essiv(key, key_bytes);
	if (!cipher->encrypt || !cipher->decrypt || (kinds[kind].iv == IV_ESSIV && !cipher->essiv)) {
		cipher_free(cipher);
		/* XTS refuses a key whose halves are equal */
		lunkit_error_set(err, EINVAL, "%.300s: libcrypto refuses the volume key for %.64s", name, spec);
		return lunkit_error_hint(err, "The two halves of an XTS key have to differ.");
	}
	*ret = cipher;
	return 0;
}

static int make_iv(struct lunkit_cipher *cipher, uint64_t offset, uint8_t iv[static IV_BYTES])
{
	int length;
	memset(iv, 0, IV_BYTES);
	put_le64(iv, offset >> IV_UNIT_BITS);
	if (!cipher->essiv)
		return 0;
	return EVP_EncryptUpdate(cipher->essiv, iv, &length, iv, IV_BYTES) == 1 && length == IV_BYTES ? 0 : -EIO;
}

static int run(struct lunkit_cipher *cipher, EVP_CIPHER_CTX *context, uint64_t offset, const uint8_t *in, uint8_t *out, size_t length)
{
	uint8_t iv[IV_BYTES];
	int sector = (int)cipher->sector_size, done;
	for (size_t at = 0; at < length; at += (size_t)sector) {
		int r = make_iv(cipher, offset + at, iv);
		if (r < 0)
			return r;
		/* -1: the direction stays what it is */
		if (EVP_CipherInit_ex(context, NULL, NULL, NULL, iv, -1) != 1 ||
		    EVP_CipherUpdate(context, out + at, &done, in + at, sector) != 1 || done != sector)
			return -EIO;
	}
	return 0;
}

int cipher_encrypt(struct lunkit_cipher *cipher, uint64_t offset, const void *in, void *out, size_t length)
{
	return run(cipher, cipher->encrypt, offset, in, out, length);
}

int cipher_decrypt(struct lunkit_cipher *cipher, uint64_t offset, const void *in, void *out, size_t length)
{
	return run(cipher, cipher->decrypt, offset, in, out, length);
}
