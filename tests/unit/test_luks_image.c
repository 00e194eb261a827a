/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The handler on a raw file, in a directory with O_DIRECT and on tmpfs. */
#include "header.h"
#include "image_fixture.h"

const struct lunkit_handler *raw_handler_entry(void);
const struct lunkit_handler *luks_handler_entry(void);

#define SIZE ((uint64_t)8 << 20)

static char directory[64];
static char path[80];
static struct image_key key, wrong;

static int setup_in(void **state, const char *parent)
{
	const struct lunkit_handler *handler;
	snprintf(directory, sizeof(directory), "%s/lunkit-luks-XXXXXX", parent);
	if (!mkdtemp(directory) || handler_adopt(raw_handler_entry(), &handler, NULL) < 0 ||
	    handler_adopt(luks_handler_entry(), &handler, NULL) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/image", directory);
	key = (struct image_key){ (uint8_t *)strdup("right"), 5 };
	wrong = (struct image_key){ (uint8_t *)strdup("wrong"), 5 };
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
	free(key.bytes);
	free(wrong.bytes);
	unlink(path);
	if (rmdir(directory) < 0)
		return -1;
	return fixture_teardown(state);
}

static int create(struct fixture *fixture, const char *options, struct lunkit_error *err)
{
	const struct image_params params = { .name = path, .size = SIZE, .options = options };
	fixture->host.key = &key;
	return image_create(&fixture->host, handler_find("luks"), &params, err);
}

static int try_open(struct fixture *fixture, const struct image_key *with, const struct image_params *params, struct image **ret,
		    struct lunkit_error *err)
{
	fixture->host.key = with;
	return image_open(&fixture->host, handler_find("luks"), params, ret, err);
}

static struct image *must_open(struct fixture *fixture, const char *options, enum lunkit_cache cache)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image *image;
	const struct image_params params = { .name = path, .options = options, .cache = cache };
	int r = try_open(fixture, &key, &params, &image, &err);
	if (r < 0)
		print_error("%s\n", err.message);
	assert_int_equal(r, 0);
	return image;
}

static unsigned next_random(unsigned *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 8;
}

static void flush(struct fixture *fixture, struct slot *slot)
{
	slot_submit(slot, LUNKIT_FLUSH, 0, 0, 0, 0);
	assert_int_equal(slot_wait(fixture, slot), 0);
}

/* Random requests at any byte, against a model; what was written is read after it has been opened again. */
static void check_data(struct fixture *fixture, enum lunkit_cache cache)
{
	struct image *image = must_open(fixture, NULL, cache);
	uint8_t *model = calloc(1, SIZE), *buffer = aligned_alloc(4096, (size_t)1 << 21), *copy = malloc((size_t)1 << 21);
	struct slot slot;
	unsigned seed = 17;
	slot_init(image, &slot);
	assert_int_equal(image_limits(image)->size, SIZE);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE_ZEROES, LUNKIT_REQUEST_MAY_DISCARD, 0, NULL, SIZE), 0);
	for (unsigned i = 0; i < 300; i++) {
		unsigned shape = next_random(&seed) % 4;
		uint64_t offset = next_random(&seed) % SIZE, length = next_random(&seed) % (shape == 0 ? 1 << 21 : 20000) + 1;
		if (shape >= 2) { /* aligned, as most are */
			offset = align_down(offset, 4096);
			length = align_up(length, 4096);
		}
		length = MIN(length, SIZE - offset);
		uint8_t *memory = buffer + (shape == 1 ? 3 : 0);
		length = MIN(length, ((uint64_t)1 << 21) - 8);
		if (next_random(&seed) % 2) {
			for (uint64_t at = 0; at < length; at++)
				memory[at] = (uint8_t)next_random(&seed);
			memcpy(copy, memory, length);
			memcpy(model + offset, memory, length);
			assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, i % 5 ? 0 : LUNKIT_REQUEST_FUA, offset, memory, length),
					 0);
			assert_memory_equal(memory, copy, length); /* the guest's memory is as it was */
		} else {
			memset(memory, 0xee, length);
			assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, offset, memory, length), 0);
			assert_memory_equal(memory, model + offset, length);
		}
	}
	flush(fixture, &slot);
	slot_free(&slot);
	image_close(image);
	image = must_open(fixture, NULL, cache);
	slot_init(image, &slot);
	for (uint64_t at = 0; at < SIZE; at += (uint64_t)1 << 20) {
		assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, at, buffer, (uint64_t)1 << 20), 0);
		assert_memory_equal(buffer, model + at, (size_t)1 << 20);
	}
	slot_free(&slot);
	image_close(image);
	free(model);
	free(buffer);
	free(copy);
}

static void test_data(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	static const char *const options[] = { NULL, "version=1", "cipher=aes-cbc-essiv:sha256;sector-size=512" };
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		assert_int_equal(create(fixture, options[i], &err), 0);
		check_data(fixture, LUNKIT_CACHE_NONE);
		check_data(fixture, LUNKIT_CACHE_WRITETHROUGH);
		unlink(path);
	}
}

/* More in flight than there are buffers: all are done, in whatever order. */
static void test_many(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(create(fixture, NULL, &err), 0);
	struct image *image = must_open(fixture, NULL, LUNKIT_CACHE_NONE);
	enum { COUNT = 200 };
	struct slot slots[COUNT];
	uint8_t *buffer = aligned_alloc(4096, SIZE), *back = aligned_alloc(4096, SIZE);
	for (size_t i = 0; i < SIZE; i++)
		buffer[i] = (uint8_t)(i * 7 + (i >> 13));
	for (unsigned i = 0; i < COUNT; i++) {
		uint64_t large = i % 2 ? (uint64_t)1 << 20 : 8192, offset = (uint64_t)i * 40960 % (SIZE - large);
		offset = align_down(offset, 4096);
		slot_init(image, &slots[i]);
		slots[i].iov[0] = (struct iovec){ buffer + offset, large / 2 };
		slots[i].iov[1] = (struct iovec){ buffer + offset + large / 2, large / 2 };
		slot_submit(&slots[i], LUNKIT_WRITE, 0, offset, large, 2);
	}
	for (unsigned i = 0; i < COUNT; i++) {
		assert_int_equal(slot_wait(fixture, &slots[i]), 0);
		uint64_t offset = slots[i].request->request.offset, length = slots[i].request->request.length;
		assert_int_equal(do_request(fixture, &slots[i], LUNKIT_READ, 0, offset, back, length), 0);
		assert_memory_equal(back, buffer + offset, length);
		slot_free(&slots[i]);
	}
	free(buffer);
	free(back);
	image_close(image);
}

static bool file_has(const void *text, size_t length)
{
	struct stat status;
	int fd = open(path, O_RDONLY);
	assert_int_equal(fstat(fd, &status), 0);
	char *bytes = malloc((size_t)status.st_size);
	assert_int_equal(pread(fd, bytes, (size_t)status.st_size, 0), status.st_size);
	bool found = memmem(bytes, (size_t)status.st_size, text, length);
	free(bytes);
	close(fd);
	return found;
}

static void test_keys(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image *image;
	struct slot slot;
	char block[4096] = "what nobody is to read";
	struct image_params params = { .name = path };
	assert_int_equal(create(fixture, "version=1", &err), 0);
	image = must_open(fixture, NULL, LUNKIT_CACHE_NONE);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 4096, block, sizeof(block)), 0);
	slot_free(&slot);
	image_close(image);
	assert_false(file_has("what nobody", 11));
	assert_false(file_has("right", 5));

	assert_int_equal(try_open(fixture, &wrong, &params, &image, &err), -EACCES);
	assert_int_equal(try_open(fixture, NULL, &params, &image, &err), -ENOKEY);
	/* looking needs none, and reads nothing */
	params.look_only = true;
	char *json;
	assert_int_equal(try_open(fixture, NULL, &params, &image, &err), 0);
	assert_int_equal(image_info(image, &json, &err), 0);
	assert_non_null(strstr(json, "\"encryption\":\"LUKS1\""));
	free(json);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 0, block, sizeof(block)), -EACCES);
	slot_free(&slot);
	image_close(image);
	/* locked: for keys only, whatever is there */
	params.look_only = false;
	params.locked = true;
	assert_int_equal(try_open(fixture, NULL, &params, &image, &err), 0);
	struct job_probe probe = { .job.done = note_job };
	struct lunkit_key_change change = { LUNKIT_KEY_ADD, -1, wrong.bytes, wrong.length, key.bytes, key.length, -1 };
	image_change_key(image, &probe.job, &change);
	while (!probe.calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(probe.result, -EACCES);
	probe = (struct job_probe){ .job.done = note_job };
	change = (struct lunkit_key_change){ LUNKIT_KEY_ADD, -1, key.bytes, key.length, wrong.bytes, wrong.length, -1 };
	image_change_key(image, &probe.job, &change);
	while (!probe.calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(probe.result, 0);
	image_close(image);
	params.locked = false;
	assert_int_equal(try_open(fixture, &wrong, &params, &image, &err), 0);
	image_close(image);
}

static void test_resize(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(create(fixture, "version=1", &err), 0);
	struct image *image = must_open(fixture, NULL, LUNKIT_CACHE_NONE);
	struct job_probe probe = { .job.done = note_job };
	image_resize(image, &probe.job, SIZE * 2, 0);
	while (!probe.calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(probe.result, 0);
	assert_int_equal(image_limits(image)->size, SIZE * 2);
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, SIZE * 2 + (2 << 20));
	probe = (struct job_probe){ .job.done = note_job };
	image_resize(image, &probe.job, SIZE, 0);
	while (!probe.calls)
		assert_int_equal(loop_turn(fixture->loop, true), 0);
	assert_int_equal(probe.result, -EINVAL); /* smaller only when that is asked for */
	image_close(image);
}

static void test_plain(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct image *image;
	struct slot slot;
	char block[512] = "plain dm-crypt", back[512];
	uint8_t bytes[64];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	const struct image_key volume = { bytes, 64 }, short_key = { bytes, 63 };
	struct image_params params = { .name = path, .options = "format=plain" };
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(try_open(fixture, &short_key, &params, &image, &err), -EINVAL);
	assert_int_equal(try_open(fixture, &volume, &params, &image, &err), 0);
	assert_int_equal(image_limits(image)->size, 1 << 20);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_WRITE, 0, 512, block, 512), 0);
	assert_int_equal(pread(fd, back, 512, 512), 512);
	assert_memory_not_equal(back, block, 512);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 512, back, 512), 0);
	assert_memory_equal(back, block, 512);
	slot_free(&slot);
	image_close(image);
	close(fd);
}

static void refuse(struct fixture *fixture, const char *options, int code, const char *text)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(create(fixture, options, &err), code);
	assert_non_null(strstr(err.message, text));
	assert_int_equal(access(path, F_OK), -1);
}

static void test_refused(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	refuse(fixture, "version=1;sector-size=4096", -EINVAL, "512 bytes");
	refuse(fixture, "key-size=128", -ENOTSUP, "128 bits");
	refuse(fixture, "version=3", -EINVAL, "version");
	const struct image_params params = { .name = path, .size = SIZE };
	fixture->host.key = NULL;
	assert_int_equal(image_create(&fixture->host, handler_find("luks"), &params, &err), -ENOKEY);
	assert_int_equal(access(path, F_OK), -1);
	/* a file that exists stays as it is */
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "mine", 4), 4);
	close(fd);
	assert_int_equal(create(fixture, "version=1", &err), -EEXIST);
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_size, 4);
}

#define IN(place, test)                                                                                                                    \
	{                                                                                                                                  \
#test " (" #place ")", test, setup_##place, teardown, NULL                                                                 \
	}

int main(void)
{
	header_cheap_keys = true;
	const struct CMUnitTest tests[] = {
		IN(disk, test_data),   IN(disk, test_many),  IN(memory, test_many),  IN(disk, test_keys),
		IN(disk, test_resize), IN(disk, test_plain), IN(memory, test_plain), IN(memory, test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
