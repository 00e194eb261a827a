/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Locks on image files, the way QEMU does it: qemu-img and lunkit keep out of each other's way. See lock.c. */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "image/handler.h"

#define IMAGE_PERMISSION_READ 1u /* consistent reads */
#define IMAGE_PERMISSION_WRITE 2u
#define IMAGE_PERMISSION_WRITE_UNCHANGED 4u /* writes that don't change what is read */
#define IMAGE_PERMISSION_RESIZE 8u

/*
 * Locks the open file: use is what the owner does, deny what others may not do meanwhile; any IMAGE_PERMISSION_*. The lock belongs to
 * the open file description and ends when its last descriptor is closed. -EAGAIN when another use excludes this one: then *ret_use, *ret_deny
 * say which of this one's permissions clash, and nothing is locked. -ENOLCK, -EOPNOTSUPP, … where the filesystem has no locks.
 */
int image_lock_file(int fd, unsigned use, unsigned deny, unsigned *ret_use, unsigned *ret_deny);

/* Before closing: io_uring may hold on to an open file for a moment after its last operation has completed, and with it to the locks. */
void image_unlock_file(int fd);

/* lunkit_file_claim(). QEMU knows nothing of these. */
int image_claim_part(int fd, uint64_t number, enum lunkit_claim claim);

/* What an image needs: a writer is alone, readers are among themselves. 1: this filesystem has no locks. Sets the error when it fails. */
int image_lock_for_use(int fd, bool write, const char *path, struct lunkit_error *err);
