/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The keys that came with START or with a job: out of their descriptors into secret memory, and wiped at the end. */

#include "host/protocol.h"
#include "image/image.h"

struct worker_keys {
	struct image_key key, parent_key;
};

/* Reads a sealed memfd into *ret. -EPROTO: it is none, or too long. */
int key_take(int fd, struct image_key *ret, struct lunkit_error *err);
void key_wipe(struct image_key *key);

/* Takes the keys off the packet's descriptors and gives them to the host. */
int keys_take(struct worker_keys *keys, struct protocol_packet *start, struct lunkit_host *host, struct lunkit_error *err);
/* -EINVAL: a key was given, and the image, which was opened or made meanwhile, has no use for it: it is not encrypted, as its user thinks that it is. */
int key_check_use(const struct lunkit_host *host, bool given, const char *name, const char *kind, struct lunkit_error *err);
void keys_free(struct worker_keys *keys);
/* Before the sandbox: the handler that knows encryption, where the flags of START say that it will be needed. */
void keys_load_handler(const char *directory, uint32_t flags);
