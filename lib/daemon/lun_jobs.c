/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The methods of org.lunkit1.LUN that start jobs. Descriptors come from a client that may do this, and go to a worker that serves a disk: nothing that could make
 * that worker wait is passed on (a memory file for lists; a regular file, or a pipe that does not block, for exports).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "control/job.h"
#include "daemon/service.h"

static int answer(sd_bus_message *call, struct lun *lun, const char *kind, struct protocol_packet *packet, bool watch)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct job *job;
	char path[JOB_PATH_MAX];
	if (job_start(lun, kind, packet, &job, &err) < 0)
		return bus_reply_error(call, &err);
	if (watch && job_object_watch(job, call) < 0) {
		job_cancel(job);
		lunkit_error_set(&err, EIO, "it can't be seen whether the caller goes away");
		return bus_reply_error(call, &err);
	}
	job_object_path(job, path);
	return sd_bus_reply_method_return(call, "o", path);
}

#define PACKET(work)                                                                                                                       \
	struct protocol_packet packet = { .fds = { -1, -1, -1 } };                                                                         \
	packet.message.job.kind = (work)

int lun_method_check(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	PACKET(PROTOCOL_JOB_CHECK);
	(void)ret_error;
	int r = sd_bus_message_read(call, "u", &packet.message.job.flags);
	return r < 0 ? r : answer(call, userdata, "check", &packet, false);
}

int lun_method_flatten(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	PACKET(PROTOCOL_JOB_FLATTEN);
	(void)ret_error;
	int r = sd_bus_message_read(call, "t", &packet.message.job.rate);
	return r < 0 ? r : answer(call, userdata, "flatten", &packet, false);
}

/* ---- lists ---- */

static int list(sd_bus_message *call, struct lun *lun, const char *kind, struct protocol_packet *packet, int fd)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct stat status;
	if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode) || fcntl(fd, F_GET_SEALS) < 0) {
		lunkit_error_set(&err, EINVAL, "the output is not a memory file (memfd_create)");
		return bus_reply_error(call, &err);
	}
	packet->fds[0] = fd;
	packet->fd_count = 1;
	return answer(call, lun, kind, packet, false);
}

int lun_method_map(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	PACKET(PROTOCOL_JOB_MAP);
	int fd;
	(void)ret_error;
	int r = sd_bus_message_read(call, "htt", &fd, &packet.message.job.offset, &packet.message.job.length);
	return r < 0 ? r : list(call, userdata, "map", &packet, fd);
}

int lun_method_snapshots(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	PACKET(PROTOCOL_JOB_SNAPSHOT_LIST);
	int fd;
	(void)ret_error;
	int r = sd_bus_message_read(call, "h", &fd);
	return r < 0 ? r : list(call, userdata, "snapshots", &packet, fd);
}

/* ---- snapshots ---- */

/* enum lunkit_snapshot_op of handler.h, which this layer does not see. */
enum operation { CREATE, DELETE, REVERT };

static int snapshot(sd_bus_message *call, struct lun *lun, const char *kind, enum operation operation)
{
	PACKET(PROTOCOL_JOB_SNAPSHOT);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const char *name;
	int r = sd_bus_message_read(call, "s", &name);
	if (r < 0)
		return r;
	if (strlen(name) >= sizeof(packet.message.job.name)) {
		lunkit_error_set(&err, EINVAL, "a snapshot's name has at most %zu bytes", sizeof(packet.message.job.name) - 1);
		return bus_reply_error(call, &err);
	}
	strcpy(packet.message.job.name, name);
	packet.message.job.flags = operation;
	return answer(call, lun, kind, &packet, false);
}

int lun_method_snapshot_create(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	(void)ret_error;
	return snapshot(call, userdata, "snapshot-create", CREATE);
}

int lun_method_snapshot_delete(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	(void)ret_error;
	return snapshot(call, userdata, "snapshot-delete", DELETE);
}

int lun_method_snapshot_revert(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	(void)ret_error;
	return snapshot(call, userdata, "snapshot-revert", REVERT);
}

/* ---- export ---- */

/* -E2BIG: too long. */
static int read_text(sd_bus_message *call, char *ret, size_t size)
{
	const char *text;
	int r = sd_bus_message_read(call, "v", "s", &text);
	if (r < 0)
		return r;
	if (strlen(text) >= size)
		return -E2BIG;
	strcpy(ret, text);
	return 0;
}

static int read_flag(sd_bus_message *call, uint32_t flag, uint32_t *flags)
{
	int value;
	int r = sd_bus_message_read(call, "v", "b", &value);
	if (r >= 0 && value)
		*flags |= flag;
	return r;
}

static int read_export_option(sd_bus_message *call, const char *key, struct protocol_job *job)
{
	if (strcmp(key, "snapshot") == 0)
		return read_text(call, job->name, sizeof(job->name));
	if (strcmp(key, "format") == 0)
		return read_text(call, job->format, sizeof(job->format));
	if (strcmp(key, "options") == 0)
		return read_text(call, job->options, sizeof(job->options));
	if (strcmp(key, "compress") == 0)
		return read_flag(call, PROTOCOL_JOB_COMPRESS, &job->flags);
	if (strcmp(key, "stream") == 0)
		return read_flag(call, PROTOCOL_JOB_STREAM, &job->flags);
	if (strcmp(key, "rate") == 0)
		return sd_bus_message_read(call, "v", "t", &job->rate);
	return -ENOENT;
}

static int read_export_options(sd_bus_message *call, struct protocol_job *job, struct lunkit_error *err)
{
	int r = sd_bus_message_enter_container(call, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(call, 'e', "sv")) > 0) {
		const char *key;
		r = sd_bus_message_read(call, "s", &key);
		if (r < 0)
			return r;
		r = read_export_option(call, key, job);
		if (r < 0)
			return lunkit_error_set(err, EINVAL, "unknown option '%.60s', or a value that is too long or of the wrong type",
						key);
		r = sd_bus_message_exit_container(call);
	}
	return r < 0 ? r : sd_bus_message_exit_container(call);
}

static int check_output(int fd, bool stream, struct lunkit_error *err)
{
	struct stat status;
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &status) < 0)
		return lunkit_error_set(err, errno, "the output can't be used: %s", strerror(errno));
	bool pipe = S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode), file = S_ISREG(status.st_mode);
	int mode = flags & O_ACCMODE;
	if (stream && (!(file || pipe) || mode == O_RDONLY))
		return lunkit_error_set(err, EINVAL, "the output is neither a pipe nor a file that can be written");
	if (!stream && (!file || mode != O_RDWR))
		return lunkit_error_set(err, EINVAL, "the output is not a file that is open for reading and writing");
	if (pipe && !(flags & O_NONBLOCK))
		return lunkit_error_set(err, EINVAL, "the output is a pipe that blocks: set O_NONBLOCK");
	return 0;
}

int lun_method_export(sd_bus_message *call, void *userdata, sd_bus_error *ret_error)
{
	PACKET(PROTOCOL_JOB_EXPORT);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct protocol_job *job = &packet.message.job;
	const char *target;
	int fd;
	(void)ret_error;
	int r = sd_bus_message_read(call, "hs", &fd, &target);
	if (r >= 0)
		r = read_export_options(call, job, &err);
	if (r < 0 && !err.code)
		return r;
	bool stream = job->flags & PROTOCOL_JOB_STREAM;
	if (r >= 0 && !stream && (target[0] != '/' || strlen(target) >= sizeof(job->target)))
		r = lunkit_error_set(&err, EINVAL, "the target is not an absolute path of at most %zu bytes", sizeof(job->target) - 1);
	if (r >= 0)
		r = check_output(fd, stream, &err);
	if (r < 0)
		return bus_reply_error(call, &err);
	snprintf(job->target, sizeof(job->target), "%s", target);
	packet.fds[0] = fd;
	packet.fd_count = 1;
	return answer(call, userdata, "export", &packet, true);
}
