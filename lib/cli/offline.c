/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/offline.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "cli/backing.h"
#include "cli/format.h"
#include "cli/keys.h"
#include "host/process.h"

#define END_PATIENCE_MS 60000 /* a worker flushes before it ends */
#define INTERRUPTED_PATIENCE_MS 2000

struct offline {
	struct worker_process worker;
	struct opener_policy policy;
	char **config[2]; /* of the image, and of what a job makes */
	const char *config_folders[64];
	void (*progress)(void *argument, uint64_t done, uint64_t total);
	void *argument;
	struct protocol_packet packet, reply; /* 64 KiB and more: on the heap with the rest */
	bool created, serving;		      /* serving: it has an image open, and ends when it is told to */
	struct key key;			      /* that the reference says where to find */
	bool orderly;			      /* what it does has to end in order, also when it is interrupted */
};

/* A signal closes the talk with the worker, which ends it, and our call with -EPIPE. */
static volatile sig_atomic_t stop_signal, stop_socket = -1;

static void on_signal(int number)
{
	int code = errno;
	stop_signal = number;
	if (stop_socket >= 0)
		shutdown(stop_socket, SHUT_RDWR);
	errno = code;
}

static void catch_signals(int socket)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, before;
	stop_socket = socket;
	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
}

static void add_key(struct offline *offline, const struct key *key, uint32_t flag)
{
	if (key->fd < 0)
		return;
	offline->packet.fds[offline->packet.fd_count++] = key->fd;
	offline->packet.message.start.flags |= flag;
}

/* The keys go with START: those of the command line, else the one that the reference names. made: the image is about to be made. */
static int add_keys(struct offline *offline, const struct reference *reference, bool made, struct lunkit_error *err)
{
	const struct cli_keys *keys = cli_keys();
	const struct key *key = &keys->key, *parent = &keys->parent_key;
	if (key->fd < 0 && reference->key_file[0]) {
		int r = key_open(reference->key_file, reference->name, false, &offline->key, err);
		if (r < 0)
			return r;
		key = &offline->key;
	}
	if (made && keys->new_key.fd >= 0) {
		parent = parent->fd >= 0 ? parent : key;
		key = &keys->new_key;
	} else if (keys->new_key.fd >= 0) {
		offline->packet.message.start.flags |= PROTOCOL_CRYPT;
	}
	add_key(offline, key, PROTOCOL_KEY);
	add_key(offline, parent, PROTOCOL_PARENT_KEY);
	return 0;
}

/* Its configuration and keys may be read as well. */
static void allow_config(struct offline *offline, unsigned which, const struct reference *reference)
{
	size_t count = 0;
	char **folders = offline->config[which] = reference_config(reference);
	while (offline->config_folders[count])
		count++;
	for (; folders && *folders && count < ARRAY_SIZE(offline->config_folders) - 1; folders++)
		offline->config_folders[count++] = *folders;
	if (count)
		offline->policy.config = offline->config_folders;
}

static int offline_start(const struct reference *reference, struct offline **ret, struct lunkit_error *err)
{
	struct worker_config config;
	struct offline *offline = calloc(1, sizeof(*offline));
	if (!offline)
		return lunkit_error_set(err, ENOMEM, "no memory to start a worker");
	offline->key = KEY_NONE;
	worker_config_default(&config);
	int r = worker_spawn(&config, &offline->worker, err);
	if (r < 0) {
		free(offline);
		return r;
	}
	catch_signals(offline->worker.socket);
	for (unsigned i = 0; i < PROTOCOL_FDS_MAX; i++)
		offline->packet.fds[i] = -1;
	if (reference_is_path(reference)) {
		offline->policy.path = reference->name;
		offline->policy.directories = backing_directories(NULL);
	}
	allow_config(offline, 0, reference);
	struct protocol_start *start = &offline->packet.message.start;
	offline->packet.message.id = 1;
	snprintf(start->kind, sizeof(start->kind), "%s", reference->kind);
	snprintf(start->name, sizeof(start->name), "%s", reference->name);
	snprintf(start->options, sizeof(start->options), "%s", reference->options);
	snprintf(start->label, sizeof(start->label), "lunkit");
	start->cache = reference->cache;
	start->flags = reference->read_only ? PROTOCOL_READ_ONLY : 0;
	start->uid = start->gid = (uint32_t)-1;
	*ret = offline;
	return 0;
}

static int offline_end(struct offline *offline, int result, struct lunkit_error *err);

/* The same with the keys that there are. */
static int offline_start_with_keys(const struct reference *reference, bool made, struct offline **ret, struct lunkit_error *err)
{
	struct offline *offline;
	int r = offline_start(reference, &offline, err);
	if (r == 0 && (r = add_keys(offline, reference, made, err)) < 0)
		return offline_end(offline, r, err);
	if (r == 0)
		*ret = offline;
	return r;
}

/* One call; says that it was interrupted where that is why it failed. */
static int offline_call(struct offline *offline, struct lunkit_error *err)
{
	int r = worker_call(&offline->worker, &offline->policy, &offline->packet, &offline->reply, offline->progress, offline->argument,
			    err);
	if (r < 0 && stop_signal)
		return lunkit_error_set(err, EINTR, "interrupted");
	offline->serving = offline->serving || (r == 0 && offline->packet.message.type == PROTOCOL_START_IMAGE);
	return r;
}

/* Ends the worker, and removes what a create that failed left behind because the worker died. Returns result, or the worker's failure. */
static int offline_end(struct offline *offline, int result, struct lunkit_error *err)
{
	int status = 0;
	if (offline->serving) {
		offline->packet.fd_count = 0;
		memset(&offline->packet.message, 0, sizeof(offline->packet.message));
		offline->packet.message.type = PROTOCOL_DRAIN;
		protocol_send(offline->worker.socket, &offline->packet);
	}
	stop_socket = -1;
	/* what an interrupted create has made goes away, so there is nothing to wait for */
	if (stop_signal && offline->created)
		kill(offline->worker.pid, SIGKILL);
	worker_wait(&offline->worker, stop_signal && !offline->orderly ? INTERRUPTED_PATIENCE_MS : END_PATIENCE_MS, &status);
	if (result == 0 && !(WIFEXITED(status) && WEXITSTATUS(status) == 0))
		result = lunkit_error_set(err, EIO, "the worker process failed at its end (%s %d)",
					  WIFSIGNALED(status) ? "signal" : "exit status",
					  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (result < 0 && offline->created && offline->policy.path)
		unlink(offline->policy.path);
	worker_release(&offline->worker);
	key_free(&offline->key);
	free(offline->config[0]);
	free(offline->config[1]);
	free(offline);
	return result;
}

int offline_create(const struct reference *reference, uint64_t size, const char *parent, struct lunkit_error *err)
{
	struct offline *offline;
	int r = offline_start_with_keys(reference, true, &offline, err);
	if (r < 0)
		return r;
	if (parent)
		offline->policy.directories = backing_directories(parent);
	offline->policy.may_write = offline->policy.may_create = true;
	offline->policy.ret_created = &offline->created;
	offline->packet.message.type = PROTOCOL_CREATE;
	offline->packet.message.start.size = size;
	return offline_end(offline, offline_call(offline, err), err);
}

/* The text of a REPLY: protocol_receive() has checked its length and end. */
static int reply_json(const struct offline *offline, struct json_object **ret, struct lunkit_error *err)
{
	const struct protocol_result *result = &offline->reply.message.result;
	struct json_object *object = result->text_length ? json_tokener_parse(result->text) : NULL;
	if (!json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		return lunkit_error_set(err, EPROTO, "the worker process sent something that makes no sense");
	}
	*ret = object;
	return 0;
}

/* The last call's answer, where r says that there is one, and the worker's end. */
static int offline_end_json(struct offline *offline, int r, struct json_object **ret, struct lunkit_error *err)
{
	struct json_object *object = NULL;
	if (r == 0)
		r = reply_json(offline, &object, err);
	r = offline_end(offline, r, err);
	if (r < 0)
		json_object_put(object);
	else
		*ret = object;
	return r;
}

static void next_packet(struct offline *offline, enum protocol_type type)
{
	offline->packet.fd_count = 0;
	memset(&offline->packet.message, 0, sizeof(offline->packet.message));
	offline->packet.message.type = type;
	offline->packet.message.id = 2;
}

int offline_job(const struct reference *reference, const struct offline_job *job, struct json_object **ret_json, uint64_t *ret_size,
		struct lunkit_error *err)
{
	/* A worker has an image; one that only takes in a stream has the one that is nothing. */
	static const struct reference nothing = { .kind = "null", .name = "import" };
	struct offline *offline;
	struct json_object *object = NULL;
	int r = offline_start_with_keys(reference ? reference : &nothing, false, &offline, err);
	if (r < 0)
		return r;
	offline->orderly = true;
	offline->policy.may_write = job->use == OFFLINE_WRITE;
	if (job->target) {
		allow_config(offline, 1, job->target);
		snprintf(offline->packet.message.start.target_kind, sizeof(offline->packet.message.start.target_kind), "%s",
			 job->target->kind);
	}
	offline->packet.message.type = PROTOCOL_START_IMAGE;
	offline->packet.message.start.flags |= (job->use == OFFLINE_WRITE ? 0 : PROTOCOL_READ_ONLY) |
					       (job->use == OFFLINE_LOOK ? PROTOCOL_LOOK_ONLY : 0) | (job->locked ? PROTOCOL_LOCKED : 0);
	r = offline_call(offline, err);
	if (r == 0) {
		next_packet(offline, PROTOCOL_JOB);
		offline->packet.message.job = job->request;
		offline->progress = job->progress;
		offline->argument = job->argument;
		for (unsigned i = 0; i < 2 && job->fds[i] >= 0; i++)
			offline->packet.fds[offline->packet.fd_count++] = job->fds[i];
		bool makes = job->request.kind == PROTOCOL_JOB_EXPORT || job->request.kind == PROTOCOL_JOB_IMPORT;
		if (makes && cli_keys()->new_key.fd >= 0 && !(job->request.flags & PROTOCOL_JOB_STREAM)) {
			offline->packet.message.job.flags |= PROTOCOL_JOB_NEW_KEY;
			offline->packet.fds[offline->packet.fd_count++] = cli_keys()->new_key.fd;
		}
		r = offline_call(offline, err);
		offline->packet.fd_count = 0;
	}
	uint64_t size = r == 0 ? offline->reply.message.result.value : 0;
	if (r == 0 && ret_json && offline->reply.message.result.text_length)
		r = reply_json(offline, &object, err);
	r = offline_end(offline, r, err);
	if (r < 0) {
		json_object_put(object);
		return r;
	}
	if (ret_json)
		*ret_json = object;
	if (ret_size)
		*ret_size = size;
	return 0;
}

int offline_size(const struct reference *reference, uint64_t *ret, struct lunkit_error *err)
{
	struct offline *offline;
	int r = offline_start_with_keys(reference, false, &offline, err);
	if (r < 0)
		return r;
	offline->packet.message.type = PROTOCOL_START_IMAGE;
	offline->packet.message.start.flags |= PROTOCOL_READ_ONLY;
	r = offline_call(offline, err);
	uint64_t size = r == 0 ? offline->reply.message.ready.size : 0;
	r = offline_end(offline, r, err);
	if (r == 0)
		*ret = size;
	return r;
}

int offline_hold(const char *path, struct offline **ret, struct lunkit_error *err)
{
	struct reference file = { .kind = "raw" }; /* bytes, whatever is in them */
	struct offline *offline;
	*ret = NULL;
	snprintf(file.name, sizeof(file.name), "%s", path);
	if (access(path, F_OK) < 0)
		return 0;
	int r = offline_start(&file, &offline, err);
	if (r < 0)
		return r;
	offline->policy.may_write = true;
	offline->packet.message.type = PROTOCOL_START_IMAGE;
	r = offline_call(offline, err);
	if (r == 0) {
		*ret = offline;
		return 0;
	}
	r = offline_end(offline, r, err);
	if (r != -EINVAL)
		return r;
	/* Its size is none that a disk has, empty perhaps, which is looked at behind the lock: nobody uses it. */
	*err = LUNKIT_ERROR_INIT;
	return 0;
}

void offline_release(struct offline *offline)
{
	struct lunkit_error err;
	if (offline)
		offline_end(offline, 0, &err);
}

int offline_inspect(const struct reference *reference, struct json_object **ret, struct lunkit_error *err)
{
	struct offline *offline;
	int r = offline_start(reference, &offline, err);
	if (r < 0)
		return r;
	offline->packet.message.type = PROTOCOL_INSPECT;
	offline->packet.message.start.options[0] = '\0';
	return offline_end_json(offline, offline_call(offline, err), ret, err);
}

int offline_info(const struct reference *reference, struct json_object **ret, struct lunkit_error *err)
{
	struct offline *offline;
	struct json_object *object = NULL;
	int r = offline_start_with_keys(reference, false, &offline, err);
	if (r < 0)
		return r;
	offline->packet.message.type = PROTOCOL_START_IMAGE;
	/* how an image is encrypted shows without a key */
	offline->packet.message.start.flags |= PROTOCOL_READ_ONLY | PROTOCOL_LOOK_ONLY | PROTOCOL_CRYPT;
	r = offline_call(offline, err);
	if (r == 0) {
		next_packet(offline, PROTOCOL_INFO);
		r = offline_call(offline, err);
	}
	r = offline_end_json(offline, r, &object, err);
	if (r < 0)
		return r;
	/* these say how we looked at it, not what the image is */
	json_object_object_del(object, "read-only");
	json_object_object_del(object, "direct-io");
	*ret = object;
	return 0;
}

int resize_target(const struct offline_resize *resize, uint64_t now, uint64_t *ret, struct lunkit_error *err)
{
	uint64_t size = resize->size;
	if (resize->adopt) {
		*ret = 0;
		return 0;
	}
	if (resize->relative && (!checked_add(now, resize->size, &size) || size > INT64_MAX))
		return lunkit_error_set(err, ERANGE, "its size and %" PRIu64 " bytes together are more than an image can have",
					resize->size);
	if (!size)
		return lunkit_error_set(err, EINVAL, "a size of 0 is no size");
	if (size < now && !resize->shrink) {
		char from[FORMAT_MAX], to[FORMAT_MAX];
		lunkit_error_set(err, EINVAL, "it is %s, and %s would cut off its end", format_size_exact(now, from),
				 format_size_exact(size, to));
		return lunkit_error_hint(err, "shrink the filesystem in it first, then add --shrink; +SIZE grows it by SIZE");
	}
	*ret = size;
	return 0;
}

int offline_resize(const struct reference *reference, const struct offline_resize *resize, uint64_t *ret_before, uint64_t *ret_after,
		   struct lunkit_error *err)
{
	struct offline *offline;
	uint64_t target = 0, before = 0, after = 0;
	int r = offline_start_with_keys(reference, false, &offline, err);
	if (r < 0)
		return r;
	offline->policy.may_write = true;
	offline->packet.message.type = PROTOCOL_START_IMAGE;
	r = offline_call(offline, err);
	if (r == 0) {
		before = offline->reply.message.ready.size;
		r = resize_target(resize, before, &target, err);
	}
	if (r == 0) {
		next_packet(offline, PROTOCOL_RESIZE);
		offline->packet.message.resize.size = target;
		offline->packet.message.resize.flags = resize->shrink ? RESIZE_SHRINK : 0;
		r = offline_call(offline, err);
	}
	if (r == 0)
		after = offline->reply.message.result.value;
	r = offline_end(offline, r, err);
	if (r < 0)
		return r;
	*ret_before = before;
	*ret_after = after;
	return 0;
}

int offline_describe(const char *kind, struct json_object **ret, struct lunkit_error *err)
{
	struct offline *offline;
	struct reference reference = { 0 };
	snprintf(reference.kind, sizeof(reference.kind), "%s", kind);
	int r = offline_start(&reference, &offline, err);
	if (r < 0)
		return r;
	offline->packet.message.type = PROTOCOL_DESCRIBE;
	r = offline_call(offline, err);
	return offline_end_json(offline, r, ret, err);
}
