/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Who is alive: two lock files in the runtime directory. lunkitd.lock is held by the one lunkitd. workers.lock is held, shared, by every worker through an fd that it
 * inherits, so that a lunkitd that follows one which was killed can wait until no worker of that one can touch an image or a ring any more.
 */

#include "base/error.h"

/*
 * -EBUSY: another lunkitd runs. The lock lasts as long as the fd. One that was killed holds it until its last thread is gone, and one of these may be in the kernel, waiting for
 * an answer that lunkitd itself should have given: release() is called, from time to time, to make the kernel give that up (target_events_release()). Blocks, for 20 s at most.
 */
int lease_take(const char *runtime_directory, void (*release)(void *argument), void *argument, int *ret_fd, struct lunkit_error *err);
/* A lease for one worker: an fd to pass on (worker_config.keep_fd) and to close once the worker runs. */
int lease_for_worker(const char *runtime_directory, int *ret_fd);
/* Waits for workers of a former lunkitd, and kills those that are still there after timeout_ms. Blocks: before the main loop. */
int lease_await_workers(const char *runtime_directory, unsigned timeout_ms, struct lunkit_error *err);
