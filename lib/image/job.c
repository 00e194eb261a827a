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

static void complete(struct image_job *job, int result)
{
	struct image *image = job->image;
	if (result < 0 && !job->err.code)
		lunkit_error_set(&job->err, result, "%s: cannot %s: %s", image->name, job->report ? "check the image" : "change the size",
				 strerror(-result));
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
	if (job->report)
		image->handler->check(image->state, (struct lunkit_job *)job, job->flags, job->report);
	else
		image->handler->resize(image->state, (struct lunkit_job *)job, job->size, job->flags);
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

static void begin(struct image *image, struct image_job *job)
{
	job->err = LUNKIT_ERROR_INIT;
	job->image = image;
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
	begin(image, job);
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
	begin(image, job);
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
