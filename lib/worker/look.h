/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What a worker does that opens no image: one answer, and its end. Each returns the exit status. */

#include "image/image.h"
#include "worker/link.h"

/* DESCRIBE: no image, no sandbox to enter: the handler's own words about itself. */
int look_describe(struct link *link, const struct protocol_packet *start, const char *handlers);
/* INSPECT: the image is not opened, since nothing of it is to be believed; its header is looked at. */
int look_inspect(struct link *link, const struct protocol_packet *packet, struct lunkit_host *host);
