/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A job's life: JOB ─► struct job ─► the image layer's operation ─► REPLY, and the struct is freed. PROGRESS is sent at most TOLD_NS apart, and dropped where the
 * starter does not read. Nothing here waits; what does (opening a second image) is for a few messages only.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/log.h"
#include "worker/job_internal.h"

#define TOLD_NS UINT64_C(200000000)

static struct job *job_of(struct image_job *work)
{
	return list_entry(work, struct job, work);
}

void jobs_init(struct jobs *jobs)
{
	list_init(&jobs->running);
	jobs->target_fd = -1;
}

int jobs_load_handlers(const char *directory, const char *target_kind, struct lunkit_error *err)
{
	static const char *const kinds[] = { "raw", "qcow2" };
	const struct lunkit_handler *handler;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct lunkit_error why = LUNKIT_ERROR_INIT;
		if (handler_load(directory, kinds[i], &handler, &why) < 0)
			log_debug("nothing can be exported as %s: %s", kinds[i], why.message);
	}
	return target_kind[0] ? handler_load(directory, target_kind, &handler, err) : 0;
}

int jobs_open(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err)
{
	struct jobs *jobs = argument;
	if (jobs->target_fd < 0 || strcmp(path, jobs->target) != 0)
		return link_open(jobs->link, path, flags, ret_fd, ret_flags, err);
	int fd = fcntl(jobs->target_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return lunkit_error_set(err, errno, "cannot use '%.300s': %s", path, strerror(errno));
	*ret_fd = fd;
	*ret_flags = flags & ~LUNKIT_FILE_DIRECT;
	return 0;
}

int jobs_remove(void *argument, const char *path, struct lunkit_error *err)
{
	struct jobs *jobs = argument;
	if (jobs->target_fd < 0 || strcmp(path, jobs->target) != 0)
		return link_remove(jobs->link, path, err);
	return 0; /* the starter removes what it has made, once it hears of the failure */
}

bool jobs_are_running(const struct jobs *jobs)
{
	return !list_empty(&jobs->running);
}

int jobs_claim(struct jobs *jobs, struct lunkit_error *err)
{
	if (jobs->exclusive) {
		lunkit_error_set(err, EBUSY, "another job works on the image '%.300s'", image_name(jobs->image));
		return lunkit_error_hint(err, "wait until it is done; lunkit status shows it");
	}
	jobs->exclusive = true;
	return 0;
}

void jobs_release(struct jobs *jobs)
{
	jobs->exclusive = false;
}

static const char *job_word(enum protocol_job_kind kind)
{
	switch (kind) {
	case PROTOCOL_JOB_CHECK:
		return "check";
	case PROTOCOL_JOB_MAP:
		return "map";
	case PROTOCOL_JOB_SNAPSHOT_LIST:
		return "snapshot-list";
	case PROTOCOL_JOB_SNAPSHOT:
		return "snapshot";
	case PROTOCOL_JOB_FLATTEN:
		return "flatten";
	case PROTOCOL_JOB_EXPORT:
		return "export";
	case PROTOCOL_JOB_IMPORT:
		return "import";
	case PROTOCOL_JOB_KEY:
		return "key";
	}
	return NULL;
}

const char *jobs_current(const struct jobs *jobs, uint64_t *ret_done, uint64_t *ret_total)
{
	list_for_each (node, &jobs->running) {
		const struct job *job = list_entry(node, struct job, node);
		if (!job->exclusive)
			continue;
		*ret_done = job->done;
		*ret_total = job->total;
		return job_word((enum protocol_job_kind)job->request.kind);
	}
	return NULL;
}

void job_progress(struct job *job, uint64_t done, uint64_t total)
{
	uint64_t now = clock_now_ns();
	job->done = done;
	job->total = total;
	if (now - job->told_ns < TOLD_NS)
		return;
	job->told_ns = now;
	struct protocol_packet *packet = calloc(1, sizeof(*packet));
	if (!packet)
		return;
	packet->message.type = PROTOCOL_PROGRESS;
	packet->message.id = job->id;
	packet->message.progress.done = done;
	packet->message.progress.total = total;
	link_try_send(job->jobs->link, packet);
	free(packet);
}

void job_end(struct job *job, int result, const struct lunkit_error *err, const char *text)
{
	struct jobs *jobs = job->jobs;
	struct lunkit_error why = LUNKIT_ERROR_INIT;
	if (result < 0 && err && err->code)
		why = *err;
	else if (result < 0)
		lunkit_error_set(&why, result, "%s of '%.300s' failed: %s", job_word((enum protocol_job_kind)job->request.kind),
				 image_name(jobs->image), strerror(-result));
	uint64_t size = image_limits(jobs->image)->size;
	list_remove(&job->node);
	key_wipe(&job->new_key);
	for (unsigned i = 0; i < PROTOCOL_FDS_MAX; i++)
		if (job->fds[i] >= 0)
			close(job->fds[i]);
	if (job->exclusive)
		jobs_release(jobs);
	link_reply(jobs->link, PROTOCOL_REPLY, job->id, result, &why, text, size);
	free(job);
	if (list_empty(&jobs->running))
		jobs->idle(jobs->argument);
}

/* ---- what the image layer does by itself ---- */

static void work_progress(struct image_job *work, uint64_t done, uint64_t total)
{
	job_progress(job_of(work), done, total);
}

static void work_done(struct image_job *work, int result)
{
	struct job *job = job_of(work);
	job_end(job, result, &work->err, NULL);
}

static void check_done(struct image_job *work, int result)
{
	struct job *job = job_of(work);
	const struct lunkit_check_report *report = &job->report;
	struct json_object *object = json_object_new_object();
	const struct {
		const char *key;
		uint64_t value;
	} counts[] = {
		{ "corruptions", report->corruptions },
		{ "leaks", report->leaks },
		{ "corruptions-fixed", report->corruptions_fixed },
		{ "leaks-fixed", report->leaks_fixed },
		{ "allocated-clusters", report->allocated_clusters },
		{ "total-clusters", report->total_clusters },
		{ "image-end", report->image_end },
	};
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		json_object_object_add(object, counts[i].key, json_object_new_uint64(counts[i].value));
	if (report->first[0])
		json_object_object_add(object, "first",
				       json_object_new_string_len(report->first, (int)strnlen(report->first, sizeof(report->first))));
	job_end(job, result, &work->err, json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
	json_object_put(object);
}

static void map_run(struct image_map *map, const struct lunkit_extent *run)
{
	struct job *job = list_entry(map, struct job, map);
	text_add_run(&job->text, run);
	map->cancelled = map->cancelled || job->text.result < 0;
	job_progress(job, run->offset + run->length, image_limits(job->jobs->image)->size);
}

static void map_done(struct image_map *map, int result)
{
	struct job *job = list_entry(map, struct job, map);
	int r = text_end(&job->text);
	if (r < 0)
		lunkit_error_set(&map->err, r, "cannot write the map: %s", strerror(-r));
	job_end(job, r < 0 ? r : result, &map->err, NULL);
}

static void list_snapshots(struct job *job)
{
	struct lunkit_snapshots snapshots;
	int r = image_snapshot_list(job->jobs->image, &snapshots, &job->err);
	if (r == 0) {
		for (size_t i = 0; i < snapshots.count; i++)
			text_add_snapshot(&job->text, &snapshots.items[i], snapshots.is_protected[i]);
		image_snapshots_free(&snapshots);
		r = text_end(&job->text);
	}
	job_end(job, r, &job->err, NULL);
}

/* A handler may take an id too where no snapshot has that name. */
static bool is_meant(const struct lunkit_snapshot *snapshot, const char *name)
{
	return strcmp(snapshot->name, name) == 0 || strcmp(snapshot->id, name) == 0;
}

/* A revert may bring back another size, which may be more than the starter allows. */
static int check_revert(struct job *job)
{
	struct lunkit_snapshots snapshots;
	int r = image_snapshot_list(job->jobs->image, &snapshots, &job->err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < snapshots.count && r == 0; i++)
		if (is_meant(&snapshots.items[i], job->request.name) && snapshots.items[i].size > job->request.limit) {
			lunkit_error_set(&job->err, EFBIG, "snapshot '%.255s' has %llu bytes, and %llu is the most that lunkit.conf allows",
					 job->request.name, (unsigned long long)snapshots.items[i].size,
					 (unsigned long long)job->request.limit);
			r = lunkit_error_hint(&job->err, "raise max-size in lunkit.conf");
		}
	image_snapshots_free(&snapshots);
	return r;
}

static void start_snapshot(struct job *job)
{
	const struct protocol_job *request = &job->request;
	int r = 0;
	if (request->flags > LUNKIT_SNAPSHOT_UNPROTECT)
		r = -EINVAL;
	else if (request->flags == LUNKIT_SNAPSHOT_CREATE && strcmp(request->name, JOB_EXPORT_SNAPSHOT) == 0)
		r = lunkit_error_set(&job->err, EINVAL,
				     "the name \"" JOB_EXPORT_SNAPSHOT "\" is lunkit's own: the next export would remove it");
	else if (request->flags == LUNKIT_SNAPSHOT_REVERT && request->limit)
		r = check_revert(job);
	if (r < 0)
		job_end(job, r, &job->err, NULL);
	else
		image_snapshot(job->jobs->image, &job->work, (enum lunkit_snapshot_op)request->flags, request->name);
}

/* Deriving a key takes a second or two, and the image is not served meanwhile. */
static void start_key(struct job *job)
{
	const struct protocol_job *request = &job->request;
	const struct jobs *jobs = job->jobs;
	enum lunkit_key_op op = (enum lunkit_key_op)request->flags;
	bool new_key = op == LUNKIT_KEY_ADD || op == LUNKIT_KEY_CHANGE, file = op == LUNKIT_KEY_BACKUP || op == LUNKIT_KEY_RESTORE;
	int r = 0;
	if (request->flags > LUNKIT_KEY_RESTORE || ((new_key || file) && job->fds[0] < 0))
		r = lunkit_error_set(&job->err, EPROTO, "a key operation that makes no sense was asked for");
	else if (jobs->has_lun) {
		lunkit_error_set(&job->err, EBUSY, "%.300s: the keys of an image that is attached stay as they are",
				 image_name(jobs->image));
		r = lunkit_error_hint(&job->err, "detach it first");
	}
	if (r == 0 && new_key)
		r = key_take(job->fds[0], &job->new_key, &job->err);
	if (r < 0) {
		job_end(job, r, &job->err, NULL);
		return;
	}
	const struct image_key *key = jobs->host->key;
	job->key_change = (struct lunkit_key_change){
		.op = op,
		.slot = request->slot,
		.key = key ? key->bytes : NULL,
		.key_length = key ? key->length : 0,
		.new_key = job->new_key.bytes,
		.new_key_length = job->new_key.length,
		.fd = file ? job->fds[0] : -1,
	};
	image_change_key(jobs->image, &job->work, &job->key_change);
}

static int start_text(struct job *job)
{
	int r = job->fds[0] < 0 ? -EPROTO : text_begin(&job->text, job->fds[0]);
	return r < 0 ? lunkit_error_set(&job->err, r, "the list has nowhere to go: a memfd has to come with the call") : 0;
}

static void start(struct job *job)
{
	struct image *image = job->jobs->image;
	job->work.done = work_done;
	job->work.progress = work_progress;
	job->work.rate = job->request.rate;
	switch ((enum protocol_job_kind)job->request.kind) {
	case PROTOCOL_JOB_CHECK:
		job->work.done = check_done;
		image_check(image, &job->work, job->request.flags, &job->report);
		return;
	case PROTOCOL_JOB_MAP:
		if (start_text(job) < 0) {
			job_end(job, -job->err.code, &job->err, NULL);
			return;
		}
		job->map.run = map_run;
		job->map.done = map_done;
		image_map_start(image, &job->map, job->request.offset, job->request.length);
		return;
	case PROTOCOL_JOB_SNAPSHOT_LIST:
		if (start_text(job) < 0)
			job_end(job, -job->err.code, &job->err, NULL);
		else
			list_snapshots(job);
		return;
	case PROTOCOL_JOB_SNAPSHOT:
		start_snapshot(job);
		return;
	case PROTOCOL_JOB_FLATTEN:
		image_flatten(image, &job->work);
		return;
	case PROTOCOL_JOB_EXPORT:
		job_export(job);
		return;
	case PROTOCOL_JOB_IMPORT:
		job_import(job);
		return;
	case PROTOCOL_JOB_KEY:
		start_key(job);
		return;
	}
}

void jobs_start(struct jobs *jobs, struct protocol_packet *packet)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct protocol_job *request = &packet->message.job;
	bool looks = request->kind == PROTOCOL_JOB_MAP || request->kind == PROTOCOL_JOB_SNAPSHOT_LIST;
	int r = 0;
	if (!job_word((enum protocol_job_kind)request->kind))
		r = lunkit_error_set(&err, EINVAL, "there is no job of kind %u", request->kind);
	else if (!looks)
		r = jobs_claim(jobs, &err);
	struct job *job = r < 0 ? NULL : calloc(1, sizeof(*job));
	if (!job) {
		if (r == 0 && !looks)
			jobs_release(jobs);
		link_reply(jobs->link, PROTOCOL_REPLY, packet->message.id, r < 0 ? r : -ENOMEM, &err, NULL, 0);
		return;
	}
	job->jobs = jobs;
	job->id = packet->message.id;
	job->exclusive = !looks;
	job->request = *request;
	memcpy(job->fds, packet->fds, sizeof(job->fds));
	for (unsigned i = 0; i < PROTOCOL_FDS_MAX; i++)
		packet->fds[i] = -1;
	packet->fd_count = 0;
	list_add_tail(&jobs->running, &job->node);
	start(job);
}

static void cancel(struct job *job)
{
	job->cancelled = job->work.cancelled = job->map.cancelled = job->copy.cancelled = job->stream.cancelled = true;
}

void jobs_cancel(struct jobs *jobs, uint32_t id)
{
	list_for_each (node, &jobs->running) {
		struct job *job = list_entry(node, struct job, node);
		if (job->id == id)
			cancel(job);
	}
}

void jobs_cancel_all(struct jobs *jobs)
{
	list_for_each (node, &jobs->running)
		cancel(list_entry(node, struct job, node));
}

void jobs_set_rate(struct jobs *jobs, uint32_t id, uint64_t rate)
{
	list_for_each (node, &jobs->running) {
		struct job *job = list_entry(node, struct job, node);
		if (job->id == id)
			job->request.rate = job->work.rate = job->copy.rate = job->stream.rate = rate;
	}
}
