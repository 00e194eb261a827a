/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * A worker's life with its starter: one START message, then requests until DRAIN or the end of the socket. Returns the process's exit status.
 */

int session_run(int socket, const char *handlers);
