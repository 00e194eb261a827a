/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A configuration that can't be read or is wrong names no folders: lunkitd and `lunkit doctor` say what is the matter with it. */
#include "cli/backing.h"

#include <ini.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORIES_MAX 64

static const char *directories[DIRECTORIES_MAX + 2];
static unsigned count;

static void add(const char *path)
{
	char *resolved = path[0] == '/' ? realpath(path, NULL) : NULL;
	if (resolved && count < DIRECTORIES_MAX)
		directories[count++] = resolved;
	else
		free(resolved);
}

static int on_line(void *argument, const char *section, const char *key, const char *value)
{
	(void)argument;
	if (!section[0] && strcmp(key, "backing") == 0)
		add(value);
	return 1;
}

const char *const *backing_directories(const char *parent)
{
	static bool was_read;
	if (!was_read) {
		const char *path = getenv("LUNKIT_CONFIG");
		ini_parse(path && path[0] ? path : LUNKIT_SYSCONFDIR "/lunkit/lunkit.conf", on_line, NULL);
		was_read = true;
	}
	if (parent && parent[0] == '/') {
		char *folder = strdup(parent);
		if (folder && strrchr(folder, '/') != folder) {
			*strrchr(folder, '/') = '\0';
			add(folder);
		}
		free(folder);
	}
	return count ? directories : NULL;
}
