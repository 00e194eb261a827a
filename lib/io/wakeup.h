/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How long this machine takes to wake a thread that sleeps: 2 to 5 µs on a real processor, tens where a hypervisor or an emulator is in between. */

#include <stdint.h>

/* Nanoseconds, the median of some; takes about thirty wake-ups. 0: it can't be measured. Starts a thread, which has ended on return. */
uint64_t wakeup_measure_ns(void);
/*
 * How long a loop that serves a LUN looks for work before it sleeps (loop_config.poll_max_ns). A command at depth 1 comes after a few wake-ups of others (the
 * kernel's, the initiator's), which cost what ours costs: ten of ours, from 50 to 500 µs.
 */
uint64_t wakeup_poll_window_ns(void);
