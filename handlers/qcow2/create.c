/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * New images. Everything lies in one piece, so every place follows from the counts:
 *
 *     │ header │ refcount table │ refblocks │ L1 │ LUKS header │ with preallocation: L2 tables │ data │
 *
 * The header is written last, after all else is durable: a file that was left half made does not look like an image. On failure the file is removed.
 */
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2.h"

#define WRITE_CHUNK ((size_t)1 << 20)

struct layout {
	const struct lunkit_params *params;
	int fd;
	unsigned version, cluster_bits, refcount_order, compression;
	uint64_t cluster_size, size, l1_entries;
	uint64_t reftable_clusters, refblocks, l1_clusters, l2_tables, data_clusters, total; /* clusters */
	bool lazy;
	const struct lunkit_crypt *crypt; /* NULL: not encrypted */
	uint8_t *crypt_header;
	size_t crypt_length;
	uint64_t crypt_clusters; /* behind L1 */
	const char *backing, *backing_format, *preallocation;
};

static const char *text_option(const struct lunkit_params *params, const char *key, const char *otherwise)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, key);
	return option ? option->value : otherwise;
}

static int check_options(struct layout *layout, struct lunkit_error *err)
{
	const char *name = layout->params->name;
	const struct lunkit_option_value *cluster = lunkit_params_option(layout->params, "cluster-size");
	const struct lunkit_option_value *lazy = lunkit_params_option(layout->params, "lazy-refcounts");
	layout->cluster_size = cluster ? cluster->number : 65536;
	if (!is_power_of_two(layout->cluster_size) || layout->cluster_size < 1u << CLUSTER_BITS_MIN ||
	    layout->cluster_size > 1u << CLUSTER_BITS_MAX)
		return lunkit_error_set(err, EINVAL, "%.300s: the cluster size has to be a power of two from 512 to 2M", name);
	layout->cluster_bits = (unsigned)__builtin_ctzll(layout->cluster_size);
	layout->version = strcmp(text_option(layout->params, "compat", "1.1"), "0.10") == 0 ? 2 : 3;
	layout->refcount_order = (unsigned)__builtin_ctzll(strtoull(text_option(layout->params, "refcount-bits", "16"), NULL, 10));
	layout->compression =
		strcmp(text_option(layout->params, "compression-type", "zlib"), "zstd") == 0 ? COMPRESSION_ZSTD : COMPRESSION_ZLIB;
	layout->lazy = lazy && lazy->number;
	layout->preallocation = text_option(layout->params, "preallocation", "off");
	layout->backing = text_option(layout->params, "backing", NULL);
	layout->backing_format = text_option(layout->params, "backing-format", "");
	layout->size = layout->params->size;
	if (layout->version == 2 && (layout->refcount_order != 4 || layout->lazy || layout->compression != COMPRESSION_ZLIB)) {
		lunkit_error_set(err, EINVAL, "%.300s: compat=0.10 has no refcount-bits, lazy-refcounts and compression-type", name);
		return lunkit_error_hint(err, "Leave compat away, or those.");
	}
	if (layout->size % 512) {
		lunkit_error_set(err, EINVAL, "%.300s: a size of %llu bytes is not a multiple of 512", name,
				 (unsigned long long)layout->size);
		return lunkit_error_hint(err, "A size without a letter behind it is in bytes: %lluG for GiB. The next multiple is %llu.",
					 (unsigned long long)layout->size, (unsigned long long)layout->size / 512 * 512 + 512);
	}
	if (layout->backing && strcmp(layout->preallocation, "off") != 0) {
		lunkit_error_set(err, EINVAL, "%.300s: an image with a backing file cannot be preallocated: it would hide that file", name);
		return lunkit_error_hint(err, "Leave preallocation away.");
	}
	if (!layout->backing && *layout->backing_format)
		return lunkit_error_set(err, EINVAL, "%.300s: backing-format without backing", name);
	return 0;
}

static uint64_t divide_up(uint64_t value, uint64_t by)
{
	return value / by + !!(value % by);
}

static int compute(struct layout *layout, struct lunkit_error *err)
{
	const char *name = layout->params->name;
	uint64_t entries = layout->cluster_size / 8, counts = layout->cluster_size * 8 >> layout->refcount_order;
	layout->l1_entries = header_l1_entries(layout->size, layout->cluster_bits);
	if (layout->l1_entries > L1_BYTES_MAX / 8) {
		lunkit_error_set(err, EFBIG, "%.300s: an image of %llu bytes is too large for clusters of %llu bytes", name,
				 (unsigned long long)layout->size, (unsigned long long)layout->cluster_size);
		return lunkit_error_hint(err, "Choose a larger cluster-size.");
	}
	layout->l1_clusters = divide_up(layout->l1_entries, entries);
	if (strcmp(layout->preallocation, "off") != 0) {
		layout->l2_tables = layout->l1_entries;
		layout->data_clusters = divide_up(layout->size, layout->cluster_size);
	}
	layout->crypt_clusters = divide_up(layout->crypt_length, layout->cluster_size);
	uint64_t rest = 1 + layout->l1_clusters + layout->crypt_clusters + layout->l2_tables + layout->data_clusters;
	layout->reftable_clusters = layout->refblocks = 1;
	for (;;) {
		layout->total = rest + layout->reftable_clusters + layout->refblocks;
		uint64_t blocks = divide_up(layout->total, counts), clusters = divide_up(blocks, entries);
		if (blocks == layout->refblocks && clusters == layout->reftable_clusters)
			break;
		layout->refblocks = MAX(blocks, layout->refblocks);
		layout->reftable_clusters = MAX(clusters, layout->reftable_clusters);
		if (blocks < layout->refblocks && clusters <= layout->reftable_clusters)
			break;
	}
	if (layout->reftable_clusters << layout->cluster_bits > REFTABLE_BYTES_MAX)
		return lunkit_error_set(err, EFBIG, "%.300s: too large to be preallocated with clusters of this size", name);
	return 0;
}

/* ---- the header ---- */

static size_t add_extension(uint8_t *bytes, size_t at, uint32_t type, const void *data, size_t length)
{
	put_be32(bytes + at, type);
	put_be32(bytes + at + 4, (uint32_t)length);
	memcpy(bytes + at + 8, data, length);
	return at + 8 + (size_t)align_up(length, 8);
}

static size_t add_feature_names(uint8_t *bytes, size_t at)
{
	static const struct {
		uint8_t type, bit;
		const char *name;
	} features[] = {
		{ 0, 0, "dirty bit" },	      { 0, 1, "corrupt bit" },	       { 0, 2, "external data file" },
		{ 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
		{ 2, 0, "bitmaps" },	      { 2, 1, "raw external data" },
	};
	uint8_t table[ARRAY_SIZE(features) * FEATURE_NAME_LENGTH] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		uint8_t *entry = table + i * FEATURE_NAME_LENGTH;
		entry[0] = features[i].type;
		entry[1] = features[i].bit;
		memcpy(entry + 2, features[i].name, strlen(features[i].name));
	}
	return add_extension(bytes, at, EXTENSION_FEATURE_NAMES, table, sizeof(table));
}

static int make_header(const struct layout *layout, uint8_t *bytes, struct lunkit_error *err)
{
	uint64_t reftable = layout->cluster_size;
	uint64_t l1 = (1 + layout->reftable_clusters + layout->refblocks) << layout->cluster_bits;
	size_t backing_length = layout->backing ? strlen(layout->backing) : 0;
	size_t format_length = layout->backing ? strlen(layout->backing_format) : 0;
	size_t at = layout->version == 2 ? HEADER_V2_LENGTH : HEADER_NEW_LENGTH;
	size_t names = 8 + (size_t)8 * FEATURE_NAME_LENGTH;
	size_t needed = at + 8 + backing_length + (layout->backing ? 8 + (size_t)align_up(format_length, 8) : 0) + (layout->crypt ? 24 : 0);
	if (backing_length > BACKING_NAME_MAX || needed > layout->cluster_size) {
		lunkit_error_set(err, ENAMETOOLONG, "%.300s: the backing file's path does not fit into the header", layout->params->name);
		return lunkit_error_hint(
			err, "It may have %u bytes, less with clusters below 2K; a path relative to the image's folder is shorter.",
			BACKING_NAME_MAX);
	}
	put_be32(bytes + HEADER_VERSION, layout->version);
	put_be32(bytes + HEADER_CLUSTER_BITS, layout->cluster_bits);
	put_be64(bytes + HEADER_SIZE, layout->size);
	put_be32(bytes + HEADER_L1_SIZE, (uint32_t)layout->l1_entries);
	put_be64(bytes + HEADER_L1_OFFSET, l1);
	put_be64(bytes + HEADER_REFTABLE_OFFSET, reftable);
	put_be32(bytes + HEADER_REFTABLE_CLUSTERS, (uint32_t)layout->reftable_clusters);
	if (layout->version == 3) {
		put_be64(bytes + HEADER_INCOMPATIBLE, layout->compression ? INCOMPATIBLE_COMPRESSION : 0);
		put_be64(bytes + HEADER_COMPATIBLE, layout->lazy ? COMPATIBLE_LAZY_REFCOUNTS : 0);
		put_be32(bytes + HEADER_REFCOUNT_ORDER, layout->refcount_order);
		put_be32(bytes + HEADER_LENGTH, HEADER_NEW_LENGTH);
		bytes[HEADER_COMPRESSION_TYPE] = (uint8_t)layout->compression;
	}
	if (layout->backing)
		at = add_extension(bytes, at, EXTENSION_BACKING_FORMAT, layout->backing_format, format_length);
	if (layout->crypt) {
		uint8_t place[16];
		put_be64(place, l1 + (layout->l1_clusters << layout->cluster_bits));
		put_be64(place + 8, layout->crypt_length);
		put_be32(bytes + HEADER_CRYPT_METHOD, CRYPT_LUKS);
		at = add_extension(bytes, at, EXTENSION_ENCRYPTION, place, sizeof(place));
	}
	if (layout->version == 3 && needed + names <= layout->cluster_size)
		at = add_feature_names(bytes, at);
	at = add_extension(bytes, at, EXTENSION_END, "", 0);
	if (layout->backing) {
		put_be64(bytes + HEADER_BACKING_OFFSET, at);
		put_be32(bytes + HEADER_BACKING_SIZE, (uint32_t)backing_length);
		memcpy(bytes + at, layout->backing, backing_length);
	}
	put_be32(bytes + HEADER_MAGIC, QCOW2_MAGIC);
	return 0;
}

/* ---- the tables ---- */

static int write_at(const struct layout *layout, const void *buffer, size_t length, uint64_t cluster)
{
	return lunkit_file_write(layout->params->host, layout->fd, buffer, length, cluster << layout->cluster_bits);
}

/* Pointers to clusters that stand one behind the other. */
static int write_pointers(const struct layout *layout, uint8_t *buffer, uint64_t at, uint64_t count, uint64_t first, uint64_t flags)
{
	uint64_t entries = layout->cluster_size / 8;
	int r = 0;
	for (uint64_t done = 0; done < count && r == 0; done += entries, at++) {
		memset(buffer, 0, layout->cluster_size);
		for (uint64_t i = 0; i < entries && done + i < count; i++)
			put_be64(buffer + i * 8, ((first + done + i) << layout->cluster_bits) | flags);
		r = write_at(layout, buffer, layout->cluster_size, at);
	}
	return r;
}

static int write_refblocks(const struct layout *layout, uint8_t *buffer)
{
	const struct qcow2 width = { .refcount_order = layout->refcount_order };
	uint64_t counts = layout->cluster_size * 8 >> layout->refcount_order;
	int r = 0;
	for (uint64_t block = 0; block < layout->refblocks && r == 0; block++) {
		memset(buffer, 0, layout->cluster_size);
		for (uint64_t i = 0; i < counts && block * counts + i < layout->total; i++)
			refcount_write(&width, buffer, i, 1);
		r = write_at(layout, buffer, layout->cluster_size, 1 + layout->reftable_clusters + block);
	}
	return r;
}

static int write_tables(const struct layout *layout, uint8_t *buffer)
{
	uint64_t refblocks = 1 + layout->reftable_clusters, l1 = refblocks + layout->refblocks, crypt = l1 + layout->l1_clusters,
		 l2 = crypt + layout->crypt_clusters;
	int r = lunkit_file_truncate(layout->params->host, layout->fd, layout->total << layout->cluster_bits);
	if (r == 0)
		r = write_pointers(layout, buffer, 1, layout->refblocks, refblocks, 0);
	if (r == 0)
		r = write_refblocks(layout, buffer);
	if (r == 0 && layout->crypt)
		r = write_at(layout, layout->crypt_header, layout->crypt_length, crypt);
	if (r == 0)
		r = write_pointers(layout, buffer, l1, layout->l2_tables, l2, ENTRY_COPIED);
	if (r == 0)
		r = write_pointers(layout, buffer, l2, layout->data_clusters, l2 + layout->l2_tables, ENTRY_COPIED);
	return r;
}

static int write_data(const struct layout *layout)
{
	uint64_t at = (layout->total - layout->data_clusters) << layout->cluster_bits, end = layout->total << layout->cluster_bits;
	if (strcmp(layout->preallocation, "falloc") == 0)
		return lunkit_file_allocate(layout->params->host, layout->fd, 0, at, end - at);
	if (strcmp(layout->preallocation, "full") != 0)
		return 0;
	void *zeros = calloc(1, WRITE_CHUNK);
	int r = zeros ? 0 : -ENOMEM;
	for (; at < end && r == 0; at += WRITE_CHUNK)
		r = lunkit_file_write(layout->params->host, layout->fd, zeros, (size_t)MIN(end - at, WRITE_CHUNK), at);
	free(zeros);
	return r;
}

static int write_image(const struct layout *layout, struct lunkit_error *err)
{
	uint8_t *buffer = calloc(1, layout->cluster_size);
	if (!buffer)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", layout->params->name);
	int r = write_tables(layout, buffer);
	if (r == 0)
		r = write_data(layout);
	if (r == 0)
		r = lunkit_file_sync(layout->params->host, layout->fd);
	memset(buffer, 0, layout->cluster_size);
	if (r == 0) {
		r = make_header(layout, buffer, err);
		if (r < 0) {
			free(buffer);
			return r;
		}
		r = write_at(layout, buffer, layout->cluster_size, 0);
	}
	if (r == 0)
		r = lunkit_file_sync(layout->params->host, layout->fd);
	free(buffer);
	if (r == 0)
		return 0;
	lunkit_error_set(err, r, "cannot create %.300s: %s", layout->params->name, strerror(-r));
	return r == -ENOSPC || r == -EDQUOT ? lunkit_error_hint(err, "Free some space, or use less preallocation.") : r;
}

/* That it is there and is what it is said to be shows now, not when the image is used. */
static int try_backing(const struct layout *layout, struct lunkit_error *err)
{
	struct lunkit_child *child;
	const char *kind = backing_kind(layout->backing_format, layout->params->name, layout->backing, err);
	if (!kind)
		return -EINVAL;
	char *path = backing_path(layout->params->name, layout->backing);
	if (!path)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", layout->params->name);
	int r = lunkit_child_open(layout->params, kind, path, NULL, LUNKIT_CHILD_READ_ONLY, &child, err);
	free(path);
	if (r == 0)
		lunkit_child_close(child);
	return r;
}

/* Deriving a key takes a second: what else is wrong is known before. */
static int make_encryption(struct layout *layout, struct lunkit_error *err)
{
	const struct lunkit_params *params = layout->params;
	size_t key_length = 0;
	struct lunkit_crypt_facts facts;
	if (!lunkit_params_option(params, "encrypt"))
		return 0;
	const uint8_t *key = lunkit_params_key(params, &key_length);
	layout->crypt = lunkit_crypt_find();
	if (!key) {
		lunkit_error_set(err, ENOKEY, "%.300s: an encrypted image needs a key, and none was given", params->name);
		return lunkit_error_hint(err, "--key-file FILE with create, --new-key-file FILE with import, export and clone.");
	}
	if (!layout->crypt) {
		lunkit_error_set(err, ENOENT, "%.300s: the handler for encryption is missing", params->name);
		return lunkit_error_hint(err, "Is lunkit installed completely?");
	}
	if (strcmp(layout->preallocation, "off") != 0) {
		lunkit_error_set(err, EINVAL,
				 "%.300s: an encrypted image cannot be preallocated: what was never written would not read as zeros",
				 params->name);
		return lunkit_error_hint(err, "Leave preallocation away.");
	}
	/* What QEMU reads: version 1, with the cipher that it makes itself. */
	const struct lunkit_crypt_format format = { .version = 1, .sector_size = 512, .key_bits = 512, .cipher = "aes-xts-plain64" };
	return layout->crypt->format(&format, key, key_length, params->name, &layout->crypt_header, &layout->crypt_length, &facts, err);
}

static int create(struct layout *layout, struct lunkit_error *err)
{
	const struct lunkit_params *params = layout->params;
	int r = check_options(layout, err);
	if (r == 0)
		r = make_encryption(layout, err);
	if (r == 0)
		r = compute(layout, err);
	if (r == 0 && layout->backing)
		r = try_backing(layout, err);
	if (r == 0)
		r = lunkit_file_open(params->host, params->name, LUNKIT_FILE_CREATE | LUNKIT_FILE_WRITE, &layout->fd, NULL, err);
	if (r < 0)
		return r;
	r = write_image(layout, err);
	/* Removed while it is still locked, so that nobody starts to use it. */
	if (r < 0)
		lunkit_file_remove(params->host, params->name, NULL);
	lunkit_file_close(params->host, layout->fd);
	return r;
}

int qcow2_create(const struct lunkit_params *params, struct lunkit_error *err)
{
	struct layout layout = { .params = params };
	int r = create(&layout, err);
	free(layout.crypt_header);
	return r;
}
