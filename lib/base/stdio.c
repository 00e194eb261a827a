/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/stdio.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

void stdio_fill(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* open() takes the lowest number that is free, and all below are open by now */
		if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			abort();
	}
}
