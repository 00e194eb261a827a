/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * What `attach --persist` leaves behind: STATE_DIRECTORY/luns/NAME.json, one file for each LUN, which `lunkit restore` attaches after a boot. Files are replaced as a whole
 * and synced, so that a crash leaves the old or the new one.
 */

#include "base/error.h"
#include "target/files.h"

struct record {
	char name[64];	  /* the backstore's */
	char image[4096]; /* a reference with its options */
	char fabric[16];  /* loop, vhost, none */
	char serial[128];
	unsigned block_size; /* 0: the image's */
};

int record_write(const char *state_directory, const struct record *record, struct lunkit_error *err);
int record_read(const char *state_directory, const char *name, struct record *ret, struct lunkit_error *err);
/* Success when there is none. */
int record_remove(const char *state_directory, const char *name, struct lunkit_error *err);
/* The names of all records. */
int record_list(const char *state_directory, struct names *ret);
