/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Memory for keys: pages of its own, locked where the limits allow it, left out of core dumps and of forked processes. Any thread. */

#include <stddef.h>

/* Zeroed. NULL without memory. */
void *secret_new(size_t length);
/* Wipes it first. length: as it was asked for. Takes NULL. */
void secret_free(void *secret, size_t length);
