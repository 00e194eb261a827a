/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * qcow2, as far as its header goes (offsets, big-endian; docs/interop/qcow2 of QEMU):
 *
 *     0 "QFI\xfb"   4 version   8 backing name at  16 its length   20 cluster bits   24 virtual size   32 encryption   36 L1 entries   40 L1 at
 *     48 refcount table at   56 its clusters   60 snapshots   64 snapshot table at   72 incompatible bits   96 refcount order   100 header length
 *     extensions behind the header, up to the backing name or the first cluster's end: type, length, data padded to 8 bytes
 *
 * A raw image is its own content; only what it pretends to be is told. Other kinds are opaque here. Left out on purpose: tables and refcounts, which `lunkit check` looks at.
 */
#include "image/safety.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/byteorder.h"
#include "base/checked.h"

#define HEAD_SIZE (64u << 10)
#define HEADER_V2 72u
#define HEADER_V3 104u
#define CLUSTER_BITS_MIN 9u
#define CLUSTER_BITS_MAX 21u
#define NAME_MAX_BYTES 1023u
#define TABLE_MAX (UINT64_C(32) << 20) /* bytes of an L1 table; QEMU's limit too */
#define REFTABLE_MAX (UINT64_C(8) << 20)
#define SNAPSHOTS_MAX 65536u
#define RATIO_MAX 1000u			  /* virtual size by file size */
#define RATIO_SIZE (UINT64_C(1) << 40)	  /* below this no ratio matters */
#define KNOWN_INCOMPATIBLE UINT64_C(0x1f) /* dirty, corrupt, data file, compression type, extended L2 */
#define INCOMPATIBLE_DATA_FILE UINT64_C(4)
#define INCOMPATIBLE_CORRUPT UINT64_C(2)
#define EXTENSION_END 0u
#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_DATA_FILE 0x44415441u

enum verdict { OK, NOTE, UNSAFE };

struct inspection {
	struct json_object *properties;
	bool safe;
	const uint8_t *head; /* HEAD_SIZE bytes, zeros behind the file's end */
	uint64_t file_size;
};

__attribute__((format(printf, 5, 6))) static void say(struct inspection *inspection, const char *property, enum verdict verdict,
						      const char *value, const char *format, ...)
{
	static const char *const words[] = { [OK] = "ok", [NOTE] = "note", [UNSAFE] = "unsafe" };
	char message[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(message, sizeof(message), format, args);
	va_end(args);
	struct json_object *entry = json_object_new_object();
	json_object_object_add(entry, "property", json_object_new_string(property));
	json_object_object_add(entry, "verdict", json_object_new_string(words[verdict]));
	if (value)
		json_object_object_add(entry, "value", json_object_new_string(value));
	json_object_object_add(entry, "message", json_object_new_string(message));
	json_object_array_add(inspection->properties, entry);
	if (verdict == UNSAFE)
		inspection->safe = false;
}

static void look_at_size(struct inspection *inspection, uint64_t size)
{
	char value[32];
	snprintf(value, sizeof(value), "%" PRIu64, size);
	if (size > INT64_MAX)
		say(inspection, "virtual-size", UNSAFE, value, "no disk has that many bytes");
	else if (size > RATIO_SIZE && size / RATIO_MAX > inspection->file_size)
		say(inspection, "virtual-size", UNSAFE, value,
		    "more than %u times the file's %" PRIu64 " bytes: filled, it takes far more than it shows", RATIO_MAX,
		    inspection->file_size);
	else
		say(inspection, "virtual-size", OK, value, "bears a sane relation to the file's %" PRIu64 " bytes", inspection->file_size);
}

/* A table lies within the file, on a cluster, and is not larger than it may be. */
static void look_at_table(struct inspection *inspection, const char *property, uint64_t offset, uint64_t bytes, uint64_t max,
			  uint64_t cluster)
{
	char value[64];
	snprintf(value, sizeof(value), "%" PRIu64 " bytes at %" PRIu64, bytes, offset);
	if (bytes > max)
		say(inspection, property, UNSAFE, value, "larger than the %" PRIu64 " bytes that such a table may have", max);
	else if (bytes && (offset % cluster || !range_within(offset, bytes, align_up(inspection->file_size, cluster))))
		say(inspection, property, UNSAFE, value, "not within the file, or not on a cluster");
	else
		say(inspection, property, OK, value, "within the file");
}

struct extensions {
	bool damaged, has_format, has_data_file;
	char format[32], data_file[NAME_MAX_BYTES + 1];
};

static void copy_text(char *to, size_t size, const uint8_t *from, size_t length)
{
	length = MIN(length, size - 1);
	memcpy(to, from, length);
	to[length] = '\0';
}

static void read_extensions(const uint8_t *head, size_t at, size_t end, struct extensions *ret)
{
	while (at + 8 <= end) {
		uint32_t type = get_be32(head + at), length = get_be32(head + at + 4);
		at += 8;
		if (type == EXTENSION_END)
			return;
		if (length > end - at) {
			ret->damaged = true;
			return;
		}
		if (type == EXTENSION_BACKING_FORMAT) {
			ret->has_format = true;
			copy_text(ret->format, sizeof(ret->format), head + at, length);
		} else if (type == EXTENSION_DATA_FILE) {
			ret->has_data_file = true;
			copy_text(ret->data_file, sizeof(ret->data_file), head + at, length);
		}
		at += (size_t)align_up(length, 8);
	}
}

static void look_at_backing(struct inspection *inspection, const struct extensions *extensions)
{
	const uint8_t *head = inspection->head;
	uint64_t offset = get_be64(head + 8);
	uint32_t length = get_be32(head + 16);
	char name[NAME_MAX_BYTES + 1] = "";
	if (offset == 0) {
		say(inspection, "backing-file", OK, NULL, "none");
		return;
	}
	if (length > NAME_MAX_BYTES || !range_within(offset, length, HEAD_SIZE)) {
		say(inspection, "backing-file", UNSAFE, NULL, "its name lies outside of the header, or is too long");
		return;
	}
	copy_text(name, sizeof(name), head + offset, length);
	say(inspection, "backing-file", UNSAFE, name, "what the image holds comes from another file of this host%s",
	    extensions->has_format ? "" : ", whose format is not said");
}

static void look_at_features(struct inspection *inspection, uint32_t version, const struct extensions *extensions)
{
	const uint8_t *head = inspection->head;
	uint64_t bits = version >= 3 ? get_be64(head + 72) : 0;
	char value[32];
	snprintf(value, sizeof(value), "%#" PRIx64, bits);
	if (bits & ~KNOWN_INCOMPATIBLE)
		say(inspection, "features", UNSAFE, value, "it needs features that lunkit does not know");
	else if (bits & INCOMPATIBLE_CORRUPT)
		say(inspection, "features", UNSAFE, value, "it is marked as corrupt: lunkit check --repair all");
	else
		say(inspection, "features", OK, value, "all known");
	if (bits & INCOMPATIBLE_DATA_FILE || extensions->has_data_file)
		say(inspection, "data-file", UNSAFE, extensions->data_file, "its data lies in another file of this host");
	else
		say(inspection, "data-file", OK, NULL, "none");
	if (extensions->damaged)
		say(inspection, "extensions", UNSAFE, NULL, "an extension of the header reaches beyond it");
	else
		say(inspection, "extensions", OK, NULL, "within the header");
}

static int inspect_qcow2(struct inspection *inspection, const char *path, struct lunkit_error *err)
{
	const uint8_t *head = inspection->head;
	if (memcmp(head, "QFI\xfb", 4) != 0) {
		lunkit_error_set(err, EINVAL, "%.300s: this is no qcow2 image", path);
		return lunkit_error_hint(err, "Name its kind: raw:PATH.");
	}
	uint32_t version = get_be32(head + 4), bits = get_be32(head + 20);
	if (version != 2 && version != 3)
		return lunkit_error_set(err, ENOTSUP, "%.300s: version %" PRIu32 " of qcow2 is not known", path, version);
	char value[32];
	snprintf(value, sizeof(value), "%" PRIu32, bits);
	if (bits < CLUSTER_BITS_MIN || bits > CLUSTER_BITS_MAX) {
		say(inspection, "cluster-size", UNSAFE, value, "no qcow2 image has clusters of that size");
		return 0;
	}
	uint64_t cluster = UINT64_C(1) << bits, l1_entries = get_be32(head + 36), reftable_clusters = get_be32(head + 56);
	uint32_t header = version == 2 ? HEADER_V2 : get_be32(head + 100);
	if (header < HEADER_V2 || header > cluster || (version == 3 && header < HEADER_V3))
		say(inspection, "header", UNSAFE, NULL, "its length of %" PRIu32 " bytes can't be", header);
	struct extensions extensions = { 0 };
	uint64_t end = get_be64(head + 8) ? MIN(get_be64(head + 8), cluster) : cluster;
	read_extensions(head, MIN(header, HEAD_SIZE), MIN(end, HEAD_SIZE), &extensions);
	look_at_backing(inspection, &extensions);
	look_at_features(inspection, version, &extensions);
	uint32_t encryption = get_be32(head + 32), snapshots = get_be32(head + 60);
	if (encryption)
		say(inspection, "encryption", UNSAFE, NULL, "it is encrypted (method %" PRIu32 "), which lunkit can't read", encryption);
	else
		say(inspection, "encryption", OK, NULL, "none");
	look_at_size(inspection, get_be64(head + 24));
	look_at_table(inspection, "l1-table", get_be64(head + 40), l1_entries * 8, TABLE_MAX, cluster);
	look_at_table(inspection, "refcount-table", get_be64(head + 48), reftable_clusters * cluster, MAX(REFTABLE_MAX, cluster), cluster);
	if (snapshots > SNAPSHOTS_MAX)
		say(inspection, "snapshots", UNSAFE, NULL, "%" PRIu32 " of them can't be", snapshots);
	else
		say(inspection, "snapshots", snapshots ? NOTE : OK, NULL, "%" PRIu32, snapshots);
	return 0;
}

/* What begins like another format may be taken for one by a program that guesses; lunkit never does. */
static void inspect_raw(struct inspection *inspection)
{
	static const struct {
		size_t offset;
		const char *magic, *name;
		size_t length;
	} formats[] = {
		{ 0, "QFI\xfb", "qcow2", 4 },
		{ 0, "KDMV", "vmdk", 4 },
		{ 0, "conectix", "vpc", 8 },
		{ 0, "vhdxfile", "vhdx", 8 },
		{ 0, "WithoutFreeSpace", "parallels", 16 },
		{ 0, "LUKS\xba\xbe", "luks", 6 },
		{ 64, "\x7f\x10\xda\xbe", "vdi", 4 },
	};
	const char *found = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (memcmp(inspection->head + formats[i].offset, formats[i].magic, formats[i].length) == 0)
			found = formats[i].name;
	if (found)
		say(inspection, "content", NOTE, found,
		    "it begins like an image of that format: as a raw one, that is what its disk holds");
	else
		say(inspection, "content", OK, NULL, "it begins like no other format");
	say(inspection, "backing-file", OK, NULL, "raw images have none");
}

int safety_inspect(struct lunkit_host *host, const char *kind, const char *path, char **ret_json, struct lunkit_error *err)
{
	bool qcow2 = strcmp(kind, "qcow2") == 0;
	if (!qcow2 && strcmp(kind, "raw") != 0)
		return lunkit_error_set(err, EOPNOTSUPP, "nothing is known about the safety of images of the kind \"%s\"", kind);
	int fd;
	int r = lunkit_file_open(host, path, LUNKIT_FILE_UNLOCKED, &fd, NULL, err);
	if (r < 0)
		return r;
	struct lunkit_file_geometry geometry = { .struct_size = sizeof(geometry) };
	uint8_t *head = calloc(1, HEAD_SIZE);
	r = head ? lunkit_file_look(host, fd, path, false, &geometry, err) : lunkit_error_set(err, ENOMEM, "not enough memory");
	if (r == 0) {
		r = lunkit_file_read(host, fd, head, HEAD_SIZE, 0);
		if (r < 0)
			lunkit_error_set(err, r, "cannot read '%.300s': %s", path, strerror(-r));
	}
	lunkit_file_close(host, fd);
	struct inspection inspection = { .properties = json_object_new_array(), .safe = true, .head = head, .file_size = geometry.size };
	if (r == 0 && qcow2)
		r = inspect_qcow2(&inspection, path, err);
	else if (r == 0)
		inspect_raw(&inspection);
	struct json_object *object = json_object_new_object();
	json_object_object_add(object, "kind", json_object_new_string(kind));
	json_object_object_add(object, "name", json_object_new_string(path));
	json_object_object_add(object, "safe", json_object_new_boolean(inspection.safe));
	json_object_object_add(object, "properties", inspection.properties);
	char *json = r == 0 ? strdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN)) : NULL;
	json_object_put(object);
	free(head);
	if (r == 0 && !json)
		r = lunkit_error_set(err, ENOMEM, "not enough memory");
	if (r < 0)
		return r;
	*ret_json = json;
	return 0;
}
