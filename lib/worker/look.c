/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/look.h"

#include <errno.h>
#include <stdlib.h>

#include "image/safety.h"
#include "worker/describe.h"
#include "worker/sandbox.h"

static int answer(struct link *link, const struct protocol_packet *start, int result, const struct lunkit_error *err, char *json)
{
	link_reply(link, result < 0 ? PROTOCOL_FAILED : PROTOCOL_REPLY, start->message.id, result, err, json, 0);
	free(json);
	return result < 0 ? 1 : 0;
}

int look_describe(struct link *link, const struct protocol_packet *start, const char *handlers)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct lunkit_handler *handler;
	int r = handler_load(handlers, start->message.start.kind, &handler, &err);
	char *json = r < 0 ? NULL : describe_handler(handler);
	return answer(link, start, r == 0 && !json ? -ENOMEM : r, &err, json);
}

int look_inspect(struct link *link, const struct protocol_packet *packet, struct lunkit_host *host)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct protocol_start *start = &packet->message.start;
	char *json = NULL;
	int r = sandbox_enter(start->uid, start->gid, false, &err);
	if (r == 0)
		r = safety_inspect(host, start->kind, start->name, &json, &err);
	return answer(link, packet, r, &err, json);
}
