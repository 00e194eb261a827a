/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lock_holder FILE read|write: locks FILE as lunkit does, says "locked" and keeps it until its input ends; exits with 3 when it is in use. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "image/lock.h"

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	bool write = strcmp(argv[2], "write") == 0;
	struct lunkit_error err;
	int fd = open(argv[1], write ? O_RDWR : O_RDONLY);
	if (fd < 0) {
		perror(argv[1]);
		return 2;
	}
	int r = image_lock_for_use(fd, write, argv[1], &err);
	if (r < 0) {
		fprintf(stderr, "%s\n", err.message);
		return r == -EAGAIN ? 3 : 2;
	}
	puts("locked");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
