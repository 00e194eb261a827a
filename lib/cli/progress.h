/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How far a long operation is, on standard error: one line that is written again and again on a terminal, a line every few seconds elsewhere. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	const char *what; /* "exporting" */
	bool terminal, shown;
	uint64_t start_ns, told_ns; /* CLOCK_MONOTONIC */
	uint64_t first_done;	    /* what was done when it was first told: a job that is taken up again does not start at 0 */
	bool has_first;
};

void progress_begin(struct progress *progress, const char *what);
/* argument: the struct progress. For worker_call(). */
void progress_update(void *argument, uint64_t done, uint64_t total);
/* Clears the terminal's line. */
void progress_end(struct progress *progress);

/* The line: " 42%  1.2 GiB of 2.8 GiB, 512 MiB/s, 3 s left". elapsed_ns: since first_done was done. Returns out. */
const char *progress_line(uint64_t done, uint64_t total, uint64_t first_done, uint64_t elapsed_ns, char *out, size_t size);
