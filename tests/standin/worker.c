/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "standin/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int standin_worker_start(struct standin_worker *worker, struct standin *standin, const struct standin_image *image,
			 struct lunkit_error *err)
{
	struct worker_config config;
	worker_config_default(&config);
	*worker = (struct standin_worker){ 0 };
	worker->policy = (struct opener_policy){ .path = image->name, .may_write = !image->read_only };
	int r = worker_spawn(&config, &worker->process, err);
	if (r < 0)
		return r;

	struct protocol_packet *request = calloc(1, sizeof(*request)), *reply = calloc(1, sizeof(*reply));
	if (!request || !reply)
		abort();
	struct protocol_start *start = &request->message.start;
	request->message.type = PROTOCOL_START_LUN;
	request->message.id = 1;
	snprintf(start->kind, sizeof(start->kind), "%s", image->kind);
	snprintf(start->name, sizeof(start->name), "%s", image->name);
	snprintf(start->options, sizeof(start->options), "%s", image->options ? image->options : "");
	snprintf(start->label, sizeof(start->label), "stand-in");
	snprintf(start->serial, sizeof(start->serial), "00000000-0000-4000-8000-000000000001");
	start->ring_length = standin->length;
	start->ring_word = 8;
	start->flags = (image->read_only ? PROTOCOL_READ_ONLY : 0) | (image->write_cache ? PROTOCOL_WRITE_CACHE : 0);
	start->cache = image->cache;
	start->block_size = image->block_size;
	start->modes = image->modes;
	start->uid = start->gid = (uint32_t)-1;
	request->fds[0] = standin->memory_fd;
	request->fds[1] = standin->kick_fd;
	request->fds[2] = standin->doorbell_fd;
	request->fd_count = 3;
	r = worker_call(&worker->process, &worker->policy, request, reply, NULL, NULL, err);
	if (r == 0) {
		worker->size = reply->message.ready.size;
		snprintf(worker->notice, sizeof(worker->notice), "%s", reply->message.ready.notice);
	} else {
		worker_wait(&worker->process, 5000, &(int){ 0 });
		worker_release(&worker->process);
	}
	free(request);
	free(reply);
	return r;
}

int standin_worker_stop(struct standin_worker *worker)
{
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		abort();
	packet->message.type = PROTOCOL_DRAIN;
	protocol_send(worker->process.socket, packet);
	free(packet);
	int status = -1;
	worker_wait(&worker->process, 30000, &status);
	worker_release(&worker->process);
	return status;
}

void standin_worker_kill(struct standin_worker *worker)
{
	int status;
	kill(worker->process.pid, SIGKILL);
	worker_wait(&worker->process, 30000, &status);
	worker_release(&worker->process);
}

void standin_worker_times(const struct standin_worker *worker, double *ret_user, double *ret_system)
{
	char path[64], text[1024] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", worker->process.pid);
	FILE *file = fopen(path, "re");
	unsigned long user = 0, system = 0;
	if (file) {
		size_t length = fread(text, 1, sizeof(text) - 1, file);
		text[length] = '\0';
		fclose(file);
		const char *rest = strrchr(text, ')');
		if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
			user = system = 0;
	}
	double tick = 1.0 / (double)sysconf(_SC_CLK_TCK);
	*ret_user = (double)user * tick;
	*ret_system = (double)system * tick;
}
