/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the files of the luks handler share. Owner of everything: the worker's thread.
 *
 *     READ   child ─► guest's memory ─► decrypted there
 *     WRITE  guest's memory ─► encrypted into a buffer of pool.c ─► child
 */

#include "base/list.h"
#include "image/crypt.h"

#define LUKS_TRANSFER_MAX ((uint64_t)1 << 20)

/* ---- pool.c: buffers for what is being written, bounded --------------------------------------------------------------------------------- */

struct pool {
	struct list free[2];   /* small and large ones that were used before */
	unsigned allocated[2]; /* of each */
	struct list waiting;   /* struct luks_request.node: first come, first served */
};
struct luks_request;
void pool_init(struct pool *pool);
void pool_destroy(struct pool *pool);
/* 0; -EAGAIN: the request waits in the pool until one is given back; -ENOMEM */
int pool_take(struct pool *pool, struct luks_request *request, uint64_t length);
/* Gives the request's buffer back. Returns who goes on with it, or NULL. */
struct luks_request *pool_give(struct pool *pool, struct luks_request *request);

/* ---- the image --------------------------------------------------------------------------------------------------------------------------- */

struct luks {
	struct lunkit_host *host;
	struct lunkit_child *child;
	struct lunkit_cipher *cipher; /* NULL: locked, or only looked at without a key */
	struct lunkit_crypt_facts facts;
	struct pool pool;
	struct lunkit_child_request **children; /* slots that nobody uses */
	unsigned child_count, child_room;
	bool discard, plain;
	bool locked; /* no header was read: only key operations come */
	char name[512];
};

struct luks_request {
	struct luks *luks;
	struct lunkit_request *request;
	struct lunkit_child_request *child;
	struct list node; /* in pool.waiting */
	uint8_t *buffer;
	bool large;
	struct iovec iov;
};

struct lunkit_child_request *luks_child_take(struct luks *luks);
void luks_child_give(struct luks *luks, struct lunkit_child_request *child);

/* control.c */
extern const struct lunkit_option luks_options[];
int luks_create(const struct lunkit_params *params, struct lunkit_error *err);
int luks_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err);
void luks_close(void *state);
int luks_info(void *state, struct lunkit_info *info, struct lunkit_error *err);
void luks_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags);
void luks_key(void *state, struct lunkit_job *job, const struct lunkit_key_change *change);
/* What the child has room for behind the header, whole sectors. */
uint64_t luks_size(const struct luks *luks);
void luks_add_facts(const struct lunkit_crypt_facts *facts, struct lunkit_info *info);
