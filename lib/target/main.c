/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lunkit-configfs: one system call for lunkitd, see call.h. It holds none of lunkitd's files while the kernel lets it wait. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "target/call.h"

int main(int argc, char **argv)
{
	close_range(STDERR_FILENO + 1, ~0u, 0);
	if (argc < 3 || argc > 4) {
		fputs("lunkit-configfs: lunkitd starts it\n", stderr);
		return EINVAL;
	}
	return call_perform(argv[1], argv[2], argv[3]);
}
