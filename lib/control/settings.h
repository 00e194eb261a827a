/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * /etc/lunkit/lunkit.conf:
 *
 *     handlers = DIRECTORY          of handler modules
 *     worker-user = NAME            whom workers become (lunkit, else nobody)
 *     allow = DIRECTORY             images that are paths have to be below one of these; may be given again; none: any path
 *     backing = DIRECTORY           backing files may lie below it, besides the folder of the image that names them; may be given again
 *     cache = none|writeback|writethrough          of attach, when it is not asked for
 *     command-timeout = SECONDS     after which the kernel fails a command that nobody has answered (the kernel's default: 30)
 *     max-size = SIZE               images with a larger virtual size are not attached, grown or reverted to
 *     log = error|warning|info|debug
 */

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "pool/reference.h"
#include "target/files.h"

struct settings {
	char handlers[PATH_MAX]; /* empty: where they are installed */
	char worker_user[64];	 /* empty: none was named */
	uid_t uid;		 /* of workers; resolved by settings_load() */
	gid_t gid;
	struct names allow, backing;
	enum reference_cache cache;
	unsigned command_timeout; /* 0: the kernel's default */
	uint64_t max_size;	  /* bytes; 0: no limit */
	int log_level;		  /* 0: not said */
	char runtime_directory[PATH_MAX], state_directory[PATH_MAX];
};

/* path NULL: the environment's LUNKIT_CONFIG, else the installed one, which need not exist. Directories: LUNKIT_RUNTIME_DIR, LUNKIT_STATE_DIR. */
int settings_load(struct settings *ret, const char *path, struct lunkit_error *err);
void settings_free(struct settings *settings);

/* -EFBIG: an image of size bytes is more than max-size. */
int settings_check_size(const struct settings *settings, uint64_t size, struct lunkit_error *err);
/* -EACCES: the image's path is not below an allowed directory. */
int settings_check_allowed(const struct settings *settings, const struct reference *reference, struct lunkit_error *err);
