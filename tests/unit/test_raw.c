/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The same tests in a directory of a filesystem with O_DIRECT and on tmpfs, which has neither it nor FALLOC_FL_ZERO_RANGE. */
#include "image_fixture.h"
#include "raw.h"

const struct lunkit_handler *raw_handler_entry(void);

#define SIZE ((uint64_t)1 << 20)

static char directory[64];
static char path[80];

static int setup_in(void **state, const char *parent)
{
	snprintf(directory, sizeof(directory), "%s/lunkit-raw-XXXXXX", parent);
	if (!mkdtemp(directory))
		return -1;
	snprintf(path, sizeof(path), "%s/image", directory);
	return fixture_setup(state);
}

static int setup_disk(void **state)
{
	return setup_in(state, "/var/tmp");
}

static int setup_memory(void **state)
{
	return setup_in(state, "/dev/shm");
}

static int teardown(void **state)
{
	unlink(path);
	if (rmdir(directory) < 0)
		return -1;
	return fixture_teardown(state);
}

static const struct lunkit_handler *raw_handler(void)
{
	const struct lunkit_handler *handler;
	assert_int_equal(handler_adopt(raw_handler_entry(), &handler, NULL), 0);
	return handler;
}

static int create(struct fixture *fixture, uint64_t size, const char *options, struct lunkit_error *err)
{
	const struct image_params params = { .name = path, .size = size, .options = options };
	return image_create(&fixture->host, raw_handler(), &params, err);
}

static int try_open(struct fixture *fixture, const struct image_params *params, struct image **ret, struct lunkit_error *err)
{
	return image_open(&fixture->host, raw_handler(), params, ret, err);
}

static struct image *must_open(struct fixture *fixture, enum lunkit_cache cache)
{
	struct lunkit_error err;
	struct image *image;
	const struct image_params params = { .name = path, .cache = cache };
	int r = try_open(fixture, &params, &image, &err);
	if (r < 0)
		fail_msg("%s", err.message);
	return image;
}

static void must_create(struct fixture *fixture, const char *options)
{
	struct lunkit_error err;
	if (create(fixture, SIZE, options, &err) < 0)
		fail_msg("%s", err.message);
}

static uint64_t allocated(void)
{
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	return (uint64_t)status.st_blocks * 512;
}

static void pattern(char *buffer, size_t size, unsigned seed)
{
	for (size_t i = 0; i < size; i++)
		buffer[i] = (char)(i * 13 + i / 256 + seed);
}

static void round_trip(struct fixture *fixture, enum lunkit_cache cache)
{
	struct image *image = must_open(fixture, cache);
	struct slot slot;
	slot_init(image, &slot);
	char *out = aligned_alloc(4096, 65536), *in = aligned_alloc(4096, 65536);
	/* Aligned; then at odd places from odd memory, which with O_DIRECT is bounced. */
	static const struct {
		unsigned offset, length, skew;
	} cases[] = { { 0, 4096, 0 }, { 8192, 65536, 0 }, { 512, 512, 0 }, { 4096, 512, 3 }, { 70001, 12345, 17 }, { 1048575, 1, 1 } };
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		unsigned length = MIN(cases[i].length, 65536 - cases[i].skew);
		pattern(out, 65536, i);
		memset(in, 0, 65536);
		assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, i % 2 ? LUNKIT_REQUEST_FUA : 0, cases[i].offset,
					    out + cases[i].skew, length),
				 0);
		assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, cases[i].offset, in + cases[i].skew, length), 0);
		assert_memory_equal(in + cases[i].skew, out + cases[i].skew, length);
	}
	assert_int_equal(do_request(fixture, &slot, LUNKIT_FLUSH, 0, 0, NULL, 0), 0);
	free(out);
	free(in);
	slot_free(&slot);
	image_close(image);
}

static void data_round_trips_in_every_cache_mode(void **state)
{
	must_create(*state, NULL);
	round_trip(*state, LUNKIT_CACHE_NONE);
	round_trip(*state, LUNKIT_CACHE_WRITEBACK);
	round_trip(*state, LUNKIT_CACHE_WRITETHROUGH);
}

static void writethrough_needs_no_flush(void **state)
{
	must_create(*state, NULL);
	struct image *image = must_open(*state, LUNKIT_CACHE_WRITETHROUGH);
	assert_false(image_limits(image)->flags & LUNKIT_NEEDS_FLUSH);
	image_close(image);
	image = must_open(*state, LUNKIT_CACHE_WRITEBACK);
	assert_true(image_limits(image)->flags & LUNKIT_NEEDS_FLUSH);
	assert_int_equal(image_limits(image)->request_alignment, 1);
	image_close(image);
}

static void space_is_given_back_zeroed_and_described(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, NULL);
	struct image *image = must_open(fixture, LUNKIT_CACHE_NONE);
	struct slot slot;
	slot_init(image, &slot);
	char *buffer = aligned_alloc(4096, 65536), *zero = calloc(1, 65536);
	memset(buffer, 'x', 65536);
	struct lunkit_extent extents[8];
	slot.request->request.extents = extents;
	slot.request->request.extent_capacity = 8;
	assert_int_equal(do_request(fixture, &slot, LUNKIT_EXTENTS, 0, 0, NULL, SIZE), 0);
	assert_int_equal(slot.request->request.extent_count, 1);
	assert_int_equal(extents[0].flags, LUNKIT_EXTENT_ZERO);

	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, 0, 131072, buffer, 65536), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_EXTENTS, 0, 0, NULL, SIZE), 0);
	assert_int_equal(slot.request->request.extent_count, 3);
	assert_int_equal(extents[1].offset, 131072);
	assert_int_equal(extents[1].length, 65536);
	assert_int_equal(extents[1].flags, LUNKIT_EXTENT_ALLOCATED);
	slot.request->request.extent_capacity = 1;
	assert_int_equal(do_request(fixture, &slot, LUNKIT_EXTENTS, 0, 131072 + 512, NULL, 1024), 0);
	assert_int_equal(extents[0].offset, 131072 + 512);
	assert_int_equal(extents[0].length, 1024);

	uint64_t before = allocated();
	assert_int_equal(do_request(fixture, &slot, LUNKIT_DISCARD, 0, 131072, NULL, 16384), 0);
	assert_true(allocated() < before);
	before = allocated();
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE_ZEROES, LUNKIT_REQUEST_FUA | LUNKIT_REQUEST_MAY_DISCARD, 131072 + 16384,
				    NULL, 16384),
			 0);
	assert_true(allocated() < before);
	before = allocated();
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE_ZEROES, 0, 131072 + 32768, NULL, 16384), 0);
	assert_true(allocated() >= before);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 131072, buffer, 65536), 0);
	assert_memory_equal(buffer, zero, 49152);
	assert_int_equal(buffer[49152], 'x');
	/* A part of a block. */
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE_ZEROES, 0, 131072 + 49152, NULL, 100), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 131072 + 49152, buffer, 512), 0);
	assert_memory_equal(buffer, zero, 100);
	assert_int_equal(buffer[100], 'x');
	free(buffer);
	free(zero);
	slot_free(&slot);
	image_close(image);
}

static void a_file_that_shrank_gives_errors(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, NULL);
	struct image *image = must_open(fixture, LUNKIT_CACHE_NONE);
	struct slot slot;
	slot_init(image, &slot);
	char *buffer = aligned_alloc(4096, 16384);
	assert_int_equal(truncate(path, 8192 + 4096), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 8192, buffer, 4096), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 8192, buffer, 16384), -EIO);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 65536, buffer, 4096), -EIO);
	assert_int_equal(truncate(path, 8192 + 100), 0);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 8192, buffer, 4096), -EIO);
	free(buffer);
	slot_free(&slot);
	image_close(image);
}

static int resize(struct fixture *fixture, struct image *image, uint64_t size, unsigned flags)
{
	struct job_probe probe = { .job.done = note_job };
	image_resize(image, &probe.job, size, flags);
	while (!probe.calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(probe.job.err.code, -probe.result);
	return probe.result;
}

static void the_size_changes(void **state)
{
	must_create(*state, NULL);
	struct image *image = must_open(*state, LUNKIT_CACHE_NONE);
	struct stat status;
	assert_int_equal(resize(*state, image, 2 * SIZE, 0), 0);
	assert_int_equal(image_limits(image)->size, 2 * SIZE);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, 2 * SIZE);
	assert_int_equal(resize(*state, image, SIZE, 0), -EINVAL);
	assert_int_equal(resize(*state, image, SIZE, LUNKIT_RESIZE_SHRINK), 0);
	assert_int_equal(image_limits(image)->size, SIZE);
	/* Someone else has changed it. */
	assert_int_equal(truncate(path, 3 * SIZE), 0);
	assert_int_equal(resize(*state, image, 0, 0), 0);
	assert_int_equal(image_limits(image)->size, 3 * SIZE);
	assert_int_equal(truncate(path, SIZE), 0);
	assert_int_equal(resize(*state, image, 0, 0), -EINVAL);
	assert_int_equal(truncate(path, 3 * SIZE + 1), 0);
	assert_int_equal(resize(*state, image, 0, 0), -EINVAL);
	assert_int_equal(image_limits(image)->size, 3 * SIZE);
	image_close(image);
}

static void creation_is_whole_or_not_at_all(void **state)
{
	struct lunkit_error err;
	must_create(*state, NULL);
	assert_true(allocated() < SIZE);
	assert_int_equal(create(*state, SIZE, NULL, &err), -EEXIST);
	assert_int_equal(access(path, F_OK), 0); /* the one that was there stays */
	assert_int_equal(unlink(path), 0);
	must_create(*state, "preallocation=falloc");
	assert_true(allocated() >= SIZE);
	assert_int_equal(unlink(path), 0);
	must_create(*state, "preallocation=full");
	assert_true(allocated() >= SIZE);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(create(*state, 1000, NULL, &err), -EINVAL);
	assert_int_equal(create(*state, 512 * 9, "block-size=4096", &err), -EINVAL);
	assert_int_equal(create(*state, 0, NULL, &err), -EINVAL);
	assert_int_equal(create(*state, SIZE, "preallocation=some", &err), -EINVAL);
	/* More than any filesystem here has room for. */
	assert_true(create(*state, (uint64_t)1 << 60, "preallocation=falloc", &err) < 0);
	assert_true(err.hint[0]);
	assert_int_equal(access(path, F_OK), -1);
}

static void check_refused(struct fixture *fixture, const char *options, int code, const char *says)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image *image = NULL;
	const struct image_params params = { .name = path, .options = options, .read_only = code == EISDIR };
	int r = try_open(fixture, &params, &image, &err);
	if (r != -code || !strstr(err.message, says) || !strstr(err.message, path))
		fail_msg("got %d: %s (%s)", r, err.message, err.hint);
	assert_null(image);
}

static void what_is_no_image_is_refused(void **state)
{
	check_refused(*state, NULL, ENOENT, "No such file");
	assert_int_equal(mkdir(path, 0700), 0);
	check_refused(*state, NULL, EISDIR, "directory");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	check_refused(*state, NULL, EINVAL, "pipe");
	assert_int_equal(unlink(path), 0);
	int fd = open(path, O_CREAT | O_RDWR, 0600);
	check_refused(*state, NULL, EINVAL, "empty");
	assert_int_equal(ftruncate(fd, 1000), 0);
	check_refused(*state, NULL, EINVAL, "multiple");
	assert_int_equal(ftruncate(fd, 512 * 9), 0);
	check_refused(*state, "block-size=4096", EINVAL, "multiple");
	close(fd);
}

static void a_character_device_is_refused(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err;
	struct image *image = NULL;
	const struct image_params params = { .name = "/dev/zero", .cache = LUNKIT_CACHE_WRITEBACK };
	assert_int_equal(try_open(fixture, &params, &image, &err), -EINVAL);
	assert_non_null(strstr(err.message, "character device"));
}

static void an_image_in_use_can_be_looked_at_only(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err;
	must_create(fixture, NULL);
	struct image *image = must_open(fixture, LUNKIT_CACHE_NONE), *other = NULL;
	struct image_params params = { .name = path };
	assert_int_equal(try_open(fixture, &params, &other, &err), -EAGAIN);
	assert_non_null(strstr(err.message, "in use"));
	params.read_only = true;
	assert_int_equal(try_open(fixture, &params, &other, &err), -EAGAIN);
	params.look_only = true;
	assert_int_equal(try_open(fixture, &params, &other, &err), 0);
	char *json;
	assert_int_equal(image_info(other, &json, &err), 0);
	assert_non_null(strstr(json, "\"kind\":\"raw\""));
	assert_non_null(strstr(json, "\"file-size\":1048576"));
	assert_non_null(strstr(json, "\"storage\":\"file\""));
	assert_non_null(strstr(json, "\"allocated-size\":"));
	free(json);
	image_close(other);
	image_close(image);
}

static void direct_io_is_used_where_there_is_some(void **state)
{
	struct fixture *fixture = *state;
	must_create(fixture, NULL);
	int fd = open(path, O_RDWR | O_DIRECT);
	if (fd >= 0)
		close(fd);
	struct image *image = must_open(fixture, LUNKIT_CACHE_NONE);
	char *json;
	assert_int_equal(image_info(image, &json, NULL), 0);
	if (fd < 0) {
		assert_non_null(strstr(json, "\"direct-io\":false"));
		assert_non_null(strstr(fixture->host.notice, path));
	} else if (image_limits(image)->request_alignment > 1) {
		assert_non_null(strstr(json, "\"direct-io\":true"));
	}
	free(json);
	image_close(image);
}

/* As raw describes them; there are none to open here. */
static void devices_are_zeroed_in_bounded_time(void **state)
{
	(void)state;
	struct raw device = { .size = (uint64_t)1 << 40, .block_size = 512, .is_block = true }, file = device;
	struct lunkit_limits limits = { 0 };
	raw_handler_entry()->limits(&device, &limits);
	assert_int_equal(limits.max_write_zeroes, 32 << 20);
	file.is_block = false;
	limits = (struct lunkit_limits){ 0 };
	raw_handler_entry()->limits(&file, &limits);
	assert_int_equal(limits.max_write_zeroes, 0);
}

#define ON(where, name)                                                                                                                    \
	{                                                                                                                                  \
#name " (" #where ")", name, setup_##where, teardown, NULL                                                                 \
	}
#define BOTH(name) ON(disk, name), ON(memory, name)
int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(data_round_trips_in_every_cache_mode),
		BOTH(writethrough_needs_no_flush),
		BOTH(space_is_given_back_zeroed_and_described),
		BOTH(a_file_that_shrank_gives_errors),
		BOTH(the_size_changes),
		BOTH(creation_is_whole_or_not_at_all),
		BOTH(what_is_no_image_is_refused),
		BOTH(a_character_device_is_refused),
		BOTH(an_image_in_use_can_be_looked_at_only),
		BOTH(direct_io_is_used_where_there_is_some),
		cmocka_unit_test(devices_are_zeroed_in_bounded_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
