/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What the files of the qcow2 handler share. Owner of everything: the worker's thread.
 *
 *     submit ─► request.c ─► read.c, write.c, zero.c, extents.c ─► map.c ─► cache.c ─► file
 *                                 │  a miss, an overlap, no room: parked, and started again from the top
 *                                 ├─► cow.c, compress.c, child
 *                                 └─► alloc.c ─► refcount.c, reftable.c ─► cache.c
 *     flush  ─► commit.c: dirty slices in the order of order.c ─► file;  then free.c: what nothing refers to any more
 *
 * Vocabulary: a slice is a piece of a table in the cache, 4 KiB or a cluster if that is smaller. A round is one pass of commit.c. A cluster is
 * fresh when it was never used and lies beyond what the file was long when it was opened: it reads as zeros.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/list.h"
#include "commit.h"
#include "encrypt.h"
#include "file.h"
#include "format.h"
#include "hold.h"
#include "image/handler.h"
#include "order.h"
#include "slab.h"
#include "snapshots.h"

struct qcow2;
struct qcow2_request;

/* ---- the header ------------------------------------------------------------------------------------------------------------------------- */

struct header {
	unsigned version, cluster_bits, refcount_order, header_length, compression;
	uint64_t size, l1_offset, reftable_offset, snapshot_offset, backing_offset;
	unsigned l1_size, reftable_clusters, snapshot_count, backing_size;
	uint64_t incompatible, compatible, autoclear;
	char backing_name[BACKING_NAME_MAX + 1]; /* "" for none */
	char backing_format[32];		 /* "" when the header does not say */
	bool has_bitmaps;
	unsigned bitmap_count;
	uint64_t bitmap_directory, bitmap_directory_length;
	unsigned crypt_method;		     /* 0, or 2: LUKS */
	uint64_t crypt_offset, crypt_length; /* of the LUKS header, in the file */
};
/*
 * Parses and checks the first bytes of a file: the whole first cluster, or what there is of it. name is for messages. Nothing is allocated and
 * every number is within the format's limits afterwards. -EINVAL (not qcow2, or damaged), -ENOTSUP (a feature that lunkit lacks).
 */
int header_parse(const uint8_t *bytes, size_t length, const char *name, struct header *ret, struct lunkit_error *err);
/* Bytes of the first cluster that header_parse() needs, from the first 512; -EINVAL. */
int header_length_needed(const uint8_t *bytes, const char *name, size_t *ret_length, struct lunkit_error *err);
/* L1 entries that a virtual size needs. */
uint64_t header_l1_entries(uint64_t size, unsigned cluster_bits);

/* ---- slices ----------------------------------------------------------------------------------------------------------------------------- */

struct slice {
	struct slice *hash_next;
	uint64_t offset; /* in the file; what it is found by */
	uint8_t *data;
	uint8_t *frozen;   /* the content that the running round writes, when data has changed since it began */
	struct list clock; /* all that may be evicted */
	struct list node;  /* in commit.c's lists */
	enum order_kind kind;
	unsigned pins;
	bool used;	 /* since the clock's hand passed */
	bool loading;	 /* data is not there yet */
	bool ahead;	 /* … and nobody needed it when that began */
	bool gone;	 /* … and what is there has been freed: not found any more, and dropped when it comes */
	bool dirty;	 /* differs from the file, and no round has it */
	bool committing; /* belongs to the running round */
	bool written;	 /* … and has been written, not made durable */
	bool again;	 /* … and has been changed since */
	bool resident;	 /* part of a table that is kept as a whole */
	bool forgotten;	 /* its table has moved: goes away with the round */
	struct waiters waiters;
	struct transfer transfer;
};

struct cache {
	struct slice **buckets;
	unsigned bucket_mask;
	size_t limit, count; /* slices that may be evicted */
	size_t loading;
	bool stuck;	   /* nothing can be evicted, as far as is known */
	bool ahead_failed; /* a slice that was fetched ahead of need could not be */
	struct list clock;
	struct slabs slabs;
	struct waiters room;
	uint64_t uses; /* lookups, to tell an idle cache */
};

int cache_init(struct qcow2 *q, uint64_t bytes);
void cache_destroy(struct qcow2 *q);
/* The slice at the offset when it is there, or NULL. Not pinned: use it before anything else can run. */
struct slice *cache_find(struct qcow2 *q, uint64_t offset);
/* 0 with *ret; -EAGAIN: it is being fetched, the waiter (may be NULL) will be woken; -ENOMEM. Not pinned. */
int cache_get(struct qcow2 *q, enum order_kind kind, uint64_t offset, struct waiter *waiter, struct slice **ret);
/*
 * Fetches, ahead of need, slices that stand next to each other: those at the offset that are missing, in one read, at most count and CACHE_RUN. Returns how
 * many are there or on their way now, or 0 when there is no room.
 */
#define CACHE_RUN 16
unsigned cache_fetch(struct qcow2 *q, enum order_kind kind, uint64_t offset, unsigned count);
/* A slice of zeros that need not be read, clean; as cache_get(). */
int cache_get_zero(struct qcow2 *q, enum order_kind kind, uint64_t offset, struct waiter *waiter, struct slice **ret);
static inline void slice_pin(struct slice *slice)
{
	slice->pins++;
}
/* Who waits for room may have it now: wakes them. */
void slice_unpin(struct qcow2 *q, struct slice *slice);
/*
 * Of a pin that was taken in the same breath: there is no more room than there was before it. It wakes nobody, since whoever was parked in between would be woken
 * before he knows that he is.
 */
static inline void slice_unpin_again(struct slice *slice)
{
	slice->pins--;
}
/* Must come before each change of slice->data, which may move. -ENOMEM: don't change it. */
int slice_modify(struct qcow2 *q, struct slice *slice);
/* The copy for the round, if there is one, is no longer needed. */
void slice_thaw(struct qcow2 *q, struct slice *slice);
/* As cache_find(), for looking only. */
struct slice *cache_peek(const struct qcow2 *q, uint64_t offset);
/* What the running round writes. */
static inline uint8_t *slice_committed(struct slice *slice)
{
	return slice->frozen ? slice->frozen : slice->data;
}
/* Forgets what the cache has of a cluster that is about to be used for something else. */
void cache_forget(struct qcow2 *q, uint64_t offset, uint64_t length);
/* Those who wait for room may try again, or give up: -errno. */
void cache_room(struct qcow2 *q, int result);
/* Gives clean slices back that were not used since the last call; all of them when everything is set. */
void cache_shrink(struct qcow2 *q, bool everything);
/* A slice that no cache knows, for a table that is kept as a whole; and its end, which comes after the round that has it. */
struct slice *slice_new_resident(struct qcow2 *q, enum order_kind kind, uint64_t offset);
void slice_free_resident(struct qcow2 *q, struct slice *slice);
/* The round is through with a slice that slice_free_resident() could not free. */
void slice_destroy(struct qcow2 *q, struct slice *slice);

/* A table kept in memory as a whole: L1, refcount table. */
struct table {
	uint64_t offset;
	uint64_t entries;
	unsigned slice_count;
	unsigned shift; /* entries of a slice, as a power of two */
	struct slice **slices;
};
static inline uint64_t table_get(const struct table *table, uint64_t index)
{
	const struct slice *slice = table->slices[index >> table->shift];
	return get_be64(slice->data + (index & ((1u << table->shift) - 1)) * 8);
}
int table_set(struct qcow2 *q, struct table *table, uint64_t index, uint64_t value);
/* Zeros; -ENOMEM. */
int table_init(struct qcow2 *q, struct table *table, enum order_kind kind, uint64_t offset, uint64_t entries);
int table_load(struct qcow2 *q, struct table *table);
void table_destroy(struct qcow2 *q, struct table *table);

/* ---- metadata in the file ---------------------------------------------------------------------------------------------------------------- */

/* The clusters that hold metadata: nothing else may be written there. */
struct meta {
	uint64_t *slots; /* cluster index + 1; 0: empty */
	size_t mask, count;
	bool behind_end; /* some lie behind the file's end; of interest only when an image is opened */
};
/* -EEXIST: already there, so two tables overlap. -ENOMEM. */
int meta_add(struct qcow2 *q, uint64_t offset, uint64_t length);
void meta_remove(struct qcow2 *q, uint64_t offset, uint64_t length);
bool meta_has(const struct qcow2 *q, uint64_t cluster);
void meta_destroy(struct qcow2 *q);
/* Everything that the header and the tables name. Returns -EEXIST with *ret_what when two overlap. */
int meta_collect(struct qcow2 *q, const char **ret_what);
/* The image contradicts itself: says so, marks it, refuses writing from now on. Returns -EIO. */
__attribute__((format(printf, 2, 3))) int corrupt(struct qcow2 *q, const char *format, ...);

/* ---- mapping --------------------------------------------------------------------------------------------------------------------------------- */

enum map_kind { MAP_UNALLOCATED, MAP_ZERO_PLAIN, MAP_ZERO_ALLOCATED, MAP_NORMAL, MAP_COMPRESSED };

struct mapping {
	enum map_kind kind;
	bool copied;
	uint64_t length; /* bytes from the guest offset that are mapped alike and stand together in the file */
	uint64_t host;	 /* NORMAL, ZERO_ALLOCATED: where the guest offset is */
	uint64_t entry;	 /* the first cluster's */
};
/* 0, -EAGAIN (parked) or -errno. length: how much is of interest, at least 1. */
int map_lookup(struct qcow2 *q, uint64_t guest_offset, uint64_t length, struct waiter *waiter, struct mapping *ret);
static inline enum map_kind map_classify(uint64_t entry)
{
	if (entry & L2_COMPRESSED)
		return MAP_COMPRESSED;
	if (entry & L2_ZERO)
		return entry & ENTRY_OFFSET ? MAP_ZERO_ALLOCATED : MAP_ZERO_PLAIN;
	return entry & ENTRY_OFFSET ? MAP_NORMAL : MAP_UNALLOCATED;
}
/* Whether every mapping of the range is in the file as it is in memory. */
bool map_is_stored(const struct qcow2 *q, uint64_t guest_offset, uint64_t end);
/* The L2 slice of a guest offset, ready for changing: made when there is none, copied when it is shared. Not pinned. */
int map_for_write(struct qcow2 *q, uint64_t guest_offset, struct waiter *waiter, struct slice **ret_slice, unsigned *ret_index);
/* Where a compressed cluster is: its first byte and how many bytes may belong to it. */
void map_compressed(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset, uint64_t *ret_length);
/* An L2 entry loses its cluster, which is freed once that is durable. */
void map_release(struct qcow2 *q, uint64_t entry);

/* An L2 table that is being made: new_table.c */
struct new_table {
	struct list node;
	struct qcow2 *q;
	uint64_t l1_index, old_offset, offset;
	void *buffer;
	struct slice **cached; /* of the old table, pinned */
	unsigned cached_count;
	bool shared; /* by a snapshot that is being made: no entry of it is COPIED any more */
	struct transfer transfer;
	struct waiters waiters;
};
/* Waits while the table for that L1 entry is being made; false: it is not. */
bool new_table_wait(struct qcow2 *q, uint64_t l1_index, struct waiter *waiter);
int new_table_get(struct qcow2 *q, uint64_t l1_index, uint64_t l1_entry, struct waiter *waiter);

/* ---- refcounts, allocation, freeing ------------------------------------------------------------------------------------------------------- */

uint64_t refcount_read(const struct qcow2 *q, const uint8_t *data, uint64_t index);
void refcount_write(const struct qcow2 *q, uint8_t *data, uint64_t index, uint64_t value);
/* The slice of a cluster's refcount and its index there. -ENOENT: there is no refblock for it. */
int refcount_get_slice(struct qcow2 *q, uint64_t cluster, struct waiter *waiter, struct slice **ret, unsigned *ret_index);
/*
 * Makes the refblock that counts the cluster, at the cluster place, which is free and counted then. fresh: place reads as zeros. Where place is not among
 * what the new refblock counts, the one that counts it is there already.
 */
int refblock_make(struct qcow2 *q, uint64_t cluster, uint64_t place, bool fresh, struct waiter *waiter);

struct reftable_growth {
	bool active;
	bool stalled;	    /* it has failed; the next one who allocates goes on with it */
	uint64_t next, end; /* clusters of the new table whose refcounts are to be set */
	uint64_t place;	    /* a device: the next for a refblock */
	uint64_t old_offset, old_length;
	struct waiter waiter;
	struct lunkit_io deferred;
	struct waiters waiters;
};
int reftable_grow(struct qcow2 *q, uint64_t entries_needed, struct waiter *waiter);
/* While growth.active: parks. Returns -EAGAIN. */
int reftable_growth_wait(struct qcow2 *q, struct waiter *waiter);

struct run {
	uint64_t offset;
	unsigned clusters;
	bool fresh;
};
/* Up to wanted clusters that stand together, counted once. 0, -EAGAIN (parked), -ENOSPC, -errno. */
int alloc_run(struct qcow2 *q, unsigned wanted, struct waiter *waiter, struct run *ret);
/*
 * A piece of clusters that stand together, however many: alloc_reserve() takes it, fresh where that is possible, and alloc_count() counts it, from
 * *next to end, and makes the refblocks that this needs. Each 0, -EAGAIN (parked: call it again), -errno.
 */
int alloc_reserve(struct qcow2 *q, uint64_t clusters, struct waiter *waiter, uint64_t *ret_place);
int alloc_count(struct qcow2 *q, uint64_t *next, uint64_t end, struct waiter *waiter);
/* All but the first clusters of a run that nothing refers to yet are free again. */
void alloc_give_back(struct qcow2 *q, struct run *run, unsigned keep);
/* What was counted ahead is free again. 0, -EAGAIN (parked: call it again), -errno: it leaks. */
int alloc_uncount(struct qcow2 *q, struct waiter *waiter);
/* Now and then: an image that nothing is allocated in keeps nothing counted ahead. */
void alloc_tick(struct qcow2 *q);
/* Makes the file longer where it is about to be too short; -EAGAIN when that has to be waited for. */
int alloc_extend(struct qcow2 *q, uint64_t end, struct waiter *waiter);
void alloc_init(struct qcow2 *q);
/* The first fresh clusters are taken. */
void alloc_raise(struct qcow2 *q, uint64_t clusters);
/* What was made longer and not used is cut off. Blocking. */
void alloc_trim(struct qcow2 *q);

struct allocator {
	uint64_t cursor;		 /* cluster: below it nothing is free */
	uint64_t high_water;		 /* cluster: from here on everything is free; of a device: its end */
	uint64_t file_end;		 /* bytes: the file is that long */
	uint64_t ahead, ahead_end;	 /* fresh clusters that are counted and that nobody has */
	uint64_t ahead_seen;		 /* by the last tick */
	uint64_t reserved, reserved_end; /* clusters that are about to be counted: taken, whatever their refcounts say */
	bool extending, extending_ahead;
	uint64_t extending_to;

	struct transfer extension;
	struct waiters extended;
	bool zeroing; /* a device: a refblock is being zeroed */
	uint64_t zeroing_cluster;
	struct transfer zeroing_transfer;
	struct waiters zeroed;
};

struct free_range {
	uint64_t offset, length; /* whole clusters */
	unsigned generation;	 /* in ready */
	bool table;		 /* an L2 table, which may be in the cache */
};
struct free_list {
	struct free_range *ranges;
	size_t count, room;
};
struct freeing {
	struct free_list open;	  /* no longer referred to, not durably */
	struct free_list round;	  /* … whose end the running round makes durable */
	struct free_list settled; /* durable; waits for requests that may still use them */
	struct free_list ready;
	size_t next;	   /* of ready: being worked on */
	uint64_t position; /* bytes of that done */
	unsigned generation, passes;
	bool has_round, working, discard;
	uint64_t punch_offset, punch_length;
	struct lunkit_io punch;
	struct waiter waiter;
	struct lunkit_io turn;
	struct waiters room;
	struct waiters ended; /* jobs: each time that passes moves or all is done, and each round that failed */
};
/* Counts down what the range holds once a commit has made it durable that nothing refers to it. */
void free_later(struct qcow2 *q, uint64_t offset, uint64_t length, bool table);
bool free_has_room(const struct qcow2 *q);
bool free_is_pending(const struct qcow2 *q);
/* The pass that has everything in it that was given to free_later() before; true when it is over, else the waiter is woken at every end of one. */
uint64_t free_ticket(const struct qcow2 *q);
bool free_passed(struct qcow2 *q, uint64_t ticket, struct waiter *waiter);
void free_round_begin(struct qcow2 *q);
void free_round_end(struct qcow2 *q, bool durable);
/* The last part of the other epoch has ended. */
void free_check(struct qcow2 *q);
void free_init(struct qcow2 *q);
void free_destroy(struct qcow2 *q);

/* ---- data ----------------------------------------------------------------------------------------------------------------------------------- */

#define PARTS 4
#define PART_IOV 8

/* A piece of a request that is under way. */
struct part {
	struct transfer transfer; /* first */
	struct scrambling scrambling;
	struct qcow2_request *r;
	struct part *next_free;
	struct iovec own[PART_IOV], *heap;
	const struct iovec *iov; /* the guest's memory for this piece */
	unsigned iov_count;
	uint64_t guest_offset, length;
	struct cow *cow;
	unsigned epoch; /* when it found its place in the file: free.c */
};

/* What a request for extents was told of the image below; extents.c's. */
#define BELOW_EXTENTS 4
enum below_state { BELOW_UNKNOWN, BELOW_ASKED, BELOW_TOLD };
struct below {
	enum below_state state;
	bool starting;
	unsigned epoch, count;
	int result;
	struct lunkit_extent extents[BELOW_EXTENTS];
};

struct qcow2_request {
	struct waiter waiter;
	struct qcow2 *q;
	struct lunkit_request *request;
	void (*done)(struct qcow2_request *r, int result); /* NULL: lunkit_request_done() */
	int (*step)(struct qcow2_request *r);		   /* 0: got on; -EAGAIN: parked; -errno */
	uint64_t position, end;
	unsigned iov_index; /* where position is in the guest's memory */
	uint64_t iov_skip;
	unsigned in_flight; /* parts */
	int result;
	bool running, again, parked;
	bool zeroes; /* what is written is zeros, not the guest's memory */
	struct part *free_parts;
	struct part parts[PARTS];
	struct below below;
};

void request_submit(struct qcow2 *q, struct lunkit_request *request);
/* One that is not the core's; request->memory is a struct qcow2_request. done() may come from inside. */
void request_submit_own(struct qcow2 *q, struct lunkit_request *request, void (*done)(struct qcow2_request *r, int result));
/* The next free part, for length bytes from r->position, with its memory; the position moves on. NULL: no memory. */
struct part *part_take(struct qcow2_request *r, uint64_t length);
void part_done(struct part *part, int result);
/* Parks the request on something. Returns -EAGAIN. */
static inline int request_park(struct qcow2_request *r, struct waiters *waiters)
{
	waiters_add(waiters, &r->waiter);
	return -EAGAIN;
}

int read_step(struct qcow2_request *r);
int write_step(struct qcow2_request *r);
/* Writes at most until end, which lies within one cluster or is a request's end. */
int write_step_until(struct qcow2_request *r, uint64_t end);
int discard_step(struct qcow2_request *r);
/* Own requests only. DROP: the entries of whole clusters become 0. FILL: written only where nothing is allocated; from one buffer, whole clusters. */
#define REQUEST_DROP (1u << 31)
#define REQUEST_FILL (1u << 30)
int drop_step(struct qcow2_request *r);
int fill_step(struct qcow2_request *r);
int zero_step(struct qcow2_request *r);
int extents_step(struct qcow2_request *r);
/* True when nothing but zeros can be there below the overlay. */
bool backing_is_zero(const struct qcow2 *q, uint64_t guest_offset, uint64_t length);
/* Reads from the backing file, zeros beyond its end; done(request) as the child says. The child request goes back to the pool by itself. */
struct lunkit_child_request *backing_take(struct qcow2 *q);
void backing_give(struct qcow2 *q, struct lunkit_child_request *child);

/* An allocating write whose mapping is shown only when its data is there. */
struct cow;
struct cow_read {
	struct transfer transfer; /* first */
	struct scrambling scrambling;
	struct cow *cow;
};
struct cow {
	struct list node;
	struct qcow2 *q;
	struct part *part;
	uint64_t cluster; /* of the guest, the first */
	unsigned clusters;
	struct run run;
	bool reuse;	     /* the run is the cluster's own, so far hidden by the zero flag */
	struct slice *slice; /* pinned */
	unsigned index;
	struct waiters waiters;
	struct cow *next_free;
	/* Around the guest's data, in one cluster: */
	uint64_t head, tail;	/* bytes before and behind */
	uint8_t *buffer;	/* a cluster that holds them, or NULL: they are zeros */
	enum map_kind source;	/* where they come from */
	uint64_t source_offset; /* NORMAL: in the file; COMPRESSED: the entry */
	unsigned reads;
	int result;
	struct cow_read read[2];
	struct iovec child_iov[2];
	struct waiter waiter;
	struct iovec *iov;
};
struct cows {
	struct list active;
	struct cow *free;
	void **buffers; /* free ones, of a cluster each */
	unsigned buffer_count, buffers_made, buffers_max;
	struct waiters buffer_waiters;
};
/* The first allocating write that has one of the clusters, or NULL. */
struct cow *cow_overlapping(const struct qcow2 *q, uint64_t cluster, uint64_t clusters);
int cow_write(struct qcow2_request *r, const struct mapping *mapping, uint64_t length);
void cow_destroy(struct qcow2 *q);
int cow_init(struct qcow2 *q);
/* Gives memory back that no write uses. */
void cow_shrink(struct qcow2 *q);

/* A decompressed cluster. */
enum blob_state { BLOB_EMPTY, BLOB_READING, BLOB_UNPACKING, BLOB_READY };
struct blob {
	struct qcow2 *q;
	uint64_t entry;
	enum blob_state state;
	bool forgotten; /* what is packed there has been freed, while this was under way */
	unsigned users;
	uint64_t used; /* when, as a count */
	uint8_t *packed, *data;
	uint64_t skip, length; /* of packed: where it begins, and bytes from there */
	struct transfer transfer;
	struct lunkit_work work;
	struct waiters waiters;
};
#define BLOBS_MAX 8
struct blobs {
	struct blob blob[BLOBS_MAX];
	unsigned count;
	uint64_t clock;
	struct waiters free;
};
/* 0 with *ret, which blob_put() gives back; -EAGAIN; -ENOMEM. */
int blob_get(struct qcow2 *q, uint64_t entry, struct waiter *waiter, struct blob **ret);
void blob_put(struct qcow2 *q, struct blob *blob);
/* What is packed there is no longer what it was. */
void blob_forget(struct qcow2 *q, uint64_t offset, uint64_t length);
void blob_shrink(struct qcow2 *q);
void blob_init(struct qcow2 *q);
/* Unpacks exactly out_length bytes; -EIO. On any thread. */
int decompress(unsigned compression, const uint8_t *in, size_t in_length, uint8_t *out, size_t out_length);

/* ---- the image ---------------------------------------------------------------------------------------------------------------------------------- */

struct qcow2 {
	struct lunkit_host *host;
	int fd;
	unsigned cluster_bits, slice_bits, refcount_order;
	unsigned entry_bits;	/* entries of an L2 table, as a power of two */
	unsigned refblock_bits; /* refcounts of a refblock, as a power of two */
	uint64_t cluster_size, cluster_mask, size;
	size_t slice_size;
	bool is_block, read_only, durable, direct, is_corrupt;
	bool only_marked;    /* read-only for no other reason than the corrupt bit */
	bool hidden_changes; /* the autoclear bits are to be cleared before the first write */
	struct {
		bool running;
		struct waiter waiter;
		struct waiters waiters;
	} prepare;	   /* … which is under way */
	bool l1_held;	   /* L1 is about to move: nobody may change it */
	bool snapshotting; /* a snapshot shares the active tables, and is not counted yet: nothing is freed */
	bool has_job;	   /* one that changes tables runs */
	bool stays_dirty;  /* the dirty bit is left for whoever opens the image next */
	bool is_snapshot;  /* opened as a snapshot: only its tables are looked at */
	bool survive;	   /* what was acknowledged has to be in the file: see commit.c */
	bool locked;	   /* opened for key operations only: nothing but the header was read */
	struct encryption encryption;
	struct hold hold;
	int broken;		      /* the error of a failed sync: no flush may succeed any more */
	unsigned epoch, in_flight[2]; /* parts, by the epoch that they began in */
	struct order order;
	struct table l1, reftable;
	struct slice *header_slice;
	struct cache cache;
	struct commit commit;
	struct meta meta;
	struct allocator alloc;
	struct freeing freeing;
	struct reftable_growth growth;
	struct list new_tables;
	struct waiters l1_free;
	struct cows cows;
	struct blobs blobs;
	struct packer *packer; /* NULL until something is written compressed */
	struct lunkit_child *backing;
	uint64_t backing_length;		/* bytes of it that can be seen: its size */
	bool has_backing;			/* even when it could not be opened for a look */
	struct lunkit_child_request **children; /* idle */
	unsigned child_count, child_room;
	struct header header; /* as it was read; what changes meanwhile is in the fields above and in header_slice */
	struct snapshot *snapshots;
	uint64_t snapshot_table_length;
	bool closing;
	struct lunkit_file_geometry geometry;
	unsigned block_size;
	char name[512];
};

/* Clusters that a slice counts. */
static inline uint64_t refcount_slice_span(const struct qcow2 *q)
{
	return ((uint64_t)q->slice_size * 8) >> q->refcount_order;
}

/* Changes the header in memory, to be written before any mapping is. */
int header_set_be32(struct qcow2 *q, unsigned field, uint32_t value);
int header_set_be64(struct qcow2 *q, unsigned field, uint64_t value);
/* Before anything is changed: 0, -EAGAIN (parked), -EROFS, … */
int image_prepare_write(struct qcow2 *q, struct waiter *waiter);

extern const struct lunkit_option qcow2_options[];
int qcow2_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err);
void qcow2_close(void *state);
bool qcow2_busy(void *state);
void qcow2_limits(void *state, struct lunkit_limits *limits);
int qcow2_create(const struct lunkit_params *params, struct lunkit_error *err);
int qcow2_info(void *state, struct lunkit_info *info, struct lunkit_error *err);
void qcow2_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags);
void shrink_start(struct qcow2 *q, struct lunkit_job *job, uint64_t size);
void qcow2_check(void *state, struct lunkit_job *job, unsigned flags, struct lunkit_check_report *report);
int qcow2_snapshot_list(void *state, struct lunkit_snapshots *list, struct lunkit_error *err);
void qcow2_snapshot(void *state, struct lunkit_job *job, enum lunkit_snapshot_op op, const char *name);
void qcow2_flatten(void *state, struct lunkit_job *job);
/* One job at a time: false, and the job has ended with an error. qcow2_job_end() ends one that got true. */
bool qcow2_job_begin(struct qcow2 *q, struct lunkit_job *job);
void qcow2_job_end(struct qcow2 *q, struct lunkit_job *job, int result);

/* The path that a backing file's name in the header of image means, without "." and ".."; NULL: no memory. free(). */
char *backing_path(const char *image, const char *backing);
/* Opens the image's backing file; a look does without one that can't be opened. */
int backing_open(struct qcow2 *q, const struct lunkit_params *params, struct lunkit_error *err);
/* "raw", "qcow2", or NULL with the error set: nothing else, and nothing is guessed. */
const char *backing_kind(const char *format, const char *image, const char *backing, struct lunkit_error *err);
