/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The worker's end of the socket to its starter. Owner: the worker's thread. Sending never waits for a starter that hangs: what does not fit the socket's
 * buffer is dropped with a log line, since the starter's own requests bound what we have to say.
 */

#include "base/error.h"
#include "base/list.h"
#include "host/protocol.h"

struct link {
	int socket;
	uint32_t next_id;
	struct list waiting; /* packets that came while an ANSWER was waited for */
	unsigned waiting_count;
};

void link_init(struct link *link, int socket);
/* The next packet, first those that had to wait. Returns as protocol_receive(); never blocks unless wait is set. The packet is the caller's to free. */
int link_receive(struct link *link, bool wait, struct protocol_packet **ret);
void link_packet_free(struct protocol_packet *packet);
int link_send(struct link *link, struct protocol_packet *packet);
/* The same for what may get lost: never waits and says nothing. */
void link_try_send(struct link *link, struct protocol_packet *packet);
/* A result of type REPLY or FAILED; text is JSON or NULL. */
void link_reply(struct link *link, enum protocol_type type, uint32_t id, int result, const struct lunkit_error *err, const char *text,
		uint64_t value);

/* image_opener's functions; argument is the link. They block until the starter has answered. */
int link_open(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err);
int link_remove(void *argument, const char *path, struct lunkit_error *err);
