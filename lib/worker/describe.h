/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdint.h>

#include "image/handler.h"
#include "tcmu/lun.h"

/* JSON texts for the starter, to be freed; NULL without memory. */
char *describe_handler(const struct lunkit_handler *handler);
/* job: the one that works on the image, or NULL. */
char *describe_statistics(const struct lun_statistics *statistics, const char *job, uint64_t done, uint64_t total);
