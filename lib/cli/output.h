/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A file that is being made: it gets its name only when it is complete, so that nothing half done is ever seen, whatever happens. Where the filesystem can't have a file
 * without a name (O_TMPFILE), it is NAME.partial until then, and removed by output_drop().
 */

#include <stdbool.h>

#include "base/error.h"

struct output {
	int fd;
	bool overwrite;
	char path[4096], partial[4096]; /* absolute; partial "" while there is no name */
};

/* -EEXIST when path is there and overwrite is not set. path is absolute. */
int output_open(struct output *ret, const char *path, bool overwrite, struct lunkit_error *err);
/* Gives it its name, durably. Closes it. */
int output_finish(struct output *output, struct lunkit_error *err);
/* Takes one that was finished, or never opened with fd -1, too. */
void output_drop(struct output *output);
