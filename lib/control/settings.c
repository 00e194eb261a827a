/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/settings.h"

#include <errno.h>
#include <ini.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/path.h"

struct parsing {
	struct settings *settings;
	struct lunkit_error *err;
};

enum setting {
	SETTING_HANDLERS,
	SETTING_WORKER_USER,
	SETTING_ALLOW,
	SETTING_BACKING,
	SETTING_CACHE,
	SETTING_COMMAND_TIMEOUT,
	SETTING_MAX_SIZE,
	SETTING_LOG,
	SETTING_UNKNOWN
};

static enum setting setting_classify(const char *key)
{
	static const char *const keys[] = { "handlers", "worker-user", "allow", "backing", "cache", "command-timeout", "max-size", "log" };
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i], key) == 0)
			return (enum setting)i;
	return SETTING_UNKNOWN;
}

/* The index of value in words, or -1. */
static int find_word(const char *value, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(words[i], value) == 0)
			return (int)i;
	return -1;
}

static bool set_absolute(char *ret, size_t size, const char *value)
{
	return value[0] == '/' && snprintf(ret, size, "%s", value) < (int)size;
}

static bool add_directory(struct names *names, const char *value)
{
	char *resolved = value[0] == '/' ? realpath(value, NULL) : NULL;
	bool good = value[0] == '/' && names_add(names, resolved ? resolved : value) == 0;
	free(resolved);
	return good;
}

static bool apply(struct settings *settings, enum setting setting, const char *value)
{
	static const char *const caches[] = { "none", "writeback", "writethrough" };
	static const char *const levels[] = { "error", "warning", "info", "debug" };
	static const int level_values[] = { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
	uint64_t number;
	int word;
	switch (setting) {
	case SETTING_HANDLERS:
		return set_absolute(settings->handlers, sizeof(settings->handlers), value);
	case SETTING_WORKER_USER:
		return value[0] &&
		       snprintf(settings->worker_user, sizeof(settings->worker_user), "%s", value) < (int)sizeof(settings->worker_user);
	case SETTING_ALLOW:
		return add_directory(&settings->allow, value);
	case SETTING_BACKING:
		return add_directory(&settings->backing, value);
	case SETTING_CACHE:
		word = find_word(value, caches, ARRAY_SIZE(caches));
		if (word >= 0)
			settings->cache = (enum reference_cache)word;
		return word >= 0;
	case SETTING_COMMAND_TIMEOUT:
		if (parse_u64(value, &number) < 0 || number == 0 || number > 86400)
			return false;
		settings->command_timeout = (unsigned)number;
		return true;
	case SETTING_MAX_SIZE:
		return parse_size(value, &settings->max_size) == 0;
	case SETTING_LOG:
		word = find_word(value, levels, ARRAY_SIZE(levels));
		if (word >= 0)
			settings->log_level = level_values[word];
		return word >= 0;
	case SETTING_UNKNOWN:
		break;
	}
	return false;
}

static int on_line(void *argument, const char *section, const char *key, const char *value)
{
	struct parsing *parsing = argument;
	if (parsing->err->code)
		return 0;
	enum setting setting = section[0] ? SETTING_UNKNOWN : setting_classify(key);
	if (setting == SETTING_UNKNOWN) {
		lunkit_error_set(parsing->err, EINVAL, "'%s%s%s' is not a setting of lunkitd", section, section[0] ? "." : "", key);
		return 0;
	}
	if (!apply(parsing->settings, setting, value)) {
		lunkit_error_set(parsing->err, EINVAL, "'%s' can't be '%.200s'", key, value);
		return 0;
	}
	return 1;
}

static int find_user(struct settings *settings, struct lunkit_error *err)
{
	settings->uid = (uid_t)-1;
	settings->gid = (gid_t)-1;
	if (geteuid() != 0) /* only root can become somebody else */
		return 0;
	const char *name = settings->worker_user[0] ? settings->worker_user : "lunkit";
	const struct passwd *user = getpwnam(name);
	if (!user && !settings->worker_user[0])
		user = getpwnam("nobody");
	if (!user) {
		lunkit_error_set(err, EINVAL, "there is no user '%s' for workers", name);
		return lunkit_error_hint(err, "name one in lunkit.conf: worker-user = NAME");
	}
	if (user->pw_uid == 0)
		return lunkit_error_set(err, EINVAL, "workers may not run as root: name another worker-user in lunkit.conf");
	settings->uid = user->pw_uid;
	settings->gid = user->pw_gid;
	return 0;
}

static bool set_directory(char *ret, size_t size, const char *variable, const char *standard)
{
	const char *value = getenv(variable);
	return snprintf(ret, size, "%s", value && value[0] ? value : standard) < (int)size;
}

/* The line is known once inih is back. */
static void locate(struct lunkit_error *err, const char *path, int line)
{
	char what[sizeof(err->message)];
	snprintf(what, sizeof(what), "%s", err->code ? err->message : "this is not 'key = value'");
	lunkit_error_set(err, EINVAL, "%s: line %d: %.300s", path, line, what);
	lunkit_error_hint(err, "man 5 lunkit.conf lists the settings");
}

int settings_load(struct settings *ret, const char *path, struct lunkit_error *err)
{
	struct lunkit_error own = LUNKIT_ERROR_INIT;
	struct settings settings = { 0 };
	bool must_exist = true;
	if (!path)
		path = getenv("LUNKIT_CONFIG");
	if (!path || !path[0]) {
		path = LUNKIT_SYSCONFDIR "/lunkit/lunkit.conf";
		must_exist = false;
	}
	struct parsing parsing = { &settings, &own };
	int r = ini_parse(path, on_line, &parsing);
	if (r == -1 && (must_exist || errno != ENOENT))
		lunkit_error_set(&own, errno ? errno : ENOENT, "cannot read %s: %s", path, strerror(errno));
	else if (r > 0)
		locate(&own, path, r);
	if (!own.code &&
	    (!set_directory(settings.runtime_directory, sizeof(settings.runtime_directory), "LUNKIT_RUNTIME_DIR", "/run/lunkit") ||
	     !set_directory(settings.state_directory, sizeof(settings.state_directory), "LUNKIT_STATE_DIR", LUNKIT_STATEDIR)))
		lunkit_error_set(&own, ENAMETOOLONG, "LUNKIT_RUNTIME_DIR or LUNKIT_STATE_DIR is too long");
	if (!own.code)
		find_user(&settings, &own);
	if (own.code) {
		settings_free(&settings);
		if (err)
			*err = own;
		return -own.code;
	}
	*ret = settings;
	return 0;
}

void settings_free(struct settings *settings)
{
	names_free(&settings->allow);
	names_free(&settings->backing);
}

int settings_check_size(const struct settings *settings, uint64_t size, struct lunkit_error *err)
{
	if (!settings->max_size || size <= settings->max_size)
		return 0;
	lunkit_error_set(err, EFBIG, "a virtual size of %llu bytes is more than the %llu that lunkit.conf allows", (unsigned long long)size,
			 (unsigned long long)settings->max_size);
	return lunkit_error_hint(err, "raise max-size in lunkit.conf and restart lunkitd");
}

int settings_check_allowed(const struct settings *settings, const struct reference *reference, struct lunkit_error *err)
{
	if (settings->allow.count == 0 || !reference_is_path(reference))
		return 0;
	/* A name from targetcli was not resolved: path_is_below() refuses ".." in it. */
	for (size_t i = 0; i < settings->allow.count; i++)
		if (path_is_below(reference->name, settings->allow.items[i]))
			return 0;
	lunkit_error_set(err, EACCES, "lunkitd's configuration does not allow '%s'", reference->name);
	return lunkit_error_hint(err, "put the image into a directory that lunkit.conf names with allow =, or add its directory there");
}
