/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Starting a worker, and what its starter does for it. Used by lunkitd, which watches socket and pidfd in its event loop, and by lunkit, which works on
 * an image that is not attached and simply waits (worker_call()).
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "host/protocol.h"

struct worker_config {
	const char *program;  /* path of lunkit-worker */
	const char *handlers; /* directory of handler modules */
	int keep_fd;	      /* an fd that the worker inherits and holds until it ends, or -1 */
	bool relay_log; /* its standard error is a pipe to worker_process.log (host/relay.h); else it is the starter's own, as is right for who starts it with his own rights */
};

struct worker_process {
	pid_t pid;
	int pidfd;  /* readable when the worker has ended */
	int socket; /* SOCK_SEQPACKET; blocking */
	int log;    /* with relay_log: the pipe's end, non-blocking, to be given to relay_new(); else -1. Not closed by worker_release() */
};

/* Takes program and handlers from the environment (LUNKIT_WORKER, LUNKIT_HANDLERS; ignored in a set-id process), else beside the running program in a build tree, else where they are installed. */
void worker_config_default(struct worker_config *ret);

int worker_spawn(const struct worker_config *config, struct worker_process *ret, struct lunkit_error *err);
/* Closes the socket and pidfd. Does not wait. */
void worker_release(struct worker_process *process);
/* Waits for the end; *ret_status as waitpid's. After timeout_ms the worker is killed. */
int worker_wait(struct worker_process *process, int timeout_ms, int *ret_status);

/*
 * A regular file, told from every other one, also from one that gets its inode number later. Not known on filesystems that keep no time of birth: their inode numbers may change
 * from one opening to the next (FUSE).
 */
struct opener_identity {
	bool known;
	uint64_t inode;
	int64_t birth_seconds;
	uint32_t birth_ns;
};

/*
 * Opening of paths for a worker, by policy: path itself, exactly as it was named by the user (and resolved then); for reading also files that
 * the image may be an overlay of: those of path's own folder, and those below the directories. Nothing that is not a regular file or a block device.
 * Such a path is absolute and without empty, "." and ".." parts; a symbolic link in it is refused. Images that are no files need configuration and keys: regular files below
 * the folders of config, which are the administrator's or were named by whoever opens the image, may be read, and links in them are followed.
 */
struct opener_policy {
	const char *path;		/* the one path that may be opened for more than reading, or NULL for none */
	const char *const *directories; /* absolute, ends with NULL; or NULL for none */
	const char *const *config;	/* the same form */
	bool no_siblings;		/* path's own folder holds nothing that the image may read, as is always so for a device's name */
	bool may_write, may_create;
	/* NULL, or which file path is: set by the first opening, and no other file of that name is opened afterwards */
	struct opener_identity *identity;
	bool *ret_created; /* with may_create: true while a file that was made for the worker has not been removed for it; only that one is written or removed */
};
/* The answer to an OPEN or REMOVE message, to be sent and its fds closed. May block as long as the file's storage does. */
void opener_handle(const struct opener_policy *policy, const struct protocol_packet *request, struct protocol_packet *ret_answer);
/* The same, sent on the worker's socket. Returns what protocol_send() did. */
int opener_answer(const struct opener_policy *policy, int socket, const struct protocol_packet *request);

/*
 * For lunkit: sends request, answers OPEN and REMOVE by policy, passes PROGRESS to progress (may be NULL), and returns when READY, FAILED or the REPLY with the
 * request's id comes. *reply is that message. Returns its result (0 or -errno, with err set).
 */
int worker_call(struct worker_process *process, const struct opener_policy *policy, const struct protocol_packet *request,
		struct protocol_packet *reply, void (*progress)(void *argument, uint64_t done, uint64_t total), void *argument,
		struct lunkit_error *err);
