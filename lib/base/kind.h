/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Kinds of images: the names of handlers, as references, module files and the kernel's backstores have them. */

#include <stdbool.h>
#include <stddef.h>

#define KIND_MAX 16 /* with the final NUL */

/* The length of the kind that text starts with: a lower-case letter, then lower-case letters and digits. 0: none, or too long for one. */
size_t kind_length(const char *text);
/* True when the text is a kind and nothing else. */
bool kind_is_name(const char *text);
