/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image_fixture.h"

#include "image/lock.h"

/* Locks belong to open files: opening twice stands for two processes. */
static int open_again(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static char path[] = "/tmp/lunkit-lock-XXXXXX";

static int make_file(void **state)
{
	(void)state;
	strcpy(path + sizeof(path) - 7, "XXXXXX");
	int fd = mkstemp(path);
	if (fd < 0)
		return -1;
	close(fd);
	return 0;
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void a_writer_is_alone(void **state)
{
	(void)state;
	struct lunkit_error err;
	int a = open_again(path), b = open_again(path);
	assert_int_equal(image_lock_for_use(a, true, path, &err), 0);
	assert_int_equal(image_lock_for_use(b, true, path, &err), -EAGAIN);
	assert_non_null(strstr(err.message, path));
	assert_true(err.hint[0]);
	assert_int_equal(image_lock_for_use(b, false, path, &err), -EAGAIN);
	/* What failed has left no lock behind, and closing gives all back. */
	close(a);
	int c = open_again(path);
	assert_int_equal(image_lock_for_use(c, true, path, &err), 0);
	close(c);
	assert_int_equal(image_lock_for_use(b, true, path, &err), 0);
	close(b);
}

static void parts_are_claimed_beside_the_file(void **state)
{
	(void)state;
	struct lunkit_error err;
	int a = open_again(path), b = open_again(path), c = open_again(path);
	assert_int_equal(image_lock_for_use(a, true, path, &err), 0);
	assert_int_equal(image_claim_part(b, 65536, LUNKIT_CLAIM_SHARED), 0);
	assert_int_equal(image_claim_part(c, 65536, LUNKIT_CLAIM_SHARED), 0);
	assert_int_equal(image_claim_part(a, 65536, LUNKIT_CLAIM_ALONE), -EBUSY);
	assert_int_equal(image_claim_part(a, 131072, LUNKIT_CLAIM_ALONE), 0);
	assert_int_equal(image_claim_part(c, 131072, LUNKIT_CLAIM_SHARED), -EBUSY);
	close(b);
	image_unlock_file(c); /* claims too */
	assert_int_equal(image_claim_part(a, 65536, LUNKIT_CLAIM_ALONE), 0);
	assert_int_equal(image_claim_part(a, 65536, LUNKIT_CLAIM_NONE), 0);
	assert_int_equal(image_claim_part(c, 65536, LUNKIT_CLAIM_SHARED), 0);
	close(a);
	close(c);
}

static void readers_share(void **state)
{
	(void)state;
	struct lunkit_error err;
	int a = open_again(path), b = open_again(path), c = open_again(path);
	assert_int_equal(image_lock_for_use(a, false, path, &err), 0);
	assert_int_equal(image_lock_for_use(b, false, path, &err), 0);
	assert_int_equal(image_lock_for_use(c, true, path, &err), -EAGAIN);
	close(a);
	assert_int_equal(image_lock_for_use(c, true, path, &err), -EAGAIN);
	close(b);
	assert_int_equal(image_lock_for_use(c, true, path, &err), 0);
	close(c);
}

static bool is_locked(int fd, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
	return lock.l_type != F_UNLCK;
}

static void the_bytes_are_qemus(void **state)
{
	(void)state;
	struct lunkit_error err;
	int a = open_again(path), b = open_again(path);
	assert_int_equal(image_lock_for_use(a, true, path, &err), 0);
	static const struct {
		off_t byte;
		bool locked;
	} bytes[] = {
		{ 99, false },	{ 100, true }, { 101, true },  { 102, false }, { 103, true },  { 104, false },
		{ 200, false }, { 201, true }, { 202, false }, { 203, true },  { 204, false },
	};
	for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
		if (is_locked(b, bytes[i].byte) != bytes[i].locked)
			fail_msg("byte %d", (int)bytes[i].byte);
	close(a);
	unsigned use = 0, deny = 0;
	a = open_again(path);
	assert_int_equal(image_lock_file(a, IMAGE_PERMISSION_READ, IMAGE_PERMISSION_WRITE, &use, &deny), 0);
	assert_int_equal(image_lock_file(b, IMAGE_PERMISSION_WRITE, IMAGE_PERMISSION_READ, &use, &deny), -EAGAIN);
	assert_int_equal(use, IMAGE_PERMISSION_WRITE);
	assert_int_equal(deny, IMAGE_PERMISSION_READ);
	close(a);
	close(b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_file, remove_file)
int main(void)
{
	const struct CMUnitTest tests[] = { TEST(a_writer_is_alone), TEST(parts_are_claimed_beside_the_file), TEST(readers_share),
					    TEST(the_bytes_are_qemus) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
