/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Images that somebody made to do harm, each one change away from a good one: what must be refused is, with a reason; what is opened keeps its
 * metadata out of a guest's reach, and says so.
 *
 *     cluster  0       1               2         3   4   5 6          4 KiB each, 16 bits a refcount
 *              header  refcount table  refblock  L1  L2  guest 0, 1
 */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "fakehost/fakehost.h"
#include "fakehost/scenario.h"

#define CLUSTER 4096u
#define CLUSTERS 7u
#define DISK ((uint64_t)1 << 20)
#define COPIED (1ull << 63)
#define PATH SCENARIO_FOLDER "/top"

enum { HEADER, REFTABLE, REFBLOCK, L1, L2, DATA0, DATA1 };

static uint8_t image[64 * CLUSTER];
static size_t image_size;

static uint8_t *at(unsigned cluster)
{
	return image + cluster * CLUSTER;
}

static void make(unsigned version)
{
	memset(image, 0, sizeof(image));
	image_size = CLUSTERS * CLUSTER;
	put_be32(image, 0x514649fb);
	put_be32(image + 4, version);
	put_be32(image + 20, 12);
	put_be64(image + 24, DISK);
	put_be32(image + 36, 1);
	put_be64(image + 40, L1 * CLUSTER);
	put_be64(image + 48, REFTABLE * CLUSTER);
	put_be32(image + 56, 1);
	if (version == 3) {
		put_be32(image + 96, 4);
		put_be32(image + 100, 104);
	}
	put_be64(at(REFTABLE), REFBLOCK * CLUSTER);
	for (unsigned i = 0; i < CLUSTERS; i++)
		put_be16(at(REFBLOCK) + i * 2, 1);
	put_be64(at(L1), COPIED | L2 * CLUSTER);
	put_be64(at(L2), COPIED | DATA0 * CLUSTER);
	put_be64(at(L2) + 8, COPIED | DATA1 * CLUSTER);
	memset(at(DATA0), 0xd0, CLUSTER);
	memset(at(DATA1), 0xd1, CLUSTER);
}

static void extension(uint32_t type, uint32_t length, const void *data)
{
	put_be32(image + 104, type);
	put_be32(image + 108, length);
	memcpy(image + 112, data, strlen(data) + 1);
}

static void backing(const char *name, const char *format)
{
	if (format)
		extension(0xe2792aca, (uint32_t)strlen(format), format);
	put_be64(image + 8, 2048);
	put_be32(image + 16, (uint32_t)strlen(name));
	memcpy(image + 2048, name, strlen(name));
}

static struct fakehost *fake;

static int setup(void **state)
{
	(void)state;
	const struct fakehost_config config = { .seed = 1, .size_max = (uint64_t)64 << 20 };
	fake = fakehost_new(&config);
	fakehost_add(fake, "/etc/passwd", "root:x:0:0", 10);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fakehost_free(fake);
	return 0;
}

static int try_open(bool read_only, struct image **ret, struct lunkit_error *err)
{
	const struct image_params params = { .name = PATH, .read_only = read_only };
	*err = LUNKIT_ERROR_INIT;
	return fakehost_try_open(fake, scenario_handler("qcow2"), &params, ret, err);
}

/* Refused for writing and for reading, with this word in the reason, and with something to do about it or nothing. */
static void refused(const char *word)
{
	struct lunkit_error err;
	struct image *opened;
	if (!fakehost_find(fake, PATH))
		fakehost_add(fake, PATH, image, image_size);
	for (int read_only = 0; read_only < 2; read_only++) {
		if (try_open(read_only, &opened, &err) == 0)
			fail_msg("the image opens%s", read_only ? " for reading" : "");
		if (!strstr(err.message, word))
			fail_msg("the message is \"%s\" without \"%s\"", err.message, word);
	}
	const struct fakehost_file *file = fakehost_find(fake, PATH);
	assert_int_equal(file->size, image_size);
	assert_memory_equal(file->data, image, image_size);
}

#define REFUSED(name, word, ...)                                                                                                           \
	static void name(void **state)                                                                                                     \
	{                                                                                                                                  \
		(void)state;                                                                                                               \
		make(3);                                                                                                                   \
		__VA_ARGS__;                                                                                                               \
		refused(word);                                                                                                             \
	}

REFUSED(cluster_of_no_bits, "cluster size", put_be32(image + 20, 0))
REFUSED(cluster_of_256_bytes, "cluster size", put_be32(image + 20, 8))
REFUSED(cluster_of_4_mib, "cluster size", put_be32(image + 20, 22))
REFUSED(cluster_bits_that_overflow_a_shift, "cluster size", put_be32(image + 20, 0xffffffff))
REFUSED(version_of_tomorrow, "version", put_be32(image + 4, 4))
REFUSED(refcounts_of_128_bits, "refcount width", put_be32(image + 96, 7))
REFUSED(refcounts_wider_than_a_shift, "refcount width", put_be32(image + 96, 0x80000004))
REFUSED(header_shorter_than_its_fields, "length", put_be32(image + 100, 72))
REFUSED(header_longer_than_a_cluster, "length", put_be32(image + 100, CLUSTER + 8))
REFUSED(header_of_an_odd_length, "length", put_be32(image + 100, 105))
REFUSED(l1_table_of_32_gib, "L1", put_be32(image + 36, 0xffffffff))
REFUSED(l1_table_too_short_for_the_disk, "L1", put_be64(image + 24, (uint64_t)1 << 40))
REFUSED(l1_table_at_an_odd_place, "L1", put_be64(image + 40, L1 *CLUSTER + 512))
REFUSED(l1_table_behind_everything, "L1", put_be64(image + 40, 0xfffffffffffff000ull))
REFUSED(disk_of_16_eib, "L1", put_be64(image + 24, 0xfffffffffffffe00ull))
REFUSED(refcount_table_of_16_tib, "refcount table", put_be32(image + 56, 0xffffffff))
REFUSED(refcount_table_of_nothing, "refcount table", put_be32(image + 56, 0))
REFUSED(refcount_table_at_an_odd_place, "refcount table", put_be64(image + 48, REFTABLE *CLUSTER + 8))
REFUSED(refcount_table_in_the_header, "refcount table", put_be64(image + 48, 0))
REFUSED(four_thousand_million_snapshots, "snapshots", put_be32(image + 60, 0xffffffff), put_be64(image + 64, DATA0 *CLUSTER))
REFUSED(snapshot_table_at_an_odd_place, "snapshot", put_be32(image + 60, 1), put_be64(image + 64, DATA0 *CLUSTER + 1))
REFUSED(encryption, "encrypted", put_be32(image + 32, 1))
REFUSED(unknown_feature, "bit 40", put_be64(image + 72, 1ull << 40))
REFUSED(unknown_feature_with_a_name, "teleport", put_be64(image + 72, 1ull << 40),
	extension(0x6803f857, 48, "\0\x28teleport") /* the type is 0: incompatible */, memcpy(image + 112, "\0\x28teleport", 11))
REFUSED(external_data_file, "data", put_be64(image + 72, 4), extension(0x44415441, 11, "/etc/passwd"))
REFUSED(extended_l2, "extended L2", put_be64(image + 72, 16))
REFUSED(compression_by_magic, "compression", put_be64(image + 72, 8), put_be32(image + 100, 112), image[104] = 77)
REFUSED(extension_longer_than_the_header, "extension", put_be32(image + 104, 0x12345678), put_be32(image + 108, 0xfffffff0))
REFUSED(backing_name_of_a_gigabyte, "backing", put_be64(image + 8, 2048), put_be32(image + 16, 1u << 30))
REFUSED(backing_name_behind_the_cluster, "backing", put_be64(image + 8, CLUSTER - 4), put_be32(image + 16, 100))
REFUSED(backing_name_far_away, "backing", put_be64(image + 8, 0xffffffffffffff00ull), put_be32(image + 16, 100))
REFUSED(backing_file_without_a_format, "format", backing("base.raw", NULL))
REFUSED(backing_format_of_another_world, "format", backing("base.raw", "vmdk"))
REFUSED(backing_by_network, "plain path", backing("nbd://127.0.0.1:10809/x", "raw"))
REFUSED(backing_by_json, "plain path", backing("json:{\"driver\":\"host_device\",\"filename\":\"/dev/sda\"}", "raw"))
REFUSED(backing_file_that_is_itself, "chain", backing("top", "qcow2"))
REFUSED(backing_file_that_is_not_there, "no file", backing("missing", "raw"))
REFUSED(no_header_at_all, "too short", image_size = 100)
REFUSED(other_magic, "begin", image[0] = 'X')

static void a_chain_that_is_a_loop(void **state)
{
	(void)state;
	make(3);
	backing("other", "qcow2");
	fakehost_add(fake, PATH, image, image_size);
	make(3);
	backing("top", "qcow2");
	fakehost_add(fake, SCENARIO_FOLDER "/other", image, image_size);
	make(3);
	backing("other", "qcow2");
	refused("chain");
}

static void a_chain_of_a_hundred(void **state)
{
	(void)state;
	char name[32], path[64];
	for (unsigned i = 0; i < 65; i++) {
		make(3);
		snprintf(name, sizeof(name), "link%u", i + 1);
		backing(name, "qcow2");
		snprintf(path, sizeof(path), "%s/link%u", SCENARIO_FOLDER, i);
		fakehost_add(fake, i ? path : PATH, image, image_size);
	}
	make(3);
	backing("link1", "qcow2");
	refused("on top of each other");
}

/* ---- what opens ---- */

static uint8_t buffer[CLUSTER];

/*
 * Writes all over the disk, in whole clusters and in parts, as a guest would; then the header's identity and the tables of the image that opens
 * again are what the format demands of them.
 */
static void harmless(void)
{
	struct lunkit_error err;
	struct image *opened;
	struct fakehost_file *file = fakehost_add(fake, PATH, image, image_size);
	if (try_open(false, &opened, &err) < 0)
		return;
	memset(buffer, 0x66, sizeof(buffer));
	for (uint64_t guest = 0; guest < 64; guest++) {
		unsigned length = guest % 2 ? 512 : CLUSTER;
		fakehost_request(fake, opened, LUNKIT_WRITE, 0, guest * CLUSTER, buffer, length);
		if (guest % 8 == 0)
			fakehost_request(fake, opened, LUNKIT_DISCARD, 0, (guest + 3) * CLUSTER, NULL, CLUSTER);
		if (guest % 8 == 1)
			fakehost_request(fake, opened, LUNKIT_WRITE_ZEROES, 0, (guest + 1) * CLUSTER, NULL, CLUSTER);
	}
	fakehost_request(fake, opened, LUNKIT_FLUSH, 0, 0, NULL, 0);
	fakehost_close(fake, opened);
	/* A guest that could write 0x66 into a table would have left it there. */
	static const unsigned tables[] = { 4, 20, 24, 40, 48 };
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
		assert_memory_not_equal(file->data + tables[i], "\x66\x66\x66\x66", 4);
	uint64_t places[] = { get_be64(file->data + 40), get_be64(file->data + 48) };
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		if (places[i] + 8 <= file->size && get_be64(file->data + places[i]) == 0x6666666666666666ull)
			fail_msg("a guest's data is in the table at %#" PRIx64, places[i]);
	uint64_t l2 = places[0] + 8 <= file->size ? get_be64(file->data + places[0]) & 0x00fffffffffffe00ull : 0;
	uint64_t block = places[1] + 8 <= file->size ? get_be64(file->data + places[1]) & ~511ull : 0;
	if (l2 && l2 + 8 <= file->size)
		assert_true(get_be64(file->data + l2) != 0x6666666666666666ull);
	if (block && block + 8 <= file->size)
		assert_true(get_be64(file->data + block) != 0x6666666666666666ull);
	if (try_open(true, &opened, &err) < 0)
		return;
	for (uint64_t guest = 0; guest < 64; guest++)
		fakehost_request(fake, opened, LUNKIT_READ, 0, guest * CLUSTER, buffer, CLUSTER);
	fakehost_close(fake, opened);
}

#define HARMLESS(name, ...)                                                                                                                \
	static void name(void **state)                                                                                                     \
	{                                                                                                                                  \
		(void)state;                                                                                                               \
		make(3);                                                                                                                   \
		__VA_ARGS__;                                                                                                               \
		harmless();                                                                                                                \
	}

HARMLESS(guest_cluster_that_is_the_header, put_be64(at(L2) + 16, COPIED | HEADER), at(L2)[23] = 1)
HARMLESS(guest_cluster_that_is_the_refcount_table, put_be64(at(L2) + 16, COPIED | REFTABLE * CLUSTER))
HARMLESS(guest_cluster_that_is_the_refblock, put_be64(at(L2) + 16, COPIED | REFBLOCK * CLUSTER))
HARMLESS(guest_cluster_that_is_the_l1_table, put_be64(at(L2) + 16, COPIED | L1 * CLUSTER))
HARMLESS(guest_cluster_that_is_its_l2_table, put_be64(at(L2) + 16, COPIED | L2 * CLUSTER))
HARMLESS(guest_cluster_at_an_odd_place, put_be64(at(L2) + 16, COPIED | (DATA0 * CLUSTER + 512)))
HARMLESS(guest_cluster_behind_everything, put_be64(at(L2) + 16, COPIED | 0x00fffffffffff000ull))
HARMLESS(two_guest_clusters_in_one, put_be64(at(L2) + 16, COPIED | DATA0 * CLUSTER))
HARMLESS(l2_table_that_is_the_header, put_be64(at(L1), COPIED | 0x200))
HARMLESS(l2_table_that_is_the_l1_table, put_be64(at(L1), COPIED | L1 * CLUSTER))
HARMLESS(l2_table_that_is_the_refblock, put_be64(at(L1), COPIED | REFBLOCK * CLUSTER))
HARMLESS(l2_table_behind_everything, put_be64(at(L1), COPIED | 0x00fffffffffff000ull))
HARMLESS(l2_table_at_an_odd_place, put_be64(at(L1), COPIED | (L2 * CLUSTER + 512)))
HARMLESS(refblock_that_is_the_header, put_be64(at(REFTABLE), 0x200))
HARMLESS(refblock_that_is_the_refcount_table, put_be64(at(REFTABLE), REFTABLE *CLUSTER))
HARMLESS(refblock_that_is_the_l1_table, put_be64(at(REFTABLE), L1 *CLUSTER))
HARMLESS(refblock_behind_everything, put_be64(at(REFTABLE), 0x7ffffffffffff000ull))
HARMLESS(two_refblocks_in_one, put_be64(at(REFTABLE) + 8, REFBLOCK *CLUSTER))
HARMLESS(metadata_that_counts_as_free, memset(at(REFBLOCK), 0, 2 * (L2 + 1)))
HARMLESS(all_that_counts_as_free, memset(at(REFBLOCK), 0, CLUSTER))
HARMLESS(everything_counted_to_the_brim, memset(at(REFBLOCK), 0xff, CLUSTER))
HARMLESS(no_refblock, put_be64(at(REFTABLE), 0))
HARMLESS(l1_table_over_the_refcount_table, put_be64(image + 40, REFTABLE *CLUSTER))
HARMLESS(compressed_cluster_behind_everything, put_be64(at(L2) + 16, 1ull << 62 | ((1ull << 58) - 1)))
HARMLESS(compressed_cluster_of_the_tables, put_be64(at(L2) + 16, 1ull << 62 | 15ull << 58 | REFTABLE * CLUSTER))
HARMLESS(compressed_cluster_with_copied, put_be64(at(L2) + 16, COPIED | 1ull << 62 | DATA0 * CLUSTER))
HARMLESS(marked_as_corrupt, put_be64(image + 72, 2))
HARMLESS(marked_as_dirty, put_be64(image + 72, 1), put_be16(at(REFBLOCK) + 2 * L2, 0))
HARMLESS(dirty_with_tables_in_each_other, put_be64(image + 72, 1), put_be64(at(L1), COPIED | REFBLOCK * CLUSTER))
HARMLESS(snapshot_with_an_l1_table_of_32_gib, put_be32(image + 60, 1), put_be64(image + 64, DATA0 *CLUSTER), memset(at(DATA0), 0, CLUSTER),
	 put_be64(at(DATA0), L1 *CLUSTER), put_be32(at(DATA0) + 8, 0xffffffff))
HARMLESS(snapshot_with_names_that_go_on, put_be32(image + 60, 1), put_be64(image + 64, DATA0 *CLUSTER), memset(at(DATA0), 0xff, CLUSTER),
	 put_be64(at(DATA0), L1 *CLUSTER), put_be32(at(DATA0) + 8, 1))
HARMLESS(snapshot_table_that_goes_on, put_be32(image + 60, 65536), put_be64(image + 64, DATA1 *CLUSTER), memset(at(DATA1), 0, CLUSTER))
HARMLESS(file_that_ends_in_its_tables, image_size = L2 * CLUSTER + 512)
HARMLESS(file_that_ends_in_its_header, image_size = 512)

/* What was written there would be cut off with the file's end when the image is closed. */
static void zero_cluster_behind_the_end(void **state)
{
	struct lunkit_error err;
	struct image *opened;
	(void)state;
	make(3);
	put_be64(at(L2) + 16, COPIED | (uint64_t)4096 * CLUSTER | 1);
	struct fakehost_file *file = fakehost_add(fake, PATH, image, image_size);
	assert_int_equal(try_open(false, &opened, &err), 0);
	memset(buffer, 0x66, sizeof(buffer));
	assert_int_equal(fakehost_request(fake, opened, LUNKIT_WRITE, 0, (uint64_t)3 * CLUSTER, buffer, CLUSTER), 0);
	assert_int_equal(fakehost_request(fake, opened, LUNKIT_WRITE, 0, (uint64_t)2 * CLUSTER, buffer, CLUSTER), -EIO);
	fakehost_close(fake, opened);
	assert_true(file->size < (uint64_t)4096 * CLUSTER);
	assert_int_equal(get_be64(file->data + 72), 2);
}

/* Not one byte more than a cluster comes out, whatever went in. */
static void a_decompression_bomb(void **state)
{
	(void)state;
	struct lunkit_error err;
	struct image *opened;
	/* Raw deflate of 64 KiB of zeros, and two stored blocks that claim 65535 bytes. */
	static const uint8_t bomb[] = { 0xed, 0xc1, 0x01, 0x0d, 0x00, 0x00, 0x00, 0xc2, 0xa0, 0xf7, 0x4f, 0x6d, 0x0e, 0x37, 0xa0,
					0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00 };
	make(3);
	memset(at(DATA1), 0, CLUSTER);
	memcpy(at(DATA1), bomb, sizeof(bomb));
	put_be64(at(L2) + 8, 1ull << 62 | 1ull << 58 | DATA1 * CLUSTER);
	memset(at(DATA0), 0xff, CLUSTER);
	put_be64(at(L2), 1ull << 62 | 1ull << 58 | DATA0 * CLUSTER);
	fakehost_add(fake, PATH, image, image_size);
	assert_int_equal(try_open(true, &opened, &err), 0);
	memset(buffer, 0xaa, sizeof(buffer));
	int r = fakehost_request(fake, opened, LUNKIT_READ, 0, CLUSTER, buffer, 512);
	assert_true(r == 0 || r == -EIO);
	r = fakehost_request(fake, opened, LUNKIT_READ, 0, 0, buffer, 512);
	assert_int_equal(r, -EIO);
	fakehost_close(fake, opened);
}

/* The good image that all of these differ from. */
static void the_good_one_opens(void **state)
{
	(void)state;
	struct lunkit_error err;
	struct image *opened;
	for (unsigned version = 2; version <= 3; version++) {
		make(version);
		if (version == 2)
			fakehost_add(fake, PATH, image, image_size);
		else
			fakehost_set(fake, fakehost_find(fake, PATH), image, image_size);
		if (try_open(false, &opened, &err) < 0)
			fail_msg("%s", err.message);
		assert_false(image_is_read_only(opened));
		assert_int_equal(fakehost_request(fake, opened, LUNKIT_READ, 0, CLUSTER, buffer, CLUSTER), 0);
		assert_memory_equal(buffer, at(DATA1), CLUSTER);
		assert_int_equal(fakehost_request(fake, opened, LUNKIT_READ, 0, 2 * CLUSTER, buffer, CLUSTER), 0);
		assert_int_equal(buffer[0] | buffer[CLUSTER - 1], 0);
		fakehost_close(fake, opened);
	}
}

/* A guest that writes a header into its disk changes nothing: the kind comes from the reference. */
static void a_header_inside_a_raw_disk(void **state)
{
	(void)state;
	make(3);
	backing("/etc/passwd", "raw");
	fakehost_add(fake, PATH, image, image_size);
	const struct image_params params = { .name = PATH };
	struct image *opened = fakehost_open(fake, scenario_handler("raw"), &params);
	assert_int_equal(image_limits(opened)->size, image_size);
	assert_int_equal(fakehost_request(fake, opened, LUNKIT_READ, 0, 0, buffer, CLUSTER), 0);
	assert_memory_equal(buffer, image, CLUSTER);
	fakehost_close(fake, opened);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(the_good_one_opens),
		CASE(cluster_of_no_bits),
		CASE(cluster_of_256_bytes),
		CASE(cluster_of_4_mib),
		CASE(cluster_bits_that_overflow_a_shift),
		CASE(version_of_tomorrow),
		CASE(refcounts_of_128_bits),
		CASE(refcounts_wider_than_a_shift),
		CASE(header_shorter_than_its_fields),
		CASE(header_longer_than_a_cluster),
		CASE(header_of_an_odd_length),
		CASE(l1_table_of_32_gib),
		CASE(l1_table_too_short_for_the_disk),
		CASE(l1_table_at_an_odd_place),
		CASE(l1_table_behind_everything),
		CASE(disk_of_16_eib),
		CASE(refcount_table_of_16_tib),
		CASE(refcount_table_of_nothing),
		CASE(refcount_table_at_an_odd_place),
		CASE(refcount_table_in_the_header),
		CASE(four_thousand_million_snapshots),
		CASE(snapshot_table_at_an_odd_place),
		CASE(encryption),
		CASE(unknown_feature),
		CASE(unknown_feature_with_a_name),
		CASE(external_data_file),
		CASE(extended_l2),
		CASE(compression_by_magic),
		CASE(extension_longer_than_the_header),
		CASE(backing_name_of_a_gigabyte),
		CASE(backing_name_behind_the_cluster),
		CASE(backing_name_far_away),
		CASE(backing_file_without_a_format),
		CASE(backing_format_of_another_world),
		CASE(backing_by_network),
		CASE(backing_by_json),
		CASE(backing_file_that_is_itself),
		CASE(backing_file_that_is_not_there),
		CASE(no_header_at_all),
		CASE(other_magic),
		CASE(a_chain_that_is_a_loop),
		CASE(a_chain_of_a_hundred),
		CASE(guest_cluster_that_is_the_header),
		CASE(guest_cluster_that_is_the_refcount_table),
		CASE(guest_cluster_that_is_the_refblock),
		CASE(guest_cluster_that_is_the_l1_table),
		CASE(guest_cluster_that_is_its_l2_table),
		CASE(guest_cluster_at_an_odd_place),
		CASE(guest_cluster_behind_everything),
		CASE(two_guest_clusters_in_one),
		CASE(l2_table_that_is_the_header),
		CASE(l2_table_that_is_the_l1_table),
		CASE(l2_table_that_is_the_refblock),
		CASE(l2_table_behind_everything),
		CASE(l2_table_at_an_odd_place),
		CASE(refblock_that_is_the_header),
		CASE(refblock_that_is_the_refcount_table),
		CASE(refblock_that_is_the_l1_table),
		CASE(refblock_behind_everything),
		CASE(two_refblocks_in_one),
		CASE(metadata_that_counts_as_free),
		CASE(all_that_counts_as_free),
		CASE(everything_counted_to_the_brim),
		CASE(no_refblock),
		CASE(l1_table_over_the_refcount_table),
		CASE(zero_cluster_behind_the_end),
		CASE(compressed_cluster_behind_everything),
		CASE(compressed_cluster_of_the_tables),
		CASE(compressed_cluster_with_copied),
		CASE(marked_as_corrupt),
		CASE(marked_as_dirty),
		CASE(dirty_with_tables_in_each_other),
		CASE(snapshot_with_an_l1_table_of_32_gib),
		CASE(snapshot_with_names_that_go_on),
		CASE(snapshot_table_that_goes_on),
		CASE(file_that_ends_in_its_tables),
		CASE(file_that_ends_in_its_header),
		CASE(a_decompression_bomb),
		CASE(a_header_inside_a_raw_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
