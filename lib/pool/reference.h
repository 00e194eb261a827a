/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * How images are named. On lunkit's command line: a PATH (kind qcow2 when it ends so, else raw) or KIND:REST, then ";key=value" options. In targetcli the backstore is the kind and
 * the cfgstring "REST;key=value…" (libtcmu and D-Bus see "KIND/REST…"). Values and REST are percent-encoded where LIO's tools break: space, comma, colon
 * in a cfgstring, '%', ';' and control characters.
 *
 * Options of every kind are taken out here (the "core options"), the rest belongs to the handler.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/kind.h"

#define REFERENCE_KIND_MAX KIND_MAX
#define REFERENCE_NAME_MAX 1024
#define REFERENCE_OPTIONS_MAX 1024
#define REFERENCE_KEY_FILE_MAX 256
#define REFERENCE_CFGSTRING_MAX 256 /* the kernel's dev_config, with its end */

enum reference_cache { REFERENCE_CACHE_NONE, REFERENCE_CACHE_WRITEBACK, REFERENCE_CACHE_WRITETHROUGH };

struct reference {
	char kind[REFERENCE_KIND_MAX];
	char name
		[REFERENCE_NAME_MAX]; /* decoded; for kinds that name files an absolute, symlink-free path once reference_resolve() was called */
	char options[REFERENCE_OPTIONS_MAX];   /* the handler's, encoded, "" for none */
	enum reference_cache cache;	       /* core option cache=none|writeback|writethrough */
	bool read_only;			       /* core option read-only=yes|no */
	char key_file[REFERENCE_KEY_FILE_MAX]; /* core option key-file: where the key comes from (host/key.h), never the key; "" for none */
};

/* The kind that the name of a file says: ".qcow2", ".raw" and ".img" (which is raw) at its end; NULL for any other. */
const char *reference_kind_by_extension(const char *name);
/* "PATH;…" or "KIND:REST;…". A path's kind is what its extension says, else raw; extensions of other formats (.vmdk) are refused. -EINVAL, -ENAMETOOLONG with a message that names the part that is wrong. */
int reference_parse(const char *text, struct reference *ret, struct lunkit_error *err);
/* The part of a cfgstring behind "KIND/"; kind is given. */
int reference_parse_cfgstring(const char *kind, const char *cfgstring, struct reference *ret, struct lunkit_error *err);
/* Makes a file name absolute and resolves symlinks (of the directory, when the file does not exist yet and must_exist is false). */
int reference_resolve(struct reference *reference, bool must_exist, struct lunkit_error *err);
/* True for kinds whose name is a path of the file system (raw, qcow2, ploop, and luks on a file): decided by the name starting with '/' after parsing. */
bool reference_is_path(const struct reference *reference);

/*
 * Where the configuration and keys of an image that is no file may be read: /etc/ceph, and the folders of options whose values are absolute paths. One allocation, which ends
 * with NULL; NULL for files, and without memory.
 */
char **reference_config(const struct reference *reference);

/* The two text forms. cfgstring: without the kind; -ENAMETOOLONG when it does not fit the kernel's 255 bytes. */
int reference_format(const struct reference *reference, char *ret, size_t size, struct lunkit_error *err);
int reference_format_cfgstring(const struct reference *reference, char ret[static REFERENCE_CFGSTRING_MAX], struct lunkit_error *err);

/*
 * The identity of an image, the same each time on every host: from kind and name alone. serial: 32 lower-case hex digits and dashes as a UUID
 * (36 characters), which LIO's unit serial and NAA designator come from; backstore: a name for configfs and targetcli, readable and unique
 * ("disk1-3f2a9c1e").
 */
void reference_serial(const struct reference *reference, char ret[static 37]);
void reference_backstore(const struct reference *reference, char ret[static 64]);
