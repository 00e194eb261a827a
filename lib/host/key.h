/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Keys on their way to a worker: never as text. Where a key comes from is text (its source), which may be printed, recorded and put into a reference:
 *
 *     file:PATH | PATH        the bytes of a file, all of them
 *     fd:NUMBER | -           a descriptor of this process, read to its end; - is standard input
 *     credential:NAME         a systemd credential: a file below $CREDENTIALS_DIRECTORY
 *     keyring:DESCRIPTION     a key of type "user" in the kernel's keyring, found from the session's keyring on; or its number
 *
 * The key itself is a sealed memfd, which goes beside a message. Any thread.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "host/protocol.h"

#define KEY_BYTES_MAX ((size_t)8 << 20) /* as cryptsetup's limit for key files */

struct key {
	int fd;	     /* sealed memfd; -1: none */
	void *pages; /* its pages, locked in memory; NULL where they can't be */
	size_t length;
};
#define KEY_NONE ((struct key){ .fd = -1 })

/*
 * *ret is the caller's, for key_free(). subject: what needs the key, for messages. regular_only: files that can't make us wait,
 * for who reads for others. -EINVAL for a source that is none, an empty key or one that is too long.
 */
int key_open(const char *source, const char *subject, bool regular_only, struct key *ret, struct lunkit_error *err);
/* The same from a sealed memfd of another process, which can't make us wait; it is copied, and stays the caller's. -EINVAL for any other descriptor. */
int key_from_fd(int fd, const char *subject, struct key *ret, struct lunkit_error *err);
/* Takes one that is KEY_NONE, which it becomes. */
void key_free(struct key *key);
/* Sources that can be opened again by another process: not a descriptor. */
bool key_source_is_lasting(const char *source);
/* Adds it to the packet of a START: the key goes behind the other descriptors. Nothing for KEY_NONE. */
void key_add_to_start(const struct key *key, struct protocol_packet *start);
