/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* New images, clones of snapshots, and their end. All of it blocks; nothing is served meanwhile. */
#include <errno.h>
#include <string.h>

#include "base/checked.h"
#include "rbd.h"

#define OBJECT_SIZE_MIN ((uint64_t)4 << 10)
#define OBJECT_SIZE_MAX ((uint64_t)32 << 20)

#define BOTH (LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE)
const struct lunkit_option rbd_options[] = {
	{ "conf", LUNKIT_OPTION_STRING, BOTH, "the cluster's configuration [/etc/ceph/CLUSTER.conf]", NULL },
	{ "id", LUNKIT_OPTION_STRING, BOTH, "the user, without \"client.\" [admin]", NULL },
	{ "keyring", LUNKIT_OPTION_STRING, BOTH, "the file with the user's key [what the configuration says]", NULL },
	{ "cluster", LUNKIT_OPTION_STRING, BOTH, "the cluster's name [ceph]", NULL },
	{ "osd-op-timeout", LUNKIT_OPTION_SIZE, BOTH, "seconds until a request that the cluster does not answer fails, 0: never [20]",
	  NULL },
	{ "connect-timeout", LUNKIT_OPTION_SIZE, BOTH, "seconds to wait for the monitors [10]", NULL },
	{ "snapshot", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN, "open this snapshot, read-only", NULL },
	{ "object-size", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_CREATE, "bytes of an object: 4K to 32M, a power of two [4M]", NULL },
	{ "stripe-unit", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_CREATE, "bytes that lie together in an object [all of it]", NULL },
	{ "stripe-count", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_CREATE, "objects that are filled side by side [1]", NULL },
	{ "data-pool", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "a pool for the data, if not the image's own", NULL },
	{ "features", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "features, separated by '+' [what the configuration says]", NULL },
	{ "parent", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "make a clone of this snapshot: POOL[/NAMESPACE]/IMAGE@SNAPSHOT", NULL },
	{ NULL },
};

static int set_features(const struct lunkit_params *params, rbd_image_options_t options, struct lunkit_error *err)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, "features");
	char list[512];
	uint64_t features;
	if (!option)
		return 0;
	snprintf(list, sizeof(list), "%s", option->value);
	for (char *c = list; *c; c++)
		if (*c == '+')
			*c = ',';
	if (strlen(option->value) >= sizeof(list) || rbd_features_from_string(list, &features) < 0) {
		lunkit_error_set(err, EINVAL, "%.300s: '%.200s' are not features of RBD images", params->name, option->value);
		return lunkit_error_hint(err, "for example layering+exclusive-lock+object-map+fast-diff+deep-flatten");
	}
	return rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_FEATURES, features);
}

static int set_sizes(const struct lunkit_params *params, rbd_image_options_t options, struct lunkit_error *err)
{
	const struct lunkit_option_value *object = lunkit_params_option(params, "object-size"),
					 *unit = lunkit_params_option(params, "stripe-unit"),
					 *count = lunkit_params_option(params, "stripe-count");
	if (object && (!is_power_of_two(object->number) || object->number < OBJECT_SIZE_MIN || object->number > OBJECT_SIZE_MAX))
		return lunkit_error_set(err, EINVAL, "%.300s: object-size is a power of two from 4K to 32M", params->name);
	if (!unit != !count) {
		lunkit_error_set(err, EINVAL, "%.300s: stripe-unit and stripe-count go together", params->name);
		return lunkit_error_hint(err, "for example stripe-unit=64K;stripe-count=16");
	}
	int r = object ? rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_ORDER, (uint64_t)__builtin_ctzll(object->number)) : 0;
	if (r == 0 && unit)
		r = rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_UNIT, unit->number);
	if (r == 0 && count)
		r = rbd_image_options_set_uint64(options, RBD_IMAGE_OPTION_STRIPE_COUNT, count->number);
	return r;
}

/* librbd would say EINVAL or nothing useful. */
static int set_data_pool(const struct lunkit_params *params, rados_t cluster, rbd_image_options_t options, struct lunkit_error *err)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, "data-pool");
	if (!option)
		return 0;
	if (rados_pool_lookup(cluster, option->value) < 0) {
		lunkit_error_set(err, ENOENT, "%.300s: the cluster has no pool '%.100s' for the data", params->name, option->value);
		return lunkit_error_hint(err, "ceph osd pool ls shows them");
	}
	return rbd_image_options_set_string(options, RBD_IMAGE_OPTION_DATA_POOL, option->value);
}

/* The clone has the parent's size, and may be made larger. */
static int fit(const struct lunkit_params *params, rados_ioctx_t io, const struct rbd_name *name, struct lunkit_error *err)
{
	rbd_image_t image;
	uint64_t size = 0;
	int r = rbd_open(io, name->image, &image, NULL);
	if (r < 0)
		return rbd_say(err, r, params->name, "open the clone");
	r = rbd_get_size(image, &size);
	if (r == 0 && size > params->size)
		r = lunkit_error_set(err, EINVAL, "%.300s: the parent has %llu bytes, and a clone can't have less", params->name,
				     (unsigned long long)size);
	else if (r == 0 && size < params->size && (r = rbd_resize(image, params->size)) < 0)
		rbd_say(err, r, params->name, "give the clone its size");
	rbd_close(image);
	return r;
}

static int explain_clone(int r, const struct lunkit_params *params, const char *parent, struct lunkit_error *err)
{
	if (r == -ENOENT) {
		lunkit_error_set(err, r, "%.300s: there is no snapshot '%.200s' to clone", params->name, parent);
		return lunkit_error_hint(err, "lunkit snapshot list shows those that there are");
	}
	if (r == -EINVAL) {
		lunkit_error_set(err, r, "%.300s: the cluster can't clone '%.200s': the snapshot is not protected", params->name, parent);
		return lunkit_error_hint(err, "lunkit snapshot protect IMAGE SNAPSHOT, or let clients older than Mimic go: ceph osd "
					      "set-require-min-compat-client mimic");
	}
	return rbd_say(err, r, params->name, "clone the snapshot");
}

static int clone_image(const struct lunkit_params *params, const struct rbd_pool *pool, const struct rbd_name *name, const char *parent,
		       rbd_image_options_t options, struct lunkit_error *err)
{
	struct rbd_name from;
	rados_ioctx_t io;
	int r = rbd_name_parse(parent, &from, err);
	if (r < 0)
		return r;
	if (!from.snapshot[0]) {
		lunkit_error_set(err, EINVAL, "%.300s: '%.200s' is not a snapshot, and only snapshots are cloned", params->name, parent);
		return lunkit_error_hint(err, "lunkit snapshot create rbd:%.100s NAME, then clone rbd:%.100s@NAME", parent, parent);
	}
	r = rbd_pool_open(pool->cluster, &from, &io, err);
	if (r < 0)
		return r;
	r = rbd_clone3(io, from.image, from.snapshot, pool->io, name->image, options);
	rados_ioctx_destroy(io);
	if (r == -EEXIST)
		return r;
	if (r < 0)
		return explain_clone(r, params, parent, err);
	r = fit(params, pool->io, name, err);
	if (r < 0)
		rbd_remove(pool->io, name->image);
	return r;
}

static int name_new(const struct lunkit_params *params, struct rbd_name *ret, struct lunkit_error *err)
{
	int r = rbd_name_parse(params->name, ret, err);
	if (r == 0 && ret->snapshot[0])
		r = lunkit_error_set(err, EINVAL, "'%.300s' names a snapshot, not an image", params->name);
	if (r == 0 && params->size % 512)
		r = lunkit_error_set(err, EINVAL, "%.300s: %llu bytes are not a multiple of 512", params->name,
				     (unsigned long long)params->size);
	return r;
}

static int make_image(const struct lunkit_params *params, const struct rbd_pool *pool, const struct rbd_name *name,
		      rbd_image_options_t options, struct lunkit_error *err)
{
	int r = rbd_create4(pool->io, name->image, params->size, options);
	if (r == -EINVAL)
		return lunkit_error_set(err, r, "%.300s: the cluster makes no image with these options: they contradict each other",
					params->name);
	return r < 0 && r != -EEXIST ? rbd_say(err, r, params->name, "create the image") : r;
}

int rbd_handler_create(const struct lunkit_params *params, struct lunkit_error *err)
{
	const struct lunkit_option_value *parent = lunkit_params_option(params, "parent");
	struct rbd_name name;
	struct rbd_pool pool = { 0 };
	rbd_image_options_t options;
	int r = name_new(params, &name, err);
	if (r < 0)
		return r;
	r = rbd_connect(params, &name, &pool, err);
	if (r < 0)
		return r;
	rbd_image_options_create(&options);
	r = set_features(params, options, err);
	if (r == 0)
		r = set_sizes(params, options, err);
	if (r == 0)
		r = set_data_pool(params, pool.cluster, options, err);
	if (r == 0 && parent)
		r = clone_image(params, &pool, &name, parent->value, options, err);
	else if (r == 0)
		r = make_image(params, &pool, &name, options, err);
	if (r == -EEXIST) {
		lunkit_error_set(err, r, "%.300s: there is such an image already", params->name);
		lunkit_error_hint(err, "choose another name; lunkit info shows what is there");
	}
	rbd_image_options_destroy(options);
	rbd_disconnect(&pool);
	return r;
}

int rbd_handler_remove(void *state, struct lunkit_error *err)
{
	struct rbd *rbd = state;
	rbd_close_image(rbd);
	int r = rbd_remove(rbd->pool.io, rbd->name.image);
	if (r == -EBUSY) {
		lunkit_error_set(err, r, "%.300s: it is in use elsewhere", rbd->label);
		lunkit_error_hint(err, "rbd status shows by whom");
	} else if (r == -ENOTEMPTY) {
		r = lunkit_error_set(err, EBUSY, "%.300s: it has snapshots", rbd->label);
		lunkit_error_hint(err, "delete them first: lunkit snapshot list, lunkit snapshot delete");
	} else if (r < 0) {
		rbd_say(err, r, rbd->label, "remove the image");
	}
	rbd_handler_close(rbd);
	return r;
}
