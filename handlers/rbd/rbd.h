/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the files of the rbd handler share. Two kinds of threads meet here: the worker's (everything that has no other word to it) and librbd's own, which call the
 * callbacks of requests, of progress and of the watch; these touch only what is atomic or what they alone have at that time, and post.
 */

#include <rados/librados.h>
#include <rbd/librbd.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/list.h"
#include "image/handler.h"

/* POOL[/NAMESPACE]/IMAGE[@SNAPSHOT] */
#define RBD_NAME_MAX 128
struct rbd_name {
	char pool[RBD_NAME_MAX], namespace[RBD_NAME_MAX], image[RBD_NAME_MAX];
	char snapshot[LUNKIT_SNAPSHOT_NAME_MAX]; /* "" for none */
};

/* A connection to a cluster, and the pool in it. */
struct rbd_pool {
	rados_t cluster;
	rados_ioctx_t io;
	bool has_cluster, has_io;
};

/* What the server says of the image when it is opened, and what does not change by itself. */
struct rbd_facts {
	uint64_t object_size, stripe_unit, stripe_count, features;
	int64_t data_pool;
	char id[64];
};

struct rbd {
	struct lunkit_host *host;
	struct rbd_name name;
	char label[300]; /* POOL/NAMESPACE/IMAGE@SNAPSHOT, for messages */
	struct rbd_pool pool;
	rbd_image_t image;
	struct rbd_facts facts;
	uint64_t size;
	bool read_only, survive;
	bool write_back; /* librbd holds writes in memory until FLUSH */

	/* io.c */
	unsigned in_flight;
	struct list held; /* struct rbd_request, while holding */
	bool holding;	  /* a revert is under way, or about to be: nothing may be in flight */
	void (*quiet)(struct rbd *rbd);
	bool timed_out; /* the last request that was answered had timed out */
	bool fenced;	/* the cluster has blocklisted this client: nothing of ours may reach it any more */

	/* watch.c */
	struct lunkit_io changed;   /* posted by the watch */
	struct lunkit_work measure; /* asks for the size */
	uint64_t measured, watch;
	bool watching, measuring, measure_again;
	atomic_bool change_posted;

	struct rbd_job *job; /* job.c */
};

struct rbd_request {
	struct lunkit_work work; /* work.io: what librbd's threads post. EXTENTS: the work */
	struct list node;
	struct rbd *rbd;
	struct lunkit_request *request;
};

/* name.c */
int rbd_name_parse(const char *text, struct rbd_name *ret, struct lunkit_error *err);
/* With the option snapshot=. */
int rbd_name_of(const struct lunkit_params *params, struct rbd_name *ret, struct lunkit_error *err);
void rbd_name_format(const struct rbd_name *name, char *ret, size_t size);

/* conf.c: calls set(argument, key, value) for each line of that section until it returns less than 0; keys with '_' for spaces and hyphens. text is not changed. -ENOMEM. */
int rbd_conf_section(const char *text, const char *section, int (*set)(void *argument, const char *key, char *value), void *argument);

/* config.c: everything about a cluster before it is connected to: its configuration, who we are, the key. */
int rbd_configure(const struct lunkit_params *params, rados_t cluster, const char *conf, const char *id, struct lunkit_error *err);

/* connect.c */
int rbd_connect(const struct lunkit_params *params, const struct rbd_name *name, struct rbd_pool *ret, struct lunkit_error *err);
/* Takes what is half made; the pool is zeroed. */
void rbd_disconnect(struct rbd_pool *pool);
/* A second pool of the same cluster. */
int rbd_pool_open(rados_t cluster, const struct rbd_name *name, rados_ioctx_t *ret, struct lunkit_error *err);
/* "LABEL: cannot WHAT: …" with what r means here, and a hint. Returns r as what it is to callers. */
int rbd_say(struct lunkit_error *err, int r, const char *label, const char *what);

/* open.c */
int rbd_handler_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err);
void rbd_handler_close(void *state);
/* The watch and the image; the pool stays. */
void rbd_close_image(struct rbd *rbd);
bool rbd_handler_busy(void *state);

/* watch.c */
int rbd_watch(struct rbd *rbd, struct lunkit_error *err);
void rbd_unwatch(struct rbd *rbd);

/* io.c */
void rbd_submit(void *state, struct lunkit_request *request);
void rbd_request_end(struct rbd_request *r, int result);
/* quiet(rbd) once nothing is in flight, maybe at once; requests wait until rbd_release(). */
void rbd_hold(struct rbd *rbd, void (*quiet)(struct rbd *rbd));
void rbd_release(struct rbd *rbd);

/* extents.c */
void rbd_extents(struct rbd_request *r);

/* create.c */
extern const struct lunkit_option rbd_options[];
int rbd_handler_create(const struct lunkit_params *params, struct lunkit_error *err);
int rbd_handler_remove(void *state, struct lunkit_error *err);

/* job.c */
void rbd_handler_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags);
void rbd_handler_snapshot(void *state, struct lunkit_job *job, enum lunkit_snapshot_op op, const char *name);
void rbd_handler_flatten(void *state, struct lunkit_job *job);

/* info.c */
int rbd_handler_info(void *state, struct lunkit_info *info, struct lunkit_error *err);
int rbd_handler_snapshot_list(void *state, struct lunkit_snapshots *list, struct lunkit_error *err);
