/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* A header's copy with libcryptsetup's device on it: what header.c and slots.c share. */

#include <libcryptsetup.h>

#include "header.h"

#define BLOCK ((size_t)4096)
/* Big-endian fields of a header. */
#define FIELD_VERSION 6
#define LUKS2_HEADER_SIZE 8

struct header_copy {
	int fd;
	uint8_t *bytes; /* the memfd, mapped */
	size_t length;
	struct crypt_device *device;
};

/* *ret has to be given back with header_copy_free() in any case. */
int header_load(const struct lunkit_crypt_store *store, struct header_copy *copy, struct lunkit_error *err);
void header_copy_free(struct header_copy *copy);
int header_read_facts(const char *name, struct crypt_device *device, struct lunkit_crypt_facts *ret, struct lunkit_error *err);
/* libcryptsetup's last words, or r's meaning. */
const char *header_why(int r);
int header_need_key(const char *name, const uint8_t *key, struct lunkit_error *err);
/* What libcryptsetup's failure to open a slot means. Returns the error's -errno. */
int header_explain_key(const char *name, int r, const uint8_t *key, size_t length, struct lunkit_error *err);
void header_set_kdf(const struct lunkit_crypt_format *format, struct crypt_pbkdf_type *ret);
