/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RUNTIME/luns/NAME holds "HBA MODES KNOWN INODE BIRTH_SECONDS BIRTH_NS SERIAL"; it is replaced as a whole. */
#include "control/memory.h"

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
	return snprintf(path, PATH_MAX, "%s/luns/.%s%s", runtime_directory, device->name, suffix) < PATH_MAX;
}

struct memory memory_load(const char *runtime_directory, const struct backstore_id *device, const char *serial)
{
	char path[PATH_MAX], known[BACKSTORE_SERIAL_MAX] = "";
	struct memory memory = { 0 };
	unsigned hba = 0, identified = 0;
	FILE *file = make_path(path, runtime_directory, device, "") ? fopen(path, "re") : NULL;
	if (!file)
		return memory;
	struct opener_identity *identity = &memory.identity;
	bool good = fscanf(file, "%u %" SCNu32 " %u %" SCNu64 " %" SCNd64 " %" SCNu32 " %127[^\n]", &hba, &memory.modes, &identified,
			   &identity->inode, &identity->birth_seconds, &identity->birth_ns, known) >= 6;
	fclose(file);
	if (!good || hba != device->hba || strcmp(known, serial) != 0)
		return (struct memory){ 0 };
	identity->known = identified != 0;
	return memory;
}

void memory_store(const char *runtime_directory, const struct backstore_id *device, const char *serial, const struct memory *memory)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	if (snprintf(temporary, sizeof(temporary), "%s/luns", runtime_directory) < (int)sizeof(temporary))
		mkdir(temporary, 0700);
	if (!make_path(path, runtime_directory, device, "") || !make_path(temporary, runtime_directory, device, ".new"))
		return;
	FILE *file = fopen(temporary, "we");
	const struct opener_identity *identity = &memory->identity;
	bool good = file && fprintf(file, "%u %" PRIu32 " %u %" PRIu64 " %" PRId64 " %" PRIu32 " %s\n", device->hba, memory->modes,
				    identity->known, identity->inode, identity->birth_seconds, identity->birth_ns, serial) > 0;
	if (file && fclose(file) != 0)
		good = false;
	if (!good || rename(temporary, path) < 0)
		log_warning("%s: what another lunkitd has to know of it cannot be kept: %s", device->name, strerror(errno));
}

void memory_forget(const char *runtime_directory, const struct backstore_id *device)
{
	char path[PATH_MAX];
	if (make_path(path, runtime_directory, device, ""))
		unlink(path);
}
