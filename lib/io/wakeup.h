/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* How long this machine takes to wake a thread that sleeps: 2 to 5 µs on a real processor, tens where a hypervisor or an emulator is in between. */

#include <stdint.h>

/* Nanoseconds, the median of some; takes about thirty wake-ups. 0: it can't be measured. Starts a thread, which has ended on return. */
uint64_t wakeup_measure_ns(void);
