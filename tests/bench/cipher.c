/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cipher of encrypted images by itself, on one thread, in memory that stays in the cache:
 *
 *     cipher SECTOR-SIZE encrypt|decrypt
 *     bytes per second
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cipher.h"

#define BUFFER ((size_t)64 << 10)
#define SECONDS 1.0

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time); /* as openssl speed measures */
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	uint8_t key[64];
	struct lunkit_cipher *cipher;
	unsigned sector = argc == 3 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
	uint8_t *memory = aligned_alloc(4096, BUFFER);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)i;
	if ((sector != 512 && sector != 4096) || !memory ||
	    cipher_new("aes-xts-plain64", key, sizeof(key), sector, "the benchmark", &cipher, NULL) < 0) {
		fprintf(stderr, "usage: %s 512|4096 encrypt|decrypt\n", argv[0]);
		return 2;
	}
	int (*run)(struct lunkit_cipher *, uint64_t, const void *, void *, size_t) =
		strcmp(argv[2], "encrypt") == 0 ? cipher_encrypt : cipher_decrypt;
	memset(memory, 1, BUFFER);
	double begin = now(), end = begin;
	uint64_t rounds = 0;
	for (; (end = now()) - begin < SECONDS; rounds += 64)
		for (unsigned i = 0; i < 64; i++)
			if (run(cipher, i * BUFFER, memory, memory, BUFFER) < 0)
				return 1;
	printf("%.0f\n", (double)rounds * (double)BUFFER / (end - begin));
	cipher_free(cipher);
	free(memory);
	return 0;
}
