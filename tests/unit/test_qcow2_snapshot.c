/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Snapshots, flattening, shrinking and repairs that make new refblocks, on a real filesystem, with qemu-img as the judge where there is one. */
#include "base/byteorder.h"
#include "qcow2_fixture.h"

#define CLUSTER ((uint64_t)65536)

static void qemu_finds_nothing(void)
{
	if (have_qemu())
		assert_int_equal(command("qemu-img check -q -f qcow2 %s >/dev/null 2>&1", path), 0);
}

static void must_create(struct fixture *fixture, uint64_t size, const char *options)
{
	struct lunkit_error err;
	const struct image_params params = { .name = path, .size = size, .options = options };
	if (image_create(&fixture->host, qcow2_handler(), &params, &err) < 0)
		fail_msg("%s", err.message);
}

static struct image *must_open(struct fixture *fixture, const char *options)
{
	struct lunkit_error err;
	struct image *image;
	const struct image_params params = { .name = path, .options = options };
	if (image_open(&fixture->host, qcow2_handler(), &params, &image, &err) < 0)
		fail_msg("%s", err.message);
	return image;
}

static void fill(struct fixture *fixture, struct image *image, uint64_t offset, uint64_t length, int byte)
{
	struct slot slot;
	char *buffer = malloc(length);
	memset(buffer, byte, length);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, 0, offset, buffer, length), 0);
	slot_free(&slot);
	free(buffer);
}

static bool reads_as(struct fixture *fixture, struct image *image, uint64_t offset, uint64_t length, int byte)
{
	struct slot slot;
	char *buffer = malloc(length);
	bool same = true;
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, offset, buffer, length), 0);
	for (uint64_t i = 0; i < length; i++)
		same &= buffer[i] == (char)byte;
	slot_free(&slot);
	free(buffer);
	return same;
}

static int wait_for_job(struct fixture *fixture, struct job_probe *probe)
{
	while (!probe->calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	return probe->result;
}

static int snapshot(struct fixture *fixture, struct image *image, enum lunkit_snapshot_op op, const char *name)
{
	struct job_probe probe = { .job.done = note_job };
	image_snapshot(image, &probe.job, op, name);
	return wait_for_job(fixture, &probe);
}

static int shrink(struct fixture *fixture, struct image *image, uint64_t size)
{
	struct job_probe probe = { .job.done = note_job };
	image_resize(image, &probe.job, size, size < image_limits(image)->size ? LUNKIT_RESIZE_SHRINK : 0);
	return wait_for_job(fixture, &probe);
}

static struct lunkit_snapshots list_of(struct image *image)
{
	struct lunkit_snapshots list;
	assert_int_equal(image_snapshot_list(image, &list, NULL), 0);
	return list;
}

/* ---- the tests ---- */

static void a_snapshot_keeps_what_was_there(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, 8 * MIB, NULL);
	struct image *image = must_open(fixture, NULL);
	fill(fixture, image, 0, 3 * MIB, 'a');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "first"), 0);
	fill(fixture, image, MIB + 512, MIB, 'b');
	fill(fixture, image, 5 * MIB, 4096, 'c');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "second"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, "first"), 0);
	assert_true(reads_as(fixture, image, 0, 3 * MIB, 'a'));
	assert_true(reads_as(fixture, image, 3 * MIB, 5 * MIB, 0));
	fill(fixture, image, 0, 8 * MIB, 'd');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, "second"), 0);
	assert_true(reads_as(fixture, image, 0, MIB + 512, 'a'));
	assert_true(reads_as(fixture, image, MIB + 512, MIB, 'b'));
	assert_true(reads_as(fixture, image, 5 * MIB, 4096, 'c'));
	image_close(image);
	qemu_finds_nothing();
	if (have_qemu()) {
		assert_int_equal(command("qemu-img snapshot -a first %s && qemu-img snapshot -d second %s", path, path), 0);
		image = must_open(fixture, NULL);
		assert_true(reads_as(fixture, image, 0, 3 * MIB, 'a'));
		assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "first"), 0);
		assert_true(reads_as(fixture, image, 0, 3 * MIB, 'a'));
		image_close(image);
		qemu_finds_nothing();
	}
}

static void snapshots_have_names_and_ids(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, MIB, NULL);
	struct image *image = must_open(fixture, NULL);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "one"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "two words"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "one"), -EEXIST);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "three"), -ENOENT);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, ""), -EINVAL);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "one"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "three"), 0);
	struct lunkit_snapshots list = list_of(image);
	assert_int_equal(list.count, 2);
	assert_string_equal(list.items[0].name, "two words");
	assert_string_equal(list.items[0].id, "2");
	assert_string_equal(list.items[1].id, "3");
	assert_true(list.items[1].size == MIB);
	assert_true(list.items[1].time_ns > (uint64_t)1600000000 * 1000000000u);
	assert_true(list.items[1].vm_state_size == 0);
	image_snapshots_free(&list);
	/* An id stands for the one that has no such name. */
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "2"), 0);
	image_close(image);
	if (have_qemu())
		assert_int_equal(command("qemu-img snapshot -l %s | grep -q three", path), 0);
}

/* What qemu wrote of a snapshot stands there to the byte when others come and go. */
static void what_is_not_understood_is_kept(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, MIB, NULL);
	struct image *image = must_open(fixture, NULL);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "odd"), 0);
	image_close(image);
	uint8_t header[72], entry[128], now[128];
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pread(fd, entry, sizeof(entry), (off_t)get_be64(header + 64)), sizeof(entry));
	/* The state of a machine, and 16 bytes of extra data that nobody knows. */
	assert_int_equal(get_be32(entry + 36), 24);
	memmove(entry + 40 + 40, entry + 40 + 24, 4);
	memset(entry + 40 + 24, 0x5a, 16);
	put_be32(entry + 36, 40);
	put_be32(entry + 32, 12345);
	assert_int_equal(pwrite(fd, entry, sizeof(entry), (off_t)get_be64(header + 64)), sizeof(entry));
	close(fd);
	image = must_open(fixture, NULL);
	struct lunkit_snapshots list = list_of(image);
	assert_string_equal(list.items[0].name, "odd");
	assert_true(list.items[0].vm_state_size == 12345);
	image_snapshots_free(&list);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "other"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "other"), 0);
	image_close(image);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pread(fd, now, sizeof(now), (off_t)get_be64(header + 64)), sizeof(now));
	close(fd);
	assert_memory_equal(now, entry, 84);
}

static void narrow_refcounts_are_refused(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, MIB, "refcount-bits=1");
	struct image *image = must_open(fixture, NULL);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "s"), -EOVERFLOW);
	image_close(image);
	qemu_finds_nothing();
	unlink(path);
	must_create(fixture, MIB, "refcount-bits=2");
	image = must_open(fixture, NULL);
	fill(fixture, image, 0, MIB, 'x');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "a"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "b"), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "c"), -EOVERFLOW);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, "a"), -EOVERFLOW);
	assert_true(reads_as(fixture, image, 0, MIB, 'x'));
	image_close(image);
	qemu_finds_nothing();
}

static void a_snapshot_is_read_while_the_image_is_written(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err;
	struct image *none;
	must_create(fixture, 4 * MIB, NULL);
	struct image *image = must_open(fixture, NULL);
	fill(fixture, image, 0, 2 * MIB, 'a');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "s"), 0);
	assert_int_equal(shrink(fixture, image, 8 * MIB), 0);
	struct image *old = must_open(fixture, "snapshot=s");
	assert_true(image_is_read_only(old));
	assert_true(image_limits(old)->size == 4 * MIB);
	fill(fixture, image, 0, 8 * MIB, 'b');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "t"), 0);
	assert_true(reads_as(fixture, old, 0, 2 * MIB, 'a'));
	assert_true(reads_as(fixture, old, 2 * MIB, 2 * MIB, 0));
	assert_int_equal(snapshot(fixture, old, LUNKIT_SNAPSHOT_CREATE, "u"), -EROFS);
	/* As long as it is read, it stays; others may go. */
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "s"), -EBUSY);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "t"), 0);
	struct image *too = must_open(fixture, "snapshot=s");
	image_close(too);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "s"), -EBUSY);
	struct job_probe probe = { .job.done = note_job };
	struct lunkit_check_report report;
	image_check(old, &probe.job, 0, &report);
	assert_int_equal(wait_for_job(fixture, &probe), -EOPNOTSUPP);
	image_close(old);
	const struct image_params params = { .name = path, .options = "snapshot=nobody" };
	assert_int_equal(image_open(&fixture->host, qcow2_handler(), &params, &none, &err), -ENOENT);
	/* Its size comes back with it. */
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, "s"), 0);
	assert_true(image_limits(image)->size == 4 * MIB);
	assert_true(reads_as(fixture, image, 0, 2 * MIB, 'a'));
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, "s"), 0);
	image_close(image);
	qemu_finds_nothing();
}

/* ---- flattening ---- */

static void make_base(uint64_t size)
{
	int fd = open(other, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char *data = malloc(size);
	memset(data, 'z', size);
	memset(data + size / 2, 0, size / 4);
	assert_int_equal(pwrite(fd, data, size, 0), (ssize_t)size);
	free(data);
	close(fd);
}

static int flatten(struct fixture *fixture, struct image *image)
{
	struct job_probe probe = { .job.done = note_job };
	image_flatten(image, &probe.job);
	return wait_for_job(fixture, &probe);
}

static void a_flattened_image_stands_alone(void **state)
{
	struct fixture *fixture = *state;
	make_base(4 * MIB);
	must_create(fixture, 6 * MIB, "backing=other;backing-format=raw");
	struct image *image = must_open(fixture, NULL);
	fill(fixture, image, MIB, MIB, 'o');
	assert_int_equal(flatten(fixture, image), 0);
	assert_int_equal(unlink(other), 0);
	for (unsigned pass = 0; pass < 2; pass++) {
		assert_true(reads_as(fixture, image, 0, MIB, 'z'));
		assert_true(reads_as(fixture, image, MIB, MIB, 'o'));
		assert_true(reads_as(fixture, image, 2 * MIB, MIB, 0));
		assert_true(reads_as(fixture, image, 3 * MIB, MIB, 'z'));
		assert_true(reads_as(fixture, image, 4 * MIB, 2 * MIB, 0));
		image_close(image);
		qemu_finds_nothing();
		image = must_open(fixture, NULL);
	}
	/* Nothing is left to be flattened. */
	assert_int_equal(flatten(fixture, image), 0);
	image_close(image);
	if (have_qemu()) {
		assert_int_equal(command("qemu-img info %s | grep -q backing", path), 1);
		assert_int_equal(command("qemu-img info %s | grep -q 'zlib'", path), 0);
	}
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_true((uint64_t)status.st_size < 5 * MIB); /* zeros were not copied */
}

/* Snapshots keep what they have had from below, whatever happened above since. */
static void snapshots_are_flattened_too(void **state)
{
	struct fixture *fixture = *state;
	static const char *const options[] = { "", ";cluster-size=4096", ";compat=0.10", ";cluster-size=512;refcount-bits=8" };
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		char create[100];
		snprintf(create, sizeof(create), "backing=other;backing-format=raw%s", options[i]);
		make_base(4 * MIB + 1024);
		must_create(fixture, 6 * MIB, create);
		struct image *image = must_open(fixture, NULL);
		assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "nothing"), 0);
		assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "nothing still"), 0);
		fill(fixture, image, MIB, MIB, 'o');
		assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "some"), 0);
		assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "some still"), 0);
		fill(fixture, image, 0, 6 * MIB, 'n');
		assert_int_equal(flatten(fixture, image), 0);
		assert_int_equal(unlink(other), 0);
		assert_true(reads_as(fixture, image, 0, 6 * MIB, 'n'));
		static const char *const names[] = { "nothing", "some", "some still", "nothing still" };
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, names[k]), 0);
			image_close(image);
			qemu_finds_nothing();
			image = must_open(fixture, NULL);
			uint64_t half = 2 * MIB + 512, quarter = MIB + 256;
			assert_true(reads_as(fixture, image, 0, MIB, 'z'));
			assert_true(reads_as(fixture, image, MIB, MIB, k == 1 || k == 2 ? 'o' : 'z'));
			assert_true(reads_as(fixture, image, 2 * MIB, half - 2 * MIB, 'z'));
			assert_true(reads_as(fixture, image, half, quarter, 0));
			assert_true(reads_as(fixture, image, half + quarter, 4 * MIB + 1024 - half - quarter, 'z'));
			assert_true(reads_as(fixture, image, 4 * MIB + 1024, 2 * MIB - 1024, 0));
			assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_DELETE, names[k]), 0);
		}
		image_close(image);
		qemu_finds_nothing();
		unlink(path);
	}
}

static void stop_at_once(struct image_job *job, uint64_t done, uint64_t total)
{
	assert_true(done <= total);
	job->cancelled = true;
}

static void flattening_can_be_cancelled_and_taken_up_again(void **state)
{
	struct fixture *fixture = *state;
	make_base(16 * MIB);
	must_create(fixture, 16 * MIB, "backing=other;backing-format=raw");
	struct image *image = must_open(fixture, NULL);
	struct job_probe probe = { .job = { .done = note_job, .progress = stop_at_once, .rate = 1000000000 } };
	image_flatten(image, &probe.job);
	assert_int_equal(wait_for_job(fixture, &probe), -ECANCELED);
	assert_true(reads_as(fixture, image, 0, 8 * MIB, 'z'));
	assert_true(reads_as(fixture, image, 12 * MIB, 4 * MIB, 'z'));
	assert_int_equal(flatten(fixture, image), 0);
	assert_true(reads_as(fixture, image, 0, 8 * MIB, 'z'));
	assert_true(reads_as(fixture, image, 8 * MIB, 4 * MIB, 0));
	image_close(image);
	qemu_finds_nothing();
}

/* ---- shrinking ---- */

static void shrinking_gives_the_end_back(void **state)
{
	struct fixture *fixture = *state;
	struct stat status;
	must_create(fixture, 64 * MIB, "cluster-size=4096");
	struct image *image = must_open(fixture, NULL);
	fill(fixture, image, 0, 32 * MIB, 'x');
	assert_int_equal(shrink(fixture, image, 2 * MIB + 512), 0);
	assert_true(image_limits(image)->size == 2 * MIB + 512);
	assert_true(reads_as(fixture, image, 0, 2 * MIB + 512, 'x'));
	assert_int_equal(stat(path, &status), 0);
	assert_true((uint64_t)status.st_size < 8 * MIB);
	assert_int_equal(shrink(fixture, image, 64 * MIB), 0);
	assert_true(reads_as(fixture, image, 2 * MIB + 512, 40 * MIB, 0));
	fill(fixture, image, 0, 32 * MIB, 'y');
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_CREATE, "s"), 0);
	assert_int_equal(shrink(fixture, image, MIB), 0);
	assert_int_equal(snapshot(fixture, image, LUNKIT_SNAPSHOT_REVERT, "s"), 0);
	assert_true(reads_as(fixture, image, 0, 32 * MIB, 'y'));
	image_close(image);
	qemu_finds_nothing();
}

/* ---- repairing ---- */

static void a_missing_refblock_is_made_again(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_check_report report;
	uint8_t header[72];
	const uint8_t nothing[8] = { 0 };
	must_create(fixture, 8 * MIB, "cluster-size=4096");
	struct image *image = must_open(fixture, NULL);
	fill(fixture, image, 0, 8 * MIB, 'x');
	image_close(image);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, header, sizeof(header), 0), sizeof(header));
	assert_int_equal(pwrite(fd, nothing, sizeof(nothing), (off_t)get_be64(header + 48)), sizeof(nothing));
	close(fd);
	image = must_open(fixture, NULL);
	struct job_probe probe = { .job.done = note_job };
	image_check(image, &probe.job, LUNKIT_CHECK_REPAIR_ALL, &report);
	assert_int_equal(wait_for_job(fixture, &probe), 0);
	assert_true(report.corruptions_fixed > 0);
	assert_true(report.corruptions == 0);
	probe = (struct job_probe){ .job.done = note_job };
	image_check(image, &probe.job, 0, &report);
	assert_int_equal(wait_for_job(fixture, &probe), 0);
	assert_true(report.corruptions == 0);
	assert_true(report.leaks == 0);
	fill(fixture, image, MIB, MIB, 'y');
	assert_true(reads_as(fixture, image, 0, MIB, 'x'));
	image_close(image);
	qemu_finds_nothing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_snapshot_keeps_what_was_there, setup, teardown),
		cmocka_unit_test_setup_teardown(snapshots_have_names_and_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_not_understood_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(narrow_refcounts_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_snapshot_is_read_while_the_image_is_written, setup, teardown),
		cmocka_unit_test_setup_teardown(a_flattened_image_stands_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(snapshots_are_flattened_too, setup, teardown),
		cmocka_unit_test_setup_teardown(flattening_can_be_cancelled_and_taken_up_again, setup, teardown),
		cmocka_unit_test_setup_teardown(shrinking_gives_the_end_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_missing_refblock_is_made_again, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
