/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * EXPORT and IMPORT: a new image is made on the descriptor that came with the job, opened, filled, closed.
 *
 *     the image is attached, can be written and has snapshots:
 *         COPY_STALE ─► COPY_SNAPSHOT ─► COPY_DATA ─► COPY_CLOSE ─► COPY_UNSNAPSHOT ─► end
 *     else                               COPY_DATA ─► COPY_CLOSE ─► end
 *
 * The snapshot is read through the same file, opened a second time for looking only: nothing changes in what a snapshot holds while it is there, and
 * no other job can remove it. An image is closed only once its handler has nothing under way any more (COPY_CLOSE looks now and then), since closing it otherwise
 * would turn the loop that we are called from. What was made stays where it is when the job fails: the starter removes it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "worker/job_internal.h"

#define CLOSE_LOOK_NS UINT64_C(2000000)
/* Bytes that an image has first which becomes as large as what comes. */
#define GROWS_FROM (UINT64_C(64) << 20)

static void copy_data(struct job *job);

static struct job *job_of(struct image_job *work)
{
	return list_entry(work, struct job, work);
}

static void copy_end(struct job *job)
{
	char text[128];
	job->jobs->target_fd = -1;
	if (job->is_stream)
		snprintf(text, sizeof(text), "{\"bytes-read\":%" PRIu64 "}", job->bytes_read);
	else
		snprintf(text, sizeof(text), "{\"bytes-read\":%" PRIu64 ",\"bytes-written\":%" PRIu64 "}", job->bytes_read,
			 job->bytes_written);
	job_end(job, job->result, &job->err, text);
}

static void unsnapshot_done(struct image_job *work, int result)
{
	struct job *job = job_of(work);
	if (result < 0 && job->result == 0) {
		job->result = result;
		job->err = work->err;
	}
	copy_end(job);
}

static void close_target(struct job *job)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	if (!job->target || job->target_is_file || job->result == 0)
		image_close(job->target);
	else if (image_remove(job->target, &err) < 0)
		log_error("what was made stays there: %s", err.message);
}

static void close_look(struct loop_alarm *alarm)
{
	struct job *job = list_entry(alarm, struct job, alarm);
	if ((job->target && image_is_busy(job->target)) || (job->view && image_is_busy(job->view))) {
		loop_alarm_set(job->jobs->host->loop, alarm, CLOSE_LOOK_NS);
		return;
	}
	close_target(job);
	image_close(job->view);
	job->target = job->view = NULL;
	if (!job->has_snapshot) {
		copy_end(job);
		return;
	}
	job->step = COPY_UNSNAPSHOT;
	job->work.cancelled = false; /* it has to go in any case */
	job->work.done = unsnapshot_done;
	image_snapshot(job->jobs->image, &job->work, LUNKIT_SNAPSHOT_DELETE, JOB_EXPORT_SNAPSHOT);
}

/* The first failure counts. */
static void copy_finish(struct job *job, int result, const struct lunkit_error *err)
{
	if (result < 0 && job->result == 0) {
		job->result = result;
		job->err = *err;
		if (result == -ECANCELED)
			lunkit_error_set(&job->err, ECANCELED, "cancelled");
	}
	job->step = COPY_CLOSE;
	job->alarm.ring = close_look;
	close_look(&job->alarm);
}

/* ---- snapshots of an attached image ---- */

static void snapshot_done(struct image_job *work, int result)
{
	struct job *job = job_of(work);
	job->has_snapshot = result == 0;
	if (result < 0)
		copy_finish(job, result, &work->err);
	else if (job->cancelled)
		copy_finish(job, -ECANCELED, &work->err);
	else
		copy_data(job);
}

static void snapshot_create(struct job *job)
{
	job->step = COPY_SNAPSHOT;
	job->work.done = snapshot_done;
	image_snapshot(job->jobs->image, &job->work, LUNKIT_SNAPSHOT_CREATE, JOB_EXPORT_SNAPSHOT);
}

static void stale_done(struct image_job *work, int result)
{
	struct job *job = job_of(work);
	if (result < 0)
		copy_finish(job, result, &work->err);
	else
		snapshot_create(job);
}

/* An image that changes while it is copied has no moment that the copy would show: it is frozen in a snapshot. */
static void snapshot_begin(struct job *job)
{
	struct image *image = job->jobs->image;
	struct lunkit_snapshots snapshots;
	int r = image_snapshot_list(image, &snapshots, &job->err);
	if (r == -EOPNOTSUPP) {
		lunkit_error_set(
			&job->err, EOPNOTSUPP,
			"%.300s: it is attached and may change at any time, and images of the kind \"%s\" have no snapshots to copy "
			"from",
			image_name(image), image_kind(image));
		lunkit_error_hint(&job->err, "detach it first, or attach it with --read-only");
	}
	if (r < 0) {
		struct lunkit_error err = job->err;
		copy_finish(job, r, &err);
		return;
	}
	bool stale = false;
	for (size_t i = 0; i < snapshots.count; i++)
		stale = stale || strcmp(snapshots.items[i].name, JOB_EXPORT_SNAPSHOT) == 0;
	image_snapshots_free(&snapshots);
	if (!stale) {
		snapshot_create(job);
		return;
	}
	job->step = COPY_STALE;
	job->work.done = stale_done;
	image_snapshot(image, &job->work, LUNKIT_SNAPSHOT_DELETE, JOB_EXPORT_SNAPSHOT);
}

/* Keeps letters, digits and what else has no meaning in options. */
static int append_encoded(char *text, size_t size, const char *value)
{
	size_t used = strlen(text);
	for (; *value; value++) {
		bool plain = (*value >= 'a' && *value <= 'z') || (*value >= 'A' && *value <= 'Z') || (*value >= '0' && *value <= '9') ||
			     *value == '-' || *value == '_' || *value == '.';
		if (used + 4 > size)
			return -ENAMETOOLONG;
		used += (size_t)snprintf(text + used, size - used, plain ? "%c" : "%%%02X", (unsigned char)*value);
	}
	return 0;
}

static int open_view(struct job *job, const char *name, struct lunkit_error *err)
{
	const struct protocol_start *start = job->jobs->start;
	char options[PROTOCOL_OPTIONS_MAX + 3 * PROTOCOL_SNAPSHOT_MAX + 16];
	snprintf(options, sizeof(options), "%s%ssnapshot=", start->options, start->options[0] ? ";" : "");
	if (append_encoded(options, sizeof(options), name) < 0)
		return lunkit_error_set(err, ENAMETOOLONG, "the snapshot's name is too long");
	const struct image_params params = {
		.name = start->name, .options = options, .cache = (enum lunkit_cache)start->cache, .read_only = true, .look_only = true
	};
	return image_open(job->jobs->host, handler_find(image_kind(job->jobs->image)), &params, &job->view, err);
}

/* ---- the data ---- */

static void stream_progress(struct image_stream *stream, uint64_t done, uint64_t total)
{
	job_progress(list_entry(stream, struct job, stream), done, total);
}

static void stream_done(struct image_stream *stream, int result)
{
	struct job *job = list_entry(stream, struct job, stream);
	job->is_stream = true;
	job->bytes_read = stream->bytes;
	copy_finish(job, result, &stream->err);
}

static void copy_progress(struct image_copy *copy, uint64_t done, uint64_t total)
{
	job_progress(list_entry(copy, struct job, copy), done, total);
}

static void copy_done(struct image_copy *copy, int result)
{
	struct job *job = list_entry(copy, struct job, copy);
	job->bytes_read = copy->bytes_read;
	job->bytes_written = copy->bytes_written;
	copy_finish(job, result, &copy->err);
}

/* Makes the new image on the descriptor and opens it. */
static int make_target(struct job *job, uint64_t size, struct lunkit_error *err)
{
	struct jobs *jobs = job->jobs;
	const struct protocol_job *request = &job->request;
	const struct lunkit_handler *handler = handler_find(request->format);
	if (!handler)
		return lunkit_error_set(err, ENOENT, "there is no handler for images of the kind \"%s\" to make", request->format);
	bool is_file = !handler->remove;
	if (is_file && request->target[0] != '/') {
		lunkit_error_set(err, EOPNOTSUPP, "images of the kind \"%s\" can't be made this way", handler->name);
		return lunkit_error_hint(err, "name a file: raw:PATH or qcow2:PATH");
	}
	if (is_file && job->fds[0] < 0)
		return lunkit_error_set(err, EPROTO, "the new image has no file");
	if (jobs->has_lun && !is_file) {
		lunkit_error_set(err, EOPNOTSUPP, "a worker that serves a disk can't make images of the kind \"%s\": the disk would wait",
				 handler->name);
		return lunkit_error_hint(err, "take a snapshot, and copy that: lunkit snapshot create, then IMAGE;snapshot=NAME");
	}
	if (jobs->has_lun && strstr(request->options, "preallocation=")) {
		lunkit_error_set(err, EOPNOTSUPP,
				 "the new image can't be preallocated by a worker that serves a disk: the disk would wait");
		return lunkit_error_hint(err, "leave the preallocation away");
	}
	if (request->flags & PROTOCOL_JOB_NEW_KEY) {
		int fd = -1;
		for (unsigned i = 1; i < PROTOCOL_FDS_MAX; i++)
			fd = job->fds[i] >= 0 ? job->fds[i] : fd;
		int r = key_take(fd, &job->new_key, err);
		if (r < 0)
			return r;
	}
	if (is_file) {
		jobs->target = request->target;
		jobs->target_fd = job->fds[0];
	}
	struct image_params params = {
		.name = request->target,
		.options = request->options[0] ? request->options : NULL,
		.cache = LUNKIT_CACHE_WRITEBACK,
		.size = align_up(size, 512), /* of a source that is a file of any length */
	};
	/* It is opened with its own key. What the image's own is opened with later, a view of a snapshot, comes before this. */
	const struct image_key *own = jobs->host->key;
	if (job->new_key.bytes)
		jobs->host->key = &job->new_key;
	jobs->host->key_used = false;
	int r = image_create(jobs->host, handler, &params, err);
	if (is_file)
		params.options = NULL;
	params.new = !is_file;
	job->target_is_file = is_file;
	if (r == 0)
		r = image_open(jobs->host, handler, &params, &job->target, err);
	jobs->host->key = own;
	return r < 0 ? r : key_check_use(jobs->host, job->new_key.bytes, request->target, request->format, err);
}

static void copy_data(struct job *job)
{
	struct jobs *jobs = job->jobs;
	const struct protocol_job *request = &job->request;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image_copy_options options = { .target_is_zero = true, .compress = request->flags & PROTOCOL_JOB_COMPRESS };
	const char *name = request->name[0] ? request->name : job->has_snapshot ? JOB_EXPORT_SNAPSHOT : NULL;
	int r = 0;
	job->step = COPY_DATA;
	if (name)
		r = open_view(job, name, &err);
	struct image *source = job->view ? job->view : jobs->image;
	job->copy.rate = job->stream.rate = request->rate;
	if (r == 0 && request->flags & PROTOCOL_JOB_STREAM) {
		job->stream.done = stream_done;
		job->stream.progress = stream_progress;
		image_stream_out(jobs->host->loop, source, job->fds[0], "the output", NULL, &job->stream);
		return;
	}
	if (r == 0)
		r = make_target(job, image_limits(source)->size, &err);
	if (r < 0) {
		copy_finish(job, r, &err);
		return;
	}
	options.target_is_zero = !(image_limits(job->target)->flags & LUNKIT_FRESH_IS_NOISE);
	job->copy.done = copy_done;
	job->copy.progress = copy_progress;
	image_copy_start(jobs->host->loop, source, job->target, &options, &job->copy);
}

void job_export(struct job *job)
{
	const struct jobs *jobs = job->jobs;
	if (jobs->has_lun && !image_is_read_only(jobs->image) && !job->request.name[0])
		snapshot_begin(job);
	else
		copy_data(job);
}

void job_import(struct job *job)
{
	const struct protocol_job *request = &job->request;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image_copy_options options = { .target_is_zero = true, .compress = request->flags & PROTOCOL_JOB_COMPRESS };
	const struct lunkit_handler *handler = handler_find(request->format);
	int input = job->fds[handler && handler->remove ? 0 : 1]; /* a new file's descriptor comes first */
	int r = input < 0 ? lunkit_error_set(&err, EPROTO, "there is nothing to import from")
			  : make_target(job, request->length ? request->length : GROWS_FROM, &err);
	if (r < 0) {
		copy_finish(job, r, &err);
		return;
	}
	options.target_is_zero = !(image_limits(job->target)->flags & LUNKIT_FRESH_IS_NOISE);
	job->stream.rate = request->rate;
	job->stream.grow = !request->length;
	job->stream.done = stream_done;
	job->stream.progress = stream_progress;
	image_stream_in(job->jobs->host->loop, input, "the input", job->target, &options, &job->stream);
}
