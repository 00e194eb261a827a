/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A cluster's configuration and our key in it. librados would open these files itself, which a worker can't: they are read here, through the opener, and told to librados
 * value by value. So the worker needs no right to open files, and what it can read is what the starter's policy says.
 *
 *     conf=FILE, else /etc/ceph/CLUSTER.conf:   [global], then [client], then [client.ID]: the last one counts
 *     keyring=FILE, else what the configuration says, else Ceph's usual places:   [client.ID] key = …
 *
 * Left out on purpose: configuration that lies in the environment (CEPH_ARGS) and host names in mon_host, which a sandboxed worker can't look up.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rbd.h"

#define FILE_MAX ((size_t)1 << 20)
#define VALUE_MAX 4096

/* The whole file with a zero behind it; freed by the caller, who wipes keys. */
static int read_file(struct lunkit_host *host, const char *path, char **ret, size_t *ret_size, struct lunkit_error *err)
{
	int fd;
	int r = lunkit_file_open(host, path, LUNKIT_FILE_UNLOCKED, &fd, NULL, err);
	if (r < 0)
		return r;
	struct lunkit_file_geometry geometry = { .struct_size = sizeof(geometry) };
	char *text = NULL;
	r = lunkit_file_look(host, fd, path, false, &geometry, err);
	if (r == 0 && geometry.size > FILE_MAX)
		r = lunkit_error_set(err, EFBIG, "%.300s is too large to be a configuration of Ceph", path);
	if (r == 0) {
		text = calloc(1, geometry.size + 1);
		r = text ? lunkit_file_read(host, fd, text, geometry.size, 0) : -ENOMEM;
		if (r < 0)
			lunkit_error_set(err, r, "cannot read %.300s: %s", path, strerror(-r));
	}
	lunkit_file_close(host, fd);
	if (r < 0) {
		free(text);
		return r;
	}
	*ret = text;
	*ret_size = geometry.size;
	return 0;
}

/* ---- the configuration ---- */

/* Files and sockets that a library would write or listen on, and what is ours to decide. */
static bool is_ours(const char *key)
{
	static const char *const keys[] = { "log_file", "admin_socket",	 "key",		  "keyfile",	   "pid_file",
					    "run_dir",	"crash_dir",	 "daemonize",	  "rbd_cache",	   "rbd_cache_policy",
					    "chdir",	"heap_profiler", "log_to_stderr", "err_to_stderr", "mon_cluster_log_file" };
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (strcmp(key, keys[i]) == 0)
			return true;
	return false;
}

static int set_value(void *argument, const char *key, char *value)
{
	rados_t cluster = argument;
	/* What this version of librados does not know, or what makes no sense to it, is nothing to it either when it reads the file itself. */
	if (!is_ours(key) && rados_conf_set(cluster, key, value) < 0)
		lunkit_log(LUNKIT_LOG_DEBUG, "librados does not take \"%s\" of the configuration", key);
	return 0;
}

/* ---- the key ---- */

struct key {
	char text[128];
};

static int take_key(void *argument, const char *name, char *value)
{
	struct key *key = argument;
	if (strcmp(name, "key") == 0)
		snprintf(key->text, sizeof(key->text), "%s", value);
	explicit_bzero(value, strlen(value));
	return 0;
}

/* From a list of files: the first that is there. -ENOENT: none is. */
static int find_key(struct lunkit_host *host, const char *files, const char *entity, struct key *ret, struct lunkit_error *err)
{
	char list[VALUE_MAX], *rest = list;
	snprintf(list, sizeof(list), "%s", files);
	for (char *path; (path = strsep(&rest, ",; "));) {
		char *text;
		size_t size;
		if (!*path)
			continue;
		int r = read_file(host, path, &text, &size, err);
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		r = rbd_conf_section(text, entity, take_key, ret);
		explicit_bzero(text, size);
		free(text);
		if (r < 0)
			return lunkit_error_set(err, r, "cannot read the keyring %.300s: %s", path, strerror(-r));
		if (ret->text[0])
			return 0;
		lunkit_error_set(err, ENOKEY, "the keyring %.300s has no key of %s", path, entity);
		return lunkit_error_hint(err, "name the user with id=, or the right file with keyring=");
	}
	return -ENOENT;
}

static int set_key(const struct lunkit_params *params, rados_t cluster, const char *entity, struct lunkit_error *err)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, "keyring");
	char files[VALUE_MAX] = "", required[64] = "";
	struct key key = { 0 };
	if (option)
		snprintf(files, sizeof(files), "%s", option->value);
	else if (rados_conf_get(cluster, "keyring", files, sizeof(files)) < 0)
		files[0] = '\0';
	rados_conf_get(cluster, "auth_client_required", required, sizeof(required));
	bool needed = strstr(required, "cephx") || !strstr(required, "none");
	int r = needed ? find_key(params->host, files, entity, &key, err) : 0;
	if (r == -ENOENT) {
		lunkit_error_set(err, ENOKEY, "there is no key of %s: %.600s %s not there", entity, files,
				 strpbrk(files, ",; ") ? "are" : "is");
		return lunkit_error_hint(err, "name the user with id= and its keyring with keyring=, an absolute path");
	}
	if (r == 0)
		r = rados_conf_set(cluster, "keyring", "");
	if (r == 0 && key.text[0] && rados_conf_set(cluster, "key", key.text) < 0)
		r = lunkit_error_set(err, EINVAL, "the key of %s makes no sense", entity);
	explicit_bzero(&key, sizeof(key));
	return r;
}

int rbd_configure(const struct lunkit_params *params, rados_t cluster, const char *conf, const char *id, struct lunkit_error *err)
{
	static const char *const quiet[] = { "log_file", "admin_socket", "keyfile" };
	char entity[160], *text;
	size_t size;
	int r = read_file(params->host, conf, &text, &size, err);
	if (r < 0) {
		lunkit_error_set(err, r, "%.300s: the cluster's configuration %.300s can't be read: %s", params->name, conf, strerror(-r));
		return lunkit_error_hint(err, "name it with conf=, an absolute path; a keyring lies beside it, or is named with keyring=");
	}
	snprintf(entity, sizeof(entity), "client.%s", id);
	const char *const sections[] = { "global", "client", entity };
	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]) && r == 0; i++)
		r = rbd_conf_section(text, sections[i], set_value, cluster);
	free(text);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: %s", params->name, strerror(-r));
	for (size_t i = 0; i < sizeof(quiet) / sizeof(quiet[0]); i++)
		rados_conf_set(cluster, quiet[i], "");
	rados_conf_set(cluster, "log_to_stderr", "false");
	rados_conf_set(cluster, "err_to_stderr", "false");
	char hosts[VALUE_MAX] = "";
	if (rados_conf_get(cluster, "mon_host", hosts, sizeof(hosts)) < 0 || !hosts[0]) {
		lunkit_error_set(err, EINVAL, "%.300s: the configuration %.300s names no monitor (mon_host)", params->name, conf);
		return lunkit_error_hint(err, "it needs the monitors' addresses: mon_host = ADDRESS[,ADDRESS…]");
	}
	return set_key(params, cluster, entity, err);
}
