/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Opening again what is open. Libraries that take paths (libcryptsetup) are given /proc/self/fd/N, and the sandbox has no open(): the filter traps it, and the handler of that
 * signal answers with a duplicate of descriptor N, or with EPERM for any other path. So nothing can be opened that was not open before.
 *
 * The duplicate shares the position in the file. Threads that block SIGSYS must not call open(): the kernel ends the process then.
 */

#include "base/error.h"

/* Sets the handler up: before the filter. */
int reopen_init(struct lunkit_error *err);
/* What the handler answers: a descriptor, or -errno. Any thread, async-signal-safe. */
int reopen_path(const char *path);
