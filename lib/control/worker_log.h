/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Watches what a worker says on its standard error and passes it on to lunkitd's log at a bounded rate (host/relay.h). Main thread. */

#include <systemd/sd-event.h>

struct worker_log;

/* Takes fd over, also on failure. label: in front of each line. */
int worker_log_new(sd_event *event, int fd, const char *label, struct worker_log **ret);
/* The worker has ended: passes its last words on. Takes NULL. */
void worker_log_free(struct worker_log *log);
