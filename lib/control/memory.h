/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What of a LUN is kept in the runtime directory for the lunkitd after this one. What initiators have set with MODE SELECT: one that has turned the write cache off
 * relies on it, whoever serves the disk. Which file its image is: a disk in use must not become another. It goes with the device, and with a boot. Main thread: small files in memory.
 */

#include <stdint.h>

#include "host/process.h"
#include "target/backstore.h"

struct memory {
	uint32_t modes;
	struct opener_identity identity;
};

/* All zeros: nothing is known of this device. The serial tells it from a former one of the same name. */
struct memory memory_load(const char *runtime_directory, const struct backstore_id *device, const char *serial);
void memory_store(const char *runtime_directory, const struct backstore_id *device, const char *serial, const struct memory *memory);
void memory_forget(const char *runtime_directory, const struct backstore_id *device);
