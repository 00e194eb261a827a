/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/path.h"

#include <string.h>

bool path_is_device_name(const char *path)
{
	if (strncmp(path, "/dev/", 5) != 0 || strncmp(path, "/dev/shm/", 9) == 0 || strncmp(path, "/dev/mqueue/", 12) == 0)
		return false;
	return path_is_plain(path);
}

bool path_is_plain(const char *path)
{
	if (*path != '/')
		return false;
	for (const char *part = path; *part; part += strcspn(part, "/")) {
		part++;
		size_t length = strcspn(part, "/");
		if (length == 0 || (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.'))))
			return false;
	}
	return true;
}

bool path_is_below(const char *path, const char *directory)
{
	size_t length = strlen(directory);
	if (*directory != '/' || !path_is_plain(path))
		return false;
	while (length && directory[length - 1] == '/')
		length--;
	return strncmp(path, directory, length) == 0 && path[length] == '/' && path[length + 1];
}
