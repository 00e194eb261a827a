/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A descriptor that may have to be waited for. Files are always ready. Anything else is made non-blocking, used, and polled when it was not ready: so
 * nothing of it is under way while the other end does nothing, and the stream can be cancelled at any time.
 *
 * The flag belongs to the open file description, which others may share (the shell that made the pipe): it is set back at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "image/copying.h"

/* Fewer turns for each side: as much as an ordinary user may ask for. */
#define PIPE_BYTES (1 << 20)

int pipe_init(struct pipe *pipe, struct loop *loop, int fd, const char *label, unsigned events, void (*ready)(struct pipe *pipe))
{
	struct stat status;
	*pipe = (struct pipe){ .loop = loop, .fd = fd, .events = events, .ready = ready };
	snprintf(pipe->label, sizeof(pipe->label), "%s", label);
	if (fstat(fd, &status) < 0)
		return -errno;
	pipe->waitable = !S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode);
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0)
		return -errno;
	if (!pipe->waitable || flags & O_NONBLOCK)
		return 0;
	/* Refused in a sandbox: then the kernel waits for it on a thread of its own, and only cancelling has to wait for the other end. */
	pipe->was_blocking = fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
	if (pipe->was_blocking && S_ISFIFO(status.st_mode))
		(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

static void close_now(struct pipe *pipe)
{
	int flags = pipe->was_blocking ? fcntl(pipe->fd, F_GETFL) : -1;
	if (flags >= 0)
		(void)fcntl(pipe->fd, F_SETFL, flags & ~O_NONBLOCK);
	pipe->closed(pipe);
}

static void polled(struct loop_op *op, int result)
{
	struct pipe *pipe = list_entry(op, struct pipe, poll);
	if (result < 0) {
		pipe->polling = false;
		if (pipe->closed) {
			close_now(pipe);
			return;
		}
	}
	if (!pipe->waiting || pipe->closed)
		return;
	pipe->waiting = false;
	pipe->ready(pipe);
}

void pipe_wait(struct pipe *pipe)
{
	pipe->waiting = true;
	if (pipe->polling)
		return;
	pipe->polling = true;
	pipe->poll.done = polled;
	loop_poll_start(pipe->loop, &pipe->poll, pipe->fd, pipe->events);
}

void pipe_close(struct pipe *pipe, void (*closed)(struct pipe *pipe))
{
	pipe->closed = closed;
	if (pipe->polling)
		loop_poll_stop(pipe->loop, &pipe->poll);
	else
		close_now(pipe);
}
