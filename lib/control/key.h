/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Keys of encrypted images in lunkitd: one for each LUN, kept for the workers that follow the first. A key comes with the call that attaches, and is gone with this lunkitd; or
 * from where the reference says (key-file=), which the next lunkitd reads as well.
 */

#include "host/key.h"
#include "pool/reference.h"

/* A worker with a key to derive is ready later: a second or two for each key slot that has to be tried, more on a machine that is busy. */
#define KEY_READY_SECONDS 120

struct control;

/* From the reference's key-file, if it has one; *ret stays KEY_NONE otherwise. Reads a small file; any thread. */
int control_open_key(const struct reference *reference, struct key *ret, struct lunkit_error *err);
/* attach.c: the key that came with the attach under way of that name, or KEY_NONE. */
void attach_take_key(struct control *control, const char *name, struct key *ret);
