/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * lunkit's handler interface, version 1.
 *
 * A handler serves one kind of image (raw, qcow2, …). It is a shared object "NAME.so" in lunkit's handler directory that exports one
 * function, lunkit_handler_entry(), made by LUNKIT_HANDLER(); that function returns the handler's struct lunkit_handler. This header is
 * all that is needed to write one: build it with
 *
 *     cc -std=gnu17 -shared -fPIC -o NAME.so NAME.c
 *
 * and do not link it to anything of lunkit's: the functions below come from the program that loads the handler.
 *
 * Process and thread. Handlers are loaded by lunkit-worker only: one process for each image in use, which has given up all rights
 * before it calls open(). A handler sees one thread and needs no lock; every member below is called on it, and every function below
 * must be called on it, but where said. There is no right to open files, sockets or programs: ask for files with lunkit_file_open(); a handler with
 * LUNKIT_HANDLER_NETWORK may open TCP connections.
 *
 * Units. Offsets, lengths, sizes and alignments are bytes (uint64_t) unless a name says otherwise. Times are nanoseconds.
 *
 * Errors. A function that returns int returns 0 or a negative errno. Where it takes a struct lunkit_error and fails, it has set it with
 * lunkit_error_set(): the message says what failed, for which image and why, the hint says what to do. What the initiator sees for the
 * result of a request:
 *     -ENOSPC, -EDQUOT     SPACE ALLOCATION FAILED WRITE PROTECT (07/27/07)
 *     -EROFS, -EPERM       WRITE PROTECTED (07/27/00)
 *     -ETIMEDOUT, -ENOTCONN, -ESHUTDOWN   LOGICAL UNIT NOT READY (02/04/01), which initiators retry
 *     -EAGAIN, -EBUSY, -ENOMEM   status BUSY, which initiators retry
 *     -EIO, -ENODATA, -EILSEQ    MEDIUM ERROR (03/11/00 for reads, 03/0C/00 for writes)
 *     -EOPNOTSUPP          INVALID COMMAND OPERATION CODE (05/20/00), where the core can't emulate the operation
 *     any other            HARDWARE ERROR, INTERNAL TARGET FAILURE (04/44/00)
 *
 * Growing the interface. Members are only ever appended to these structs. struct_size says how many of them the handler knows; the core
 * takes what lies beyond as zero, so that a handler built against an older header keeps working.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Programs that load handlers export these functions. */
#pragma GCC visibility push(default)

#define LUNKIT_HANDLER_INTERFACE 1u

/* ---- requests ---------------------------------------------------------------------------------------------------------------------- */

enum lunkit_op {
	LUNKIT_READ,	     /* fill iov from [offset, offset + length) */
	LUNKIT_WRITE,	     /* store iov there */
	LUNKIT_FLUSH,	     /* make durable every write that has completed before this request was submitted */
	LUNKIT_DISCARD,	     /* the range's content is no longer needed; a hint, partial work is success */
	LUNKIT_WRITE_ZEROES, /* the range reads as zeros afterwards */
	LUNKIT_EXTENTS,	     /* describe the range: fill extents and extent_count */
};
#define LUNKIT_OP_COUNT 6

/* WRITE, WRITE_ZEROES: durable before it completes. Sent only to a handler whose limits say LUNKIT_CAN_FUA; else the core flushes. */
#define LUNKIT_REQUEST_FUA 1u
/* WRITE_ZEROES: storage may be given back as long as the range reads as zeros. Without it, storage stays or becomes allocated. */
#define LUNKIT_REQUEST_MAY_DISCARD 2u
/* WRITE: store it compressed where that makes it smaller. Sent only where the limits have a compress_unit, and aligned to that (or up to the image's end). */
#define LUNKIT_REQUEST_COMPRESS 4u

#define LUNKIT_EXTENT_ALLOCATED 1u /* storage is allocated for it */
#define LUNKIT_EXTENT_ZERO 2u	   /* it is known to read as zeros */
struct lunkit_extent {
	uint64_t offset, length;
	unsigned flags; /* LUNKIT_EXTENT_*; neither flag: a hole whose content comes from elsewhere (a backing file) */
};

/*
 * One request. The core owns the struct and the memory that it points to; both stay as they are until the handler calls
 * lunkit_request_done(), exactly once a request, from within submit() or later. After that call the handler must not touch the request.
 * Requests may complete in any order. Requests in flight may overlap; then any order is right.
 *
 * The core has checked: the range lies within the image, offset and length are multiples of limits.request_alignment, iov holds exactly
 * length bytes in at most limits.max_iov entries that are aligned to limits.memory_alignment, length is at most the limit for the operation,
 * flags are known, and the image is not read-only for an operation that writes.
 */
struct lunkit_request {
	enum lunkit_op op;
	unsigned flags; /* LUNKIT_REQUEST_* */
	uint64_t offset, length;
	const struct iovec *iov; /* READ and WRITE. Guest memory: another writer may change it at any time, so never parse it twice. */
	unsigned iov_count;
	unsigned extent_capacity; /* EXTENTS: room in extents, at least 1 */
	unsigned
		extent_count; /* EXTENTS: how many the handler filled. They start at offset, touch, and cover length or as far as room went. */
	struct lunkit_extent *extents;
	void *memory; /* lunkit_handler.request_size bytes for the handler, aligned for any type; content is undefined at submit */
};

void lunkit_request_done(struct lunkit_request *request, int result);

/* ---- limits ------------------------------------------------------------------------------------------------------------------------ */

#define LUNKIT_CAN_DISCARD 1u
#define LUNKIT_CAN_WRITE_ZEROES 2u /* else the core writes zeros */
#define LUNKIT_CAN_FUA 4u	   /* else the core sends FLUSH after the write */
#define LUNKIT_CAN_EXTENTS 8u	   /* else the core answers "all allocated" */
#define LUNKIT_DISCARD_ZEROES 16u  /* what DISCARD released reads as zeros */
#define LUNKIT_READ_ONLY 32u	   /* the image can't be written, however it was opened */
#define LUNKIT_ROTATIONAL 64u	   /* the medium seeks */
#define LUNKIT_FRESH_IS_NOISE 256u /* what was never written does not read as zeros */
#define LUNKIT_NEEDS_FLUSH 128u	   /* completed writes may be volatile until FLUSH; else FLUSH is answered by the core */

/* Filled by limits(); 0 means "no opinion", and the core uses the default in brackets. */
struct lunkit_limits {
	uint64_t size;		      /* the virtual size, a multiple of request_alignment */
	unsigned flags;		      /* LUNKIT_CAN_*, … */
	unsigned block_size;	      /* logical block size that the initiator should see: 512 or 4096 [512] */
	unsigned physical_block_size; /* smallest unit written without read-modify-write, a power of two [block_size] */
	unsigned request_alignment;   /* offset and length of requests, a power of two up to 64 KiB [1]; the core bounces what is not */
	unsigned memory_alignment; /* address and length of each iov entry, a power of two up to 64 KiB [1]; the core bounces what is not */
	unsigned max_iov;	   /* entries of iov [1024] */
	uint64_t max_transfer;	   /* READ, WRITE [none] */
	uint64_t optimal_transfer; /* what the initiator should aim at [none] */
	uint64_t max_discard;	   /* DISCARD [none] */
	uint64_t discard_granularity; /* smaller discards do nothing [block_size] */
	uint64_t max_write_zeroes;    /* WRITE_ZEROES [none] */
	uint64_t compress_unit;	      /* bytes that are compressed together, a power of two; 0: the image can't be written compressed */
};

/* ---- the host: what a handler may call ----------------------------------------------------------------------------------------------- */

struct lunkit_host;  /* the program that loaded the handler; given to open() and create(), valid until close() */
struct lunkit_error; /* see lunkit_error_set() */
struct lunkit_job;
struct lunkit_info;

/* code: an errno of either sign. Returns it negative, so that it can be returned. */
__attribute__((format(printf, 3, 4))) int lunkit_error_set(struct lunkit_error *err, int code, const char *format, ...);
/* What to do about it. Returns the error's negative errno. */
__attribute__((format(printf, 2, 3))) int lunkit_error_hint(struct lunkit_error *err, const char *format, ...);

enum lunkit_log_level { LUNKIT_LOG_ERROR = 3, LUNKIT_LOG_WARNING = 4, LUNKIT_LOG_INFO = 6, LUNKIT_LOG_DEBUG = 7 };
__attribute__((format(printf, 2, 3))) void lunkit_log(enum lunkit_log_level level, const char *format, ...);

/*
 * Files. The path is opened by the process that started the worker, under its policy. flags: LUNKIT_FILE_*. On success *ret_fd is a file
 * descriptor (close-on-exec) that the handler owns and closes with lunkit_file_close(). A regular file or block device is locked the way QEMU
 * locks images: -EAGAIN, with a message that says so, when another process uses it in a way that excludes this use. LUNKIT_FILE_DIRECT asks for
 * O_DIRECT; where the filesystem refuses it, the file is opened without and *ret_flags lacks LUNKIT_FILE_DIRECT.
 * ret_flags may be NULL.
 */
#define LUNKIT_FILE_WRITE 1u /* else read-only */
#define LUNKIT_FILE_DIRECT 2u
#define LUNKIT_FILE_CREATE 4u	 /* must not exist (O_EXCL), mode 0600 less what the starter's policy says; implies WRITE */
#define LUNKIT_FILE_DSYNC 8u	 /* each write is durable before it completes (O_DSYNC) */
#define LUNKIT_FILE_UNLOCKED 16u /* no lock: for looking at metadata only */
int lunkit_file_open(struct lunkit_host *host, const char *path, unsigned flags, int *ret_fd, unsigned *ret_flags,
		     struct lunkit_error *err);
void lunkit_file_close(struct lunkit_host *host, int fd);
/* Removes a file that this worker created with LUNKIT_FILE_CREATE: for undoing a create() that failed later. */
int lunkit_file_remove(struct lunkit_host *host, const char *path, struct lunkit_error *err);

/*
 * Keeps others from a part of what the file holds, besides the lock on all of it; of a snapshot, that somebody reads it while another works on the image. number: below
 * 2^56, what both know the part by. -EBUSY: another opening claims it in a way that excludes this one. Where the filesystem has no locks, everybody gets what he asks
 * for. A claim takes the place of the one before, and ends with lunkit_file_close().
 */
enum lunkit_claim {
	LUNKIT_CLAIM_NONE,
	LUNKIT_CLAIM_SHARED, /* others may have it too, but not alone */
	LUNKIT_CLAIM_ALONE,  /* the file is open for writing */
};
int lunkit_file_claim(struct lunkit_host *host, int fd, uint64_t number, enum lunkit_claim claim);

/*
 * What an open file is and what I/O on it asks for. The caller sets struct_size; members beyond it are left alone. direct: what
 * lunkit_file_open() said of LUNKIT_FILE_DIRECT. Only regular files and block devices are taken; anything else is an error that says so.
 */
struct lunkit_file_geometry {
	size_t struct_size;				/* sizeof(struct lunkit_file_geometry) */
	uint64_t size;					/* bytes that the file or device has now */
	unsigned offset_alignment;			/* of offsets and lengths: a power of two, 1 without direct I/O */
	unsigned memory_alignment;			/* of buffers: a power of two, 1 without direct I/O */
	unsigned block_size;				/* a device's logical block size; 0 for a file */
	unsigned physical_block_size, optimal_transfer; /* 0: not known */
	bool is_block, rotational;
	bool direct; /* false: the filesystem took O_DIRECT but can't do it for this file; it goes through the page cache */
};
int lunkit_file_look(struct lunkit_host *host, int fd, const char *path, bool direct, struct lunkit_file_geometry *ret,
		     struct lunkit_error *err);

/*
 * Blocking I/O, for open(), create() and close(), and for the functions of lunkit_work, which may call these, lunkit_file_look() and no other function of this
 * header. Offset, length and buffer of a file that is open with LUNKIT_FILE_DIRECT are aligned as its geometry says. Each does all or fails;
 * reading beyond the file's end gives zeros. lunkit_file_sync() makes every write that has completed on the file durable.
 */
int lunkit_file_read(struct lunkit_host *host, int fd, void *buffer, size_t length, uint64_t offset);
int lunkit_file_write(struct lunkit_host *host, int fd, const void *buffer, size_t length, uint64_t offset);
int lunkit_file_truncate(struct lunkit_host *host, int fd, uint64_t size);
int lunkit_file_allocate(struct lunkit_host *host, int fd, int mode, uint64_t offset, uint64_t length); /* mode: FALLOC_FL_* */
int lunkit_file_sync(struct lunkit_host *host, int fd);

/*
 * Asynchronous file I/O on the worker's io_uring. The struct lies in the handler's memory (usually the request's) and is the handler's again
 * when done() is called, exactly once, never from inside the call that starts the I/O. result is as the system call's: bytes (may be short),
 * 0, or a negative errno.
 */
struct lunkit_io {
	void (*done)(struct lunkit_io *io, int result);
	void *reserved[2];
};
#define LUNKIT_IO_DSYNC 1u
void lunkit_io_readv(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count, uint64_t offset);
void lunkit_io_writev(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count, uint64_t offset,
		      unsigned flags);
void lunkit_io_fdatasync(struct lunkit_host *host, struct lunkit_io *io, int fd);
/* mode: FALLOC_FL_* of fallocate(2) */
void lunkit_io_fallocate(struct lunkit_host *host, struct lunkit_io *io, int fd, int mode, uint64_t offset, uint64_t length);
/* done(io, result) soon, from the event loop. */
void lunkit_io_defer(struct lunkit_host *host, struct lunkit_io *io, int result);

/*
 * For libraries with threads of their own, which complete what was started through them: lunkit_io_post() may be called on any thread, and done(io, result) follows from
 * the event loop, in batches. The handler calls lunkit_io_listen() first, in open(); nothing is posted any more when close() returns.
 */
void lunkit_io_listen(struct lunkit_host *host);
void lunkit_io_post(struct lunkit_host *host, struct lunkit_io *io, int result);

/* The storage's size was changed by somebody else: the core asks for resize() with size 0, soon. */
void lunkit_size_changed(struct lunkit_host *host);

/*
 * A note for the process that serves the same LUN after this one, should it be killed: params->memo then. Up to LUNKIT_MEMO_MAX bytes with the zero; the last one counts. For
 * what the storage remembers of this process (a lock, a session) and would wait for.
 */
#define LUNKIT_MEMO_MAX 128
void lunkit_memo(struct lunkit_host *host, const char *text);

/* Blocking work on a helper thread; done(&work->io, result of function) comes back on the handler's thread. */
struct lunkit_work {
	struct lunkit_io io;
	int (*function)(void *argument);
	void *argument;
	void *reserved;
};
void lunkit_work_start(struct lunkit_host *host, struct lunkit_work *work);

/*
 * ring(alarm) once, about ns nanoseconds after lunkit_alarm_set(), from the event loop; for housekeeping, not for measuring time. Setting an
 * alarm again moves it. The struct lies in the handler's memory, zeroed before its first use; after lunkit_alarm_cancel() or ring() it is the
 * handler's again. Cancel what is set before close() returns.
 */
struct lunkit_alarm {
	void (*ring)(struct lunkit_alarm *alarm);
	uint64_t reserved[3];
};
void lunkit_alarm_set(struct lunkit_host *host, struct lunkit_alarm *alarm, uint64_t ns);
void lunkit_alarm_cancel(struct lunkit_host *host, struct lunkit_alarm *alarm);

/* Adds one line to what `lunkit info` shows. Keys are lower case with hyphens, e.g. "allocated-size". */
void lunkit_info_string(struct lunkit_info *info, const char *key, const char *value);
void lunkit_info_bytes(struct lunkit_info *info, const char *key, uint64_t bytes);
void lunkit_info_bool(struct lunkit_info *info, const char *key, bool value);
void lunkit_info_number(struct lunkit_info *info, const char *key, uint64_t number); /* of things, not of bytes */

/*
 * Control operations that may take long get a job and end with lunkit_job_done(), exactly once, from within the call or later. On failure
 * the job's error is set first, through lunkit_job_error().
 */
struct lunkit_error *lunkit_job_error(struct lunkit_job *job);
void lunkit_job_progress(struct lunkit_job *job, uint64_t done, uint64_t total);
void lunkit_job_done(struct lunkit_job *job, int result);
/* Asked now and then by a job that takes long: true when it should end with -ECANCELED, leaving things as they were or to be taken up again. */
bool lunkit_job_cancelled(const struct lunkit_job *job);
/* Bytes a second that a job which copies may move; 0: no limit. It may change while the job runs. */
uint64_t lunkit_job_rate(const struct lunkit_job *job);

/* ---- the handler ----------------------------------------------------------------------------------------------------------------------- */

enum lunkit_cache {
	LUNKIT_CACHE_NONE,	   /* O_DIRECT; completed writes may sit in the device's own cache until FLUSH */
	LUNKIT_CACHE_WRITEBACK,	   /* the page cache; completed writes are volatile until FLUSH */
	LUNKIT_CACHE_WRITETHROUGH, /* the page cache; every completed write is durable */
};

/* An option of an image reference, "key=value" behind its name. */
enum lunkit_option_type { LUNKIT_OPTION_STRING, LUNKIT_OPTION_SIZE, LUNKIT_OPTION_BOOL };
#define LUNKIT_OPTION_OPEN 1u	/* may be given when an image is opened */
#define LUNKIT_OPTION_CREATE 2u /* may be given when an image is created */
struct lunkit_option {
	const char *key; /* lower case with hyphens; NULL ends the array */
	enum lunkit_option_type type;
	unsigned use;	    /* LUNKIT_OPTION_OPEN, LUNKIT_OPTION_CREATE */
	const char *help;   /* one line */
	const char *values; /* STRING: the words that are allowed, separated by '|', or NULL for any */
};

/* Options that were given, checked against the handler's array. value: the text; number: bytes for SIZE, 0 or 1 for BOOL. */
struct lunkit_option_value {
	const char *key, *value;
	uint64_t number;
};

struct lunkit_params {
	struct lunkit_host *host;
	const char *name; /* what follows the kind in the image reference, decoded: a path for raw */
	const struct lunkit_option_value *options;
	size_t option_count;
	enum lunkit_cache cache;
	bool read_only;
	bool look_only; /* open: only control members and reads will be used, and no lock is to be taken: `lunkit info` of an image in use */
	uint64_t size;	/* create: the virtual size */
	unsigned depth; /* how many images were opened on top of this one: 0 for the image that was named */
	/*
	 * This process may be killed, and another go on for users who notice nothing: what was acknowledged has to be where that one finds it, in the file if not yet
	 * durable. A handler that keeps changes in memory writes them before it acknowledges.
	 */
	bool survive;
	bool locked;	  /* open: for key operations only. No key is needed, no request will come, and the size may be unknown (0) */
	const char *memo; /* open: what the process before this one left with lunkit_memo(), or NULL */
};

/* The option's value, or NULL when it was not given. */
const struct lunkit_option_value *lunkit_params_option(const struct lunkit_params *params, const char *key);

/* ---- secrets --------------------------------------------------------------------------------------------------------------------------- */

/* Memory for keys: locked where the limits allow it, in no core dump, zeroed. NULL without memory. Freeing wipes it; takes NULL. */
void *lunkit_secret_new(size_t length);
void lunkit_secret_free(void *secret, size_t length);
/*
 * The key that the user gave for this image: the bytes of a key file, a passphrase as a rule. NULL when none was. Valid until open() or create() returns. It stands in
 * nothing that is printed or logged: neither may a handler print it.
 */
const uint8_t *lunkit_params_key(const struct lunkit_params *params, size_t *ret_length);

/* ---- images below ---------------------------------------------------------------------------------------------------------------------- */

/*
 * A handler stacks by opening other images (a backing file, an encrypted volume's storage) through this same interface, from open() and with
 * the params that it got. Kinds that it may need are named in lunkit_handler.children; anything else is -ENOENT. name is what follows the
 * kind in a reference; paths are absolute. options: "key=value;…" as in a reference, or NULL. The child is read-only with
 * LUNKIT_CHILD_READ_ONLY or when the params say so, and has the params' cache mode. Whatever the child's limits are, requests are taken
 * at byte granularity: the core does for it what it does for the image on top. Chains of more than LUNKIT_DEPTH_MAX images, and a file that
 * is opened twice in one chain, are -ELOOP. Close it in close(), with no request of its own in flight.
 */
#define LUNKIT_DEPTH_MAX 64u
#define LUNKIT_CHILD_READ_ONLY 1u
struct lunkit_child;
int lunkit_child_open(const struct lunkit_params *params, const char *kind, const char *name, const char *options, unsigned flags,
		      struct lunkit_child **ret, struct lunkit_error *err);
void lunkit_child_close(struct lunkit_child *child); /* takes NULL */
/* A child that is closed while requests are served: ask again and again, with no request of its own in flight, until this is false; then close it. */
bool lunkit_child_busy(struct lunkit_child *child);
/* With every default filled in; the maxima are UINT64_MAX where there is none. Valid until close. */
const struct lunkit_limits *lunkit_child_limits(const struct lunkit_child *child);

/*
 * A request to a child. lunkit_child_request_new() allocates one, NULL without memory; keep it and use it for one request after another.
 * Fill request.op, flags, offset, length, iov, iov_count (EXTENTS: extents, extent_capacity) and done; then done(request, result) is called
 * exactly once, maybe from inside submit. Only request.extent_count has changed then. Beyond the child's size is -ERANGE.
 */
struct lunkit_child_request {
	struct lunkit_request request;
	void (*done)(struct lunkit_child_request *request, int result);
	void *user;
};
struct lunkit_child_request *lunkit_child_request_new(struct lunkit_child *child);
void lunkit_child_request_free(struct lunkit_child_request *request); /* takes NULL */
void lunkit_child_submit(struct lunkit_child *child, struct lunkit_child_request *request);

/* Makes an image, as lunkit_child_open() opens one, from within create(). */
int lunkit_child_create(const struct lunkit_params *params, const char *kind, const char *name, const char *options, uint64_t size,
			struct lunkit_error *err);
/*
 * Blocking I/O on a child whose bytes are those of one file (lunkit_handler.file): for open(), create() and the few bytes of a header, at any alignment. -EOPNOTSUPP for
 * other kinds. Beyond the child's size is -ERANGE.
 */
int lunkit_child_read(struct lunkit_child *child, void *buffer, size_t length, uint64_t offset);
int lunkit_child_write(struct lunkit_child *child, const void *buffer, size_t length, uint64_t offset);
int lunkit_child_sync(struct lunkit_child *child);
/* resize() of the child as a part of job; done(user, result) comes exactly once. On failure the job's error has been set. size 0 as for resize(). */
void lunkit_child_resize(struct lunkit_child *child, struct lunkit_job *job, uint64_t size, unsigned flags,
			 void (*done)(void *user, int result), void *user);
/* Adds what the child's handler says about itself. */
int lunkit_child_info(struct lunkit_child *child, struct lunkit_info *info, struct lunkit_error *err);

/* ---- what control operations take and give --------------------------------------------------------------------------------------------- */

/* check(): what to repair. Nothing: only look. */
#define LUNKIT_CHECK_REPAIR_LEAKS 1u /* space that is marked as used and that nothing uses */
#define LUNKIT_CHECK_REPAIR_ALL 2u   /* everything that can be */

struct lunkit_check_report {
	uint64_t corruptions, leaks;		     /* found, and not repaired */
	uint64_t corruptions_fixed, leaks_fixed;     /* found and repaired */
	uint64_t allocated_clusters, total_clusters; /* of the virtual disk; 0 where the kind has none */
	uint64_t image_end;			     /* offset behind the last byte in use, in the file; 0: not known */
	char first[256];			     /* the first thing found, in words; "" for none */
};

#define LUNKIT_SNAPSHOT_NAME_MAX 256 /* with the zero at its end */
struct lunkit_snapshot {
	char id[64]; /* the format's own, "" for none */
	char name[LUNKIT_SNAPSHOT_NAME_MAX];
	uint64_t size;		/* of the virtual disk then, bytes */
	uint64_t time_ns;	/* when it was made, since 1970 */
	uint64_t vm_state_size; /* bytes of a virtual machine's memory that were saved with it */
};
struct lunkit_snapshots;
/* For snapshot_list(): copies it behind those that are there. -ENOMEM. */
int lunkit_snapshots_add(struct lunkit_snapshots *list, const struct lunkit_snapshot *snapshot);
/* The one that was added last is protected from being deleted. */
void lunkit_snapshots_protected(struct lunkit_snapshots *list);

/* What a key operation does. Slots are places in an encrypted image's header that each hold one key. */
enum lunkit_key_op {
	LUNKIT_KEY_ADD,	    /* new_key too opens the image */
	LUNKIT_KEY_CHANGE,  /* new_key opens it instead of key */
	LUNKIT_KEY_REMOVE,  /* the slot, or the one that key opens, is emptied; never the last one */
	LUNKIT_KEY_BACKUP,  /* the header is written to fd */
	LUNKIT_KEY_RESTORE, /* the header becomes what fd holds, once that has been checked */
};
struct lunkit_key_change {
	enum lunkit_key_op op;
	int slot;	    /* -1: any */
	const uint8_t *key; /* opens the image; NULL: none was given */
	size_t key_length;
	const uint8_t *new_key; /* ADD, CHANGE */
	size_t new_key_length;
	int fd; /* BACKUP, RESTORE: a regular file, read or written from its beginning; else -1 */
};
struct lunkit_crypt;

enum lunkit_snapshot_op {
	LUNKIT_SNAPSHOT_CREATE,
	LUNKIT_SNAPSHOT_DELETE,
	LUNKIT_SNAPSHOT_REVERT,
	LUNKIT_SNAPSHOT_PROTECT, /* from being deleted; these two are for handlers with LUNKIT_HANDLER_PROTECTS only */
	LUNKIT_SNAPSHOT_UNPROTECT,
};

struct lunkit_handler {
	size_t struct_size;	    /* sizeof(struct lunkit_handler) */
	unsigned interface_version; /* LUNKIT_HANDLER_INTERFACE */
	const char *
		name; /* the kind: a lower-case letter, then such letters and digits, at most 15; the name of the shared object; no kind is a prefix of another */
	const char *description;	     /* one line */
	const char *reference_help;	     /* what follows the kind in a reference, e.g. "PATH" */
	const struct lunkit_option *options; /* NULL or an array that ends with a NULL key */
	size_t request_size;		     /* bytes of struct lunkit_request.memory */

	/*
	 * Opens the image. May block: it is called before the image serves requests. On success *ret_state is what the members below get; on
	 * failure everything that was taken has been given back.
	 */
	int (*open)(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err);
	/* No request or job is in flight, and everything that was to be durable has been flushed. */
	void (*close)(void *state);
	/* Fills *limits, which is zeroed. Called after open() and again after every resize. */
	void (*limits)(void *state, struct lunkit_limits *limits);
	/* Starts a request. Never blocks, never allocates in proportion to anything from outside. */
	void (*submit)(void *state, struct lunkit_request *request);

	/* Control. NULL: the handler can't, and the core says so. */

	/* Makes a new image of params->size bytes; may block. Undoes everything on failure. An image that exists is -EEXIST. */
	int (*create)(const struct lunkit_params *params, struct lunkit_error *err);
	/* Adds what is particular to this kind; the core adds kind, name, virtual size and block size. May block for a short time only. */
	int (*info)(void *state, struct lunkit_info *info, struct lunkit_error *err);
	/*
	 * Changes the virtual size, while requests go on (growing) or with none in flight (shrinking, asked for by LUNKIT_RESIZE_SHRINK).
	 * size 0 means: take the size that the storage has now (a file or volume that someone else has grown).
	 */
	void (*resize)(void *state, struct lunkit_job *job, uint64_t size, unsigned flags);

	/* Kinds that lunkit_child_open() may be asked for: an array that ends with NULL, or NULL for none. */
	const char *const *children;
	/*
	 * Looks for inconsistencies and repairs what flags (LUNKIT_CHECK_*) say, which is nothing when the image was opened read-only; one that the
	 * handler itself calls read-only (LUNKIT_READ_ONLY) because it is damaged may be repaired, and its limits are read again. No request is in flight, none comes before the end. *report is
	 * zeroed, valid until the end, and filled however the job ends. Finding something is success; the report says what.
	 */
	void (*check)(void *state, struct lunkit_job *job, unsigned flags, struct lunkit_check_report *report);
	/*
	 * True while something goes on that belongs to no request and that the event loop will end (a table is being written, space is given
	 * back). Asked before close(), again and again, with no request in flight, until it is false: a handler also begins there what has to
	 * be done before its end, and nothing else. NULL: never.
	 */
	bool (*busy)(void *state);

	/* Adds every snapshot, oldest first. May block for a short time. */
	int (*snapshot_list)(void *state, struct lunkit_snapshots *list, struct lunkit_error *err);
	/*
	 * CREATE, DELETE, REVERT, PROTECT or UNPROTECT of the snapshot of that name (never empty; -EEXIST, -ENOENT). Requests go on: the handler holds those it has to, for as short as it
	 * can. The snapshot has everything that was acknowledged before the call; when the job has ended its effect is durable. REVERT: everything read from then on
	 * is the snapshot's, and the core reads the limits again, since the size may be another.
	 */
	void (*snapshot)(void *state, struct lunkit_job *job, enum lunkit_snapshot_op op, const char *name);
	/*
	 * Makes the image independent of what lies below it: copies what it does not have of its own, then drops the reference, durably. Requests go on. What was copied
	 * stays when it is cancelled or fails, and the image reads as before.
	 */
	void (*flatten)(void *state, struct lunkit_job *job);

	/* An encrypted image's keys; change is valid until the job ends. No request is in flight. -EOPNOTSUPP with a message when this image is not encrypted. */
	void (*key)(void *state, struct lunkit_job *job, const struct lunkit_key_change *change);
	/* The open file or device whose bytes are the image's, each at its own offset, and whether it is open for direct I/O; the handler's to close. NULL: there is none. */
	int (*file)(void *state, bool *ret_direct);
	/* For lunkit's own handlers: encryption of what another one stores (image/crypt.h). */
	const struct lunkit_crypt *crypt;

	unsigned flags; /* LUNKIT_HANDLER_* */
	/*
	 * Called in place of close(), which it includes: removes the image for good; may block. One that is open elsewhere, has snapshots or the like is -EBUSY; it is closed in any
	 * case. Without this member an image is a file, which the starter removes.
	 */
	int (*remove)(void *state, struct lunkit_error *err);
};
/* Its images are reached through TCP: the worker may open connections, which others may not. */
#define LUNKIT_HANDLER_NETWORK 1u
/* Its snapshots can be protected. */
#define LUNKIT_HANDLER_PROTECTS 2u
#define LUNKIT_RESIZE_SHRINK 1u

#define LUNKIT_HANDLER(handler)                                                                                                            \
	__attribute__((visibility("default"))) const struct lunkit_handler *lunkit_handler_entry(void);                                    \
	const struct lunkit_handler *lunkit_handler_entry(void)                                                                            \
	{                                                                                                                                  \
		return &(handler);                                                                                                         \
	}

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
