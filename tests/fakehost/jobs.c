/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fakehost/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

#define OFTEN 20

static void job_done(struct image_job *job, int result)
{
	struct jobs *jobs = list_entry(job, struct jobs, job);
	jobs->ended = true;
	jobs->result = result;
}

static struct lunkit_error no_error;

/* The tags of all sectors of a snapshot; NULL: it can't be read. */
static uint64_t *read_snapshot(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params,
			       const char *name, uint64_t sectors, char *text, unsigned size)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	char options[200];
	struct image_params as = *params;
	struct image *image;
	bool serving = fake->serving;
	snprintf(options, sizeof(options), "snapshot=%s%s%s", name, params->options ? ";" : "", params->options ? params->options : "");
	as.options = options;
	as.read_only = true;
	if (fakehost_try_open(fake, handler, &as, &image, &err) < 0) {
		snprintf(text, size, "the snapshot %s does not open: %s", name, err.message);
		fake->serving = serving;
		return NULL;
	}
	uint64_t *tags = calloc(sectors, sizeof(*tags));
	char *buffer = malloc(sectors * MODEL_SECTOR);
	int r = tags && buffer ? fakehost_request(fake, image, LUNKIT_READ, 0, 0, buffer, sectors * MODEL_SECTOR) : -1;
	for (uint64_t i = 0; i < sectors && r == 0; i++)
		tags[i] = model_read_tag(buffer + i * MODEL_SECTOR);
	free(buffer);
	fakehost_close(fake, image);
	fake->serving = serving;
	if (r < 0) {
		snprintf(text, size, "the snapshot %s can't be read: %s", name, strerror(-r));
		free(tags);
		return NULL;
	}
	return tags;
}

bool jobs_verify(struct fakehost *fake, const struct lunkit_handler *handler, const struct image_params *params,
		 const struct jobs_snapshot *snapshot, uint64_t sectors, char *text, unsigned size)
{
	uint64_t *tags = read_snapshot(fake, handler, params, snapshot->name, sectors, text, size);
	bool good = tags;
	for (uint64_t i = 0; i < sectors && good; i++)
		if (tags[i] != snapshot->tags[i]) {
			snprintf(text, size, "the snapshot %s: sector %llu holds tag %llx, not %llx", snapshot->name, (unsigned long long)i,
				 (unsigned long long)tags[i], (unsigned long long)snapshot->tags[i]);
			good = false;
		}
	free(tags);
	return good;
}

static void wrong(struct jobs *jobs, const char *what, const char *why)
{
	if (!jobs->wrong)
		snprintf(jobs->text, sizeof(jobs->text), "%s: %.600s", what, why);
	jobs->wrong = true;
}

/* ---- ends ---- */

static void created(struct jobs *jobs)
{
	struct jobs_snapshot *snapshot = &jobs->snapshots[jobs->which];
	const struct model *model = jobs->model;
	char text[600], *sector = malloc(MODEL_SECTOR);
	snapshot->tags = read_snapshot(jobs->fake, jobs->handler, jobs->params, snapshot->name, model->sectors, text, sizeof(text));
	if (!snapshot->tags) {
		if (!jobs->errors_expected)
			wrong(jobs, "a snapshot was taken", text);
		free(sector);
		return;
	}
	uint64_t now = fakehost_moment(jobs->fake);
	for (uint64_t i = 0; i < model->sectors && sector && !jobs->wrong; i++) {
		for (unsigned k = 0; k < MODEL_SECTOR; k += 8)
			memcpy(sector + k, &snapshot->tags[i], 8);
		if (!model_check(model, i, sector, 1, false, jobs->began, now, text, sizeof(text)))
			wrong(jobs, "a snapshot holds something else", text);
	}
	free(sector);
	snapshot->created = now;
	jobs->snapshots_there++;
}

static void ended(struct jobs *jobs)
{
	uint64_t now = fakehost_moment(jobs->fake);
	unsigned kind = jobs->running;
	bool failed = jobs->result < 0;
	jobs->running = 0;
	jobs->ended = false;
	jobs->done++;
	jobs->failed += failed;
	if (failed && jobs->job.err.code && jobs->job.err.code != EOVERFLOW)
		jobs->error = -jobs->job.err.code;
	if (failed && !jobs->errors_expected && jobs->job.err.code != EOVERFLOW) {
		wrong(jobs, "a job failed", jobs->job.err.message);
		return;
	}
	if (kind == JOBS_CREATE && !failed)
		created(jobs);
	if (kind == JOBS_DELETE && !failed)
		jobs->snapshots_there--;
	if (kind == JOBS_REVERT || kind == JOBS_SHRINK) {
		model_end(jobs->model, jobs->op, now, failed);
		if (!failed)
			jobs->model->ops[jobs->op].durable = now;
	}
	if (kind == JOBS_FLATTEN && !failed)
		jobs->kinds &= ~JOBS_FLATTEN;
}

static void wait_for_it(struct jobs *jobs)
{
	fakehost_run_until(jobs->fake, &jobs->ended);
}

/* ---- beginnings ---- */

static int choose(struct jobs *jobs)
{
	uint64_t now = fakehost_moment(jobs->fake), tries = JOBS_SNAPSHOTS_MAX;
	while (jobs->snapshot_count && tries--) {
		uint64_t i = fakehost_below(&jobs->random, jobs->snapshot_count);
		if (jobs->snapshots[i].created <= now && jobs->snapshots[i].deleted == UINT64_MAX && jobs->snapshots[i].tags)
			return (int)i;
	}
	return -1;
}

void jobs_smaller(struct jobs *jobs)
{
	jobs->began = fakehost_moment(jobs->fake);
	uint64_t sector = 1 + fakehost_below(&jobs->random, jobs->model->sectors - 1);
	jobs->op = model_begin(jobs->model, MODEL_ZERO, sector, jobs->model->sectors - sector, jobs->began);
	jobs->running = JOBS_SHRINK;
	jobs->ended = false;
	jobs->job = (struct image_job){ .done = job_done };
	image_resize(jobs->image, &jobs->job, sector * MODEL_SECTOR, LUNKIT_RESIZE_SHRINK);
	wait_for_it(jobs);
}

void jobs_as_before(struct jobs *jobs)
{
	uint64_t size = jobs->model->sectors * MODEL_SECTOR;
	bool failed = jobs->result < 0;
	if (image_limits(jobs->image)->size != size) {
		jobs->ended = false;
		jobs->job = (struct image_job){ .done = job_done };
		image_resize(jobs->image, &jobs->job, size, 0);
		wait_for_it(jobs);
	}
	if (failed && jobs->result >= 0)
		jobs->result = -1;
	ended(jobs);
}

static void start(struct jobs *jobs, unsigned kind)
{
	int chosen = -1;
	if (kind == JOBS_CREATE && (jobs->snapshots_there >= 5 || jobs->snapshot_count == JOBS_SNAPSHOTS_MAX))
		return;
	if (kind == JOBS_DELETE || kind == JOBS_REVERT) {
		chosen = choose(jobs);
		if (chosen < 0)
			return;
		jobs->which = (unsigned)chosen;
	}
	jobs->running = kind;
	jobs->ended = false;
	jobs->job = (struct image_job){ .done = job_done, .err = no_error };
	jobs->began = fakehost_moment(jobs->fake);
	if (kind == JOBS_CREATE) {
		struct jobs_snapshot *snapshot = &jobs->snapshots[jobs->which = jobs->snapshot_count++];
		snprintf(snapshot->name, sizeof(snapshot->name), "job%u", jobs->which);
		snapshot->created = snapshot->deleted = UINT64_MAX;
		image_snapshot(jobs->image, &jobs->job, LUNKIT_SNAPSHOT_CREATE, snapshot->name);
	} else if (kind == JOBS_DELETE) {
		jobs->snapshots[chosen].deleted = jobs->began;
		image_snapshot(jobs->image, &jobs->job, LUNKIT_SNAPSHOT_DELETE, jobs->snapshots[chosen].name);
	} else if (kind == JOBS_REVERT) {
		jobs->op = model_begin(jobs->model, MODEL_RESTORE, 0, jobs->model->sectors, jobs->began);
		jobs->model->ops[jobs->op].tags = jobs->snapshots[chosen].tags;
		image_snapshot(jobs->image, &jobs->job, LUNKIT_SNAPSHOT_REVERT, jobs->snapshots[chosen].name);
	} else if (kind == JOBS_FLATTEN) {
		image_flatten(jobs->image, &jobs->job);
	} else {
		/* Smaller, and as large as before: in between nothing else is asked for. */
		jobs_smaller(jobs);
		jobs_as_before(jobs);
	}
}

void jobs_tick(void *argument)
{
	struct jobs *jobs = argument;
	if (jobs->ended)
		ended(jobs);
	if (jobs->running || jobs->wrong || fakehost_below(&jobs->random, jobs->often))
		return;
	unsigned kind = 0;
	while (jobs->kinds && !(kind & jobs->kinds))
		kind = 1u << fakehost_below(&jobs->random, 5);
	if (kind)
		start(jobs, kind);
	if (jobs->ended)
		ended(jobs);
}

void jobs_finish(struct jobs *jobs)
{
	if (jobs->running && !jobs->ended)
		wait_for_it(jobs);
	if (jobs->ended)
		ended(jobs);
}

bool jobs_init(struct jobs *jobs, struct fakehost *fake, struct image *image, const struct lunkit_handler *handler,
	       const struct image_params *params, struct model *model, unsigned kinds, uint64_t seed)
{
	struct lunkit_snapshots list;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	*jobs = (struct jobs){ .fake = fake,
			       .image = image,
			       .handler = handler,
			       .params = params,
			       .model = model,
			       .kinds = kinds,
			       .often = OFTEN,
			       .random = seed * 48271 + 11 };
	if (!(kinds & JOBS_SNAPSHOTS) || image_snapshot_list(image, &list, &err) < 0)
		return true;
	for (size_t i = 0; i < list.count && !jobs->wrong; i++) {
		struct jobs_snapshot *snapshot = &jobs->snapshots[jobs->snapshot_count++];
		snprintf(snapshot->name, sizeof(snapshot->name), "%.31s", list.items[i].name);
		snapshot->deleted = UINT64_MAX;
		snapshot->tags = read_snapshot(fake, handler, params, snapshot->name, model->sectors, jobs->text, sizeof(jobs->text));
		jobs->wrong = !snapshot->tags;
		jobs->snapshots_there++;
	}
	image_snapshots_free(&list);
	return !jobs->wrong;
}

void jobs_free(struct jobs *jobs)
{
	for (unsigned i = 0; i < jobs->snapshot_count; i++)
		free(jobs->snapshots[i].tags);
	jobs->snapshot_count = 0;
}
