/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target once for each file given: the committed corpus as a test, without libFuzzer. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s FILE...\n", argv[0]);
		return 2;
	}
	for (int i = 1; i < argc; i++) {
		FILE *file = fopen(argv[i], "rb");
		if (!file) {
			perror(argv[i]);
			return 1;
		}
		static uint8_t data[1 << 20];
		size_t size = fread(data, 1, sizeof(data), file);
		fclose(file);
		uint8_t *exact = malloc(size ? size : 1); /* the sanitizer sees the end */
		for (size_t at = 0; at < size; at++)
			exact[at] = data[at];
		LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	printf("%d inputs replayed\n", argc - 1);
	return 0;
}
