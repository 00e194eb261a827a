/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The handler modules that are there, by file names, and what their workers say about them. lunkitd itself never loads one. */

#include <stdbool.h>
#include <stddef.h>

#include "target/events.h"
#include "target/files.h"

struct control;

struct handlers {
	struct target_handler *items; /* kind and description; kinds sorted */
	bool *children;		      /* of each: its images may lie on others (backing files) */
	size_t count;
	unsigned waiting; /* descriptions under way */
};

/* The kinds in a directory: NAME.so with a name that can be a kind. One that is another's beginning is left out, since libtcmu matches by prefix. */
int handlers_scan(const char *directory, struct names *ret);
/* Where images of the kind may have backing files, besides their own folder; NULL: they have none. */
const struct names *handlers_backing(const struct control *control, const char *kind);
/* Fills control->handlers, then calls handlers_known(). */
int handlers_start(struct control *control, struct lunkit_error *err);
