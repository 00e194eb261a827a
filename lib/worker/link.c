/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/link.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define WAITING_MAX 64 /* packets; a starter that sends more while it owes us an answer is broken */
#define SEND_PATIENCE_MS 1000

struct waiting_packet {
	struct list node;
	struct protocol_packet *packet;
};

void link_init(struct link *link, int socket)
{
	*link = (struct link){ .socket = socket, .next_id = 1 };
	list_init(&link->waiting);
}

static bool socket_ready(int socket, short events, int timeout_ms)
{
	struct pollfd ready = { .fd = socket, .events = events };
	int r;
	do
		r = poll(&ready, 1, timeout_ms);
	while (r < 0 && errno == EINTR);
	return r > 0;
}

static int receive_new(struct link *link, bool wait, struct protocol_packet **ret)
{
	if (!socket_ready(link->socket, POLLIN, wait ? -1 : 0))
		return -EAGAIN;
	struct protocol_packet *packet = malloc(sizeof(*packet));
	if (!packet)
		return -ENOMEM;
	int r = protocol_receive(link->socket, packet);
	if (r <= 0) {
		free(packet);
		return r;
	}
	*ret = packet;
	return 1;
}

int link_receive(struct link *link, bool wait, struct protocol_packet **ret)
{
	struct list *first = list_pop(&link->waiting);
	if (!first)
		return receive_new(link, wait, ret);
	struct waiting_packet *waiting = list_entry(first, struct waiting_packet, node);
	*ret = waiting->packet;
	link->waiting_count--;
	free(waiting);
	return 1;
}

void link_packet_free(struct protocol_packet *packet)
{
	if (!packet)
		return;
	protocol_close_fds(packet);
	free(packet);
}

int link_send(struct link *link, struct protocol_packet *packet)
{
	if (!socket_ready(link->socket, POLLOUT, SEND_PATIENCE_MS)) {
		log_warning("the control process does not take messages: message %u is dropped", packet->message.type);
		return -EAGAIN;
	}
	return protocol_send(link->socket, packet);
}

void link_try_send(struct link *link, struct protocol_packet *packet)
{
	if (socket_ready(link->socket, POLLOUT, 0))
		protocol_send(link->socket, packet);
}

void link_reply(struct link *link, enum protocol_type type, uint32_t id, int result, const struct lunkit_error *err, const char *text,
		uint64_t value)
{
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		return;
	protocol_set_result(&packet->message, type, id, result, result < 0 ? err : NULL);
	struct protocol_result *reply = &packet->message.result;
	reply->value = value;
	if (text) {
		size_t length = strlen(text) + 1;
		if (length <= sizeof(reply->text)) {
			memcpy(reply->text, text, length);
			reply->text_length = (uint32_t)length;
		} else {
			reply->result = lunkit_error_set(&reply->error, E2BIG, "the answer of %zu bytes does not fit a message", length);
		}
	}
	link_send(link, packet);
	free(packet);
}

/* Keeps a packet for link_receive(), since the answer that we wait for comes first. */
static int keep_waiting(struct link *link, struct protocol_packet *packet)
{
	struct waiting_packet *waiting = link->waiting_count < WAITING_MAX ? malloc(sizeof(*waiting)) : NULL;
	if (!waiting) {
		link_packet_free(packet);
		return -ENOBUFS;
	}
	waiting->packet = packet;
	list_add_tail(&link->waiting, &waiting->node);
	link->waiting_count++;
	return 0;
}

/* Sends OPEN or REMOVE and waits for its ANSWER. */
static int ask_starter(struct link *link, enum protocol_type type, const char *path, unsigned flags, struct protocol_packet **ret,
		       struct lunkit_error *err)
{
	struct protocol_packet *request = calloc(1, sizeof(*request));
	if (!request)
		return lunkit_error_set(err, ENOMEM, "no memory to ask for '%s'", path);
	request->message.type = type;
	request->message.id = link->next_id++;
	request->message.open.flags = flags;
	uint32_t id = request->message.id;
	int length = snprintf(request->message.open.path, sizeof(request->message.open.path), "%s", path);
	int r = length >= (int)sizeof(request->message.open.path) ? -ENAMETOOLONG : link_send(link, request);
	free(request);
	if (r < 0)
		return lunkit_error_set(err, r, "cannot ask for '%.200s': %s", path, strerror(-r));

	for (;;) {
		struct protocol_packet *packet;
		r = receive_new(link, true, &packet);
		if (r <= 0)
			return lunkit_error_set(err, r ? r : -EPIPE, "no answer about '%.200s': the control process is gone", path);
		if (packet->message.type == PROTOCOL_ANSWER && packet->message.id == id) {
			*ret = packet;
			return 0;
		}
		r = keep_waiting(link, packet);
		if (r < 0)
			return lunkit_error_set(err, r, "no answer about '%.200s' among %d other messages", path, WAITING_MAX);
	}
}

int link_open(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err)
{
	struct protocol_packet *answer;
	int r = ask_starter(argument, PROTOCOL_OPEN, path, flags, &answer, err);
	if (r < 0)
		return r;
	r = answer->message.result.result;
	if (r < 0) {
		if (err)
			*err = answer->message.result.error;
	} else if (answer->fd_count != 1) {
		r = lunkit_error_set(err, EPROTO, "the answer about '%.200s' holds no file", path);
	} else {
		*ret_fd = answer->fds[0];
		*ret_flags = answer->message.result.flags;
		answer->fd_count = 0; /* the caller's now */
	}
	link_packet_free(answer);
	return r;
}

int link_remove(void *argument, const char *path, struct lunkit_error *err)
{
	struct protocol_packet *answer;
	int r = ask_starter(argument, PROTOCOL_REMOVE, path, 0, &answer, err);
	if (r < 0)
		return r;
	r = answer->message.result.result;
	if (r < 0 && err)
		*err = answer->message.result.error;
	link_packet_free(answer);
	return r;
}
