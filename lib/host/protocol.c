/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Packets of the worker's socket. Any thread, as long as one thread at a time uses a socket. Nothing here allocates; a packet that does not have
 * exactly the size of its type, an unfinished string or surplus descriptors is -EPROTO.
 */
#include "host/protocol.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/checked.h"

#define HEADER_SIZE offsetof(struct protocol_message, start)

/* The size of a whole message, or 0 for a type that does not exist. For results the text counts as far as it goes. */
static size_t message_size(const struct protocol_message *message)
{
	switch ((enum protocol_type)message->type) {
	case PROTOCOL_START_LUN:
	case PROTOCOL_START_IMAGE:
	case PROTOCOL_CREATE:
	case PROTOCOL_DESCRIBE:
	case PROTOCOL_INSPECT:
		return HEADER_SIZE + sizeof(message->start);
	case PROTOCOL_READY:
		return HEADER_SIZE + sizeof(message->ready);
	case PROTOCOL_OPEN:
	case PROTOCOL_REMOVE:
		return HEADER_SIZE + sizeof(message->open);
	case PROTOCOL_ANSWER:
	case PROTOCOL_FAILED:
	case PROTOCOL_REPLY:
	case PROTOCOL_NOTICE:
		return HEADER_SIZE + offsetof(struct protocol_result, text) + message->result.text_length;
	case PROTOCOL_RESIZE:
	case PROTOCOL_CAPACITY:
		return HEADER_SIZE + sizeof(message->resize);
	case PROTOCOL_PROGRESS:
		return HEADER_SIZE + sizeof(message->progress);
	case PROTOCOL_MODES:
		return HEADER_SIZE + sizeof(message->modes);
	case PROTOCOL_MEMO:
		return HEADER_SIZE + sizeof(message->memo);
	case PROTOCOL_ASK:
	case PROTOCOL_ANSWER_QUERY:
		return HEADER_SIZE + sizeof(message->query);
	case PROTOCOL_JOB:
	case PROTOCOL_JOB_RATE:
		return HEADER_SIZE + sizeof(message->job);
	case PROTOCOL_INFO:
	case PROTOCOL_STATUS:
	case PROTOCOL_DRAIN:
	case PROTOCOL_JOB_CANCEL:
	case PROTOCOL_SIZE_CHANGED:
		return HEADER_SIZE;
	}
	return 0;
}

static bool is_terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool strings_are_terminated(const struct protocol_message *message)
{
	switch ((enum protocol_type)message->type) {
	case PROTOCOL_START_LUN:
	case PROTOCOL_START_IMAGE:
	case PROTOCOL_CREATE:
	case PROTOCOL_DESCRIBE:
	case PROTOCOL_INSPECT: {
		const struct protocol_start *start = &message->start;
		return is_terminated(start->kind, sizeof(start->kind)) && is_terminated(start->name, sizeof(start->name)) &&
		       is_terminated(start->options, sizeof(start->options)) && is_terminated(start->label, sizeof(start->label)) &&
		       is_terminated(start->serial, sizeof(start->serial)) &&
		       is_terminated(start->target_kind, sizeof(start->target_kind)) && is_terminated(start->memo, sizeof(start->memo));
	}
	case PROTOCOL_MEMO:
		return is_terminated(message->memo.text, sizeof(message->memo.text));
	case PROTOCOL_READY:
		return is_terminated(message->ready.notice, sizeof(message->ready.notice));
	case PROTOCOL_OPEN:
	case PROTOCOL_REMOVE:
		return is_terminated(message->open.path, sizeof(message->open.path));
	case PROTOCOL_ANSWER:
	case PROTOCOL_FAILED:
	case PROTOCOL_REPLY:
	case PROTOCOL_NOTICE: {
		const struct protocol_result *result = &message->result;
		return is_terminated(result->error.message, sizeof(result->error.message)) &&
		       is_terminated(result->error.hint, sizeof(result->error.hint)) &&
		       (result->text_length == 0 || result->text[result->text_length - 1] == '\0');
	}
	case PROTOCOL_JOB:
	case PROTOCOL_JOB_RATE: {
		const struct protocol_job *job = &message->job;
		return is_terminated(job->name, sizeof(job->name)) && is_terminated(job->format, sizeof(job->format)) &&
		       is_terminated(job->target, sizeof(job->target)) && is_terminated(job->options, sizeof(job->options));
	}
	case PROTOCOL_ASK:
	case PROTOCOL_ANSWER_QUERY:
		return message->query.length <= PROTOCOL_QUERY_MAX;
	case PROTOCOL_RESIZE:
	case PROTOCOL_CAPACITY:
	case PROTOCOL_PROGRESS:
	case PROTOCOL_MODES:
	case PROTOCOL_INFO:
	case PROTOCOL_STATUS:
	case PROTOCOL_DRAIN:
	case PROTOCOL_JOB_CANCEL:
	case PROTOCOL_SIZE_CHANGED:
		return true;
	}
	return false;
}

int protocol_send(int socket, const struct protocol_packet *packet)
{
	struct iovec iov = { (void *)&packet->message, message_size(&packet->message) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * PROTOCOL_FDS_MAX)];
	} control = { 0 };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (packet->fd_count > PROTOCOL_FDS_MAX || iov.iov_len == 0 || iov.iov_len > sizeof(packet->message))
		return -EINVAL;
	if (packet->fd_count) {
		header.msg_control = control.space;
		header.msg_controllen = CMSG_SPACE(sizeof(int) * packet->fd_count);
		struct cmsghdr *rights = CMSG_FIRSTHDR(&header);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(sizeof(int) * packet->fd_count);
		memcpy(CMSG_DATA(rights), packet->fds, sizeof(int) * packet->fd_count);
	}
	ssize_t sent;
	do
		sent = sendmsg(socket, &header, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return 0;
}

/* Takes the descriptors out of a received header; more than there is room for are closed. */
static bool take_fds(struct msghdr *header, struct protocol_packet *packet)
{
	bool fits = true;
	for (struct cmsghdr *rights = CMSG_FIRSTHDR(header); rights; rights = CMSG_NXTHDR(header, rights)) {
		if (rights->cmsg_level != SOL_SOCKET || rights->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(rights) + i * sizeof(int), sizeof(int));
			if (packet->fd_count < PROTOCOL_FDS_MAX) {
				packet->fds[packet->fd_count++] = fd;
			} else {
				close(fd);
				fits = false;
			}
		}
	}
	return fits;
}

int protocol_receive(int socket, struct protocol_packet *ret)
{
	struct iovec iov = { &ret->message, sizeof(ret->message) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int) * PROTOCOL_FDS_MAX)];
	} control;
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control.space) };

	ret->fd_count = 0;
	ret->message.type = 0; /* a packet that is too short must not be taken for the one before it */
	ret->message.result.text_length = 0;
	for (unsigned i = 0; i < PROTOCOL_FDS_MAX; i++)
		ret->fds[i] = -1;
	ssize_t received;
	do
		received = recvmsg(socket, &header, MSG_CMSG_CLOEXEC);
	while (received < 0 && errno == EINTR);
	if (received < 0)
		return errno == ECONNRESET ? 0 : -errno;
	if (received == 0)
		return 0;

	struct protocol_message *message = &ret->message;
	bool whole = take_fds(&header, ret) && !(header.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
	if (!whole || message_size(message) != (size_t)received || !strings_are_terminated(message)) {
		protocol_close_fds(ret);
		return -EPROTO;
	}
	return 1;
}

void protocol_close_fds(struct protocol_packet *packet)
{
	for (unsigned i = 0; i < packet->fd_count; i++)
		if (packet->fds[i] >= 0)
			close(packet->fds[i]);
	for (unsigned i = 0; i < PROTOCOL_FDS_MAX; i++)
		packet->fds[i] = -1;
	packet->fd_count = 0;
}

void protocol_set_result(struct protocol_message *message, enum protocol_type type, uint32_t id, int result, const struct lunkit_error *err)
{
	message->type = type;
	message->id = id;
	memset(&message->result, 0, offsetof(struct protocol_result, text));
	message->result.result = result;
	if (err)
		message->result.error = *err;
	if (result < 0 && message->result.error.message[0] == '\0')
		lunkit_error_set(&message->result.error, result, "%s", strerror(abs(result)));
}
