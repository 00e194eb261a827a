/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RUNTIME/modes/NAME holds "HBA MODES SERIAL"; it is replaced as a whole. */
#include "control/modes.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static bool make_path(char path[static PATH_MAX], const char *runtime_directory, const struct backstore_id *device, const char *suffix)
{
	/* A name that targetcli gave may be anything but a '/': a dot before it keeps "." and ".." harmless. */
	return snprintf(path, PATH_MAX, "%s/modes/.%s%s", runtime_directory, device->name, suffix) < PATH_MAX;
}

uint32_t modes_load(const char *runtime_directory, const struct backstore_id *device, const char *serial)
{
	char path[PATH_MAX], known[BACKSTORE_SERIAL_MAX] = "";
	uint32_t modes = 0;
	unsigned hba = 0;
	FILE *file = make_path(path, runtime_directory, device, "") ? fopen(path, "re") : NULL;
	if (!file)
		return 0;
	bool good = fscanf(file, "%u %" SCNu32 " %127[^\n]", &hba, &modes, known) >= 2;
	fclose(file);
	return good && hba == device->hba && strcmp(known, serial) == 0 ? modes : 0;
}

void modes_store(const char *runtime_directory, const struct backstore_id *device, const char *serial, uint32_t modes)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	if (snprintf(temporary, sizeof(temporary), "%s/modes", runtime_directory) < (int)sizeof(temporary))
		mkdir(temporary, 0700);
	if (!make_path(path, runtime_directory, device, "") || !make_path(temporary, runtime_directory, device, ".new"))
		return;
	FILE *file = fopen(temporary, "we");
	bool good = file && fprintf(file, "%u %" PRIu32 " %s\n", device->hba, modes, serial) > 0;
	if (file && fclose(file) != 0)
		good = false;
	if (!good || rename(temporary, path) < 0)
		log_warning("%s: what initiators set cannot be kept for another lunkitd: %s", device->name, strerror(errno));
}

void modes_forget(const char *runtime_directory, const struct backstore_id *device)
{
	char path[PATH_MAX];
	if (make_path(path, runtime_directory, device, ""))
		unlink(path);
}
