/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a worker gives up before it looks at an image: its user, every capability, new privileges, core dumps, and every system call that serving an image does not
 * need. What it still has: the descriptors that it was given, memory (never executable), threads, its io_uring (limited to the loop's operations). A worker whose
 * handler reaches its images through the network may open TCP connections as well.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* uid, gid: to become, or (uint32_t)-1 to stay. Called once, with one thread running, after handlers are loaded and the ring is made. */
int sandbox_enter(uint32_t uid, uint32_t gid, bool network, struct lunkit_error *err);
