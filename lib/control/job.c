/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "control/channel.h"
#include "control/state.h"

#define KEEP_SECONDS 60
#define KEPT_MAX 256 /* jobs that have ended: a client may start very many */
#define RESULT_MAX PROTOCOL_TEXT_MAX

const char *job_state_name(enum job_state state)
{
	switch (state) {
	case JOB_RUNNING:
		return "running";
	case JOB_DONE:
		return "done";
	case JOB_FAILED:
		return "failed";
	case JOB_CANCELLED:
		return "cancelled";
	}
	return "unknown";
}

struct job *job_by_id(struct control *control, uint64_t id)
{
	list_for_each (node, &control->jobs) {
		struct job *job = list_entry(node, struct job, node);
		if (job->id == id)
			return job;
	}
	return NULL;
}

const struct job *job_next(const struct control *control, const struct job *job)
{
	const struct list *next = job ? job->node.next : control->jobs.next;
	return next == &control->jobs ? NULL : list_entry(next, struct job, node);
}

static void job_free(struct job *job)
{
	if (job->control->config.job_removed)
		job->control->config.job_removed(job->control->config.argument, job);
	list_remove(&job->node);
	sd_event_source_disable_unref(job->timer);
	free(job->result);
	free(job);
}

static int on_forget(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source;
	(void)usec;
	job_free(userdata);
	return 0;
}

static void forget_old(struct control *control)
{
	unsigned kept = 0;
	list_for_each (node, &control->jobs)
		kept += list_entry(node, struct job, node)->state != JOB_RUNNING;
	list_for_each_safe (node, &control->jobs) {
		struct job *job = list_entry(node, struct job, node);
		if (kept <= KEPT_MAX)
			return;
		if (job->state != JOB_RUNNING) {
			job_free(job);
			kept--;
		}
	}
}

static void job_end(struct job *job, const struct lunkit_error *err)
{
	struct control *control = job->control;
	job->err = *err;
	job->state = err->code == ECANCELED ? JOB_CANCELLED : err->code ? JOB_FAILED : JOB_DONE;
	if (job->state == JOB_FAILED)
		log_warning("%s: %s failed: %s", job->lun_name, job->kind, err->message);
	else
		log_info("%s: %s %s", job->lun_name, job->kind, job_state_name(job->state));
	if (control->config.job_ended)
		control->config.job_ended(control->config.argument, job);
	control_timer(control, &job->timer, KEEP_SECONDS * SECOND, on_forget, job);
	forget_old(control);
}

/* ---- what its worker says ---- */

static void job_progress(void *argument, uint64_t done, uint64_t total)
{
	struct job *job = argument;
	job->done = done;
	job->total = total;
}

static void job_followed(void *argument, uint64_t size, const struct lunkit_error *err)
{
	(void)size;
	job_end(argument, err);
}

static void job_replied(void *argument, const struct protocol_result *reply, const struct lunkit_error *err)
{
	struct job *job = argument;
	struct lun *lun = lun_by_id(job->control, job->lun);
	struct lunkit_error end = LUNKIT_ERROR_INIT;
	if (!reply) {
		lunkit_error_set(&end, err->code ? err->code : EIO, "the worker ended before the job: %s", err->message);
		lunkit_error_hint(&end, "the disk goes on with another worker; try again");
		if (end.code == ECANCELED)
			end.code = EIO;
	} else if (reply->result < 0) {
		end = reply->error;
		if (end.code <= 0)
			end.code = reply->result > -4096 ? -reply->result : EIO;
	}
	if (reply && reply->text_length)
		job->result = strndup(reply->text, RESULT_MAX);
	if (!end.code && lun && job->work == PROTOCOL_JOB_SNAPSHOT && reply->value != lun->image_size) {
		lun_follow_size(lun, reply->value, job_followed, job);
		return;
	}
	job_end(job, &end);
}

/* ---- start ---- */

static bool job_looks(enum protocol_job_kind kind)
{
	return kind == PROTOCOL_JOB_MAP || kind == PROTOCOL_JOB_SNAPSHOT_LIST;
}

static const struct job *job_on(const struct control *control, const struct lun *lun)
{
	list_for_each (node, &control->jobs) {
		const struct job *job = list_entry(node, struct job, node);
		if (job->lun == lun->id && job->exclusive && job->state == JOB_RUNNING)
			return job;
	}
	return NULL;
}

int job_start(struct lun *lun, const char *kind, struct protocol_packet *packet, struct job **ret, struct lunkit_error *err)
{
	struct control *control = lun->control;
	enum protocol_job_kind work = (enum protocol_job_kind)packet->message.job.kind;
	bool exclusive = !job_looks(work);
	const struct job *other = exclusive ? job_on(control, lun) : NULL;
	if (!lun->channel || !lun->was_ready)
		return lunkit_error_set(err, ENOTCONN, "LUN '%s' has no worker now: it is %s", lun->backstore.name,
					lun_state_name(lun->state));
	if (other) {
		lunkit_error_set(err, EBUSY, "LUN '%s' is busy: %s is under way", lun->backstore.name, other->kind);
		return lunkit_error_hint(err, "wait until it is done: lunkit status %.100s", lun->backstore.name);
	}
	if (exclusive && lun->resizing)
		return lunkit_error_set(err, EBUSY, "LUN '%s' is being resized", lun->backstore.name);
	if (work == PROTOCOL_JOB_SNAPSHOT)
		packet->message.job.limit = control->settings->max_size;
	struct job *job = control_alloc(sizeof(*job));
	job->control = control;
	job->id = ++control->last_job;
	job->kind = kind;
	job->lun = lun->id;
	job->generation = lun->generation;
	job->work = work;
	job->exclusive = exclusive;
	snprintf(job->lun_name, sizeof(job->lun_name), "%s", lun->backstore.name);
	list_add_tail(&control->jobs, &job->node);
	packet->message.type = PROTOCOL_JOB;
	job->call = channel_job(lun->channel, packet, job_progress, job_replied, job);
	*ret = job;
	return 0;
}

/* The channel that does it, while it is the one that it was started on. */
static struct channel *job_channel(const struct job *job)
{
	struct lun *lun = lun_by_id(job->control, job->lun);
	return lun && lun->generation == job->generation && job->state == JOB_RUNNING ? lun->channel : NULL;
}

void job_cancel(struct job *job)
{
	struct channel *channel = job_channel(job);
	if (channel && !job->cancelled)
		channel_job_cancel(channel, job->call);
	job->cancelled = true;
}

void job_set_rate(struct job *job, uint64_t rate)
{
	struct channel *channel = job_channel(job);
	if (channel)
		channel_job_rate(channel, job->call, rate);
}
