/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The way to a cluster and a pool, bounded in time, and what its errors mean. */
#include <errno.h>
#include <string.h>

#include "rbd.h"

#define CLUSTER "ceph"
#define USER "admin"
#define CONNECT_SECONDS 10
/* Initiators wait 30 s for a command, and so does the kernel target: they get an answer before. */
#define OP_SECONDS 20
#define SECONDS_MAX 3600

int rbd_say(struct lunkit_error *err, int r, const char *label, const char *what)
{
	switch (-r) {
	case ENOENT:
		lunkit_error_set(err, r, "%.300s: cannot %s: it is not there", label, what);
		return r;
	case ETIMEDOUT:
		lunkit_error_set(err, r, "%.300s: cannot %s: the cluster did not answer in time", label, what);
		return lunkit_error_hint(err, "ceph -s shows what it lacks; osd-op-timeout= says how long to wait");
	case ESHUTDOWN:
		lunkit_error_set(err, r, "%.300s: cannot %s: the cluster has shut this client out (blocklist)", label, what);
		return lunkit_error_hint(err, "ceph osd blocklist ls shows it; it was done so that another host can use the image");
	case EPERM:
	case EACCES:
		lunkit_error_set(err, EACCES, "%.300s: cannot %s: the user lacks the right to", label, what);
		return lunkit_error_hint(err,
					 "it needs at least: ceph auth caps client.USER mon 'profile rbd' osd 'profile rbd pool=POOL'");
	case ENOSPC:
	case EDQUOT:
		lunkit_error_set(err, r, "%.300s: cannot %s: the pool or the cluster is full", label, what);
		return lunkit_error_hint(err, "ceph df and ceph osd pool get-quota show what is in it");
	case EROFS:
		lunkit_error_set(err, r, "%.300s: cannot %s: another client has locked it", label, what);
		return lunkit_error_hint(err, "rbd lock ls and rbd status show who");
	default:
		return lunkit_error_set(err, r, "%.300s: cannot %s: %s", label, what, strerror(-r));
	}
}

/* A value in seconds; rados takes it as text. */
static int set_seconds(const struct lunkit_params *params, rados_t cluster, const char *key, unsigned otherwise,
		       const char *const *settings, struct lunkit_error *err)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, key);
	char text[32];
	if (option && option->number > SECONDS_MAX)
		return lunkit_error_set(err, EINVAL, "%.300s: %s is a number of seconds, at most %d", params->name, key, SECONDS_MAX);
	snprintf(text, sizeof(text), "%u", option ? (unsigned)option->number : otherwise);
	for (; *settings; settings++)
		rados_conf_set(cluster, *settings, text);
	return 0;
}

static int set_cache(const struct lunkit_params *params, rados_t cluster)
{
	/* What a killed worker had acknowledged must be in the cluster. */
	bool back = params->cache == LUNKIT_CACHE_WRITEBACK && !params->survive;
	rados_conf_set(cluster, "rbd_cache", params->cache == LUNKIT_CACHE_NONE ? "false" : "true");
	rados_conf_set(cluster, "rbd_cache_policy", back ? "writeback" : "writethrough");
	rados_conf_set(cluster, "rbd_cache_writethrough_until_flush", back ? "true" : "false");
	if (!back)
		rados_conf_set(cluster, "rbd_cache_max_dirty", "0");
	return 0;
}

static int explain_connect(int r, const char *conf, const char *id, struct lunkit_error *err)
{
	switch (-r) {
	case ETIMEDOUT:
		lunkit_error_set(err, r, "the monitors that %.300s names do not answer", conf);
		return lunkit_error_hint(
			err, "does the cluster run, and are mon_host's addresses (no host names) right? connect-timeout= says how "
			     "long to wait");
	case EPERM:
	case EACCES:
	case EINVAL:
		lunkit_error_set(err, EACCES, "the cluster does not let client.%s in: the key is not the one that it knows", id);
		return lunkit_error_hint(err, "compare it with: ceph auth get client.%s", id);
	case ENOENT:
		lunkit_error_set(err, r, "the cluster knows no client.%s, or %.300s names no monitor that can be reached", id, conf);
		return lunkit_error_hint(err, "mon_host has to hold addresses: names can't be looked up by a worker");
	default:
		return lunkit_error_set(err, r, "cannot connect to the cluster of %.300s: %s", conf, strerror(-r));
	}
}

int rbd_pool_open(rados_t cluster, const struct rbd_name *name, rados_ioctx_t *ret, struct lunkit_error *err)
{
	rados_ioctx_t io;
	int r = rados_ioctx_create(cluster, name->pool, &io);
	if (r == -ENOENT) {
		lunkit_error_set(err, r, "the cluster has no pool '%s'", name->pool);
		return lunkit_error_hint(err, "ceph osd pool ls shows them; a new one: ceph osd pool create %s && rbd pool init %s",
					 name->pool, name->pool);
	}
	if (r < 0)
		return rbd_say(err, r, name->pool, "use the pool");
	if (name->namespace[0]) {
		bool exists = false;
		r = rbd_namespace_exists(io, name->namespace, &exists);
		if (r == 0 && !exists) {
			lunkit_error_set(err, ENOENT, "pool '%s' has no namespace '%s'", name->pool, name->namespace);
			r = lunkit_error_hint(err, "rbd namespace ls %s shows them", name->pool);
		} else if (r < 0) {
			r = rbd_say(err, r, name->namespace, "look for the namespace");
		}
		rados_ioctx_set_namespace(io, name->namespace);
	}
	if (r < 0) {
		rados_ioctx_destroy(io);
		return r;
	}
	/* Without it, writes to a full pool wait until somebody makes room. */
	rados_set_pool_full_try(io);
	*ret = io;
	return 0;
}

int rbd_connect(const struct lunkit_params *params, const struct rbd_name *name, struct rbd_pool *ret, struct lunkit_error *err)
{
	static const char *const mount[] = { "client_mount_timeout", NULL };
	static const char *const op[] = { "rados_osd_op_timeout", "rados_mon_op_timeout", NULL };
	const struct lunkit_option_value *conf = lunkit_params_option(params, "conf"), *id = lunkit_params_option(params, "id"),
					 *cluster = lunkit_params_option(params, "cluster");
	const char *user = id ? id->value : USER, *cluster_name = cluster ? cluster->value : CLUSTER;
	struct rbd_pool pool = { 0 };
	char path[512], entity[160];
	if (strlen(user) > 128 || !*user || strlen(cluster_name) > 64 || strchr(cluster_name, '/') || !*cluster_name)
		return lunkit_error_set(err, EINVAL, "%.300s: id= and cluster= are names", params->name);
	snprintf(path, sizeof(path), "/etc/ceph/%s.conf", cluster_name);
	if (conf && conf->value[0] != '/') {
		lunkit_error_set(err, EINVAL, "%.300s: conf=%.200s is not an absolute path", params->name, conf->value);
		return lunkit_error_hint(err, "start it with '/'");
	}
	snprintf(entity, sizeof(entity), "client.%s", user);
	int r = rados_create2(&pool.cluster, cluster_name, entity, 0);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot make a client of Ceph: %s", params->name, strerror(-r));
	pool.has_cluster = true;
	r = rbd_configure(params, pool.cluster, conf ? conf->value : path, user, err);
	if (r == 0)
		r = set_seconds(params, pool.cluster, "connect-timeout", CONNECT_SECONDS, mount, err);
	if (r == 0)
		r = set_seconds(params, pool.cluster, "osd-op-timeout", OP_SECONDS, op, err);
	if (r == 0)
		r = set_cache(params, pool.cluster);
	if (r == 0 && (r = rados_connect(pool.cluster)) < 0)
		r = explain_connect(r, conf ? conf->value : path, user, err);
	if (r == 0) {
		r = rbd_pool_open(pool.cluster, name, &pool.io, err);
		pool.has_io = r == 0;
	}
	if (r < 0) {
		rbd_disconnect(&pool);
		return r;
	}
	*ret = pool;
	return 0;
}

void rbd_disconnect(struct rbd_pool *pool)
{
	if (pool->has_io)
		rados_ioctx_destroy(pool->io);
	if (pool->has_cluster)
		rados_shutdown(pool->cluster);
	*pool = (struct rbd_pool){ 0 };
}
