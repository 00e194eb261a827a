/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/key.h"

static char folder[] = "/tmp/lunkit-key-XXXXXX";

static int setup(void **state)
{
	(void)state;
	return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	unlink("key");
	unlink("pipe");
	return chdir("/") == 0 ? rmdir(folder) : -1;
}

static void write_file(const char *name, const void *bytes, size_t length)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, bytes, length), (ssize_t)length);
	close(fd);
}

static void holds(struct key *key, const void *bytes, size_t length)
{
	char content[64];
	assert_int_equal(key->length, length);
	assert_int_equal(pread(key->fd, content, sizeof(content), 0), (ssize_t)length);
	assert_memory_equal(content, bytes, length);
	/* nobody can change it any more, nor make it longer or shorter */
	assert_int_equal(pwrite(key->fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(key->fd, 0), -1);
	assert_int_equal(fcntl(key->fd, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
	key_free(key);
	assert_int_equal(key->fd, -1);
	key_free(key);
}

static void test_file(void **state)
{
	(void)state;
	struct key key;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	write_file("key", "a\0b\n", 4);
	assert_int_equal(key_open("key", "it", false, &key, &err), 0);
	holds(&key, "a\0b\n", 4);
	assert_int_equal(key_open("file:key", "it", false, &key, &err), 0);
	holds(&key, "a\0b\n", 4);
}

static void refused(const char *source, int code, const char *text)
{
	struct key key = KEY_NONE;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(key_open(source, "the image", false, &key, &err), -code);
	assert_non_null(strstr(err.message, text));
	assert_int_equal(key.fd, -1);
}

static void test_refused(void **state)
{
	(void)state;
	refused("nowhere", ENOENT, "nowhere");
	refused("/dev/zero", EINVAL, "neither a file nor a pipe");
	refused(folder, EINVAL, "neither a file nor a pipe");
	write_file("key", "", 0);
	refused("key", EINVAL, "is empty");
	assert_int_equal(truncate("key", (off_t)KEY_BYTES_MAX + 1), 0);
	refused("key", EFBIG, "is longer");
	/* lunkitd would wait for whoever writes */
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct key key = KEY_NONE;
	assert_int_equal(mkfifo("pipe", 0600), 0);
	assert_int_equal(key_open("pipe", "it", true, &key, &err), -EINVAL);
	refused("fd:x", EINVAL, "fd:");
	refused("fd:-1", EINVAL, "fd:");
	refused("fd:", EINVAL, "fd:");
	refused("fd:9999", EBADF, "descriptor");
	unsetenv("CREDENTIALS_DIRECTORY");
	refused("credential:disk", ENOENT, "no credentials");
	setenv("CREDENTIALS_DIRECTORY", folder, 1);
	refused("credential:../key", EINVAL, "credential's name");
	refused("credential:", EINVAL, "credential's name");
	refused("credential:other", ENOENT, "no credential 'other'");
	setenv("CREDENTIALS_DIRECTORY", "relative", 1);
	refused("credential:key", ENOENT, "no credentials");
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_descriptors(void **state)
{
	(void)state;
	int ends[2];
	char source[16];
	struct key key, copy;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(write(ends[1], "secret", 6), 6);
	close(ends[1]);
	snprintf(source, sizeof(source), "fd:%d", ends[0]);
	assert_int_equal(key_open(source, "it", false, &key, &err), 0);
	close(ends[0]);

	/* to another process and back: only sealed ones are taken, from wherever they stand */
	lseek(key.fd, 3, SEEK_SET);
	assert_int_equal(key_from_fd(key.fd, "it", &copy, &err), 0);
	assert_int_not_equal(copy.fd, key.fd);
	holds(&copy, "secret", 6);
	holds(&key, "secret", 6);
	int open_one = memfd_create("test", MFD_ALLOW_SEALING);
	assert_int_equal(write(open_one, "secret", 6), 6);
	assert_int_equal(key_from_fd(open_one, "it", &copy, &err), -EINVAL);
	close(open_one);
	write_file("key", "secret", 6);
	int file = open("key", O_RDONLY);
	assert_int_equal(key_from_fd(file, "it", &copy, &err), -EINVAL);
	close(file);
}

static void test_credential(void **state)
{
	(void)state;
	struct key key;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	write_file("key", "secret", 6);
	setenv("CREDENTIALS_DIRECTORY", folder, 1);
	assert_int_equal(key_open("credential:key", "it", false, &key, &err), 0);
	holds(&key, "secret", 6);
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_sources_that_last(void **state)
{
	(void)state;
	assert_true(key_source_is_lasting("/etc/keys/disk"));
	assert_true(key_source_is_lasting("credential:disk"));
	assert_true(key_source_is_lasting("keyring:disk"));
	assert_false(key_source_is_lasting("-"));
	assert_false(key_source_is_lasting("fd:3"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file),	   cmocka_unit_test(test_refused),	     cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_credential), cmocka_unit_test(test_sources_that_last),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
