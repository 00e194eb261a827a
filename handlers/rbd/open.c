/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An image from open to close. All of this blocks, before the image serves requests or after it did. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rbd.h"

static int read_facts(struct rbd *rbd)
{
	struct rbd_facts *facts = &rbd->facts;
	rbd_image_info_t info;
	int r = rbd_stat(rbd->image, &info, sizeof(info));
	if (r == 0)
		r = rbd_get_size(rbd->image, &rbd->size); /* of the snapshot, where one is opened */
	if (r == 0)
		r = rbd_get_stripe_unit(rbd->image, &facts->stripe_unit);
	if (r == 0)
		r = rbd_get_stripe_count(rbd->image, &facts->stripe_count);
	if (r == 0)
		r = rbd_get_features(rbd->image, &facts->features);
	if (r < 0)
		return r;
	facts->object_size = info.obj_size;
	facts->data_pool = rbd_get_data_pool_id(rbd->image);
	if (rbd_get_id(rbd->image, facts->id, sizeof(facts->id)) < 0) /* images of the oldest format have none */
		facts->id[0] = '\0';
	return 0;
}

static int open_image(struct rbd *rbd, struct lunkit_error *err)
{
	const struct rbd_name *name = &rbd->name;
	int r = rbd->read_only ? rbd_open_read_only(rbd->pool.io, name->image, &rbd->image, NULL)
			       : rbd_open(rbd->pool.io, name->image, &rbd->image, NULL);
	if (r == -ENOENT) {
		lunkit_error_set(err, r, "%.300s: there is no such image", rbd->label);
		return lunkit_error_hint(err, "rbd ls %s%s%s shows those that there are; lunkit create makes a new one", name->pool,
					 name->namespace[0] ? "/" : "", name->namespace);
	}
	if (r < 0) {
		rbd->image = NULL;
		return rbd_say(err, r, rbd->label, "open the image");
	}
	if (name->snapshot[0]) {
		r = rbd_snap_set(rbd->image, name->snapshot);
		if (r == -ENOENT) {
			lunkit_error_set(err, r, "%.300s: the image has no snapshot '%s'", rbd->label, name->snapshot);
			return lunkit_error_hint(err, "lunkit snapshot list shows those that there are");
		}
	}
	if (r == 0)
		r = read_facts(rbd);
	return r < 0 ? rbd_say(err, r, rbd->label, "read what the image is") : 0;
}

/*
 * A worker that was killed may hold the image's lock, and the cluster would wait for it for half a minute. Whoever starts us knows that it is gone, and we know it by the address that
 * it has left; another host's lock is nothing of ours. Breaking the lock shuts that client out, so that nothing of it that is still under way can land later.
 */
static void replace_predecessor(struct rbd *rbd, const char *memo)
{
	char *owners[8], *own = NULL;
	size_t count = sizeof(owners) / sizeof(owners[0]);
	rbd_lock_mode_t mode;
	if (memo && rbd_lock_get_owners(rbd->image, &mode, owners, &count) == 0) {
		for (size_t i = 0; i < count; i++) {
			if (strcmp(owners[i], memo) != 0)
				continue;
			int r = rbd_lock_break(rbd->image, mode, owners[i]);
			lunkit_log(r < 0 ? LUNKIT_LOG_WARNING : LUNKIT_LOG_INFO, "%s: the lock of the worker before this one (%s) %s%s",
				   rbd->label, memo, r < 0 ? "cannot be broken, and is waited for: " : "is broken",
				   r < 0 ? strerror(-r) : "");
		}
		rbd_lock_get_owners_cleanup(owners, count);
	}
	if (rados_getaddrs(rbd->pool.cluster, &own) == 0 && own) {
		if (strlen(own) < LUNKIT_MEMO_MAX)
			lunkit_memo(rbd->host, own);
		rados_buffer_free(own);
	}
}

int rbd_handler_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	struct rbd *rbd = calloc(1, sizeof(*rbd));
	if (!rbd)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", params->name);
	rbd->host = params->host;
	rbd->survive = params->survive;
	rbd->write_back = params->cache == LUNKIT_CACHE_WRITEBACK && !params->survive;
	list_init(&rbd->held);
	int r = rbd_name_of(params, &rbd->name, err);
	if (r == 0) {
		rbd->read_only = params->read_only || rbd->name.snapshot[0];
		rbd_name_format(&rbd->name, rbd->label, sizeof(rbd->label));
		r = rbd_connect(params, &rbd->name, &rbd->pool, err);
	}
	if (r == 0) {
		lunkit_io_listen(rbd->host);
		r = open_image(rbd, err);
	}
	if (r == 0 && !rbd->read_only && params->survive)
		replace_predecessor(rbd, params->memo);
	if (r == 0 && !params->look_only && !rbd->name.snapshot[0])
		r = rbd_watch(rbd, err);
	if (r < 0) {
		rbd_handler_close(rbd);
		return r;
	}
	*ret_state = rbd;
	return 0;
}

void rbd_close_image(struct rbd *rbd)
{
	rbd_unwatch(rbd);
	int r = rbd->image ? rbd_close(rbd->image) : 0;
	rbd->image = NULL;
	if (r < 0)
		lunkit_log(LUNKIT_LOG_WARNING, "%s: the image was not closed in order: %s", rbd->label, strerror(-r));
}

void rbd_handler_close(void *state)
{
	struct rbd *rbd = state;
	rbd_close_image(rbd);
	rbd_disconnect(&rbd->pool);
	free(rbd);
}

bool rbd_handler_busy(void *state)
{
	struct rbd *rbd = state;
	rbd_unwatch(rbd);
	return rbd->measuring || atomic_load(&rbd->change_posted);
}
