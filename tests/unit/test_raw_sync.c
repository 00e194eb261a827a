/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What raw says after a sync has failed. The calls that make data durable are wrapped by the linker (--wrap) and fail when the test wants it. */
#include "image_fixture.h"

const struct lunkit_handler *raw_handler_entry(void);

#define SIZE ((uint64_t)1 << 20)

static char path[64];
static int sync_result, write_result; /* of the next sync, of the next durable write; 0: let it go on */
static unsigned syncs, writes;

void __real_lunkit_io_fdatasync(struct lunkit_host *host, struct lunkit_io *io, int fd);
void __wrap_lunkit_io_fdatasync(struct lunkit_host *host, struct lunkit_io *io, int fd);
void __real_lunkit_io_writev(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count,
			     uint64_t offset, unsigned flags);
void __wrap_lunkit_io_writev(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count,
			     uint64_t offset, unsigned flags);

void __wrap_lunkit_io_fdatasync(struct lunkit_host *host, struct lunkit_io *io, int fd)
{
	syncs++;
	if (sync_result)
		lunkit_io_defer(host, io, sync_result);
	else
		__real_lunkit_io_fdatasync(host, io, fd);
	sync_result = 0; /* as the kernel: once */
}

void __wrap_lunkit_io_writev(struct lunkit_host *host, struct lunkit_io *io, int fd, const struct iovec *iov, unsigned count,
			     uint64_t offset, unsigned flags)
{
	writes++;
	if (write_result)
		lunkit_io_defer(host, io, write_result);
	else
		__real_lunkit_io_writev(host, io, fd, iov, count, offset, flags);
	write_result = 0;
}

static int setup(void **state)
{
	strcpy(path, "/var/tmp/lunkit-sync-XXXXXX");
	int fd = mkstemp(path);
	if (fd < 0 || ftruncate(fd, (off_t)SIZE) < 0)
		return -1;
	close(fd);
	sync_result = write_result = 0;
	return fixture_setup(state);
}

static int teardown(void **state)
{
	unlink(path);
	return fixture_teardown(state);
}

static struct image *must_open(struct fixture *fixture, enum lunkit_cache cache)
{
	const struct lunkit_handler *handler;
	const struct image_params params = { .name = path, .cache = cache };
	struct lunkit_error err;
	struct image *image;
	assert_int_equal(handler_adopt(raw_handler_entry(), &handler, &err), 0);
	if (image_open(&fixture->host, handler, &params, &image, &err) < 0)
		fail_msg("%s", err.message);
	return image;
}

struct disk {
	struct fixture *fixture;
	struct image *image;
	struct slot slot;
	char *buffer;
};

static void disk_open(struct disk *disk, void **state, enum lunkit_cache cache)
{
	*disk = (struct disk){ .fixture = *state, .image = must_open(*state, cache), .buffer = aligned_alloc(4096, 4096) };
	memset(disk->buffer, 'x', 4096);
	slot_init(disk->image, &disk->slot);
}

static void disk_close(struct disk *disk)
{
	slot_free(&disk->slot);
	image_close(disk->image);
	free(disk->buffer);
}

static int request(struct disk *disk, enum lunkit_op op, unsigned flags)
{
	return do_request(disk->fixture, &disk->slot, op, flags, 0, disk->buffer, op == LUNKIT_FLUSH ? 0 : 4096);
}

/* Every durable request has this error; the others go on. */
static void assert_error_stays(struct disk *disk, int error)
{
	unsigned syncs_before = syncs, writes_before = writes;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(request(disk, LUNKIT_FLUSH, 0), error);
		assert_int_equal(request(disk, LUNKIT_WRITE, LUNKIT_REQUEST_FUA), error);
		assert_int_equal(request(disk, LUNKIT_WRITE_ZEROES, LUNKIT_REQUEST_FUA), error);
	}
	assert_int_equal(syncs, syncs_before);
	assert_int_equal(writes, writes_before);
	assert_int_equal(request(disk, LUNKIT_READ, 0), 0);
	assert_int_equal(request(disk, LUNKIT_DISCARD, 0), 0);
}

static void a_failed_flush_is_never_followed_by_a_good_one(void **state)
{
	static const enum lunkit_cache modes[] = { LUNKIT_CACHE_NONE, LUNKIT_CACHE_WRITEBACK };
	static const int errors[] = { -EIO, -ENOSPC, -EDQUOT };
	for (unsigned mode = 0; mode < ARRAY_SIZE(modes); mode++)
		for (unsigned i = 0; i < ARRAY_SIZE(errors); i++) {
			struct disk disk;
			disk_open(&disk, state, modes[mode]);
			assert_int_equal(request(&disk, LUNKIT_WRITE, 0), 0);
			assert_int_equal(request(&disk, LUNKIT_FLUSH, 0), 0);
			sync_result = errors[i];
			assert_int_equal(request(&disk, LUNKIT_FLUSH, 0), errors[i]);
			assert_error_stays(&disk, errors[i]);
			assert_int_equal(request(&disk, LUNKIT_WRITE, 0), 0);
			assert_int_equal(request(&disk, LUNKIT_WRITE_ZEROES, 0), 0);
			disk_close(&disk);
			/* Opened again: somebody has seen it. */
			disk_open(&disk, state, modes[mode]);
			assert_int_equal(request(&disk, LUNKIT_FLUSH, 0), 0);
			disk_close(&disk);
		}
}

static void a_failed_durable_write_counts_as_a_flush(void **state)
{
	struct disk disk;
	disk_open(&disk, state, LUNKIT_CACHE_WRITEBACK);
	write_result = -EIO;
	assert_int_equal(request(&disk, LUNKIT_WRITE, LUNKIT_REQUEST_FUA), -EIO);
	assert_error_stays(&disk, -EIO);
	disk_close(&disk);

	disk_open(&disk, state, LUNKIT_CACHE_WRITEBACK);
	write_result = -ENOSPC; /* maybe of pages that were written before */
	assert_int_equal(request(&disk, LUNKIT_WRITE, LUNKIT_REQUEST_FUA), -ENOSPC);
	assert_error_stays(&disk, -ENOSPC);
	disk_close(&disk);

	disk_open(&disk, state, LUNKIT_CACHE_WRITETHROUGH);
	write_result = -EIO;
	assert_int_equal(request(&disk, LUNKIT_WRITE, 0), -EIO);
	assert_int_equal(request(&disk, LUNKIT_WRITE, 0), -EIO);
	assert_int_equal(request(&disk, LUNKIT_READ, 0), 0);
	disk_close(&disk);

	disk_open(&disk, state, LUNKIT_CACHE_NONE);
	sync_result = -EIO; /* the one behind zeros */
	assert_int_equal(request(&disk, LUNKIT_WRITE_ZEROES, LUNKIT_REQUEST_FUA), -EIO);
	assert_error_stays(&disk, -EIO);
	disk_close(&disk);
}

static void what_loses_nothing_is_forgotten(void **state)
{
	struct disk disk;
	disk_open(&disk, state, LUNKIT_CACHE_WRITEBACK);
	write_result = -EIO; /* nobody was promised anything */
	assert_int_equal(request(&disk, LUNKIT_WRITE, 0), -EIO);
	assert_int_equal(request(&disk, LUNKIT_FLUSH, 0), 0);
	sync_result = -EINTR;
	assert_int_equal(request(&disk, LUNKIT_FLUSH, 0), -EINTR);
	assert_int_equal(request(&disk, LUNKIT_FLUSH, 0), 0);
	disk_close(&disk);

	disk_open(&disk, state, LUNKIT_CACHE_WRITETHROUGH);
	write_result = -ENOSPC; /* a sparse file on a full filesystem: the same write later */
	assert_int_equal(request(&disk, LUNKIT_WRITE, 0), -ENOSPC);
	assert_int_equal(request(&disk, LUNKIT_WRITE, 0), 0);
	disk_close(&disk);
}

/* Two at a time: the kernel tells one of them. */
static void a_flush_beside_the_one_that_failed_fails(void **state)
{
	struct disk disk;
	struct slot other;
	disk_open(&disk, state, LUNKIT_CACHE_WRITEBACK);
	slot_init(disk.image, &other);
	sync_result = -EIO;
	slot_submit(&disk.slot, LUNKIT_FLUSH, 0, 0, 0, 0);
	slot_submit(&other, LUNKIT_FLUSH, 0, 0, 0, 0);
	assert_int_equal(slot_wait(*state, &disk.slot), -EIO);
	assert_int_equal(slot_wait(*state, &other), -EIO);
	slot_free(&other);
	disk_close(&disk);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_failed_flush_is_never_followed_by_a_good_one),
		TEST(a_failed_durable_write_counts_as_a_flush),
		TEST(what_loses_nothing_is_forgotten),
		TEST(a_flush_beside_the_one_that_failed_fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
