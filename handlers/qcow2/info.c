/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What `lunkit info` shows of a qcow2 image, and the options that it takes. */
#include <string.h>
#include <sys/stat.h>

#include "qcow2.h"

const struct lunkit_option qcow2_options[] = {
	{ "block-size", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN, "logical block size of the disk (512)", "512|4096" },
	{ "cache-size", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_OPEN, "most memory for the image's tables (32M, which maps 256 GiB)", NULL },
	{ "discard", LUNKIT_OPTION_BOOL, LUNKIT_OPTION_OPEN, "give space that becomes free back to the filesystem (yes)", NULL },
	{ "snapshot", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN, "the disk as it was in that snapshot, for reading only", NULL },
	{ "backing-format", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE,
	  "format of the backing file; when it is opened, instead of what the image says", "raw|qcow2" },
	{ "backing", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "path of the backing file, relative to the image's folder or absolute",
	  NULL },
	{ "cluster-size", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_CREATE, "unit of allocation, 512 to 2M, a power of two (64K)", NULL },
	{ "preallocation", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE,
	  "off: nothing; metadata: the tables; falloc: also the storage; full: it is written with zeros", "off|metadata|falloc|full" },
	{ "lazy-refcounts", LUNKIT_OPTION_BOOL, LUNKIT_OPTION_CREATE, "allow QEMU to keep refcounts lazily (no)", NULL },
	{ "compression-type", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "of compressed clusters (zlib)", "zlib|zstd" },
	{ "refcount-bits", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "width of a refcount (16)", "1|2|4|8|16|32|64" },
	{ "encrypt", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "encrypt what the guest stores", "luks" },
	{ "compat", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "version of the format: 1.1 is 3, 0.10 is 2 (1.1)", "0.10|1.1" },
	{ 0 },
};

int qcow2_info(void *state, struct lunkit_info *info, struct lunkit_error *err)
{
	struct qcow2 *q = state;
	const struct header *header = &q->header;
	struct stat status;
	if (q->locked)
		return 0;
	if (fstat(q->fd, &status) < 0)
		return lunkit_error_set(err, errno, "cannot look at %.300s: %s", q->name, strerror(errno));
	lunkit_info_string(info, "storage", q->is_block ? "block device" : "file");
	if (!q->is_block) {
		lunkit_info_bytes(info, "file-size", (uint64_t)status.st_size);
		lunkit_info_bytes(info, "allocated-size", (uint64_t)status.st_blocks * 512); /* stat(2): units of 512 */
	}
	lunkit_info_bool(info, "direct-io", q->direct);
	lunkit_info_string(info, "compat", header->version == 2 ? "0.10" : "1.1");
	lunkit_info_bytes(info, "cluster-size", q->cluster_size);
	lunkit_info_number(info, "refcount-bits", 1u << q->refcount_order);
	lunkit_info_string(info, "compression-type", header->compression == COMPRESSION_ZSTD ? "zstd" : "zlib");
	lunkit_info_bool(info, "lazy-refcounts", header->compatible & COMPATIBLE_LAZY_REFCOUNTS);
	lunkit_info_bool(info, "dirty", header->incompatible & INCOMPATIBLE_DIRTY);
	lunkit_info_bool(info, "corrupt", q->is_corrupt || header->incompatible & INCOMPATIBLE_CORRUPT);
	lunkit_info_bool(info, "bitmaps", header->has_bitmaps);
	lunkit_info_number(info, "snapshots", header->snapshot_count);
	if (q->encryption.crypt)
		q->encryption.crypt->info(&q->encryption.facts, info);
	else if (header->crypt_method)
		lunkit_info_string(info, "encryption", "LUKS");
	if (*header->backing_name) {
		lunkit_info_string(info, "backing-file", header->backing_name);
		if (*header->backing_format)
			lunkit_info_string(info, "backing-format", header->backing_format);
		lunkit_info_bool(info, "backing-opened", q->backing);
	}
	return 0;
}
