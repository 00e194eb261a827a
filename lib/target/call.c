/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "target/call.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "target/path.h"

int call_perform(const char *verb, const char *path, const char *argument)
{
	if (strcmp(verb, "write") == 0 && argument)
		return -file_write(argument, "%s", path);
	if (strcmp(verb, "symlink") == 0 && argument)
		return symlink(argument, path) < 0 ? errno : 0;
	if (strcmp(verb, "rmdir") == 0 && !argument)
		return rmdir(path) < 0 ? errno : 0;
	if (strcmp(verb, "unlink") == 0 && !argument)
		return unlink(path) < 0 ? errno : 0;
	return EINVAL;
}

static int call(const struct target_root *root, const char *verb, const char *path, const char *argument)
{
	if (!root->caller)
		return -call_perform(verb, path, argument);
	char *argv[] = { (char *)"lunkit-configfs", (char *)verb, (char *)path, (char *)argument, NULL };
	char *environment[] = { NULL };
	pid_t pid;
	int status = 0;
	int code = posix_spawn(&pid, root->caller, NULL, NULL, argv, environment);
	if (code)
		return -code;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EINTR;
}

int call_write(const struct target_root *root, const char *text, const char *format, ...)
{
	PATH_FROM(path, format);
	return call(root, "write", path, text);
}

int call_rmdir(const struct target_root *root, const char *format, ...)
{
	PATH_FROM(path, format);
	return call(root, "rmdir", path, NULL);
}

int call_symlink(const struct target_root *root, const char *target, const char *path)
{
	return call(root, "symlink", path, target);
}

int call_unlink(const struct target_root *root, const char *path)
{
	return call(root, "unlink", path, NULL);
}
