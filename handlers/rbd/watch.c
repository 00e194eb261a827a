/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changes that other clients make to the image:
 *
 *     librbd's thread: notified() ─► post ─► changed() ─► work: rbd_get_size() ─► measured() ─► lunkit_size_changed(), where it is another one now
 *
 * Our own changes are notified as well; after them the size is the one that we know.
 */
#include <errno.h>
#include <string.h>

#include "rbd.h"

/* On one of librbd's threads. */
static void notified(void *argument)
{
	struct rbd *rbd = argument;
	if (!atomic_exchange(&rbd->change_posted, true))
		lunkit_io_post(rbd->host, &rbd->changed, 0);
}

static int measure(void *argument)
{
	struct rbd *rbd = argument;
	return rbd_get_size(rbd->image, &rbd->measured);
}

static void measured(struct lunkit_io *io, int result);

static void start(struct rbd *rbd)
{
	rbd->measuring = true;
	rbd->measure_again = false;
	rbd->measure = (struct lunkit_work){ .io.done = measured, .function = measure, .argument = rbd };
	lunkit_work_start(rbd->host, &rbd->measure);
}

static void measured(struct lunkit_io *io, int result)
{
	struct rbd *rbd = list_entry(io, struct rbd, measure.io);
	rbd->measuring = false;
	if (!rbd->watching)
		return;
	/* A job of ours tells the core itself, at its end. */
	if (result == 0 && rbd->measured != rbd->size && !rbd->job)
		lunkit_size_changed(rbd->host);
	if (rbd->measure_again)
		start(rbd);
}

static void changed(struct lunkit_io *io, int result)
{
	struct rbd *rbd = list_entry(io, struct rbd, changed);
	(void)result;
	atomic_store(&rbd->change_posted, false);
	if (rbd->measuring) /* it may have changed after it was read */
		rbd->measure_again = true;
	else if (rbd->watching)
		start(rbd);
}

int rbd_watch(struct rbd *rbd, struct lunkit_error *err)
{
	rbd->changed.done = changed;
	int r = rbd_update_watch(rbd->image, &rbd->watch, notified, rbd);
	if (r < 0)
		return rbd_say(err, r, rbd->label, "watch the image");
	rbd->watching = true;
	return 0;
}

void rbd_unwatch(struct rbd *rbd)
{
	if (!rbd->watching)
		return;
	rbd->watching = false;
	int r = rbd_update_unwatch(rbd->image, rbd->watch);
	if (r < 0)
		lunkit_log(LUNKIT_LOG_DEBUG, "%s: cannot end the watch: %s", rbd->label, strerror(-r));
}
