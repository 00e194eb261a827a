/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Text from outside to values, and back. Each returns 0, -EINVAL (not the expected form) or -ERANGE (does not fit); *ret_* and out are
 * untouched on failure, except that percent_decode() and percent_encode() may have written a part of out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits only. */
int parse_u64(const char *text, uint64_t *ret_value);

/*
 * Bytes: decimal digits, then nothing, "B", or one of K M G T P E (any case; powers of 1024), optionally followed by "B" or "iB".
 * No sign, no fraction, no blanks.
 */
int parse_size(const char *text, uint64_t *ret_bytes);

/* on, yes, true, 1; off, no, false, 0. */
int parse_bool(const char *text, bool *ret_value);

/*
 * "%2C" to ",". size counts the final NUL. An incomplete escape or an encoded NUL is -EINVAL. out may be in itself: the result is never
 * longer.
 */
int percent_decode(const char *in, char *out, size_t size);

/* Keeps letters, digits and -._~/@+ and encodes all else, so that the result passes through LIO's tools and our own option syntax. */
int percent_encode(const char *in, char *out, size_t size);
