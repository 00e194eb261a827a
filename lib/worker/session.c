/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One thread. States: starting (START came; handler loaded, sandboxed, image opened) -> serving (READY was sent; the loop runs) -> draining (nothing new is
 * fetched; commands and jobs in flight end, the image is flushed and closed) -> end. The end of the socket drains too: when lunkitd dies, its workers finish what they have
 * and leave the device for the workers of the next one.
 *
 * Nothing of the image is looked at before sandbox_enter() returned. Handlers are loaded before it (they are lunkit's own programs, and loading maps code).
 */
#include "worker/session.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/log.h"
#include "image/image.h"
#include "io/loop.h"
#include "io/wakeup.h"
#include "tcmu/lun.h"
#include "worker/describe.h"
#include "worker/job.h"
#include "worker/keys.h"
#include "worker/link.h"
#include "worker/look.h"
#include "worker/sandbox.h"

#define LOOP_DEPTH 256
_Static_assert(sizeof(struct scsi_query) <= PROTOCOL_QUERY_MAX, "a query fits a message");
_Static_assert(LUNKIT_MEMO_MAX == PROTOCOL_MEMO_MAX, "a memo fits a message");

struct session {
	struct link link;
	const char *handlers;
	struct lunkit_host host;
	const struct lunkit_handler *handler;
	struct image *image;
	struct lun *lun; /* NULL for an image without a LUN */
	void *ring;
	size_t ring_length;
	struct protocol_packet *start; /* keeps the ring's descriptors */
	struct worker_keys keys;
	struct loop_op socket_op, stop_op;
	struct image_request *flush;
	struct list queries; /* struct query; oldest first */
	struct jobs jobs;    /* of the image: it can't be closed under them */
	bool resizing;	     /* nor under this */
	bool draining;
	bool loop_broke; /* what is in flight will never be told to be done */
	bool lun_ended;	 /* draining: no command is in flight any more */
	int exit_status;
};

/* A RESIZE under way. */
struct resize {
	struct image_job job;
	struct session *session;
	uint32_t id;
};

/* An ASK under way: which query the answer is for. */
struct query {
	struct list node;
	uint32_t id;
	struct scsi_query *query;
};

static void session_drain(struct session *session);
static void session_flush(struct session *session);

/* ---- queries of the SCSI layer ---- */

static void session_ask(void *argument, struct scsi_query *query)
{
	struct session *session = argument;
	if (session->draining) { /* nobody listens for the answer any more */
		lun_query_done(session->lun, query, -ESHUTDOWN);
		return;
	}
	struct query *entry = calloc(1, sizeof(*entry));
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	int r = -ENOMEM;
	if (entry && packet) {
		entry->id = session->link.next_id++;
		entry->query = query;
		packet->message.type = PROTOCOL_ASK;
		packet->message.id = entry->id;
		packet->message.query.length = sizeof(*query);
		memcpy(packet->message.query.bytes, query, sizeof(*query));
		r = link_send(&session->link, packet);
	}
	free(packet);
	if (r < 0) {
		free(entry);
		lun_query_done(session->lun, query, r);
		return;
	}
	list_add_tail(&session->queries, &entry->node);
}

static void session_answer_query(struct session *session, const struct protocol_message *message)
{
	list_for_each_safe (node, &session->queries) {
		struct query *entry = list_entry(node, struct query, node);
		if (entry->id != message->id)
			continue;
		list_remove(node);
		struct scsi_query *query = entry->query;
		free(entry);
		int r = message->query.result;
		if (r == 0 && message->query.length != sizeof(*query))
			r = -EPROTO;
		if (r == 0)
			memcpy(query, message->query.bytes, sizeof(*query));
		lun_query_done(session->lun, query, r);
		return;
	}
}

/* The answers will not come: every command that waits for one goes on with what is known. */
static void session_fail_queries(struct session *session)
{
	for (struct list *node; (node = list_pop(&session->queries));) {
		struct query *entry = list_entry(node, struct query, node);
		struct scsi_query *query = entry->query;
		free(entry);
		lun_query_done(session->lun, query, -ESHUTDOWN);
	}
}

/* ---- modes ---- */

static void session_tell_modes(void *argument, unsigned modes)
{
	struct session *session = argument;
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		return;
	packet->message.type = PROTOCOL_MODES;
	packet->message.modes.modes = modes;
	link_send(&session->link, packet);
	free(packet);
}

/* ---- what the handler has to say ---- */

static void session_tell_size_changed(struct lunkit_host *host)
{
	struct session *session = list_entry(host, struct session, host);
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		return;
	packet->message.type = PROTOCOL_SIZE_CHANGED;
	link_send(&session->link, packet);
	free(packet);
}

static void session_tell_memo(struct lunkit_host *host, const char *text)
{
	struct session *session = list_entry(host, struct session, host);
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		return;
	packet->message.type = PROTOCOL_MEMO;
	snprintf(packet->message.memo.text, sizeof(packet->message.memo.text), "%s", text);
	link_send(&session->link, packet);
	free(packet);
}

/* ---- requests of the starter ---- */

static void resize_done(struct image_job *job, int result)
{
	struct resize *resize = (struct resize *)job;
	struct session *session = resize->session;
	link_reply(&session->link, PROTOCOL_REPLY, resize->id, result, &job->err, NULL, image_limits(session->image)->size);
	free(resize);
	session->resizing = false;
	jobs_release(&session->jobs);
	session_flush(session);
}

static void session_resize(struct session *session, const struct protocol_message *message)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int r = jobs_claim(&session->jobs, &err);
	struct resize *resize = r < 0 ? NULL : calloc(1, sizeof(*resize));
	if (!resize) {
		if (r == 0)
			jobs_release(&session->jobs);
		link_reply(&session->link, PROTOCOL_REPLY, message->id, r < 0 ? r : -ENOMEM, &err, NULL, 0);
		return;
	}
	resize->job.done = resize_done;
	resize->session = session;
	resize->id = message->id;
	session->resizing = true;
	image_resize(session->image, &resize->job, message->resize.size, message->resize.flags);
}

static void session_info(struct session *session, uint32_t id)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	char *json = NULL;
	int r = image_info(session->image, &json, &err);
	link_reply(&session->link, PROTOCOL_REPLY, id, r, &err, r < 0 ? NULL : json, 0);
	free(json);
}

static void session_status(struct session *session, uint32_t id)
{
	struct lun_statistics statistics = { 0 };
	if (session->lun)
		lun_get_statistics(session->lun, &statistics);
	uint64_t done = 0, total = 0;
	const char *job = jobs_current(&session->jobs, &done, &total);
	char *json = describe_statistics(&statistics, job, done, total);
	link_reply(&session->link, PROTOCOL_REPLY, id, json ? 0 : -ENOMEM, NULL, json, 0);
	free(json);
}

static void session_capacity(struct session *session, const struct protocol_message *message)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int r = 0;
	if (!session->lun || message->resize.size > image_limits(session->image)->size)
		r = lunkit_error_set(&err, EINVAL, "the image '%s' holds %llu bytes, not %llu", image_name(session->image),
				     (unsigned long long)image_limits(session->image)->size, (unsigned long long)message->resize.size);
	else
		lun_set_capacity(session->lun, message->resize.size);
	link_reply(&session->link, PROTOCOL_REPLY, message->id, r, &err, NULL, 0);
}

static void session_handle(struct session *session, struct protocol_packet *packet)
{
	const struct protocol_message *message = &packet->message;
	switch ((enum protocol_type)message->type) {
	case PROTOCOL_RESIZE:
		session_resize(session, message);
		return;
	case PROTOCOL_INFO:
		session_info(session, message->id);
		return;
	case PROTOCOL_STATUS:
		session_status(session, message->id);
		return;
	case PROTOCOL_CAPACITY:
		session_capacity(session, message);
		return;
	case PROTOCOL_ANSWER_QUERY:
		session_answer_query(session, message);
		return;
	case PROTOCOL_JOB:
		jobs_start(&session->jobs, packet);
		return;
	case PROTOCOL_JOB_CANCEL:
		jobs_cancel(&session->jobs, message->id);
		return;
	case PROTOCOL_JOB_RATE:
		jobs_set_rate(&session->jobs, message->id, message->job.rate);
		return;
	case PROTOCOL_DRAIN:
		session_drain(session);
		return;
	case PROTOCOL_ANSWER: /* of an OPEN that nobody waits for any more */
		return;
	case PROTOCOL_START_LUN:
	case PROTOCOL_START_IMAGE:
	case PROTOCOL_CREATE:
	case PROTOCOL_DESCRIBE:
	case PROTOCOL_INSPECT:
	case PROTOCOL_READY:
	case PROTOCOL_FAILED:
	case PROTOCOL_OPEN:
	case PROTOCOL_REMOVE:
	case PROTOCOL_ASK:
	case PROTOCOL_REPLY:
	case PROTOCOL_PROGRESS:
	case PROTOCOL_NOTICE:
	case PROTOCOL_MODES:
	case PROTOCOL_SIZE_CHANGED:
	case PROTOCOL_MEMO:
		log_warning("message %u is not expected now", message->type);
		return;
	}
}

/* Takes every packet that is there. */
static void socket_ready(struct loop_op *op, int result)
{
	struct session *session = list_entry(op, struct session, socket_op);
	if (result < 0)
		return; /* the end of polling, when the session ends */
	while (!session->draining) {
		struct protocol_packet *packet;
		int r = link_receive(&session->link, false, &packet);
		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			if (r < 0)
				log_error("cannot receive from the control process: %s", strerror(-r));
			else if (session->lun)
				log_info("the control process is gone: draining");
			session_drain(session);
			return;
		}
		session_handle(session, packet);
		link_packet_free(packet);
	}
}

/* ---- the end ---- */

static void flush_done(struct image_request *request, int result)
{
	struct session *session = request->user;
	if (result < 0)
		log_error("cannot flush the image at the end: %s", strerror(-result));
	loop_stop(session->host.loop);
}

/* The last thing before the end, once nothing uses the image any more. */
static void session_flush(struct session *session)
{
	if (!session->lun_ended || session->resizing || jobs_are_running(&session->jobs))
		return;
	if (image_is_read_only(session->image)) {
		loop_stop(session->host.loop);
		return;
	}
	session->flush->request.op = LUNKIT_FLUSH;
	session->flush->done = flush_done;
	session->flush->user = session;
	image_submit(session->image, session->flush);
}

static void jobs_idle(void *argument)
{
	session_flush(argument);
}

static void lun_stopped(struct loop_op *op, int result)
{
	struct session *session = list_entry(op, struct session, stop_op);
	(void)result;
	session->lun_ended = true;
	session_flush(session);
}

static void session_drain(struct session *session)
{
	if (session->draining)
		return;
	session->draining = true;
	jobs_cancel_all(&session->jobs);
	if (session->lun) {
		lun_stop(session->lun, &session->stop_op);
		session_fail_queries(session);
	} else {
		loop_defer(session->host.loop, &session->stop_op, 0);
	}
}

/* The image's I/O ends in order; what the ring still holds is the next worker's. */
static void lun_failed(void *argument, int result)
{
	struct session *session = argument;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, result, "the command ring of the device makes no sense or can't be used: %s", strerror(abs(result)));
	log_error("%s", err.message);
	link_reply(&session->link, PROTOCOL_FAILED, 0, result, &err, NULL, 0);
	session->exit_status = 1;
	session_drain(session);
}

/* ---- the start ---- */

static int session_map_ring(struct session *session, struct lun_ring *ret, struct lunkit_error *err)
{
	const struct protocol_packet *packet = session->start;
	const struct protocol_start *start = &packet->message.start;
	bool uio = start->ring_word == 4;
	if (packet->fd_count != (uio ? 1u : 3u))
		return lunkit_error_set(err, EPROTO, "the start message holds %u descriptors", packet->fd_count);
	void *base = mmap(NULL, start->ring_length, PROT_READ | PROT_WRITE, MAP_SHARED, packet->fds[0], (off_t)start->ring_offset);
	if (base == MAP_FAILED)
		return lunkit_error_set(err, errno, "cannot map the command ring: %s", strerror(errno));
	madvise(base, start->ring_length, MADV_DONTFORK);
	session->ring = base;
	session->ring_length = start->ring_length;
	*ret = (struct lun_ring){
		.base = base,
		.length = start->ring_length,
		.notify_fd = uio ? packet->fds[0] : packet->fds[1],
		.doorbell_fd = uio ? packet->fds[0] : packet->fds[2],
		.word = start->ring_word,
	};
	return 0;
}

static int session_open_image(struct session *session, struct lunkit_error *err)
{
	const struct protocol_start *start = &session->start->message.start;
	struct image_params params = {
		.name = start->name,
		.options = start->options[0] ? start->options : NULL,
		.cache = (enum lunkit_cache)start->cache,
		.read_only = start->flags & PROTOCOL_READ_ONLY,
		.look_only = start->flags & PROTOCOL_LOOK_ONLY,
		.locked = start->flags & PROTOCOL_LOCKED,
		.survive = session->start->message.type == PROTOCOL_START_LUN,
		.memo = start->memo[0] ? start->memo : NULL,
		.size = start->size,
	};
	if (session->start->message.type == PROTOCOL_START_LUN)
		session->host.memo = session_tell_memo;
	if (session->start->message.type == PROTOCOL_CREATE)
		return image_create(&session->host, session->handler, &params, err);
	int r = image_open(&session->host, session->handler, &params, &session->image, err);
	if (r < 0)
		return r;
	session->flush = aligned_alloc(64, (image_request_size(session->image) + 63) & ~(size_t)63);
	if (!session->flush)
		return lunkit_error_set(err, ENOMEM, "no memory for image '%s'", start->name);
	image_request_init(session->image, session->flush);
	return 0;
}

static int session_make_lun(struct session *session, const struct lun_ring *ring, struct lunkit_error *err)
{
	const struct protocol_start *start = &session->start->message.start;
	struct lun_config config = {
		.loop = session->host.loop,
		.image = session->image,
		.ring = *ring,
		.control = { .ask = session_ask, .modes = session_tell_modes, .argument = session },
		.block_size = start->block_size,
		.max_transfer_blocks = start->max_transfer_blocks,
		.read_only = start->flags & PROTOCOL_READ_ONLY,
		.write_cache = start->flags & PROTOCOL_WRITE_CACHE,
		.modes = start->modes,
	};
	snprintf(config.identity.serial, sizeof(config.identity.serial), "%s", start->serial);
	snprintf(config.identity.vendor, sizeof(config.identity.vendor), "LUNKIT");
	snprintf(config.identity.product, sizeof(config.identity.product), "%s", session->handler->name);
	snprintf(config.identity.revision, sizeof(config.identity.revision), "%.4s", LUNKIT_VERSION);
	int r = lun_new(&config, &session->lun, err);
	if (r < 0)
		return r;
	lun_on_failure(session->lun, lun_failed, session);
	return 0;
}

static bool session_needs_network(const struct session *session)
{
	const struct lunkit_handler *target = handler_find(session->start->message.start.target_kind);
	return (session->handler->flags | (target ? target->flags : 0)) & LUNKIT_HANDLER_NETWORK;
}

/* Everything up to READY. */
static int session_start(struct session *session, struct lunkit_error *err)
{
	const struct protocol_start *start = &session->start->message.start;
	struct lun_ring ring = { 0 };
	struct loop_config loop_config = { .depth = LOOP_DEPTH, .restrict_ops = true };
	bool is_lun = session->start->message.type == PROTOCOL_START_LUN;
	if (is_lun)
		loop_config.poll_max_ns = wakeup_poll_window_ns();

	int r = keys_take(&session->keys, session->start, &session->host, err);
	if (r == 0)
		r = handler_load(session->handlers, start->kind, &session->handler, err);
	if (r == 0) {
		keys_load_handler(session->handlers, start->flags);
		handler_load_children(session->handlers, session->handler);
		r = jobs_load_handlers(session->handlers, start->target_kind, err);
	}
	if (r == 0) {
		r = loop_new(&loop_config, &session->host.loop);
		if (r < 0) {
			lunkit_error_set(err, r, "cannot make an io_uring: %s", strerror(-r));
			if (r == -EOPNOTSUPP)
				lunkit_error_hint(err,
						  "this kernel can't limit a worker's io_uring to what it needs: Linux 5.10 or later can");
			else
				lunkit_error_hint(err, "check: sysctl kernel.io_uring_disabled (it has to be 0, or 1 for root)");
		}
	}
	if (r == 0 && is_lun)
		r = session_map_ring(session, &ring, err);
	if (r == 0)
		r = sandbox_enter(start->uid, start->gid, session_needs_network(session), err);
	if (r == 0)
		r = session_open_image(session, err);
	if (r == 0 && !(start->flags & PROTOCOL_LOCKED))
		r = key_check_use(&session->host, session->host.key, start->name, start->kind, err);
	if (r == 0 && is_lun)
		r = session_make_lun(session, &ring, err);
	return r;
}

static void session_say_ready(struct session *session)
{
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		return;
	packet->message.type = PROTOCOL_READY;
	packet->message.id = session->start->message.id;
	if (session->image) {
		packet->message.ready.size = image_limits(session->image)->size;
		packet->message.ready.block_size = image_limits(session->image)->block_size;
		packet->message.ready.flags = image_is_read_only(session->image) ? PROTOCOL_READ_ONLY : 0;
	}
	snprintf(packet->message.ready.notice, sizeof(packet->message.ready.notice), "%s", session->host.notice);
	link_send(&session->link, packet);
	free(packet);
}

static void session_serve(struct session *session)
{
	session->jobs.image = session->image;
	session->jobs.start = &session->start->message.start;
	session->jobs.has_lun = session->lun;
	if (session->lun)
		lun_start(session->lun);
	session->host.size_changed = session_tell_size_changed;
	session_say_ready(session);
	loop_poll_start(session->host.loop, &session->socket_op, session->link.socket, POLLIN);
	int r = loop_run(session->host.loop);
	if (r < 0) {
		log_error("the event loop broke: %s", strerror(-r));
		session->exit_status = 1;
		session->loop_broke = true;
	}
}

static bool is_start(uint32_t type)
{
	return type == PROTOCOL_START_LUN || type == PROTOCOL_START_IMAGE || type == PROTOCOL_CREATE || type == PROTOCOL_DESCRIBE ||
	       type == PROTOCOL_INSPECT;
}

int session_run(int socket, const char *handlers)
{
	struct session session = { .handlers = handlers, .socket_op.done = socket_ready, .stop_op.done = lun_stopped };
	list_init(&session.queries);
	link_init(&session.link, socket);
	jobs_init(&session.jobs);
	session.jobs.link = &session.link;
	session.jobs.host = &session.host;
	session.jobs.idle = jobs_idle;
	session.jobs.argument = &session;
	session.host.opener = (struct image_opener){ .open = jobs_open, .remove = jobs_remove, .argument = &session.jobs };

	int r = link_receive(&session.link, true, &session.start);
	if (r == 0)
		return 0; /* the starter changed its mind */
	if (r < 0 || !is_start(session.start->message.type)) {
		log_error("the first message is not a start message");
		link_packet_free(r < 0 ? NULL : session.start);
		return 2;
	}
	log_set_name(session.start->message.start.label);

	if (session.start->message.type == PROTOCOL_DESCRIBE) {
		session.exit_status = look_describe(&session.link, session.start, handlers);
	} else if (session.start->message.type == PROTOCOL_INSPECT) {
		session.exit_status = look_inspect(&session.link, session.start, &session.host);
	} else {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		r = session_start(&session, &err);
		if (r < 0) {
			link_reply(&session.link, PROTOCOL_FAILED, session.start->message.id, r, &err, NULL, 0);
			session.exit_status = 1;
		} else if (session.image) {
			session_serve(&session);
		} else {
			session_say_ready(&session);
		}
	}
	if (session.loop_broke)
		return session.exit_status;
	lun_free(session.lun);
	free(session.flush);
	image_close(session.image);
	loop_free(session.host.loop);
	keys_free(&session.keys);
	if (session.ring)
		munmap(session.ring, session.ring_length);
	link_packet_free(session.start);
	return session.exit_status;
}
