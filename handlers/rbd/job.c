/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control operations, which librbd has as calls that block: on a helper thread, one at a time.
 *
 *     worker: begin() ─► helper: work() ─► worker: ended()
 *                └ alarm, now and then: how far it is ─► core; cancelled? ─► helper, by way of the progress callback
 *
 * Requests go on meanwhile; librbd orders them with what it does. Only a revert needs quiet: it exchanges the content object by object, and nobody may see half of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rbd.h"

#define LOOK_NS UINT64_C(100000000)

enum job_kind { JOB_RESIZE, JOB_ADOPT, JOB_SNAPSHOT_CREATE, JOB_SNAPSHOT_DELETE, JOB_REVERT, JOB_PROTECT, JOB_UNPROTECT, JOB_FLATTEN };

struct rbd_job {
	struct lunkit_work work; /* first member */
	struct lunkit_alarm alarm;
	struct rbd *rbd;
	struct lunkit_job *job;
	enum job_kind kind;
	uint64_t size; /* JOB_RESIZE: wanted; at the end, the image's */
	bool shrink, is_protected;
	char name[LUNKIT_SNAPSHOT_NAME_MAX];
	_Atomic uint64_t done, total; /* with librbd's threads */
	atomic_bool cancelled;
};

/* On one of librbd's threads. What is negative ends the operation, where librbd looks at it: what can be stopped half way. */
static int progress(uint64_t done, uint64_t total, void *argument)
{
	struct rbd_job *job = argument;
	atomic_store(&job->done, done);
	atomic_store(&job->total, total);
	return job->kind == JOB_FLATTEN && atomic_load(&job->cancelled) ? -ECANCELED : 0;
}

static void look(struct lunkit_alarm *alarm)
{
	struct rbd_job *job = list_entry(alarm, struct rbd_job, alarm);
	uint64_t total = atomic_load(&job->total);
	if (lunkit_job_cancelled(job->job))
		atomic_store(&job->cancelled, true);
	if (total)
		lunkit_job_progress(job->job, atomic_load(&job->done), total);
	lunkit_alarm_set(job->rbd->host, alarm, LOOK_NS);
}

static int work(void *argument)
{
	struct rbd_job *job = argument;
	rbd_image_t image = job->rbd->image;
	uint64_t overlap;
	int r = 0, is_protected = 0;
	switch (job->kind) {
	case JOB_RESIZE:
		r = rbd_resize2(image, job->size, job->shrink, progress, job);
		break;
	case JOB_ADOPT:
		break;
	case JOB_SNAPSHOT_CREATE:
		r = rbd_snap_create2(image, job->name, RBD_SNAP_CREATE_SKIP_QUIESCE, progress, job);
		break;
	case JOB_SNAPSHOT_DELETE:
		/* EBUSY has two meanings. */
		job->is_protected = rbd_snap_is_protected(image, job->name, &is_protected) == 0 && is_protected;
		r = job->is_protected ? -EBUSY : rbd_snap_remove2(image, job->name, 0, progress, job);
		break;
	case JOB_REVERT:
		r = rbd_snap_rollback_with_progress(image, job->name, progress, job);
		break;
	case JOB_PROTECT:
		r = rbd_snap_protect(image, job->name);
		r = r == -EBUSY ? 0 : r; /* it is already */
		break;
	case JOB_UNPROTECT:
		r = rbd_snap_unprotect(image, job->name);
		break;
	case JOB_FLATTEN:
		r = rbd_get_overlap(image, &overlap);
		if (r == 0)
			r = rbd_flatten_with_progress(image, progress, job);
		break;
	}
	/* Also after a failure: a resize may have got some of the way. */
	int measured = rbd_get_size(image, &job->size);
	return r < 0 ? r : measured;
}

static int explain(const struct rbd_job *job, int r, struct lunkit_error *err)
{
	static const char *const what[] = {
		[JOB_RESIZE] = "change the size",
		[JOB_ADOPT] = "read the size",
		[JOB_SNAPSHOT_CREATE] = "create the snapshot",
		[JOB_SNAPSHOT_DELETE] = "delete the snapshot",
		[JOB_REVERT] = "revert",
		[JOB_PROTECT] = "protect the snapshot",
		[JOB_UNPROTECT] = "unprotect the snapshot",
		[JOB_FLATTEN] = "flatten the image",
	};
	const char *label = job->rbd->label;
	if (r == -ECANCELED)
		return r;
	if (job->kind == JOB_SNAPSHOT_CREATE && r == -EEXIST) {
		lunkit_error_set(err, r, "%.300s: there is a snapshot '%.200s' already", label, job->name);
		return lunkit_error_hint(err, "choose another name, or delete that one");
	}
	if (r == -ENOENT && job->name[0]) {
		lunkit_error_set(err, r, "%.300s: there is no snapshot '%.200s'", label, job->name);
		return lunkit_error_hint(err, "lunkit snapshot list shows those that there are");
	}
	if (job->kind == JOB_SNAPSHOT_DELETE && r == -EBUSY) {
		lunkit_error_set(err, r, "%.300s: the snapshot '%.200s' is %s", label, job->name,
				 job->is_protected ? "protected" : "in use: images are clones of it");
		return lunkit_error_hint(err, job->is_protected ? "once it has no clones (rbd children): lunkit snapshot unprotect"
								: "rbd children shows them; flatten them first");
	}
	if (job->kind == JOB_UNPROTECT && r == -EINVAL)
		return lunkit_error_set(err, r, "%.300s: the snapshot '%.200s' is not protected", label, job->name);
	if (job->kind == JOB_UNPROTECT && r == -EBUSY) {
		lunkit_error_set(err, r, "%.300s: the snapshot '%.200s' has clones", label, job->name);
		return lunkit_error_hint(err, "rbd children shows them; flatten them first: lunkit flatten");
	}
	if (job->kind == JOB_FLATTEN && r == -EINVAL)
		return lunkit_error_set(err, r, "%.300s: it has no parent: there is nothing to flatten", label);
	return rbd_say(err, r, label, what[job->kind]);
}

static void ended(struct lunkit_io *io, int result)
{
	struct rbd_job *job = (struct rbd_job *)io;
	struct rbd *rbd = job->rbd;
	struct lunkit_job *core = job->job;
	lunkit_alarm_cancel(rbd->host, &job->alarm);
	if (job->size)
		rbd->size = job->size;
	if (result < 0)
		explain(job, result, lunkit_job_error(core));
	else if (job->kind == JOB_FLATTEN)
		lunkit_job_progress(core, job->size, job->size);
	bool held = job->kind == JOB_REVERT;
	rbd->job = NULL;
	free(job);
	lunkit_job_done(core, result);
	if (held)
		rbd_release(rbd);
}

static void start(struct rbd *rbd)
{
	struct rbd_job *job = rbd->job;
	job->alarm.ring = look;
	lunkit_alarm_set(rbd->host, &job->alarm, LOOK_NS);
	job->work = (struct lunkit_work){ .io.done = ended, .function = work, .argument = job };
	lunkit_work_start(rbd->host, &job->work);
}

static struct rbd_job *job_new(struct rbd *rbd, struct lunkit_job *core, enum job_kind kind)
{
	struct lunkit_error *err = lunkit_job_error(core);
	struct rbd_job *job = rbd->job ? NULL : calloc(1, sizeof(*job));
	if (!job) {
		lunkit_job_done(core, lunkit_error_set(err, rbd->job ? EBUSY : ENOMEM, "%.300s: %s", rbd->label,
						       rbd->job ? "another operation on the image is under way" : "not enough memory"));
		return NULL;
	}
	job->rbd = rbd;
	job->job = core;
	job->kind = kind;
	rbd->job = job;
	return job;
}

void rbd_handler_resize(void *state, struct lunkit_job *core, uint64_t size, unsigned flags)
{
	struct rbd *rbd = state;
	struct rbd_job *job = job_new(rbd, core, size ? JOB_RESIZE : JOB_ADOPT);
	if (!job)
		return;
	job->size = size;
	job->shrink = flags & LUNKIT_RESIZE_SHRINK;
	start(rbd);
}

void rbd_handler_snapshot(void *state, struct lunkit_job *core, enum lunkit_snapshot_op op, const char *name)
{
	static const enum job_kind kinds[] = {
		[LUNKIT_SNAPSHOT_CREATE] = JOB_SNAPSHOT_CREATE, [LUNKIT_SNAPSHOT_DELETE] = JOB_SNAPSHOT_DELETE,
		[LUNKIT_SNAPSHOT_REVERT] = JOB_REVERT,		[LUNKIT_SNAPSHOT_PROTECT] = JOB_PROTECT,
		[LUNKIT_SNAPSHOT_UNPROTECT] = JOB_UNPROTECT,
	};
	struct rbd *rbd = state;
	struct rbd_job *job = job_new(rbd, core, kinds[op]);
	if (!job)
		return;
	snprintf(job->name, sizeof(job->name), "%s", name);
	if (op == LUNKIT_SNAPSHOT_REVERT)
		rbd_hold(rbd, start);
	else
		start(rbd);
}

void rbd_handler_flatten(void *state, struct lunkit_job *core)
{
	struct rbd *rbd = state;
	if (job_new(rbd, core, JOB_FLATTEN))
		start(rbd);
}
