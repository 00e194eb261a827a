/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a worker says on its standard error, passed on to the starter's own log: line by line, under the LUN's name, without control characters, and no more than a bounded
 * rate. A worker that a hostile image has taken over can then neither speak in another's name nor fill the journal.
 *
 * The starter watches worker_process.log (worker_config.relay_log) for input and calls relay_read(). Nothing here waits. Owner: one thread.
 */

#include <stdint.h>

#include "base/log.h"

struct relay;

/* Where lines go instead of log_message(): for tests. text is without the line's end. */
typedef void relay_sink(void *argument, enum log_level level, const char *text);

/* Takes fd, which is non-blocking, over: also on failure. name is copied (63 bytes). sink may be NULL. -ENOMEM. */
int relay_new(int fd, const char *name, relay_sink *sink, void *argument, struct relay **ret);
/*
 * Takes what is there, at most 64 KiB a call. now_ns: CLOCK_MONOTONIC. Returns 1, 0 at the end (every writer is gone; call relay_free()), or -errno. *ret_pause_ns is 0, or how
 * long the fd is not to be watched since the worker has used its rate up: meanwhile its lines stay in the pipe, and get lost when that is full.
 */
int relay_read(struct relay *relay, uint64_t now_ns, uint64_t *ret_pause_ns);
/* Passes the last words on, a small number of lines whatever the rate was, and closes the fd. To be called when the worker has ended. Takes NULL. */
void relay_free(struct relay *relay);
