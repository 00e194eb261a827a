/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/format.h"

#define SECOND UINT64_C(1000000000)
#define TERMINAL_NS (SECOND / 5)
#define LINES_NS (3 * SECOND)
#define PATIENCE_NS (SECOND / 2) /* what is done sooner needs no progress */

const char *progress_line(uint64_t done, uint64_t total, uint64_t first_done, uint64_t elapsed_ns, char *out, size_t size)
{
	char now[FORMAT_MAX], all[FORMAT_MAX], rate[FORMAT_MAX], left[FORMAT_MAX] = "";
	uint64_t moved = done > first_done ? done - first_done : 0;
	double seconds = (double)elapsed_ns / (double)SECOND, speed = seconds > 0 ? (double)moved / seconds : 0;
	unsigned percent = total ? (unsigned)((double)done * 100 / (double)total) : 0;
	if (speed >= 1 && done < total && elapsed_ns >= SECOND)
		format_duration((uint64_t)((double)(total - done) / speed), left);
	snprintf(out, size, "%3u%%  %s of %s, %s/s%s%s%s", percent > 100 ? 100 : percent, format_size(done, now), format_size(total, all),
		 format_size((uint64_t)speed, rate), left[0] ? ", " : "", left, left[0] ? " left" : "");
	return out;
}

void progress_begin(struct progress *progress, const char *what)
{
	*progress = (struct progress){ .what = what, .terminal = isatty(STDERR_FILENO), .start_ns = clock_now_ns() };
	progress->told_ns = progress->start_ns;
}

void progress_update(void *argument, uint64_t done, uint64_t total)
{
	struct progress *progress = argument;
	uint64_t now = clock_now_ns();
	char line[256];
	if (!progress->has_first) {
		progress->has_first = true;
		progress->first_done = done;
	}
	if (!total || now - progress->start_ns < PATIENCE_NS || now - progress->told_ns < (progress->terminal ? TERMINAL_NS : LINES_NS))
		return;
	progress->told_ns = now;
	progress_line(done, total, progress->first_done, now - progress->start_ns, line, sizeof(line));
	if (progress->terminal)
		fprintf(stderr, "\r\033[K%s: %s", progress->what, line);
	else
		fprintf(stderr, "lunkit: %s: %s\n", progress->what, line);
	fflush(stderr);
	progress->shown = true;
}

void progress_end(struct progress *progress)
{
	if (progress->terminal && progress->shown) {
		fprintf(stderr, "\r\033[K");
		fflush(stderr);
	}
	progress->shown = false;
}
