/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * QEMU's protocol: open file description locks on single bytes of the image file, which need not exist there.
 *
 *     byte 100 + i, shared: I use permission i          i: 0 consistent read, 1 write, 2 write unchanged, 3 resize
 *     byte 200 + i, shared: I don't let others use i
 *
 * Locks are only ever taken shared, so taking them never fails for another's sake; whether somebody clashes is found by asking for the
 * exclusive lock on the opposite byte without taking it. Taking comes before asking: of two that come at the same time at least one sees the
 * other.
 *
 *     byte 2^62 + n: part n of the file's content, shared or exclusive; lunkit's own
 */
#include "image/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define BYTE_USED 100
#define BYTE_DENIED 200
#define PERMISSIONS 4
#define BYTE_PARTS ((off_t)1 << 62)

static int set(int fd, short type, off_t byte)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	int r;
	do
		r = fcntl(fd, F_OFD_SETLK, &lock);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* 1 when another open file holds a lock on the byte. */
static int is_taken(int fd, off_t byte)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	return lock.l_type != F_UNLCK;
}

void image_unlock_file(int fd)
{
	struct flock lock = { .l_type = F_UNLCK, .l_whence = SEEK_SET }; /* length 0: to the end of all bytes */
	fcntl(fd, F_OFD_SETLK, &lock);
}

int image_claim_part(int fd, uint64_t number, enum lunkit_claim claim)
{
	static const short types[] = { [LUNKIT_CLAIM_NONE] = F_UNLCK, [LUNKIT_CLAIM_SHARED] = F_RDLCK, [LUNKIT_CLAIM_ALONE] = F_WRLCK };
	int r = set(fd, types[claim], BYTE_PARTS + (off_t)number);
	switch (r) {
	case -EAGAIN:
	case -EACCES:
		return -EBUSY;
	case -ENOLCK:
	case -EOPNOTSUPP:
	case -ENOSYS:
	case -EINVAL:
		return 0;
	default:
		return r;
	}
}

int image_lock_file(int fd, unsigned use, unsigned deny, unsigned *ret_use, unsigned *ret_deny)
{
	int r = 0;
	for (unsigned i = 0; i < PERMISSIONS && r == 0; i++) {
		if (use & 1u << i)
			r = set(fd, F_RDLCK, BYTE_USED + i);
		if (r == 0 && deny & 1u << i)
			r = set(fd, F_RDLCK, BYTE_DENIED + i);
	}
	unsigned clash_use = 0, clash_deny = 0;
	for (unsigned i = 0; i < PERMISSIONS && r >= 0; i++) {
		if (use & 1u << i && (r = is_taken(fd, BYTE_DENIED + i)) > 0)
			clash_use |= 1u << i;
		if (r >= 0 && deny & 1u << i && (r = is_taken(fd, BYTE_USED + i)) > 0)
			clash_deny |= 1u << i;
	}
	if (r >= 0 && !(clash_use | clash_deny))
		return 0;
	image_unlock_file(fd);
	if (r < 0)
		return r;
	*ret_use = clash_use;
	*ret_deny = clash_deny;
	return -EAGAIN;
}

int image_lock_for_use(int fd, bool write, const char *path, struct lunkit_error *err)
{
	unsigned use = IMAGE_PERMISSION_READ, deny = IMAGE_PERMISSION_WRITE | IMAGE_PERMISSION_RESIZE, clash_use, clash_deny;
	if (write)
		use |= IMAGE_PERMISSION_WRITE | IMAGE_PERMISSION_RESIZE;
	int r = image_lock_file(fd, use, deny, &clash_use, &clash_deny);
	switch (r) {
	case 0:
		return 0;
	case -EAGAIN:
		lunkit_error_set(err, EAGAIN, "%.500s is in use: %s", path,
				 clash_deny ? "another process writes to it" : "another process holds it against changes");
		return lunkit_error_hint(err,
					 "Stop what uses it (a LUN: `lunkit list`; a virtual machine or qemu-img: `fuser -v` or `lsof`).");
	case -ENOLCK:
	case -EOPNOTSUPP:
	case -ENOSYS:
	case -EINVAL:
		return 1;
	default:
		return lunkit_error_set(err, r, "cannot lock %.500s: %s", path, strerror(-r));
	}
}
