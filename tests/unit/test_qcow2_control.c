/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Creating, checking, growing and describing images on a real filesystem, with qemu-img as the judge where there is one. */
#include "base/byteorder.h"
#include "qcow2_fixture.h"

static int create(struct fixture *fixture, const char *name, uint64_t size, const char *options, struct lunkit_error *err)
{
	const struct image_params params = { .name = name, .size = size, .options = options };
	return image_create(&fixture->host, qcow2_handler(), &params, err);
}

static void must_create(struct fixture *fixture, const char *name, uint64_t size, const char *options)
{
	struct lunkit_error err;
	if (create(fixture, name, size, options, &err) < 0)
		fail_msg("%s: %s", options ? options : "", err.message);
}

static struct image *must_open(struct fixture *fixture, const char *options, bool read_only)
{
	struct lunkit_error err;
	struct image *image;
	const struct image_params params = { .name = path, .options = options, .read_only = read_only };
	if (image_open(&fixture->host, qcow2_handler(), &params, &image, &err) < 0)
		fail_msg("%s", err.message);
	return image;
}

static void qemu_finds_nothing(const char *name)
{
	if (have_qemu())
		assert_int_equal(command("qemu-img check -q -f qcow2 %s >/dev/null 2>&1", name), 0);
}

static void put_byte(uint64_t offset, uint8_t byte)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
	close(fd);
}

static uint64_t header_field(unsigned at)
{
	uint8_t bytes[8];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, bytes, 8, at), 8);
	close(fd);
	return get_be64(bytes);
}

static void fill(struct fixture *fixture, struct image *image, uint64_t offset, uint64_t length, int byte)
{
	struct slot slot;
	char *buffer = aligned_alloc(4096, align_up(length, 4096));
	memset(buffer, byte, length);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, 0, offset, buffer, length), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_FLUSH, 0, 0, NULL, 0), 0);
	slot_free(&slot);
	free(buffer);
}

static bool reads_as(struct fixture *fixture, struct image *image, uint64_t offset, uint64_t length, int byte)
{
	struct slot slot;
	char *buffer = aligned_alloc(4096, align_up(length, 4096));
	memset(buffer, ~byte, length);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, offset, buffer, length), 0);
	bool equal = true;
	for (uint64_t i = 0; i < length; i++)
		equal = equal && buffer[i] == (char)byte;
	slot_free(&slot);
	free(buffer);
	return equal;
}

/* ---- create ---- */

static void images_of_every_shape_are_sound(void **state)
{
	static const char *const options[] = {
		NULL,
		"cluster-size=512",
		"cluster-size=2M",
		"compat=0.10",
		"refcount-bits=1",
		"refcount-bits=64",
		"lazy-refcounts=yes",
		"compression-type=zstd",
		"preallocation=metadata",
		"preallocation=metadata;cluster-size=512",
		"preallocation=metadata;cluster-size=512;refcount-bits=64",
		"preallocation=falloc",
		"preallocation=full;cluster-size=4096",
	};
	static const uint64_t sizes[] = { 512, 3 * MIB + 512, 20 * MIB };
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
			must_create(*state, path, sizes[k], options[i]);
			qemu_finds_nothing(path);
			struct image *image = must_open(*state, NULL, false);
			assert_int_equal(image_limits(image)->size, sizes[k]);
			assert_true(reads_as(*state, image, 0, 512, 0));
			fill(*state, image, sizes[k] - 512, 512, 0x5a);
			assert_true(reads_as(*state, image, sizes[k] - 512, 512, 0x5a));
			image_close(image);
			qemu_finds_nothing(path);
			unlink(path);
		}
}

static void what_cannot_be_is_refused_and_leaves_nothing(void **state)
{
	static const char *const options[] = {
		"cluster-size=1000",
		"cluster-size=4M",
		"compat=0.10;refcount-bits=8",
		"backing=nothing-there;backing-format=raw",
		"backing=base",
		"backing-format=raw",
		"backing=nbd:localhost:1;backing-format=raw",
	};
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		struct lunkit_error err;
		assert_true(create(*state, path, MIB, options[i], &err) < 0);
		assert_true(*err.message);
		assert_int_equal(access(path, F_OK), -1);
	}
	struct lunkit_error err;
	assert_int_equal(create(*state, path, MIB + 1, NULL, &err), -EINVAL);
	assert_int_equal(create(*state, path, (uint64_t)1 << 50, "cluster-size=512", &err), -EFBIG);
	must_create(*state, path, MIB, NULL);
	assert_int_equal(create(*state, path, MIB, NULL, &err), -EEXIST);
}

static void an_overlay_shows_its_base(void **state)
{
	must_create(*state, path, MIB, NULL);
	struct image *image = must_open(*state, NULL, false);
	fill(*state, image, 65536, 65536, 0x11);
	image_close(image);
	assert_int_equal(rename(path, other), 0);
	must_create(*state, path, 2 * MIB, "backing=other;backing-format=qcow2");
	qemu_finds_nothing(path);
	image = must_open(*state, NULL, false);
	assert_true(reads_as(*state, image, 65536, 65536, 0x11));
	assert_true(reads_as(*state, image, MIB, MIB, 0));
	fill(*state, image, 65536 + 4096, 4096, 0x22);
	assert_true(reads_as(*state, image, 65536, 4096, 0x11));
	assert_true(reads_as(*state, image, 65536 + 4096, 4096, 0x22));
	assert_true(reads_as(*state, image, 65536 + 8192, 65536 - 8192, 0x11));
	image_close(image);
	qemu_finds_nothing(path);
}

static void an_image_below_itself_is_refused(void **state)
{
	struct lunkit_error err;
	struct image *image;
	if (!have_qemu())
		skip();
	must_create(*state, path, MIB, NULL);
	must_create(*state, other, MIB, "backing=image;backing-format=qcow2");
	assert_int_equal(command("qemu-img rebase -q -u -f qcow2 -F qcow2 -b other %s", path), 0);
	const struct image_params params = { .name = path, .read_only = true };
	struct fixture *fixture = *state;
	assert_int_equal(image_open(&fixture->host, qcow2_handler(), &params, &image, &err), -ELOOP);
	/* Without a format, nothing is guessed; the one who opens can say it. */
	assert_int_equal(command("qemu-img rebase -q -u -f qcow2 -b '' %s", path), 0);
	assert_int_equal(command("qemu-img create -q -u -f qcow2 -b other %s 1M 2>/dev/null", path), 1);
}

/* ---- check ---- */

static void checked(struct image_job *job, int result)
{
	*(int *)(void *)(job + 1) = result;
}

struct check {
	struct image_job job;
	int result;
};

static struct lunkit_check_report check(struct fixture *fixture, struct image *image, unsigned flags)
{
	struct check check = { .job.done = checked, .result = 1 };
	struct lunkit_check_report report;
	image_check(image, &check.job, flags, &report);
	while (check.result == 1)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	if (check.result < 0)
		fail_msg("%s", check.job.err.message);
	return report;
}

/* An image with data in three clusters; *ret_refblock: where the refcount block is. */
static void make_used(struct fixture *fixture, uint64_t *ret_refblock)
{
	must_create(fixture, path, 4 * MIB, NULL);
	struct image *image = must_open(fixture, NULL, false);
	fill(fixture, image, 0, 3 * 65536, 0x33);
	image_close(image);
	*ret_refblock = header_field((unsigned)header_field(48)) & ~511ull;
}

static void a_sound_image_has_no_findings(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	struct image *image = must_open(*state, NULL, false);
	struct lunkit_check_report report = check(*state, image, 0);
	assert_int_equal(report.corruptions + report.leaks, 0);
	assert_int_equal(report.allocated_clusters, 3);
	assert_int_equal(report.total_clusters, 64);
	assert_string_equal(report.first, "");
	image_close(image);
}

static void a_leak_is_found_and_repaired(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	put_byte(refblock + 2 * 30 + 1, 1);
	struct image *image = must_open(*state, NULL, false);
	struct lunkit_check_report report = check(*state, image, 0);
	assert_int_equal(report.leaks, 1);
	assert_int_equal(report.corruptions, 0);
	assert_true(*report.first);
	report = check(*state, image, LUNKIT_CHECK_REPAIR_LEAKS);
	assert_int_equal(report.leaks, 0);
	assert_int_equal(report.leaks_fixed, 1);
	/* And it goes on being used. */
	fill(*state, image, 2 * MIB, MIB, 0x44);
	report = check(*state, image, 0);
	assert_int_equal(report.corruptions + report.leaks, 0);
	image_close(image);
	qemu_finds_nothing(path);
}

/* A cluster that was cut off with the file's end is lost; what is written later must not appear in its place. */
static void what_lies_behind_the_end_is_no_leak(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	uint64_t l2 = header_field((unsigned)header_field(40)) & 0x00fffffffffffe00ull;
	uint64_t last = header_field((unsigned)l2 + 2 * 8) & 0x00fffffffffffe00ull;
	assert_int_equal(truncate(path, (off_t)last), 0);
	struct image *image = must_open(*state, NULL, false);
	struct lunkit_check_report report = check(*state, image, LUNKIT_CHECK_REPAIR_ALL);
	assert_int_equal(report.corruptions, 1);
	assert_int_equal(report.leaks + report.leaks_fixed, 0);
	fill(*state, image, MIB, MIB, 0x44);
	assert_true(reads_as(*state, image, 0, 2 * 65536, 0x33));
	fill(*state, image, 2 * 65536, 65536, 0x55);
	assert_true(reads_as(*state, image, MIB, MIB, 0x44));
	image_close(image);
}

static void bits_that_mean_nothing_are_found(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	uint64_t l1 = header_field(40), l2 = header_field((unsigned)l1) & 0x00fffffffffffe00ull;
	put_byte(l2 + 7, 0x10);	    /* of the first entry */
	put_byte(l2 + 2 * 8, 0x81); /* of the third */
	put_byte(l1, 0xc0);
	struct image *image = must_open(*state, NULL, false);
	struct lunkit_check_report report = check(*state, image, 0);
	assert_int_equal(report.corruptions, 3);
	assert_true(reads_as(*state, image, 0, 3 * 65536, 0x33));
	image_close(image);
}

static void a_refcount_that_is_too_low_is_found_and_repaired(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	put_byte(refblock + 2 * 6 + 1, 0);
	struct image *image = must_open(*state, NULL, false);
	struct lunkit_check_report report = check(*state, image, LUNKIT_CHECK_REPAIR_LEAKS);
	assert_true(report.corruptions > 0);
	report = check(*state, image, LUNKIT_CHECK_REPAIR_ALL);
	assert_int_equal(report.corruptions, 0);
	assert_true(report.corruptions_fixed > 0);
	assert_true(reads_as(*state, image, 0, 3 * 65536, 0x33));
	image_close(image);
	qemu_finds_nothing(path);
}

static void a_wrong_copied_bit_is_found_and_repaired(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	uint64_t l2 = header_field((unsigned)header_field(40)) & 0x00fffffffffffe00ull;
	put_byte(l2, 0); /* of the first entry */
	struct image *image = must_open(*state, NULL, false);
	struct lunkit_check_report report = check(*state, image, 0);
	assert_int_equal(report.corruptions, 1);
	report = check(*state, image, LUNKIT_CHECK_REPAIR_ALL);
	assert_int_equal(report.corruptions_fixed, 1);
	assert_true(reads_as(*state, image, 0, 65536, 0x33));
	image_close(image);
	qemu_finds_nothing(path);
}

static void a_dirty_image_is_repaired_when_it_is_opened(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	put_byte(79, 1); /* the dirty bit */
	put_byte(refblock + 2 * 6 + 1, 0);
	put_byte(refblock + 2 * 40 + 1, 1);
	struct image *image = must_open(*state, NULL, false);
	assert_false(image_is_read_only(image));
	assert_true(reads_as(*state, image, 0, 3 * 65536, 0x33));
	image_close(image);
	assert_int_equal(header_field(72), 0);
	qemu_finds_nothing(path);
}

static void a_corrupt_image_can_only_be_read(void **state)
{
	uint64_t refblock;
	make_used(*state, &refblock);
	put_byte(79, 2);
	struct image *image = must_open(*state, NULL, false);
	assert_true(image_is_read_only(image));
	assert_true(reads_as(*state, image, 0, 3 * 65536, 0x33));
	/* Until it has been looked at. */
	check(*state, image, 0);
	assert_true(image_is_read_only(image));
	struct lunkit_check_report report = check(*state, image, LUNKIT_CHECK_REPAIR_ALL);
	assert_int_equal(report.corruptions + report.leaks, 0);
	assert_false(image_is_read_only(image));
	fill(*state, image, MIB, 65536, 0x34);
	image_close(image);
	assert_int_equal(header_field(72), 0);
	qemu_finds_nothing(path);
}

/* ---- resize ---- */

static void resized(struct image_job *job, int result)
{
	*(int *)(void *)(job + 1) = result;
}

static int grow(struct fixture *fixture, struct image *image, uint64_t size)
{
	struct check resize = { .job.done = resized, .result = 1 };
	image_resize(image, &resize.job, size, 0);
	while (resize.result == 1)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	return resize.result;
}

static void an_image_grows_as_far_as_its_clusters_allow(void **state)
{
	static const struct {
		const char *options;
		uint64_t from, to;
	} cases[] = {
		{ NULL, MIB, 2 * MIB },
		{ NULL, MIB, (uint64_t)100 << 40 }, /* a larger L1, of many clusters */
		{ "cluster-size=512", 33 * 512, (uint64_t)3 << 30 },
		{ "cluster-size=512;refcount-bits=64", 512, (uint64_t)1 << 30 },
		{ "cluster-size=2M", 512, (uint64_t)8 << 40 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		must_create(*state, path, cases[i].from, cases[i].options);
		struct image *image = must_open(*state, NULL, false);
		fill(*state, image, 0, 512, 0x71);
		assert_int_equal(grow(*state, image, cases[i].to), 0);
		assert_int_equal(image_limits(image)->size, cases[i].to);
		assert_true(reads_as(*state, image, 0, 512, 0x71));
		assert_true(reads_as(*state, image, cases[i].to - 4096, 4096, 0));
		fill(*state, image, cases[i].to - 4096, 4096, 0x72);
		image_close(image);
		qemu_finds_nothing(path);
		image = must_open(*state, NULL, true);
		assert_int_equal(image_limits(image)->size, cases[i].to);
		assert_true(reads_as(*state, image, cases[i].to - 4096, 4096, 0x72));
		image_close(image);
		unlink(path);
	}
}

static void growth_does_not_show_what_a_longer_base_has_there(void **state)
{
	must_create(*state, path, 2 * MIB, NULL);
	struct image *image = must_open(*state, NULL, false);
	fill(*state, image, 0, 2 * MIB, 0x11);
	image_close(image);
	assert_int_equal(rename(path, other), 0);
	must_create(*state, path, MIB + 512, "backing=other;backing-format=qcow2");
	image = must_open(*state, NULL, false);
	fill(*state, image, MIB, 512, 0x22); /* its cluster is copied from the base, and more of it than shows */
	assert_int_equal(grow(*state, image, 3 * MIB), 0);
	assert_true(reads_as(*state, image, 0, MIB, 0x11));
	assert_true(reads_as(*state, image, MIB, 512, 0x22));
	assert_true(reads_as(*state, image, MIB + 512, 2 * MIB - 512, 0));
	image_close(image);
	qemu_finds_nothing(path);
}

static void an_image_is_not_shrunk_and_not_beyond_its_tables(void **state)
{
	must_create(*state, path, MIB, "cluster-size=512");
	struct image *image = must_open(*state, NULL, false);
	assert_int_equal(grow(*state, image, (uint64_t)1 << 50), -EFBIG);
	assert_int_equal(grow(*state, image, MIB / 2), -EINVAL);
	assert_int_equal(image_limits(image)->size, MIB);
	image_close(image);
}

/* ---- space ---- */

static uint64_t storage(void)
{
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	return (uint64_t)status.st_blocks * 512;
}

static void discarded_space_goes_back_and_is_used_again(void **state)
{
	struct slot slot;
	struct stat before, after;
	must_create(*state, path, 64 * MIB, NULL);
	struct image *image = must_open(*state, NULL, false);
	fill(*state, image, 0, 32 * MIB, 0x55);
	image_close(image);
	uint64_t full = storage();
	stat(path, &before);
	image = must_open(*state, NULL, false);
	slot_init(image, &slot);
	assert_int_equal(do_request(*state, &slot, LUNKIT_DISCARD, 0, 0, NULL, 32 * MIB), 0);
	assert_true(reads_as(*state, image, 0, 32 * MIB, 0));
	slot_free(&slot);
	image_close(image);
	assert_true(storage() + 30 * MIB < full);
	qemu_finds_nothing(path);
	image = must_open(*state, NULL, false);
	/* The first look at what is free goes on in the background. */
	for (unsigned i = 0; i < 8; i++)
		fill(*state, image, i * 4 * MIB, 4 * MIB, 0x66);
	assert_true(reads_as(*state, image, 0, 32 * MIB, 0x66));
	image_close(image);
	stat(path, &after);
	assert_true(after.st_size < before.st_size + (off_t)(8 * MIB));
	qemu_finds_nothing(path);
}

static void the_information_says_what_it_is(void **state)
{
	char *json;
	must_create(*state, path, MIB, "cluster-size=4096;lazy-refcounts=yes");
	struct image *image = must_open(*state, NULL, true);
	assert_int_equal(image_info(image, &json, NULL), 0);
	assert_non_null(strstr(json, "\"cluster-size\":4096"));
	assert_non_null(strstr(json, "\"lazy-refcounts\":true"));
	assert_non_null(strstr(json, "\"virtual-size\":1048576"));
	free(json);
	image_close(image);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(images_of_every_shape_are_sound),
		TEST(what_cannot_be_is_refused_and_leaves_nothing),
		TEST(an_overlay_shows_its_base),
		TEST(an_image_below_itself_is_refused),
		TEST(a_sound_image_has_no_findings),
		TEST(a_leak_is_found_and_repaired),
		TEST(what_lies_behind_the_end_is_no_leak),
		TEST(bits_that_mean_nothing_are_found),
		TEST(a_refcount_that_is_too_low_is_found_and_repaired),
		TEST(a_wrong_copied_bit_is_found_and_repaired),
		TEST(a_dirty_image_is_repaired_when_it_is_opened),
		TEST(a_corrupt_image_can_only_be_read),
		TEST(an_image_grows_as_far_as_its_clusters_allow),
		TEST(growth_does_not_show_what_a_longer_base_has_there),
		TEST(an_image_is_not_shrunk_and_not_beyond_its_tables),
		TEST(discarded_space_goes_back_and_is_used_again),
		TEST(the_information_says_what_it_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
