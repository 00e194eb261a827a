/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What a worker and the process that started it (lunkitd, or lunkit for an image that is not attached) say to each other: one message a packet on a
 * SOCK_SEQPACKET socketpair, file descriptors beside it. Messages are flat structs of fixed size, since the starter has to take them from a process
 * that may have been taken over by a hostile image: nothing has to be parsed, strings are bounded and checked for their end.
 *
 *     starter                                      worker
 *     START_LUN | START_IMAGE | CREATE | DESCRIBE | INSPECT  ->   exactly one, first
 *                                                  <- OPEN, REMOVE    at any time; the worker waits for the ANSWER
 *     ANSWER (+ fd)                                ->
 *                                                  <- READY | FAILED  ends starting; FAILED, CREATE, DESCRIBE and INSPECT end the worker
 *     RESIZE, INFO, STATUS, CAPACITY               ->             each with an id
 *                                                  <- REPLY           with that id, in any order
 *     JOB (+ fds)                                  ->             with an id; one at a time, but MAP and SNAPSHOT_LIST go beside others
 *     JOB_CANCEL, JOB_RATE                         ->             with the id of a JOB
 *                                                  <- PROGRESS, REPLY of a JOB, with its id: now and then, and at its end
 *                                                  <- MODES           what initiators have set, whenever it changes
 *                                                  <- SIZE_CHANGED    somebody else changed the storage's size: RESIZE with 0 adopts it
 *                                                  <- MEMO            a note for the next worker of the LUN
 *                                                  <- ASK             a query of the SCSI layer
 *     ANSWER_QUERY                                 ->
 *     DRAIN, or the socket's end                   ->             finish what is in flight, leave
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/kind.h"

#define PROTOCOL_NAME_MAX 1024
#define PROTOCOL_OPTIONS_MAX 1024
#define PROTOCOL_PATH_MAX 4096
#define PROTOCOL_TEXT_MAX 32768
#define PROTOCOL_FDS_MAX 5
#define PROTOCOL_KIND_MAX KIND_MAX
#define PROTOCOL_QUERY_MAX 2048
#define PROTOCOL_SNAPSHOT_MAX 256
#define PROTOCOL_MEMO_MAX 128

enum protocol_type {
	/* to the worker */
	PROTOCOL_START_LUN = 1,
	PROTOCOL_START_IMAGE,
	PROTOCOL_CREATE,
	PROTOCOL_DESCRIBE,
	PROTOCOL_ANSWER,
	PROTOCOL_ANSWER_QUERY,
	PROTOCOL_RESIZE,
	PROTOCOL_INFO,
	PROTOCOL_STATUS,
	PROTOCOL_CAPACITY,
	PROTOCOL_DRAIN,
	PROTOCOL_INSPECT,
	PROTOCOL_JOB,
	PROTOCOL_JOB_CANCEL,
	PROTOCOL_JOB_RATE,
	/* from the worker */
	PROTOCOL_READY = 64,
	PROTOCOL_FAILED,
	PROTOCOL_OPEN,
	PROTOCOL_REMOVE,
	PROTOCOL_ASK,
	PROTOCOL_REPLY,
	PROTOCOL_PROGRESS,
	PROTOCOL_NOTICE,
	PROTOCOL_MODES,
	PROTOCOL_SIZE_CHANGED,
	PROTOCOL_MEMO,
};

#define PROTOCOL_READ_ONLY 1u
#define PROTOCOL_LOOK_ONLY 2u
#define PROTOCOL_WRITE_CACHE 4u
#define PROTOCOL_LOCKED 8u	/* opened for key operations only */
#define PROTOCOL_KEY 16u	/* the key of the image comes behind the other fds */
#define PROTOCOL_PARENT_KEY 32u /* and behind that the key of the encrypted images that it lies on, where they have another */
#define PROTOCOL_CRYPT 64u	/* a job will make something encrypted */

/* START_LUN (fds: ring memory, notify, doorbell; a uio fd comes alone), START_IMAGE, CREATE, INSPECT (no options), DESCRIBE (kind only) */
struct protocol_start {
	char kind[PROTOCOL_KIND_MAX];
	char name[PROTOCOL_NAME_MAX];	    /* what follows the kind, decoded */
	char options[PROTOCOL_OPTIONS_MAX]; /* handler options, "key=value;…", encoded */
	char label[64];			    /* for log lines: the LUN's name */
	char serial[128];
	char memo[PROTOCOL_MEMO_MAX];	     /* START_LUN: the last MEMO of the worker before this one on the same LUN, or "" */
	char target_kind[PROTOCOL_KIND_MAX]; /* START_IMAGE: the kind of image that a job will make, when it is not of files; or "" */
	uint64_t size;			     /* CREATE */
	uint64_t ring_offset, ring_length;   /* of the mapping of the ring fd */
	uint32_t ring_word;		     /* 4: uio, 8: eventfds */
	uint32_t flags, cache;		     /* PROTOCOL_*; enum lunkit_cache */
	uint32_t block_size, max_transfer_blocks;
	uint32_t uid, gid; /* to become; (uint32_t)-1: stay who you are */
	uint32_t modes;	   /* the last MODES of the worker before this one on the same LUN, 0: there was none */
};

/* READY */
struct protocol_ready {
	uint64_t size;
	uint32_t block_size; /* the image's */
	uint32_t flags;	     /* PROTOCOL_READ_ONLY: the image is */
	char notice[512];    /* a warning for the user (O_DIRECT refused, …) or empty */
};

/* OPEN, REMOVE: flags are LUNKIT_FILE_* */
struct protocol_open {
	uint32_t flags;
	char path[PROTOCOL_PATH_MAX];
};

/* FAILED, ANSWER (fd on success of OPEN; flags as opened), REPLY (text: JSON for INFO, STATUS, DESCRIBE, INSPECT and JOB), NOTICE (text) */
struct protocol_result {
	int32_t result; /* 0 or -errno */
	uint32_t flags;
	struct lunkit_error error;
	uint64_t value; /* RESIZE, and JOB for a snapshot: the image's size now */
	uint32_t text_length;
	char text[PROTOCOL_TEXT_MAX];
};

struct protocol_resize {
	uint64_t size; /* RESIZE: 0 adopts; CAPACITY: bytes that initiators see */
	uint32_t flags;
};

/* PROGRESS of the job with the message's id */
struct protocol_progress {
	uint64_t done, total;
};

/*
 * What a job does. Texts that it makes go to the descriptor that comes with it, since they may be long: JSON, as described at lunkit_map and lunkit_snapshots in worker/text.h.
 *     CHECK          flags: LUNKIT_CHECK_*; the REPLY's text is the report
 *     MAP            fd: a regular file (a memfd) for the text; offset, length (0: to the end)
 *     SNAPSHOT_LIST  fd: the same
 *     SNAPSHOT       flags: enum lunkit_snapshot_op; name: the snapshot's; limit: a revert to a larger size is refused (0: none is)
 *     FLATTEN        rate
 *     EXPORT         the image, or its snapshot of that name, to a new image of kind format at the path target, made with options; the fd is what opening
 *                    target gives, and the starter's to name or to remove. With PROTOCOL_JOB_STREAM raw bytes to the fd, which may be a pipe (non-blocking). flags: PROTOCOL_JOB_*
 *                    A target that is no path is one of START_IMAGE's target_kind; it has no fd, and is removed again when the job fails.
 *     IMPORT         fds: the target's, as above, and a pipe (non-blocking) of at most length bytes, which is the new image's size (0: it becomes as large as what comes). The worker's own image is not looked at.
 *     KEY            flags: enum lunkit_key_op; slot. fd: the new key, or the file that a header is saved to or comes from
 * A key for the image that an EXPORT or IMPORT makes comes as the last fd with PROTOCOL_JOB_NEW_KEY; else it has the image's.
 */
enum protocol_job_kind {
	PROTOCOL_JOB_CHECK = 1,
	PROTOCOL_JOB_MAP,
	PROTOCOL_JOB_SNAPSHOT_LIST,
	PROTOCOL_JOB_SNAPSHOT,
	PROTOCOL_JOB_FLATTEN,
	PROTOCOL_JOB_EXPORT,
	PROTOCOL_JOB_IMPORT,
	PROTOCOL_JOB_KEY,
};
#define PROTOCOL_JOB_STREAM 1u
#define PROTOCOL_JOB_COMPRESS 2u
#define PROTOCOL_JOB_NEW_KEY 4u

struct protocol_job {
	uint32_t kind, flags;
	uint64_t rate; /* bytes a second, 0: no limit; JOB_RATE: this alone */
	uint64_t offset, length, limit;
	int32_t slot; /* KEY: -1 for any */
	char name[PROTOCOL_SNAPSHOT_MAX];
	char format[PROTOCOL_KIND_MAX];
	char target[PROTOCOL_NAME_MAX];
	char options[PROTOCOL_OPTIONS_MAX]; /* of creating the target */
};

/* MODES: opaque, kept by the starter for the next worker of the LUN (scsi_device_modes()) */
struct protocol_modes {
	uint32_t modes;
};

/* MEMO: a handler's own words (LUNKIT_MEMO_MAX of handler.h), kept by the starter for the next worker of the LUN */
struct protocol_memo {
	char text[PROTOCOL_MEMO_MAX];
};

/* ASK, ANSWER_QUERY: a struct scsi_query, opaque here */
struct protocol_query {
	int32_t result;
	uint32_t length;
	_Alignas(8) uint8_t bytes[PROTOCOL_QUERY_MAX];
};

struct protocol_message {
	uint32_t type; /* enum protocol_type */
	uint32_t id;   /* of a request and its answer */
	union {
		struct protocol_start start;
		struct protocol_ready ready;
		struct protocol_open open;
		struct protocol_result result;
		struct protocol_resize resize;
		struct protocol_progress progress;
		struct protocol_query query;
		struct protocol_modes modes;
		struct protocol_memo memo;
		struct protocol_job job;
	};
};

struct protocol_packet {
	struct protocol_message message;
	int fds[PROTOCOL_FDS_MAX]; /* close-on-exec, the receiver's; -1 where there is none */
	unsigned fd_count;
};

/* Sends as many bytes as the message's type needs. -EPIPE: the other side is gone; -EAGAIN on a non-blocking socket that is full. */
int protocol_send(int socket, const struct protocol_packet *packet);
/*
 * Receives one packet and checks size, type and strings. Returns 1, 0 at the end of the connection, -EAGAIN when a non-blocking socket is empty,
 * -EPROTO for anything that makes no sense (surplus fds are closed).
 */
int protocol_receive(int socket, struct protocol_packet *ret);
void protocol_close_fds(struct protocol_packet *packet);
/* result and error (may be NULL) into message->result. */
void protocol_set_result(struct protocol_message *message, enum protocol_type type, uint32_t id, int result,
			 const struct lunkit_error *err);
