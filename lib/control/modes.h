/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What initiators have set with MODE SELECT, kept in the runtime directory for the lunkitd after this one: an initiator that has turned the write cache off
 * relies on it, whoever serves the disk. It goes with the device, and with a boot. Main thread: small files in memory.
 */

#include <stdint.h>

#include "target/backstore.h"

/* 0: nothing is known of this device. The serial tells it from a former one of the same name. */
uint32_t modes_load(const char *runtime_directory, const struct backstore_id *device, const char *serial);
void modes_store(const char *runtime_directory, const struct backstore_id *device, const char *serial, uint32_t modes);
void modes_forget(const char *runtime_directory, const struct backstore_id *device);
