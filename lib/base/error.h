/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What went wrong, for a person. Inside lunkit a failure is a negative errno; where a person will see it, it also carries a message
 * (what, which image, why) and a hint (what to do about it). Every function that takes a struct lunkit_error sets it exactly when it
 * fails; NULL is accepted and means that nobody reads it. The first two are part of the handler interface, so programs export them.
 */

#define LUNKIT_ERROR_MESSAGE_MAX 768
#define LUNKIT_ERROR_HINT_MAX 256

struct lunkit_error {
	int code; /* a positive errno, 0 while nothing is set */
	char message[LUNKIT_ERROR_MESSAGE_MAX];
	char hint[LUNKIT_ERROR_HINT_MAX]; /* empty when there is nothing useful to do */
};

#define LUNKIT_ERROR_INIT ((struct lunkit_error){ 0 })

/* Sets code and message, clears the hint. code is a positive or a negative errno. Returns -|code|, so that it can be returned. */
__attribute__((visibility("default"))) __attribute__((format(printf, 3, 4))) int lunkit_error_set(struct lunkit_error *err, int code,
												  const char *format, ...);

/* Adds what to do. Returns -err->code, without an err that of the thread's last lunkit_error_set(), so that it can be returned. */
__attribute__((visibility("default"))) __attribute__((format(printf, 2, 3))) int lunkit_error_hint(struct lunkit_error *err,
												   const char *format, ...);

/* Puts "TEXT: " before the message: the caller's view of what was being done. Returns -err->code. */
__attribute__((format(printf, 2, 3))) int lunkit_error_prefix(struct lunkit_error *err, const char *format, ...);
