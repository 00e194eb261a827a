/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     source ─► descriptor or keyring ─► secret memory ─► sealed memfd ─► (socket, bus) ─► worker
 *
 * A message about a source that can't be used names the source, never what came from it. Only regular files, pipes and sockets are read: a device would have no end. A file
 * that others than its owner may read is taken with a warning, since it may be meant so on a machine of one user.
 */
#include "host/key.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/secret.h"

#define READ_STEP ((size_t)64 << 10)

/* ---- the memfd ---- */

static int seal(const void *bytes, size_t length, struct key *ret)
{
	struct key key = { .fd = memfd_create("lunkit-key", MFD_CLOEXEC | MFD_ALLOW_SEALING), .length = length };
	if (key.fd < 0)
		return -errno;
	int code = 0;
	for (size_t done = 0; done < length && !code;) {
		ssize_t written = write(key.fd, (const char *)bytes + done, length - done);
		if (written > 0)
			done += (size_t)written;
		else if (written == 0 || errno != EINTR)
			code = written ? errno : EIO;
	}
	if (!code &&
	    (fcntl(key.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0 || lseek(key.fd, 0, SEEK_SET) < 0))
		code = errno;
	if (code) {
		close(key.fd);
		return -code;
	}
	/* Pages of a memfd can be swapped like any other; locking a mapping of them holds them. */
	key.pages = mmap(NULL, length, PROT_READ, MAP_SHARED, key.fd, 0);
	if (key.pages == MAP_FAILED) {
		key.pages = NULL;
	} else {
		madvise(key.pages, length, MADV_DONTDUMP);
		madvise(key.pages, length, MADV_DONTFORK);
		if (mlock(key.pages, length) < 0)
			log_debug("a key can't be locked in memory: %s", strerror(errno));
	}
	*ret = key;
	return 0;
}

void key_free(struct key *key)
{
	if (key->pages)
		munmap(key->pages, key->length);
	if (key->fd >= 0)
		close(key->fd);
	*key = KEY_NONE;
}

static int check_length(size_t length, const char *what, const char *subject, struct lunkit_error *err)
{
	if (length == 0) {
		lunkit_error_set(err, EINVAL, "%.200s: the key from %.200s is empty", subject, what);
		return lunkit_error_hint(err, "put the passphrase there, without a newline at its end: printf %%s PASSPHRASE > FILE");
	}
	if (length > KEY_BYTES_MAX)
		return lunkit_error_set(err, EFBIG, "%.200s: the key from %.200s is longer than %zu bytes", subject, what, KEY_BYTES_MAX);
	return 0;
}

/* ---- descriptors ---- */

/* Reads to the end, or one byte more than a key may have. */
static int read_all(int fd, void *buffer, size_t room, size_t *ret_length)
{
	size_t length = 0;
	while (length < room) {
		ssize_t got = read(fd, (char *)buffer + length, MIN(room - length, READ_STEP));
		if (got == 0)
			break;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0)
			length += (size_t)got;
	}
	*ret_length = length;
	return 0;
}

static int take(int fd, const char *what, const char *subject, bool regular_only, struct key *ret, struct lunkit_error *err)
{
	struct stat status;
	if (fstat(fd, &status) < 0)
		return lunkit_error_set(err, errno, "%.200s: cannot read the key from %.200s: %s", subject, what, strerror(errno));
	bool regular = S_ISREG(status.st_mode);
	if (!regular && regular_only) {
		lunkit_error_set(err, EINVAL, "%.200s: the key can't come from %.200s: it is no regular file", subject, what);
		return lunkit_error_hint(err, "name a file that holds the key");
	}
	if (!regular && !S_ISFIFO(status.st_mode) && !S_ISSOCK(status.st_mode) && !(S_ISCHR(status.st_mode) && isatty(fd))) {
		lunkit_error_set(err, EINVAL, "%.200s: the key can't come from %.200s: it is neither a file nor a pipe", subject, what);
		return lunkit_error_hint(err, "name a file that holds the key");
	}
	if (S_ISCHR(status.st_mode)) {
		lunkit_error_set(err, EINVAL, "%.200s: the key can't be typed into %.200s: it would show", subject, what);
		return lunkit_error_hint(err, "give it through a pipe or a file: systemd-ask-password -n | lunkit ... --key-file -");
	}
	if (regular && status.st_size > (off_t)KEY_BYTES_MAX)
		return check_length(KEY_BYTES_MAX + 1, what, subject, err);
	size_t room = regular && status.st_size ? (size_t)status.st_size + 1 : KEY_BYTES_MAX + 1, length = 0;
	void *bytes = secret_new(room);
	int r = bytes ? read_all(fd, bytes, room, &length) : -ENOMEM;
	if (r < 0)
		lunkit_error_set(err, r, "%.200s: cannot read the key from %.200s: %s", subject, what, strerror(-r));
	else
		r = check_length(length, what, subject, err);
	if (r == 0 && (r = seal(bytes, length, ret)) < 0)
		lunkit_error_set(err, r, "%.200s: cannot keep the key in memory: %s", subject, strerror(-r));
	secret_free(bytes, room);
	return r;
}

int key_from_fd(int fd, const char *subject, struct key *ret, struct lunkit_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS), wanted = F_SEAL_WRITE | F_SEAL_SHRINK;
	if (seals < 0 || (seals & wanted) != wanted) {
		lunkit_error_set(err, EINVAL, "%.200s: the key did not come in a sealed memory file", subject);
		return lunkit_error_hint(err, "lunkit attach --key-file FILE makes one");
	}
	/* Somebody's opening, with somebody's position */
	lseek(fd, 0, SEEK_SET);
	return take(fd, "a descriptor", subject, true, ret, err);
}

/* ---- sources ---- */

static int open_file(const char *path, const char *subject, bool regular_only, struct key *ret, struct lunkit_error *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		lunkit_error_set(err, errno, "%.200s: cannot read the key file %.200s: %s", subject, path, strerror(errno));
		return lunkit_error_hint(err, errno == ENOENT ? "is the path right?" : "check who may read it");
	}
	struct stat status;
	if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_mode & (S_IRWXG | S_IRWXO))
		log_warning("%s: others than its owner may read this key file (chmod 600)", path);
	/* O_NONBLOCK was for opening: a pipe's other end may write later */
	if (!regular_only)
		fcntl(fd, F_SETFL, 0);
	int r = take(fd, path, subject, regular_only, ret, err);
	close(fd);
	return r;
}

static int open_credential(const char *name, const char *subject, struct key *ret, struct lunkit_error *err)
{
	char path[PATH_MAX];
	const char *folder = secure_getenv("CREDENTIALS_DIRECTORY");
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return lunkit_error_set(err, EINVAL, "%.200s: '%.100s' can't be a credential's name", subject, name);
	if (!folder || folder[0] != '/') {
		lunkit_error_set(err, ENOENT, "%.200s: there are no credentials: this process was not started with any", subject);
		return lunkit_error_hint(err, "LoadCredential=%.60s:PATH in the unit (systemctl edit lunkitd)", name);
	}
	if (snprintf(path, sizeof(path), "%s/%s", folder, name) >= (int)sizeof(path))
		return lunkit_error_set(err, ENAMETOOLONG, "%.200s: the credential's path is too long", subject);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		lunkit_error_set(err, errno, "%.200s: there is no credential '%.100s' to read: %s", subject, name, strerror(errno));
		return lunkit_error_hint(err, "LoadCredential=%.60s:PATH in the unit (systemctl edit lunkitd)", name);
	}
	int r = take(fd, "the credential", subject, true, ret, err);
	close(fd);
	return r;
}

static int open_keyring(const char *description, const char *subject, struct key *ret, struct lunkit_error *err)
{
	char *end;
	errno = 0;
	long id = strtol(description, &end, 0);
	if (!*description || *end || errno || id <= 0 || id > INT_MAX)
		id = *description ? syscall(SYS_request_key, "user", description, NULL, 0) : -1;
	long length = id < 0 ? -1 : syscall(SYS_keyctl, KEYCTL_READ, id, NULL, 0);
	if (length < 0) {
		lunkit_error_set(err, errno ? errno : ENOKEY, "%.200s: the kernel's keyring has no key '%.100s' to read: %s", subject,
				 description, strerror(errno));
		return lunkit_error_hint(err, "keyctl padd user '%.100s' @u < FILE puts it there", description);
	}
	int r = check_length((size_t)length, "the keyring", subject, err);
	if (r < 0)
		return r;
	void *bytes = secret_new((size_t)length);
	if (!bytes)
		return lunkit_error_set(err, ENOMEM, "%.200s: no memory for the key", subject);
	long got = syscall(SYS_keyctl, KEYCTL_READ, id, bytes, length);
	r = got == length ? seal(bytes, (size_t)length, ret) : -EAGAIN;
	if (r < 0)
		lunkit_error_set(err, r, "%.200s: cannot read key '%.100s' of the keyring: %s", subject, description, strerror(-r));
	secret_free(bytes, (size_t)length);
	return r;
}

enum source { SOURCE_FILE, SOURCE_FD, SOURCE_CREDENTIAL, SOURCE_KEYRING };

static enum source classify(const char *text, const char **ret_rest)
{
	static const char *const prefixes[] = {
		[SOURCE_FILE] = "file:", [SOURCE_FD] = "fd:", [SOURCE_CREDENTIAL] = "credential:", [SOURCE_KEYRING] = "keyring:"
	};
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (strncmp(text, prefixes[i], strlen(prefixes[i])) == 0) {
			*ret_rest = text + strlen(prefixes[i]);
			return (enum source)i;
		}
	*ret_rest = strcmp(text, "-") == 0 ? "0" : text;
	return strcmp(text, "-") == 0 ? SOURCE_FD : SOURCE_FILE;
}

void key_add_to_start(const struct key *key, struct protocol_packet *start)
{
	if (key->fd < 0)
		return;
	start->fds[start->fd_count++] = key->fd;
	start->message.start.flags |= PROTOCOL_KEY;
}

bool key_source_is_lasting(const char *source)
{
	const char *rest;
	return classify(source, &rest) != SOURCE_FD;
}

int key_open(const char *source, const char *subject, bool regular_only, struct key *ret, struct lunkit_error *err)
{
	const char *rest;
	char *end;
	switch (classify(source, &rest)) {
	case SOURCE_FILE:
		return open_file(rest, subject, regular_only, ret, err);
	case SOURCE_CREDENTIAL:
		return open_credential(rest, subject, ret, err);
	case SOURCE_KEYRING:
		return open_keyring(rest, subject, ret, err);
	case SOURCE_FD:
		break;
	}
	long fd = strtol(rest, &end, 10);
	if (!*rest || *end || fd < 0 || fd > INT_MAX) {
		lunkit_error_set(err, EINVAL, "%.200s: 'fd:' is followed by a descriptor's number", subject);
		return lunkit_error_hint(err, "--key-file fd:3 3< FILE");
	}
	return take((int)fd, fd ? "the descriptor" : "standard input", subject, false, ret, err);
}
