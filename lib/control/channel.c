/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A channel outlives channel_free() until its process has been reaped and the file that is being opened for it has been: then it has no callbacks any more ("orphan").
 *
 *     socket readable ──> messages, at most MESSAGES_A_TURN at a time, none while ASKS_MAX questions wait for answers
 *     socket ended    ──> the process has GRACE seconds to end as well
 *     pidfd readable  ──> reap, fail the requests under way, ended()
 */
#include "control/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "control/lease.h"
#include "control/worker_log.h"

#define MESSAGES_A_TURN 8
#define ASKS_MAX 16
#define NOTICES_MAX 100 /* of one worker: more is no notice but noise */
#define GRACE_SECONDS 5
#define SECOND UINT64_C(1000000)

struct channel_request {
	struct list node;
	struct channel *channel;
	uint32_t id;
	sd_event_source *timer; /* NULL: a job */
	void (*progress)(void *argument, uint64_t done, uint64_t total);
	void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err);
	void *argument;
};

struct channel {
	struct channel_config config;
	char *label, *path;
	struct worker_process process;
	sd_event_source *socket_source, *process_source, *timer;
	struct worker_log *log;
	struct list requests;
	uint32_t next_id;
	unsigned asks, notices;
	bool ready, draining, opening, orphan, reaped;
	unsigned holds; /* calls under way that still look at the channel */
	struct lunkit_error failure;
};

/* Opening a file on a task's thread: everything that it needs is in here. */
struct open_task {
	struct task task;
	struct channel *channel;
	char *path;
	const char **directories; /* ends with NULL; or NULL: nothing besides path */
	bool may_write, identify;
	struct opener_identity identity;
	struct protocol_packet request, answer;
};

static void channel_release(struct channel *channel)
{
	if (!channel->orphan || !channel->reaped || channel->opening || channel->holds)
		return;
	free(channel->label);
	free(channel->path);
	free(channel->config.config);
	free(channel);
}

static void close_sources(struct channel *channel)
{
	channel->socket_source = sd_event_source_disable_unref(channel->socket_source);
	channel->process_source = sd_event_source_disable_unref(channel->process_source);
	channel->timer = sd_event_source_disable_unref(channel->timer);
	worker_log_free(channel->log);
	channel->log = NULL;
}

static void signal_worker(struct channel *channel)
{
	if (!channel->reaped)
		syscall(SYS_pidfd_send_signal, channel->process.pidfd, SIGKILL, NULL, 0);
}

void channel_fail(struct channel *channel, const struct lunkit_error *err)
{
	if (!channel->failure.code)
		channel->failure = *err;
	signal_worker(channel);
}

__attribute__((format(printf, 2, 3))) static void channel_kill(struct channel *channel, const char *format, ...)
{
	if (!channel->failure.code) {
		char text[256];
		va_list args;
		va_start(args, format);
		vsnprintf(text, sizeof(text), format, args);
		va_end(args);
		lunkit_error_set(&channel->failure, EIO, "%s", text);
	}
	signal_worker(channel);
}

/* ---- requests ---- */

static void request_end(struct channel_request *request, const struct protocol_result *reply, const struct lunkit_error *err)
{
	list_remove(&request->node);
	sd_event_source_disable_unref(request->timer);
	request->done(request->argument, reply, err);
	free(request);
}

static void fail_requests(struct list *requests, const struct lunkit_error *err)
{
	while (!list_empty(requests))
		request_end(list_entry(requests->next, struct channel_request, node), NULL, err);
}

static int on_request_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	struct channel_request *request = userdata;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	lunkit_error_set(&err, ETIMEDOUT, "the worker of '%s' did not answer in time", request->channel->label);
	request_end(request, NULL, &err);
	return 0;
}

static void send_packet(struct channel *channel, const struct protocol_packet *packet)
{
	int r = channel->socket_source ? protocol_send(channel->process.socket, packet) : -EPIPE;
	if (r == -EAGAIN)
		channel_kill(channel, "the worker does not read its messages");
	else if (r < 0 && r != -EPIPE) /* EPIPE: the process's end is told soon */
		channel_kill(channel, "cannot talk to the worker: %s", strerror(-r));
}

static struct channel_request *
add_request(struct channel *channel, struct protocol_packet *packet,
	    void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument)
{
	struct channel_request *request = calloc(1, sizeof(*request));
	if (!request)
		abort(); /* as everywhere where a promise of a call could not be kept: the next lunkitd finds a consistent kernel */
	request->channel = channel;
	request->id = packet->message.id = ++channel->next_id;
	request->done = done;
	request->argument = argument;
	list_add_tail(&channel->requests, &request->node);
	return request;
}

void channel_call(struct channel *channel, struct protocol_packet *packet, unsigned seconds,
		  void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument)
{
	struct channel_request *request = add_request(channel, packet, done, argument);
	/* Also when the worker is gone: the timer or the process's end calls done() */
	if (sd_event_add_time_relative(channel->config.event, &request->timer, CLOCK_MONOTONIC, seconds * SECOND, 0, on_request_timer,
				       request) < 0)
		abort();
	send_packet(channel, packet);
}

uint32_t channel_job(struct channel *channel, struct protocol_packet *packet,
		     void (*progress)(void *argument, uint64_t done, uint64_t total),
		     void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument)
{
	struct channel_request *request = add_request(channel, packet, done, argument);
	request->progress = progress;
	send_packet(channel, packet);
	return request->id;
}

void channel_job_cancel(struct channel *channel, uint32_t id)
{
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = PROTOCOL_JOB_CANCEL;
	packet.message.id = id;
	send_packet(channel, &packet);
}

void channel_job_rate(struct channel *channel, uint32_t id, uint64_t rate)
{
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = PROTOCOL_JOB_RATE;
	packet.message.id = id;
	packet.message.job.rate = rate;
	send_packet(channel, &packet);
}

static void handle_progress(struct channel *channel, const struct protocol_message *message)
{
	list_for_each (node, &channel->requests) {
		struct channel_request *request = list_entry(node, struct channel_request, node);
		if (request->id == message->id && request->progress) {
			request->progress(request->argument, message->progress.done, message->progress.total);
			return;
		}
	}
}

static void handle_reply(struct channel *channel, const struct protocol_message *message)
{
	list_for_each (node, &channel->requests) {
		struct channel_request *request = list_entry(node, struct channel_request, node);
		if (request->id != message->id)
			continue;
		request_end(request, &message->result, NULL);
		return;
	}
}

/* ---- files ---- */

static void open_work(struct task *task)
{
	struct open_task *open = (struct open_task *)task;
	struct opener_policy policy = {
		.path = open->path,
		.identity = open->identify ? &open->identity : NULL,
		.directories = open->directories,
		.config = (const char *const *)open->channel->config.config,
		.no_siblings = !open->directories,
		.may_write = open->may_write,
	};
	opener_handle(&policy, &open->request, &open->answer);
}

static void open_done(struct task *task)
{
	struct open_task *open = (struct open_task *)task;
	struct channel *channel = open->channel;
	/* Only now: a worker that has its answer may ask for the next file at once. */
	channel->opening = false;
	if (channel->config.identity)
		*channel->config.identity = open->identity;
	if (!channel->reaped && protocol_send(channel->process.socket, &open->answer) == -EAGAIN)
		channel_kill(channel, "the worker does not read its messages");
	protocol_close_fds(&open->answer);
	free(open->path);
	free(open->directories);
	free(open);
	channel_release(channel);
}

static void handle_open(struct channel *channel, const struct protocol_packet *packet)
{
	if (channel->opening) {
		channel_kill(channel, "the worker asks for two files at once");
		return;
	}
	struct open_task *open = calloc(1, sizeof(*open));
	if (!open)
		abort();
	open->task.work = open_work;
	open->task.done = open_done;
	open->channel = channel;
	open->path = channel->path ? strdup(channel->path) : NULL;
	open->may_write = channel->config.may_write;
	open->identify = channel->config.identity != NULL;
	if (open->identify)
		open->identity = *channel->config.identity;
	const struct names *directories = channel->config.directories;
	if (directories) {
		open->directories = calloc(directories->count + 1, sizeof(*open->directories));
		if (!open->directories)
			abort();
		for (size_t i = 0; i < directories->count; i++)
			open->directories[i] = directories->items[i];
	}
	open->request = *packet;
	open->request.fd_count = 0;
	channel->opening = true;
	tasks_start(channel->config.tasks, &open->task);
}

/* ---- messages ---- */

static void handle_failed(struct channel *channel, const struct protocol_result *result)
{
	if (!channel->failure.code) {
		channel->failure = result->error;
		if (channel->failure.code <= 0)
			channel->failure.code = result->result < 0 ? -result->result : EIO;
	}
	sd_event_source_set_time_relative(channel->timer, GRACE_SECONDS * SECOND);
	sd_event_source_set_enabled(channel->timer, SD_EVENT_ONESHOT);
}

static void handle(struct channel *channel, const struct protocol_packet *packet)
{
	const struct protocol_message *message = &packet->message;
	switch ((enum protocol_type)message->type) {
	case PROTOCOL_READY:
		if (channel->ready || channel->draining || channel->failure.code)
			return;
		channel->ready = true;
		sd_event_source_set_enabled(channel->timer, SD_EVENT_OFF);
		if (channel->config.ready)
			channel->config.ready(channel->config.argument, &message->ready);
		return;
	case PROTOCOL_FAILED:
		handle_failed(channel, &message->result);
		return;
	case PROTOCOL_OPEN:
	case PROTOCOL_REMOVE:
		handle_open(channel, packet);
		return;
	case PROTOCOL_ASK:
		if (!channel->config.ask) {
			channel_answer(channel, message->id, -EOPNOTSUPP, NULL, 0);
			return;
		}
		if (++channel->asks >= ASKS_MAX)
			sd_event_source_set_enabled(channel->socket_source, SD_EVENT_OFF);
		channel->config.ask(channel->config.argument, message->id, &message->query);
		return;
	case PROTOCOL_REPLY:
		handle_reply(channel, message);
		return;
	case PROTOCOL_MODES:
		if (channel->config.modes)
			channel->config.modes(channel->config.argument, message->modes.modes);
		return;
	case PROTOCOL_MEMO:
		if (channel->config.memo)
			channel->config.memo(channel->config.argument, message->memo.text);
		return;
	case PROTOCOL_SIZE_CHANGED:
		if (channel->config.size_changed)
			channel->config.size_changed(channel->config.argument);
		return;
	case PROTOCOL_PROGRESS:
		handle_progress(channel, message);
		return;
	case PROTOCOL_NOTICE:
		if (++channel->notices > NOTICES_MAX)
			channel_kill(channel, "the worker sends notices without end");
		else if (channel->config.notice && message->result.text_length)
			channel->config.notice(channel->config.argument, message->result.text);
		return;
	case PROTOCOL_START_LUN:
	case PROTOCOL_START_IMAGE:
	case PROTOCOL_CREATE:
	case PROTOCOL_DESCRIBE:
	case PROTOCOL_ANSWER:
	case PROTOCOL_ANSWER_QUERY:
	case PROTOCOL_RESIZE:
	case PROTOCOL_INFO:
	case PROTOCOL_STATUS:
	case PROTOCOL_CAPACITY:
	case PROTOCOL_DRAIN:
	case PROTOCOL_INSPECT:
	case PROTOCOL_JOB:
	case PROTOCOL_JOB_CANCEL:
	case PROTOCOL_JOB_RATE:
		break;
	}
	channel_kill(channel, "the worker sent a message of type %u, which is not its to send", message->type);
}

void channel_answer(struct channel *channel, uint32_t id, int result, const void *bytes, size_t length)
{
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = PROTOCOL_ANSWER_QUERY;
	packet.message.id = id;
	packet.message.query.result = result;
	packet.message.query.length = (uint32_t)length;
	if (length)
		memcpy(packet.message.query.bytes, bytes, length);
	if (channel->asks && channel->asks-- == ASKS_MAX && channel->socket_source)
		sd_event_source_set_enabled(channel->socket_source, SD_EVENT_ON);
	send_packet(channel, &packet);
}

static void on_socket_end(struct channel *channel)
{
	channel->socket_source = sd_event_source_disable_unref(channel->socket_source);
	if (!channel->draining) {
		sd_event_source_set_time_relative(channel->timer, GRACE_SECONDS * SECOND);
		sd_event_source_set_enabled(channel->timer, SD_EVENT_ONESHOT);
	}
}

static int on_socket(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct channel *channel = userdata;
	struct protocol_packet packet;
	(void)events;
	sd_event_source_ref(source);
	for (int i = 0; i < MESSAGES_A_TURN; i++) {
		int enabled;
		/* a callback may have freed the channel, or there may be too many questions */
		if (sd_event_source_get_enabled(source, &enabled) < 0 || enabled == SD_EVENT_OFF)
			break;
		int r = protocol_receive(fd, &packet);
		if (r == -EAGAIN)
			break;
		if (r <= 0) {
			if (r < 0)
				channel_kill(channel, "the worker sent something that makes no sense");
			on_socket_end(channel);
			break;
		}
		handle(channel, &packet);
		protocol_close_fds(&packet);
	}
	sd_event_source_unref(source);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct channel *channel = userdata;
	(void)source;
	(void)usec;
	channel_kill(channel, channel->draining ? "the worker did not finish in time"
			      : channel->ready	? "the worker's connection ended, but not the worker"
						: "the worker did not get ready in time");
	return 0;
}

static void describe_end(struct channel *channel, const siginfo_t *info)
{
	if (info->si_code != CLD_EXITED) {
		/* a signal that was not ours is the more telling cause */
		if (!channel->failure.code)
			lunkit_error_set(&channel->failure, EIO, "the worker was killed by signal %d (%s)", info->si_status,
					 strsignal(info->si_status));
	} else if (!channel->failure.code && (!channel->draining || info->si_status != 0)) {
		lunkit_error_set(&channel->failure, EIO, "the worker ended unexpectedly with status %d", info->si_status);
		lunkit_error_hint(&channel->failure, "its last words are in lunkitd's log");
	}
}

static int on_process(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct channel *channel = userdata;
	(void)source;
	(void)events;
	/* What it said before it ended comes first: FAILED has the reason, and a worker that has only one answer to give leaves right after it. */
	struct protocol_packet packet;
	channel->holds++;
	while (channel->socket_source && protocol_receive(channel->process.socket, &packet) == 1) {
		if (packet.message.type == PROTOCOL_FAILED)
			handle_failed(channel, &packet.message.result);
		else if (packet.message.type == PROTOCOL_REPLY)
			handle_reply(channel, &packet.message);
		else if (packet.message.type == PROTOCOL_MODES && channel->config.modes)
			channel->config.modes(channel->config.argument, packet.message.modes.modes);
		else if (packet.message.type == PROTOCOL_MEMO && channel->config.memo)
			channel->config.memo(channel->config.argument, packet.message.memo.text);
		protocol_close_fds(&packet);
	}
	siginfo_t info = { 0 };
	while (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 && errno == EINTR)
		;
	channel->reaped = true;
	describe_end(channel, &info);
	close_sources(channel);
	worker_release(&channel->process);
	if (channel->config.count)
		--*channel->config.count;

	struct list requests;
	list_init(&requests);
	while (!list_empty(&channel->requests)) {
		struct list *node = list_pop(&channel->requests);
		list_add_tail(&requests, node);
	}
	struct lunkit_error gone = channel->failure;
	if (!gone.code)
		lunkit_error_set(&gone, ESHUTDOWN, "the worker of '%s' ended", channel->label);
	fail_requests(&requests, &gone);
	if (!channel->orphan) /* a request's done() may have freed it */
		channel->config.ended(channel->config.argument, &channel->failure);
	channel->holds--;
	channel_release(channel);
	return 0;
}

/* ---- life ---- */

int channel_new(const struct channel_config *config, struct channel **ret, struct lunkit_error *err)
{
	struct channel *channel = calloc(1, sizeof(*channel));
	if (!channel) {
		free(config->config);
		return lunkit_error_set(err, ENOMEM, "out of memory");
	}
	channel->config = *config;
	list_init(&channel->requests);
	channel->label = strdup(config->label);
	channel->path = config->path ? strdup(config->path) : NULL;
	struct worker_config worker = *config->worker;
	int r = -ENOMEM;
	if (!channel->label || (config->path && !channel->path)) {
		lunkit_error_set(err, ENOMEM, "out of memory");
		goto fail;
	}
	r = lease_for_worker(config->runtime_directory, &worker.keep_fd);
	if (r < 0) {
		lunkit_error_set(err, r, "cannot use %s/workers.lock: %s", config->runtime_directory, strerror(-r));
		goto fail;
	}
	worker.relay_log = true;
	r = worker_spawn(&worker, &channel->process, err);
	close(worker.keep_fd);
	if (r < 0)
		goto fail;
	if (worker_log_new(config->event, channel->process.log, channel->label, &channel->log) < 0)
		log_warning("%s: what its worker says can't be heard", channel->label);
	if (config->count)
		++*config->count;
	fcntl(channel->process.socket, F_SETFL, fcntl(channel->process.socket, F_GETFL) | O_NONBLOCK);
	if ((r = sd_event_add_io(config->event, &channel->socket_source, channel->process.socket, EPOLLIN, on_socket, channel)) < 0 ||
	    (r = sd_event_add_io(config->event, &channel->process_source, channel->process.pidfd, EPOLLIN, on_process, channel)) < 0 ||
	    (r = sd_event_add_time_relative(config->event, &channel->timer, CLOCK_MONOTONIC, SECOND, 0, on_timer, channel)) < 0) {
		lunkit_error_set(err, r, "cannot watch a worker: %s", strerror(-r));
		signal_worker(channel);
		int status;
		worker_wait(&channel->process, 1000, &status);
		worker_release(&channel->process);
		if (config->count)
			--*config->count;
		goto fail;
	}
	sd_event_source_set_enabled(channel->timer, SD_EVENT_OFF);
	/* People's requests come before what workers have to say. */
	sd_event_source_set_priority(channel->socket_source, SD_EVENT_PRIORITY_NORMAL + 10);
	*ret = channel;
	return 0;
fail:
	close_sources(channel);
	free(channel->label);
	free(channel->path);
	free(channel->config.config);
	free(channel);
	return r;
}

void channel_free(struct channel *channel)
{
	if (!channel)
		return;
	channel->orphan = true;
	channel->config.identity = NULL;
	channel->socket_source = sd_event_source_disable_unref(channel->socket_source);
	channel->timer = sd_event_source_disable_unref(channel->timer);
	signal_worker(channel);
	channel_release(channel);
}

void channel_start(struct channel *channel, const struct protocol_packet *start, unsigned seconds)
{
	sd_event_source_set_time_relative(channel->timer, seconds * SECOND);
	sd_event_source_set_enabled(channel->timer, SD_EVENT_ONESHOT);
	send_packet(channel, start);
}

void channel_drain(struct channel *channel, unsigned seconds)
{
	if (channel->reaped || channel->draining)
		return;
	channel->draining = true;
	sd_event_source_set_time_relative(channel->timer, seconds * SECOND);
	sd_event_source_set_enabled(channel->timer, SD_EVENT_ONESHOT);
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };
	packet.message.type = PROTOCOL_DRAIN;
	send_packet(channel, &packet);
}

pid_t channel_pid(const struct channel *channel)
{
	return channel->process.pid;
}
