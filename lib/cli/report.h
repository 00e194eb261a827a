/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What lunkit says on standard error, always in one form: "lunkit: what went wrong", then "  try: what to do". */

#include "base/error.h"
#include "cli/options.h"

/*
 * "lunkit: cannot VERB 'SUBJECT': MESSAGE" and the hint; subject may be NULL. A message that begins with its own "cannot … 'SUBJECT':" does not say it
 * twice. Returns CLI_FAILED.
 */
int report_failure(const char *verb, const char *subject, const struct lunkit_error *err);
/* "lunkit: MESSAGE" and the hint. Returns CLI_USAGE. */
int report_usage(const struct lunkit_error *err);
/* "lunkit: warning: …" and "lunkit: note: …". */
__attribute__((format(printf, 1, 2))) void report_warning(const char *format, ...);
__attribute__((format(printf, 1, 2))) void report_note(const char *format, ...);
/* Closes standard output and says so when what was written did not get there (a full disk): status, or CLI_FAILED then. */
int report_finish(int status);
