/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/process.h"
#include "image/handler.h"

static char folder[64];
static int sockets[2];
static struct protocol_packet request, answer;

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/lunkit-opener-XXXXXX");
	assert_non_null(mkdtemp(folder));
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets);
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	close(sockets[0]);
	close(sockets[1]);
	return system(command);
}

static const char *in_folder(const char *name)
{
	static char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static int ask(enum protocol_type type, const struct opener_policy *policy, const char *path, unsigned flags)
{
	memset(&request, 0, sizeof(request));
	request.message.type = type;
	request.message.id = 5;
	request.message.open.flags = flags;
	snprintf(request.message.open.path, sizeof(request.message.open.path), "%s", path);
	assert_int_equal(opener_answer(policy, sockets[0], &request), 0);
	assert_int_equal(protocol_receive(sockets[1], &answer), 1);
	assert_int_equal(answer.message.type, PROTOCOL_ANSWER);
	assert_int_equal(answer.message.id, 5);
	if (answer.message.result.result < 0) {
		assert_int_equal(answer.fd_count, 0);
		assert_non_null(strstr(answer.message.result.error.message, path)); /* which file */
	} else {
		assert_int_equal(answer.fd_count, type == PROTOCOL_OPEN ? 1 : 0);
	}
	return answer.message.result.result;
}

static void make_file(const char *path)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);
	assert_true(fd >= 0);
	close(fd);
}

static void test_only_the_named_path(void **state)
{
	(void)state;
	char path[PATH_MAX];
	strcpy(path, in_folder("disk"));
	make_file(path);
	struct opener_policy policy = { .path = path };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), 0);
	assert_int_equal(fcntl(answer.fds[0], F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDONLY);
	protocol_close_fds(&answer);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, "/etc/passwd", 0), -EACCES);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, in_folder("./disk"), 0), -EACCES);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, "", 0), -EACCES);
	policy.path = NULL;
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), -EACCES);
}

static void test_configuration_may_be_read(void **state)
{
	(void)state;
	char conf[PATH_MAX], file[PATH_MAX], link[PATH_MAX], fifo[PATH_MAX];
	strcpy(conf, in_folder("conf"));
	strcpy(file, in_folder("conf/x.conf"));
	strcpy(link, in_folder("conf/link.conf"));
	strcpy(fifo, in_folder("conf/fifo"));
	assert_int_equal(mkdir(conf, 0700), 0);
	make_file(file);
	assert_int_equal(symlink("/etc/passwd", link), 0);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	const char *const folders[] = { "/nonexistent", conf, NULL };
	struct opener_policy policy = { .config = folders, .may_write = true, .may_create = true };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, file, LUNKIT_FILE_UNLOCKED), 0);
	assert_int_equal(fcntl(answer.fds[0], F_GETFL) & O_ACCMODE, O_RDONLY);
	protocol_close_fds(&answer);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, link, 0), 0);
	protocol_close_fds(&answer);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, file, LUNKIT_FILE_WRITE), -EACCES);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, fifo, 0), -EINVAL);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, conf, 0), -EACCES);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, "/etc/passwd", 0), -EACCES);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, in_folder("conf/../conf/x.conf"), 0), -EACCES);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, in_folder("conf/none"), 0), -ENOENT);
	assert_int_equal(ask(PROTOCOL_REMOVE, &policy, file, 0), -EACCES);
}

static void test_only_what_was_allowed(void **state)
{
	(void)state;
	char path[PATH_MAX];
	strcpy(path, in_folder("disk"));
	struct opener_policy policy = { .path = path };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_CREATE), -EACCES);
	policy.may_write = true;
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_CREATE), -EACCES);
	assert_int_equal(access(path, F_OK), -1);
	bool created = false;
	policy.may_create = true;
	policy.ret_created = &created;
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_CREATE), 0);
	assert_true(created);
	protocol_close_fds(&answer);
	struct stat status;
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_CREATE), -EEXIST);
	policy.may_write = false;
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), -EACCES);
	policy.may_create = false;
	assert_int_equal(ask(PROTOCOL_REMOVE, &policy, path, 0), -EACCES);
	policy.may_create = true;
	assert_int_equal(ask(PROTOCOL_REMOVE, &policy, "/etc/passwd", 0), -EACCES);
	assert_int_equal(ask(PROTOCOL_REMOVE, &policy, path, 0), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_creating_leaves_alone_what_was_there(void **state)
{
	(void)state;
	char path[PATH_MAX];
	bool created = false;
	strcpy(path, in_folder("disk"));
	make_file(path);
	struct opener_policy policy = { .path = path, .may_write = true, .may_create = true, .ret_created = &created };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_CREATE | LUNKIT_FILE_WRITE), -EEXIST);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), -EEXIST);
	assert_int_equal(ask(PROTOCOL_REMOVE, &policy, path, 0), -EACCES);
	assert_int_equal(access(path, F_OK), 0);
	assert_false(created);
}

static void test_refuses_what_is_no_image(void **state)
{
	(void)state;
	char path[PATH_MAX];
	struct opener_policy policy = { .path = path, .may_write = true };
	strcpy(path, folder);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), -EISDIR);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), -EISDIR);
	strcpy(path, in_folder("pipe"));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), -EINVAL); /* and does not wait for a writer */
	strcpy(path, "/dev/zero");
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), -EINVAL);
	strcpy(path, in_folder("missing"));
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), -ENOENT);
	assert_string_not_equal(answer.message.result.error.hint, "");
}

static void test_a_link_that_appears_is_refused(void **state)
{
	(void)state;
	char path[PATH_MAX];
	strcpy(path, in_folder("disk"));
	assert_int_equal(symlink("/etc/passwd", path), 0);
	struct opener_policy policy = { .path = path };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), -ELOOP);
}

/* Stable names of devices are links. Where they end is looked at: here at a device that is no disk. */
static void test_a_link_below_dev_is_followed(void **state)
{
	(void)state;
	const char *path = "/dev/lunkit-opener-test";
	unlink(path);
	if (symlink("null", path) < 0)
		skip(); /* not root, or a /dev that can't be written */
	struct opener_policy policy = { .path = path, .may_write = true };
	int r = ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE);
	unlink(path);
	assert_int_equal(r, -EINVAL);
	assert_non_null(strstr(answer.message.result.error.message, "a character device"));
}

static void test_siblings(void **state)
{
	(void)state;
	char path[PATH_MAX], base[PATH_MAX];
	strcpy(path, in_folder("overlay"));
	strcpy(base, in_folder("base"));
	make_file(path);
	make_file(base);
	struct opener_policy policy = { .path = path, .may_write = true };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, base, 0), 0);
	protocol_close_fds(&answer);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, base, LUNKIT_FILE_WRITE), -EACCES);
	policy.no_siblings = true;
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, base, 0), -EACCES);
	/* beside a disk lie other disks */
	policy = (struct opener_policy){ .path = "/dev/lunkit-no-such-disk" };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, "/dev/null", 0), -EACCES);
}

static void test_another_file_of_that_name_is_refused(void **state)
{
	(void)state;
	char path[PATH_MAX], aside[PATH_MAX];
	strcpy(path, in_folder("disk"));
	strcpy(aside, in_folder("aside"));
	make_file(path);
	struct opener_identity identity = { 0 };
	struct opener_policy policy = { .path = path, .identity = &identity, .may_write = true };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, 0), 0);
	protocol_close_fds(&answer);
	if (!identity.known)
		skip(); /* the filesystem keeps no time of birth */
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), 0);
	protocol_close_fds(&answer);
	struct opener_identity first = identity;

	assert_int_equal(rename(path, aside), 0);
	make_file(path);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), -ESTALE);
	assert_int_equal(identity.inode, first.inode);
	assert_int_equal(identity.birth_seconds, first.birth_seconds);
	assert_int_equal(identity.birth_ns, first.birth_ns);
	/* What an overlay lies on may be another one: it is only read. */
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, aside, 0), 0);
	protocol_close_fds(&answer);

	assert_int_equal(rename(aside, path), 0);
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE), 0);
	protocol_close_fds(&answer);
}

static void test_direct_falls_back(void **state)
{
	(void)state;
	char path[] = "/dev/shm/lunkit-opener-XXXXXX"; /* a tmpfs: some kernels refuse O_DIRECT there */
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	struct opener_policy policy = { .path = path, .may_write = true };
	assert_int_equal(ask(PROTOCOL_OPEN, &policy, path, LUNKIT_FILE_WRITE | LUNKIT_FILE_DIRECT), 0);
	bool direct = fcntl(answer.fds[0], F_GETFL) & O_DIRECT;
	assert_int_equal(direct, (answer.message.result.flags & LUNKIT_FILE_DIRECT) != 0);
	protocol_close_fds(&answer);
	unlink(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_only_the_named_path),
		TEST(test_only_what_was_allowed),
		TEST(test_configuration_may_be_read),
		TEST(test_creating_leaves_alone_what_was_there),
		TEST(test_refuses_what_is_no_image),
		TEST(test_a_link_that_appears_is_refused),
		TEST(test_a_link_below_dev_is_followed),
		TEST(test_siblings),
		TEST(test_another_file_of_that_name_is_refused),
		TEST(test_direct_falls_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
