/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/path.h"

#include <string.h>

bool path_is_device_name(const char *path)
{
	if (strncmp(path, "/dev/", 5) != 0 || strncmp(path, "/dev/shm/", 9) == 0 || strncmp(path, "/dev/mqueue/", 12) == 0)
		return false;
	for (const char *part = path; part; part = strchr(part, '/')) {
		part++;
		size_t length = strcspn(part, "/");
		if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
			return false;
	}
	return true;
}
