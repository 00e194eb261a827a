/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int open_path(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err)
{
	(void)argument;
	int mode = O_CLOEXEC | O_NONBLOCK | (flags & LUNKIT_FILE_WRITE ? O_RDWR : O_RDONLY) | (flags & LUNKIT_FILE_DSYNC ? O_DSYNC : 0) |
		   (flags & LUNKIT_FILE_CREATE ? O_CREAT | O_EXCL : 0);
	int fd = open(path, mode | (flags & LUNKIT_FILE_DIRECT ? O_DIRECT : 0), 0600);
	if (fd < 0 && errno == EINVAL && flags & LUNKIT_FILE_DIRECT) {
		flags &= ~LUNKIT_FILE_DIRECT;
		fd = open(path, mode, 0600);
	}
	if (fd < 0)
		return lunkit_error_set(err, errno, "cannot open %s: %s", path, strerror(errno));
	*ret_fd = fd;
	*ret_flags = flags;
	return 0;
}

static int remove_path(void *argument, const char *path, struct lunkit_error *err)
{
	(void)argument;
	return unlink(path) < 0 ? lunkit_error_set(err, errno, "cannot remove %s: %s", path, strerror(errno)) : 0;
}

int engine_start(struct engine *engine, const char *kind, unsigned depth, uint64_t poll_max_ns, struct lunkit_error *err)
{
	const struct loop_config config = { .depth = depth < 8 ? 8 : depth, .poll_max_ns = poll_max_ns };
	const char *folder = getenv("LUNKIT_HANDLERS");
	*engine = (struct engine){ 0 };
	if (!folder)
		return lunkit_error_set(err, EINVAL, "LUNKIT_HANDLERS does not say where the handlers are");
	int r = handler_load(folder, kind, &engine->handler, err);
	if (r < 0)
		return r;
	handler_load_children(folder, engine->handler);
	r = loop_new(&config, &engine->loop);
	if (r < 0)
		return lunkit_error_set(err, r, "no io_uring: %s", strerror(-r));
	engine->host = (struct lunkit_host){ .loop = engine->loop, .opener = { open_path, remove_path, NULL } };
	return 0;
}

int engine_take_key(struct engine *engine, const char *path, struct lunkit_error *err)
{
	const struct lunkit_handler *handler;
	uint8_t bytes[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));
	if (fd >= 0)
		close(fd);
	if (length <= 0 || !(engine->key.bytes = lunkit_secret_new((size_t)length)))
		return lunkit_error_set(err, EIO, "cannot read the key %s", path);
	engine->key.length = (size_t)length;
	memcpy(engine->key.bytes, bytes, (size_t)length);
	engine->host.key = &engine->key;
	/* also for kinds that find encryption through it */
	return handler_load(getenv("LUNKIT_HANDLERS"), "luks", &handler, err);
}

int engine_open(struct engine *engine, const struct image_params *params, struct lunkit_error *err)
{
	return image_open(&engine->host, engine->handler, params, &engine->image, err);
}

void engine_close(struct engine *engine)
{
	image_close(engine->image);
	engine->image = NULL;
}

struct answer {
	int calls, result;
};

static void done(struct image_request *request, int result)
{
	struct answer *answer = request->user;
	answer->calls++;
	answer->result = result;
}

int engine_request(struct engine *engine, enum lunkit_op op, unsigned flags, uint64_t offset, void *buffer, uint64_t length)
{
	struct image_request *request = malloc(image_request_size(engine->image));
	struct answer answer = { 0 };
	struct iovec iov = { buffer, length };
	if (!request)
		return -ENOMEM;
	image_request_init(engine->image, request);
	request->user = &answer;
	request->done = done;
	request->request.op = op;
	request->request.flags = flags;
	request->request.offset = offset;
	request->request.length = length;
	request->request.iov = &iov;
	request->request.iov_count = buffer ? 1 : 0;
	image_submit(engine->image, request);
	while (!answer.calls)
		if (loop_turn(engine->loop, true) < 0)
			abort();
	free(request);
	return answer.result;
}

void engine_stop(struct engine *engine)
{
	if (engine->image)
		engine_close(engine);
	loop_free(engine->loop);
	lunkit_secret_free(engine->key.bytes, engine->key.length);
}
