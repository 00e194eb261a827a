/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Control operations on an open image. A struct lunkit_job, which handlers know by name only, is the struct image_job itself. job->image
 * is set exactly while the job runs.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/log.h"
#include "image/shim.h"

static struct image_job *job_of(struct lunkit_job *job)
{
	return (struct image_job *)job;
}

struct lunkit_error *lunkit_job_error(struct lunkit_job *job)
{
	return &job_of(job)->err;
}

void lunkit_job_progress(struct lunkit_job *job, uint64_t done, uint64_t total)
{
	if (job_of(job)->progress)
		job_of(job)->progress(job_of(job), done, total);
}

bool lunkit_job_cancelled(const struct lunkit_job *job)
{
	return ((const struct image_job *)job)->cancelled;
}

uint64_t lunkit_job_rate(const struct lunkit_job *job)
{
	return ((const struct image_job *)job)->rate;
}

/* Takes the limits that the handler has now. Alignments and the block size stay what the image was opened with. */
static int read_limits(struct image *image, struct lunkit_error *err)
{
	struct lunkit_limits limits = { 0 };
	image->handler->limits(image->state, &limits);
	int r = limits_complete(&limits, image->look_only, image->name, err);
	if (r < 0)
		return r;
	if (limits.block_size != image->limits.block_size || limits.request_alignment != image->limits.request_alignment ||
	    limits.memory_alignment != image->limits.memory_alignment)
		return lunkit_error_set(err, EIO, "%s: the storage has changed its block size or its alignment", image->name);
	image->limits = limits;
	image_apply_limits(image);
	return 0;
}

static const char *what_fails(const struct image_job *job)
{
	switch (job->kind) {
	case IMAGE_JOB_RESIZE:
		return "change the size";
	case IMAGE_JOB_CHECK:
		return "check the image";
	case IMAGE_JOB_FLATTEN:
		return "flatten the image";
	case IMAGE_JOB_KEY:
		return "change its keys";
	case IMAGE_JOB_SNAPSHOT:
		break;
	}
	switch (job->snapshot_op) {
	case LUNKIT_SNAPSHOT_CREATE:
		return "create the snapshot";
	case LUNKIT_SNAPSHOT_DELETE:
		return "delete the snapshot";
	case LUNKIT_SNAPSHOT_PROTECT:
		return "protect the snapshot";
	case LUNKIT_SNAPSHOT_UNPROTECT:
		return "unprotect the snapshot";
	case LUNKIT_SNAPSHOT_REVERT:
		break;
	}
	return "revert to the snapshot";
}

static void complete(struct image_job *job, int result)
{
	struct image *image = job->image;
	if (result < 0 && !job->err.code)
		lunkit_error_set(&job->err, result, "%s: cannot %s: %s", image->name, what_fails(job), strerror(-result));
	job->image = NULL;
	if (job->drained)
		image_resume(image);
	job->done(job, result);
}

void lunkit_job_done(struct lunkit_job *opaque, int result)
{
	struct image_job *job = job_of(opaque);
	if (!job->image) {
		log_error("a job was completed that does not run");
		abort();
	}
	if (result >= 0)
		result = read_limits(job->image, &job->err);
	complete(job, result);
}

static void start(struct image_job *job)
{
	struct image *image = job->image;
	struct lunkit_job *opaque = (struct lunkit_job *)job;
	switch (job->kind) {
	case IMAGE_JOB_RESIZE:
		image->handler->resize(image->state, opaque, job->size, job->flags);
		return;
	case IMAGE_JOB_CHECK:
		image->handler->check(image->state, opaque, job->flags, job->report);
		return;
	case IMAGE_JOB_SNAPSHOT:
		image->handler->snapshot(image->state, opaque, job->snapshot_op, job->name);
		return;
	case IMAGE_JOB_FLATTEN:
		image->handler->flatten(image->state, opaque);
		return;
	case IMAGE_JOB_KEY:
		image->handler->key(image->state, opaque, job->key_change);
		return;
	}
}

static void drained(struct loop_op *op, int result)
{
	(void)result;
	start((struct image_job *)((char *)op - offsetof(struct image_job, op)));
}

static void start_drained(struct image_job *job)
{
	job->drained = true;
	job->op.done = drained;
	image_drain(job->image, &job->op);
}

static void begin(struct image *image, struct image_job *job, enum image_job_kind kind)
{
	job->err = LUNKIT_ERROR_INIT;
	job->image = image;
	job->kind = kind;
	job->flags = 0;
	job->drained = false; /* complete() must not resume what was not drained */
	job->report = NULL;
}

static int check_resize(const struct image *image, uint64_t size, unsigned flags, struct lunkit_error *err)
{
	const struct lunkit_limits *limits = &image->limits;
	unsigned unit = MAX(limits->block_size, limits->request_alignment);
	if (flags & ~LUNKIT_RESIZE_SHRINK)
		return lunkit_error_set(err, EINVAL, "%s: a resize with unknown flags", image->name);
	if (!image->handler->resize)
		return lunkit_error_set(err, EOPNOTSUPP, "%s: images of the kind \"%s\" cannot change their size", image->name,
					image->handler->name);
	if (size == 0)
		return 0;
	if (image_is_read_only(image))
		return lunkit_error_set(err, EROFS, "%s: the image is read-only: its size stays as it is", image->name);
	if (size > INT64_MAX || !is_aligned(size, unit)) {
		lunkit_error_set(err, EINVAL, "%s: %" PRIu64 " bytes is not a size that this image can have", image->name, size);
		return lunkit_error_hint(err, "Give a multiple of %u bytes.", unit);
	}
	if (size < limits->size && !(flags & LUNKIT_RESIZE_SHRINK)) {
		lunkit_error_set(err, EINVAL,
				 "%s: %" PRIu64 " bytes is less than the image's %" PRIu64 ", and what lies behind would be lost",
				 image->name, size, limits->size);
		return lunkit_error_hint(err, "Shrink the filesystem first, then ask for shrinking explicitly.");
	}
	return 0;
}

void image_resize(struct image *image, struct image_job *job, uint64_t size, unsigned flags)
{
	begin(image, job, IMAGE_JOB_RESIZE);
	job->size = size;
	int r = check_resize(image, size, flags, &job->err);
	if (r < 0) {
		complete(job, r);
		return;
	}
	job->flags = flags;
	if (flags & LUNKIT_RESIZE_SHRINK)
		start_drained(job);
	else
		start(job);
}

void image_check(struct image *image, struct image_job *job, unsigned flags, struct lunkit_check_report *report)
{
	begin(image, job, IMAGE_JOB_CHECK);
	*report = (struct lunkit_check_report){ 0 };
	job->report = report;
	job->flags = flags;
	int r = 0;
	if (flags & ~(LUNKIT_CHECK_REPAIR_LEAKS | LUNKIT_CHECK_REPAIR_ALL))
		r = lunkit_error_set(&job->err, EINVAL, "%s: a check with unknown flags", image->name);
	else if (!image->handler->check)
		r = lunkit_error_set(&job->err, EOPNOTSUPP, "%s: there is nothing to check in images of the kind \"%s\"", image->name,
				     image->handler->name);
	else if (flags &&
		 (image->read_only || image->look_only)) /* a damaged one that only the handler calls read-only is what repair is for */
		r = lunkit_error_set(&job->err, EROFS, "%s: the image is read-only: nothing can be repaired", image->name);
	if (r < 0)
		complete(job, r);
	else
		start_drained(job);
}

/* ---- snapshots ---- */

/* Room for 8, 16, 32, …: a format may have tens of thousands. */
static int make_room(struct lunkit_snapshots *list)
{
	size_t room = MAX((size_t)list->count * 2, (size_t)8);
	if (list->count && (list->count < 8 || list->count & (list->count - 1)))
		return 0;
	struct lunkit_snapshot *items = reallocarray(list->items, room, sizeof(*items));
	if (!items)
		return -ENOMEM;
	list->items = items;
	bool *is_protected = reallocarray(list->is_protected, room, sizeof(*is_protected));
	if (!is_protected)
		return -ENOMEM;
	list->is_protected = is_protected;
	return 0;
}

int lunkit_snapshots_add(struct lunkit_snapshots *list, const struct lunkit_snapshot *snapshot)
{
	int r = make_room(list);
	if (r < 0)
		return r;
	list->is_protected[list->count] = false;
	list->items[list->count++] = *snapshot;
	return 0;
}

void lunkit_snapshots_protected(struct lunkit_snapshots *list)
{
	if (list->count)
		list->is_protected[list->count - 1] = true;
}

void image_snapshots_free(struct lunkit_snapshots *snapshots)
{
	free(snapshots->items);
	free(snapshots->is_protected);
	*snapshots = (struct lunkit_snapshots){ 0 };
}

static int no_snapshots(const struct image *image, struct lunkit_error *err)
{
	lunkit_error_set(err, EOPNOTSUPP, "%s: images of the kind \"%s\" have no snapshots", image->name, image->handler->name);
	return lunkit_error_hint(err, "A clone is a copy of its own that starts where this image is: lunkit clone.");
}

int image_snapshot_list(struct image *image, struct lunkit_snapshots *ret, struct lunkit_error *err)
{
	struct lunkit_snapshots snapshots = { 0 };
	if (!image->handler->snapshot_list)
		return no_snapshots(image, err);
	int r = image->handler->snapshot_list(image->state, &snapshots, err);
	if (r < 0) {
		image_snapshots_free(&snapshots);
		return r;
	}
	*ret = snapshots;
	return 0;
}

static bool snapshot_name_is_valid(const char *name)
{
	size_t length = strlen(name);
	for (const char *c = name; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	return length > 0 && length < LUNKIT_SNAPSHOT_NAME_MAX;
}

void image_snapshot(struct image *image, struct image_job *job, enum lunkit_snapshot_op op, const char *name)
{
	begin(image, job, IMAGE_JOB_SNAPSHOT);
	job->snapshot_op = op;
	int r = 0;
	if (!image->handler->snapshot)
		r = no_snapshots(image, &job->err);
	else if (op >= LUNKIT_SNAPSHOT_PROTECT && !(image->handler->flags & LUNKIT_HANDLER_PROTECTS))
		r = lunkit_error_set(&job->err, EOPNOTSUPP, "%s: snapshots of images of the kind \"%s\" can't be protected", image->name,
				     image->handler->name);
	else if (!snapshot_name_is_valid(name))
		r = lunkit_error_set(&job->err, EINVAL, "%s: a snapshot's name has 1 to %d bytes and no control characters", image->name,
				     LUNKIT_SNAPSHOT_NAME_MAX - 1);
	else if (image_is_read_only(image))
		r = lunkit_error_set(&job->err, EROFS, "%s: the image is read-only: its snapshots stay as they are", image->name);
	if (r < 0) {
		complete(job, r);
		return;
	}
	strcpy(job->name, name);
	start(job);
}

void image_flatten(struct image *image, struct image_job *job)
{
	begin(image, job, IMAGE_JOB_FLATTEN);
	int r = 0;
	if (!image->handler->flatten)
		r = lunkit_error_set(&job->err, EOPNOTSUPP, "%s: images of the kind \"%s\" stand on nothing that they could be freed from",
				     image->name, image->handler->name);
	else if (image_is_read_only(image))
		r = lunkit_error_set(&job->err, EROFS, "%s: the image is read-only: it can't be flattened", image->name);
	if (r < 0)
		complete(job, r);
	else
		start(job);
}

void image_change_key(struct image *image, struct image_job *job, const struct lunkit_key_change *change)
{
	begin(image, job, IMAGE_JOB_KEY);
	job->key_change = change;
	int r = 0;
	if (!image->handler->key) {
		lunkit_error_set(&job->err, EOPNOTSUPP, "%s: images of the kind \"%s\" are not encrypted", image->name,
				 image->handler->name);
		r = lunkit_error_hint(&job->err, "A LUKS image in a plain file is of the kind luks: luks:PATH.");
	} else if (change->op != LUNKIT_KEY_BACKUP && image->read_only) {
		r = lunkit_error_set(&job->err, EROFS, "%s: the image is read-only: its keys stay as they are", image->name);
	}
	if (r < 0)
		complete(job, r);
	else
		start_drained(job);
}
