/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An open image: a handler's state and the shim around it. The shim checks every request once, so that handlers stay plain, and does what a
 * handler can't: splits what is too long, bounces what is not aligned (reading, changing and writing back whole blocks where it must,
 * exclusive against other writes of those blocks), emulates FUA, write_zeroes and extents, answers what needs no work.
 *
 * Owner: the worker's thread. Lifetime: image_open() … image_drain() … image_close().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/list.h"
#include "image/handler.h"
#include "io/loop.h"

/* Bytes that a request or a lock works on, in the order in which they were asked for. The image's own. */
struct image_range {
	struct list node;
	uint64_t begin, end;
	struct image_lock *pass;
	void (*granted)(struct image_range *range);
	bool exclusive; /* else a write among writes */
	bool tracked;	/* in one of the image's lists */
};

/* How the process that started the worker opens paths for it. Set up by the worker; blocks while it asks. */
struct image_opener {
	/*
	 * Opens only, takes no lock. flags: LUNKIT_FILE_*; where the filesystem refuses O_DIRECT the file is opened without and *ret_flags lacks
	 * LUNKIT_FILE_DIRECT. *ret_fd is close-on-exec. ret_flags is never NULL.
	 */
	int (*open)(void *argument, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags, struct lunkit_error *err);
	int (*remove)(void *argument, const char *path, struct lunkit_error *err);
	void *argument;
};

/* An image that is being opened, on the stack of the one below which it is opened: what tells a loop in a chain. */
struct image_opening {
	const struct image_opening *outer;
	uint64_t device, inode;
	bool has_file;
};

/* A key in memory of lunkit_secret_new(). */
struct image_key {
	uint8_t *bytes;
	size_t length;
};

struct lunkit_host {
	struct loop *loop;
	struct image_opener opener;
	struct image_opening *opening;				  /* image_open()'s own */
	const struct image_key *key;				  /* of the image on top; NULL: none was given */
	const struct image_key *parent_key;			  /* of encrypted images that it lies on; NULL: the same */
	bool key_used;						  /* an image has asked for its key */
	void (*memo)(struct lunkit_host *host, const char *text); /* lunkit_memo(), or NULL */
	void (*size_changed)(
		struct lunkit_host *host); /* an image's size was changed by somebody else: image_resize() with 0 adopts it; or NULL */
	char notice[512]; /* the last warning that a user should see (O_DIRECT refused, …), "" for none; lunkit_file_open() sets it */
};

/*
 * Handlers by kind. handler_load() finds DIRECTORY/NAME.so, checks its name and interface version and returns the handler with the
 * members that it does not know zeroed; -ENOENT (unknown kind; the hint lists what there is), -ENOEXEC (not a handler, too new a version).
 * Handlers stay loaded; a second call returns the same one.
 */
int handler_load(const char *directory, const char *name, const struct lunkit_handler **ret, struct lunkit_error *err);
/* Loads those that a handler may open below itself, before the rights to do so are gone. A kind that is not installed is left out. */
void handler_load_children(const char *directory, const struct lunkit_handler *handler);
/* A handler that has been loaded, or NULL. */
const struct lunkit_handler *handler_find(const char *name);
/* For handlers linked into a test. */
int handler_adopt(const struct lunkit_handler *handler, const struct lunkit_handler **ret, struct lunkit_error *err);

/* What an image reference says, for open and create. Strings stay the caller's. */
struct image_params {
	const char *name;    /* what follows the kind, decoded */
	const char *options; /* "key=value;key=value", percent-encoded values, or NULL */
	enum lunkit_cache cache;
	bool read_only, look_only, survive, locked; /* as in struct lunkit_params */
	bool new;	  /* open what create has just made, with the same options: those for creating only are passed over */
	const char *memo; /* as in struct lunkit_params */
	uint64_t size;	  /* create */
	unsigned depth;	  /* images opened on top of this one */
};

struct image;

/* Parses and checks the options against the handler's, opens, reads and checks the limits. */
int image_open(struct lunkit_host *host, const struct lunkit_handler *handler, const struct image_params *params, struct image **ret,
	       struct lunkit_error *err);
/* True while the handler has something under way that belongs to no request (lunkit_handler.busy). */
bool image_is_busy(struct image *image);
/* No request may be in flight. Turns the loop while the handler is busy, so inside a call of the loop's wait for that first. Takes NULL. */
void image_close(struct image *image);
int image_create(struct lunkit_host *host, const struct lunkit_handler *handler, const struct image_params *params,
		 struct lunkit_error *err);
/* Closes it, as image_close() does, and removes it for good. -EOPNOTSUPP: images of this kind are files. */
int image_remove(struct image *image, struct lunkit_error *err);

/*
 * The handler's limits with every default filled in, block_size included. The maxima are UINT64_MAX where there is none; optimal_transfer is 0
 * where the handler has no opinion; max_write_zeroes is at most 32 MiB where the core writes the zeros. LUNKIT_CAN_* tell what the handler does; requests of every kind may be submitted whatever they say.
 */
const struct lunkit_limits *image_limits(const struct image *image);
bool image_is_read_only(const struct image *image);
const char *image_kind(const struct image *image);
const char *image_name(const struct image *image);

/* Appends the image's description to *ret_json: one JSON object, keys as in handler.h's lunkit_info_*; freed by the caller. */
int image_info(struct image *image, char **ret_json, struct lunkit_error *err);

/*
 * A request slot: image_request_size(image) bytes, aligned for any type, made ready once with image_request_init() and used for one request
 * after another. The user fills request (op, flags, offset, length, iov, iov_count, extents, extent_capacity; offsets at byte granularity)
 * and done, then calls image_submit(). Nothing is allocated for it except a bounce buffer where one is needed. done(request, result) is called exactly
 * once, maybe from inside image_submit(); result is 0 or -errno. The user's fields are unchanged after done, except extent_count. Errors of the
 * request itself: -ERANGE (beyond the image), -EROFS, -EINVAL.
 */
struct image_request {
	struct lunkit_request request; /* first member */
	void (*done)(struct image_request *request, int result);
	void *user;
	/* below: the shim's */
	struct image *image;
	struct image_shim *shim;
	struct list node;
};
size_t image_request_size(const struct image *image);
void image_request_init(struct image *image, struct image_request *request);
void image_submit(struct image *image, struct image_request *request);

/*
 * An exclusive range, for COMPARE AND WRITE and the like: granted(range) is called once no write, discard or write_zeroes that overlaps is in flight
 * and no other lock overlaps, maybe from inside image_lock(); until image_unlock() overlapping ones wait, except those whose
 * image_request carries the lock in its lock member. First come, first served: no starvation.
 */
struct image_lock {
	uint64_t offset, length;
	void (*granted)(struct image_lock *lock);
	/* below: the image's */
	struct image_range range;
	bool held;
};
void image_lock(struct image *image, struct image_lock *lock);
/* Also for a lock that has not been granted yet: then it never is. */
void image_unlock(struct image *image, struct image_lock *lock);
/* Requests submitted with this slot pass the lock. NULL: none. */
void image_request_set_lock(struct image_request *request, struct image_lock *lock);

/*
 * Calls done(op, 0) from the loop once no request is in flight; requests submitted later, those with a lock too, are held back until
 * image_resume(). So are those that were waiting for a lock: whoever holds it may itself be waiting for a request that is held back. Drains nest.
 */
void image_drain(struct image *image, struct loop_op *op);
void image_resume(struct image *image);
/* Requests that were started and are not done: without those that are held back or wait for a lock. */
unsigned image_in_flight(const struct image *image);

/* A control operation on an open image. done is called exactly once; err is what the handler said. */
enum image_job_kind { IMAGE_JOB_RESIZE, IMAGE_JOB_CHECK, IMAGE_JOB_SNAPSHOT, IMAGE_JOB_FLATTEN, IMAGE_JOB_KEY };
struct image_job {
	void (*done)(struct image_job *job, int result);
	void (*progress)(struct image_job *job, uint64_t done, uint64_t total); /* or NULL */
	bool cancelled; /* set by the user at any time: the job ends soon with -ECANCELED, unless it has ended by then */
	uint64_t rate;	/* bytes a second that it may copy, 0: no limit; may be changed at any time */
	struct lunkit_error err;
	/* below: the image's */
	struct image *image;
	struct loop_op op;
	uint64_t size;
	unsigned flags;
	bool drained;
	struct lunkit_check_report *report;
	enum image_job_kind kind;
	enum lunkit_snapshot_op snapshot_op;
	const struct lunkit_key_change *key_change;
	char name[LUNKIT_SNAPSHOT_NAME_MAX];
};
/* size 0: adopt the storage's size. Shrinking without LUNKIT_RESIZE_SHRINK is -EINVAL. The limits are read again before done. */
void image_resize(struct image *image, struct image_job *job, uint64_t size, unsigned flags);
/*
 * Waits until nothing is in flight, checks, lets requests go on. It does not flush: what a handler holds of its tables in memory, its check writes first or takes into
 * account. *report is zeroed first and is filled when done is called. flags: LUNKIT_CHECK_*.
 */
void image_check(struct image *image, struct image_job *job, unsigned flags, struct lunkit_check_report *report);

struct lunkit_snapshots {
	struct lunkit_snapshot *items;
	bool *is_protected; /* for each of them */
	size_t count;
};
void image_snapshots_free(struct lunkit_snapshots *snapshots);
/* -EOPNOTSUPP: this kind has none. */
int image_snapshot_list(struct image *image, struct lunkit_snapshots *ret, struct lunkit_error *err);
/* name: 1 to 255 bytes of UTF-8 without control characters. The limits are read again before done. */
void image_snapshot(struct image *image, struct image_job *job, enum lunkit_snapshot_op op, const char *name);
void image_flatten(struct image *image, struct image_job *job);
/* Waits until nothing is in flight. The change's keys stay the caller's, until done(). */
void image_change_key(struct image *image, struct image_job *job, const struct lunkit_key_change *change);
