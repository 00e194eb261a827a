/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Against the modes made by hand, of nothing but AES on single blocks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "base/byteorder.h"
#include "base/error.h"
#include "cipher.h"

#define SECTORS 4

static uint8_t key[64], plain[SECTORS * 4096];

static int setup(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 7 + 3);
	for (size_t i = 0; i < sizeof(plain); i++)
		plain[i] = (uint8_t)(i * 31 + (i >> 8));
	return 0;
}

static void block(const uint8_t *with, size_t bytes, const uint8_t in[16], uint8_t out[16])
{
	int length;
	EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
	assert_int_equal(EVP_EncryptInit_ex(context, bytes == 32 ? EVP_aes_256_ecb() : EVP_aes_128_ecb(), NULL, with, NULL), 1);
	EVP_CIPHER_CTX_set_padding(context, 0);
	assert_int_equal(EVP_EncryptUpdate(context, out, &length, in, 16), 1);
	EVP_CIPHER_CTX_free(context);
}

static void make_xts(size_t key_bytes, uint64_t sector, const uint8_t *in, uint8_t *out, size_t length)
{
	uint8_t tweak[16] = { 0 }, mixed[16];
	put_le64(tweak, sector);
	block(key + key_bytes / 2, key_bytes / 2, tweak, tweak);
	for (size_t at = 0; at < length; at += 16) {
		for (size_t i = 0; i < 16; i++)
			mixed[i] = in[at + i] ^ tweak[i];
		block(key, key_bytes / 2, mixed, mixed);
		for (size_t i = 0; i < 16; i++)
			out[at + i] = mixed[i] ^ tweak[i];
		unsigned carry = tweak[15] >> 7;
		for (size_t i = 15; i > 0; i--)
			tweak[i] = (uint8_t)(tweak[i] << 1 | tweak[i - 1] >> 7);
		tweak[0] = (uint8_t)(tweak[0] << 1 ^ (carry ? 0x87 : 0));
	}
}

static void make_cbc(size_t key_bytes, bool essiv, uint64_t sector, const uint8_t *in, uint8_t *out, size_t length)
{
	uint8_t iv[16] = { 0 }, hash[32];
	unsigned size;
	put_le64(iv, sector);
	EVP_Digest(key, key_bytes, hash, &size, EVP_sha256(), NULL);
	if (essiv)
		block(hash, 32, iv, iv);
	for (size_t at = 0; at < length; at += 16) {
		for (size_t i = 0; i < 16; i++)
			iv[i] ^= in[at + i];
		block(key, key_bytes, iv, iv);
		memcpy(out + at, iv, 16);
	}
}

static void test_modes(void **state)
{
	(void)state;
	static const struct {
		const char *spec;
		size_t key_bytes;
	} modes[] = { { "aes-xts-plain64", 64 },      { "aes-xts-plain64", 32 }, { "aes-cbc-essiv:sha256", 32 },
		      { "aes-cbc-essiv:sha256", 16 }, { "aes-cbc-plain64", 32 }, { "aes-cbc-plain64", 16 } };
	static uint8_t wanted[sizeof(plain)], got[sizeof(plain)];
	static const uint64_t offsets[] = { 0, 4096, (uint64_t)3 << 40 };
	for (size_t mode = 0; mode < sizeof(modes) / sizeof(modes[0]); mode++)
		for (unsigned sector = 512; sector <= 4096; sector *= 8)
			for (size_t at = 0; at < sizeof(offsets) / sizeof(offsets[0]); at++) {
				struct lunkit_cipher *cipher;
				uint64_t offset = offsets[at];
				assert_int_equal(cipher_new(modes[mode].spec, key, modes[mode].key_bytes, sector, "it", &cipher, NULL), 0);
				for (unsigned i = 0; i < SECTORS; i++) {
					/* counted in 512 bytes, whatever the sector */
					uint64_t number = (offset + i * sector) / 512;
					if (strstr(modes[mode].spec, "xts"))
						make_xts(modes[mode].key_bytes, number, plain + i * sector, wanted + i * sector, sector);
					else
						make_cbc(modes[mode].key_bytes, strstr(modes[mode].spec, "essiv"), number,
							 plain + i * sector, wanted + i * sector, sector);
				}
				assert_int_equal(cipher_encrypt(cipher, offset, plain, got, SECTORS * sector), 0);
				assert_memory_equal(got, wanted, SECTORS * sector);
				assert_int_equal(cipher_decrypt(cipher, offset, got, got, SECTORS * sector), 0);
				assert_memory_equal(got, plain, SECTORS * sector);
				/* one in the middle, by itself */
				assert_int_equal(cipher_encrypt(cipher, offset + 2 * sector, plain + 2 * sector, got, sector), 0);
				assert_memory_equal(got, wanted + 2 * sector, sector);
				cipher_free(cipher);
			}
}

static void test_refused(void **state)
{
	(void)state;
	struct lunkit_cipher *cipher = NULL;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(cipher_new("serpent-xts-plain64", key, 64, 512, "it", &cipher, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "serpent-xts-plain64"));
	assert_int_equal(cipher_new("aes-xts-plain64", key, 48, 512, "it", &cipher, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "384"));
	assert_int_equal(cipher_check("aes-xts-plain64", 64, "it", &err), 0);
	assert_int_equal(cipher_check("", 64, "it", &err), -ENOTSUP);
	/* halves that are equal are no XTS key */
	uint8_t twice[64];
	memset(twice, 1, sizeof(twice));
	assert_int_equal(cipher_new("aes-xts-plain64", twice, 64, 512, "it", &cipher, &err), -EINVAL);
	assert_null(cipher);
	cipher_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_modes), cmocka_unit_test(test_refused) };
	return cmocka_run_group_tests(tests, setup, NULL);
}
