/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests. librbd takes them on the worker's thread and calls back on one of its own; the result comes home as a post, and a batch of them with one wake-up.
 *
 *     rbd_submit() ─► rbd_aio_*() ─► … librbd … ─► called_back() ─► lunkit_io_post() ─► landed() ─► rbd_request_end()
 *
 * What comes back is what the initiator is told:
 *   - no answer within the time-out: busy at first, then not ready, until one comes again. librbd has given the request up by then, and its memory is not touched any more;
 *   - blocklisted: not ready, for this request and for every one after it, which are not sent. Another client has the image now, and nothing of ours may reach it;
 *   - an image that was removed: a medium error.
 * librbd copies what is written when it takes it, so that a guest that changes its memory meanwhile changes nothing.
 */
#include <errno.h>
#include <string.h>

#include "rbd.h"

static int told(struct rbd *rbd, int result)
{
	switch (-result) {
	case ETIMEDOUT:
		if (rbd->timed_out)
			return result;
		rbd->timed_out = true;
		lunkit_log(LUNKIT_LOG_WARNING, "%s: the cluster does not answer in time", rbd->label);
		return -EBUSY;
	case ESHUTDOWN:
		if (!rbd->fenced)
			lunkit_log(LUNKIT_LOG_ERROR, "%s: the cluster has shut this client out (blocklist): nothing is written any more",
				   rbd->label);
		rbd->fenced = true;
		return result;
	case ENOENT:
		lunkit_log(LUNKIT_LOG_ERROR, "%s: the image or a part of it has been removed", rbd->label);
		return -EIO;
	case EINVAL: /* beyond the end: somebody has made it smaller */
	case ERANGE:
		return -EIO;
	default:
		if (rbd->timed_out) {
			rbd->timed_out = false;
			lunkit_log(LUNKIT_LOG_INFO, "%s: the cluster answers again", rbd->label);
		}
		return result;
	}
}

void rbd_request_end(struct rbd_request *r, int result)
{
	struct rbd *rbd = r->rbd;
	struct lunkit_request *request = r->request;
	rbd->in_flight--;
	lunkit_request_done(request, told(rbd, result));
	if (rbd->in_flight == 0 && rbd->holding && rbd->quiet) {
		void (*quiet)(struct rbd *) = rbd->quiet;
		rbd->quiet = NULL;
		quiet(rbd);
	}
}

static void landed(struct lunkit_io *io, int result)
{
	struct rbd_request *r = (struct rbd_request *)io;
	/* An image that somebody has shrunk reads short. */
	if (result >= 0 && r->request->op == LUNKIT_READ && (uint64_t)result != r->request->length)
		result = -EIO;
	rbd_request_end(r, result < 0 ? result : 0);
}

/* On one of librbd's threads. */
static void called_back(rbd_completion_t completion, void *argument)
{
	struct rbd_request *r = argument;
	ssize_t result = rbd_aio_get_return_value(completion);
	rbd_aio_release(completion);
	lunkit_io_post(r->rbd->host, &r->work.io, (int)result);
}

static int start(struct rbd_request *r, rbd_completion_t completion)
{
	const struct lunkit_request *request = r->request;
	rbd_image_t image = r->rbd->image;
	switch (request->op) {
	case LUNKIT_READ:
		return rbd_aio_readv(image, request->iov, (int)request->iov_count, request->offset, completion);
	case LUNKIT_WRITE:
		return rbd_aio_writev(image, request->iov, (int)request->iov_count, request->offset, completion);
	case LUNKIT_FLUSH:
		return rbd_aio_flush(image, completion);
	case LUNKIT_DISCARD:
		return rbd_aio_discard(image, request->offset, request->length, completion);
	case LUNKIT_WRITE_ZEROES:
		return rbd_aio_write_zeroes(image, request->offset, request->length, completion,
					    request->flags & LUNKIT_REQUEST_MAY_DISCARD ? 0 : RBD_WRITE_ZEROES_FLAG_THICK_PROVISION, 0);
	case LUNKIT_EXTENTS:
		break;
	}
	return -EOPNOTSUPP;
}

static void run(struct rbd_request *r)
{
	struct rbd *rbd = r->rbd;
	rbd_completion_t completion;
	rbd->in_flight++;
	if (rbd->fenced) {
		rbd_request_end(r, -ESHUTDOWN);
		return;
	}
	if (r->request->op == LUNKIT_EXTENTS) {
		rbd_extents(r);
		return;
	}
	r->work.io.done = landed;
	int result = rbd_aio_create_completion(r, called_back, &completion);
	if (result == 0 && (result = start(r, completion)) < 0)
		rbd_aio_release(completion);
	if (result < 0)
		rbd_request_end(r, result);
}

void rbd_submit(void *state, struct lunkit_request *request)
{
	struct rbd_request *r = request->memory;
	r->rbd = state;
	r->request = request;
	if (r->rbd->holding)
		list_add_tail(&r->rbd->held, &r->node);
	else
		run(r);
}

void rbd_hold(struct rbd *rbd, void (*quiet)(struct rbd *rbd))
{
	rbd->holding = true;
	if (rbd->in_flight == 0)
		quiet(rbd);
	else
		rbd->quiet = quiet;
}

void rbd_release(struct rbd *rbd)
{
	rbd->holding = false;
	for (struct list *node; !rbd->holding && (node = list_pop(&rbd->held));)
		run(list_entry(node, struct rbd_request, node));
}
