/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Image references: text from a command line or from targetcli to a struct reference, and back. Any thread; no state.
 *
 *     KIND ":" NAME *( ";" KEY "=" VALUE )        on a command line; "KIND:" may be left out for a path whose extension says its kind, or of kind raw
 *              NAME *( ";" KEY "=" VALUE )        the cfgstring, whose kind is the backstore's
 *
 * NAME and VALUE are percent-encoded; KEY is lower-case letters, digits and hyphens. What follows from it:
 *   - reference_format() and reference_format_cfgstring() write one spelling only, so that equal references are equal text;
 *   - a word and a colon in front is a kind: a file called "a:b" is named "./a:b" or "raw:a:b";
 *   - kinds of files may be named by a relative path; it is kept with "./" in front until reference_resolve(), so that
 *     a name with a leading '/' or "./" or "../" is a path, and any other is not.
 * Left out on purpose: whether a kind exists and which options it knows. That is the handler's, and only workers load handlers.
 */
#include "pool/reference.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/parse.h"
#include "base/path.h"

#define KEY_MAX 32
#define DEFAULT_KIND "raw"

static const char *const cache_words[] = {
	[REFERENCE_CACHE_NONE] = "none",
	[REFERENCE_CACHE_WRITEBACK] = "writeback",
	[REFERENCE_CACHE_WRITETHROUGH] = "writethrough",
};

/* Kinds whose names are always paths, so that a relative one can be told from a name. */
static const char *const file_kinds[] = { "raw", "qcow2", "ploop", "luks" };

enum option_key { OPTION_CACHE, OPTION_READ_ONLY, OPTION_KEY_FILE, OPTION_SECRET, OPTION_HANDLER };

/* What somebody might take for a place to put a passphrase: it would stand in command lines, in configfs and in logs. */
static const char *const secret_keys[] = { "key", "passphrase", "password", "secret", "key-secret", "key-data" };

static enum option_key option_classify(const char *key)
{
	if (strcmp(key, "cache") == 0)
		return OPTION_CACHE;
	if (strcmp(key, "read-only") == 0)
		return OPTION_READ_ONLY;
	if (strcmp(key, "key-file") == 0)
		return OPTION_KEY_FILE;
	for (size_t i = 0; i < ARRAY_SIZE(secret_keys); i++)
		if (strcmp(key, secret_keys[i]) == 0)
			return OPTION_SECRET;
	return OPTION_HANDLER;
}

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool kind_is_of_files(const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(file_kinds); i++)
		if (strcmp(kind, file_kinds[i]) == 0)
			return true;
	return false;
}

static bool key_is_valid(const char *key)
{
	if (!is_lower(key[0]))
		return false;
	for (; *key; key++)
		if (!is_lower(*key) && !is_digit(*key) && *key != '-')
			return false;
	return true;
}

/* The options that were seen, to refuse one that is given twice: which one would count is nothing to guess. */
static bool options_have(const char *options, const char *key)
{
	size_t length = strlen(key);
	for (const char *at = options; *at; at += strcspn(at, ";"), at += *at == ';')
		if (strncmp(at, key, length) == 0 && at[length] == '=')
			return true;
	return false;
}

static int parse_cache(const char *value, enum reference_cache *ret, struct lunkit_error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(cache_words); i++)
		if (strcmp(value, cache_words[i]) == 0) {
			*ret = (enum reference_cache)i;
			return 0;
		}
	lunkit_error_set(err, EINVAL, "option 'cache' can't be '%s'", value);
	return lunkit_error_hint(err, "cache is one of none, writeback and writethrough");
}

/* One "key=value" of length bytes. seen collects the core options' bits. */
static int parse_option(const char *text, size_t length, struct reference *reference, unsigned *seen, struct lunkit_error *err)
{
	char key[KEY_MAX], value[REFERENCE_OPTIONS_MAX], encoded[REFERENCE_OPTIONS_MAX];
	const char *equals = memchr(text, '=', length);
	if (!equals) {
		lunkit_error_set(err, EINVAL, length ? "'%.*s' is not an option of the form key=value" : "an option is empty", (int)length,
				 text);
		return lunkit_error_hint(err, "options are written ;key=value behind the image's name; a ';' in a name is written %%3B");
	}
	size_t key_length = (size_t)(equals - text), value_length = length - key_length - 1;
	if (key_length >= sizeof(key) || value_length >= sizeof(value))
		return lunkit_error_set(err, ENAMETOOLONG, "option '%.*s' is too long", (int)MIN(key_length, sizeof(key)), text);
	memcpy(key, text, key_length);
	key[key_length] = '\0';
	for (char *c = key; *c; c++) /* tcmu-runner's spelling: osd_op_timeout */
		*c = *c == '_' ? '-' : *c;
	memcpy(value, equals + 1, value_length);
	value[value_length] = '\0';
	if (!key_is_valid(key))
		return lunkit_error_set(err, EINVAL, "'%s' is not an option's name (lower-case letters, digits and hyphens)", key);
	int r = percent_decode(value, value, sizeof(value));
	if (r < 0) {
		lunkit_error_set(err, EINVAL, "option '%s': '%s' has a '%%' that is not followed by two hexadecimal digits", key, value);
		return lunkit_error_hint(err, "write %%25 for a '%%'");
	}

	enum option_key which = option_classify(key);
	bool twice = which == OPTION_HANDLER ? options_have(reference->options, key) : *seen & (1u << which);
	if (twice)
		return lunkit_error_set(err, EINVAL, "option '%s' is given twice", key);
	*seen |= 1u << which;
	switch (which) {
	case OPTION_CACHE:
		return parse_cache(value, &reference->cache, err);
	case OPTION_READ_ONLY:
		if (parse_bool(value, &reference->read_only) < 0)
			return lunkit_error_set(err, EINVAL, "option 'read-only' is yes or no, not '%s'", value);
		return 0;
	case OPTION_KEY_FILE:
		if (!value[0] || strlen(value) >= sizeof(reference->key_file))
			return lunkit_error_set(err, EINVAL, "option 'key-file' is empty or longer than %d bytes",
						REFERENCE_KEY_FILE_MAX - 1);
		strcpy(reference->key_file, value);
		return 0;
	case OPTION_SECRET:
		/* its value is repeated nowhere */
		lunkit_error_set(err, EINVAL, "'%s' can't be an option: a key in it could be read by everybody, as it stands there", key);
		return lunkit_error_hint(err, "put the key into a file and name that: --key-file FILE; and choose another key now");
	case OPTION_HANDLER:
		break;
	}
	size_t used = strlen(reference->options);
	r = percent_encode(value, encoded, sizeof(encoded));
	if (r == 0 && used + (used > 0) + key_length + 1 + strlen(encoded) >= sizeof(reference->options))
		r = -ENAMETOOLONG;
	if (r < 0)
		return lunkit_error_set(err, ENAMETOOLONG, "the options are longer than %d bytes", REFERENCE_OPTIONS_MAX - 1);
	snprintf(reference->options + used, sizeof(reference->options) - used, "%s%s=%s", used ? ";" : "", key, encoded);
	return 0;
}

/* "NAME;key=value…" into reference, whose kind is set. */
static int parse_rest(const char *text, struct reference *reference, struct lunkit_error *err)
{
	size_t length = strcspn(text, ";");
	char encoded[3 * REFERENCE_NAME_MAX];
	if (length >= sizeof(encoded))
		return lunkit_error_set(err, ENAMETOOLONG, "the image's name is longer than %d bytes", REFERENCE_NAME_MAX - 1);
	memcpy(encoded, text, length);
	encoded[length] = '\0';
	int r = percent_decode(encoded, encoded, sizeof(encoded));
	if (r < 0) {
		lunkit_error_set(err, EINVAL, "the image's name has a '%%' that is not followed by two hexadecimal digits");
		return lunkit_error_hint(err, "write %%25 for a '%%', %%3B for a ';'");
	}
	if (!encoded[0])
		return lunkit_error_set(err, EINVAL, "the image's name is empty");
	bool relative =
		kind_is_of_files(reference->kind) && encoded[0] != '/' && strncmp(encoded, "./", 2) != 0 && strncmp(encoded, "../", 3) != 0;
	if (strlen(encoded) + (relative ? 2 : 0) >= sizeof(reference->name))
		return lunkit_error_set(err, ENAMETOOLONG, "the image's name is longer than %d bytes", REFERENCE_NAME_MAX - 1);
	stpcpy(stpcpy(reference->name, relative ? "./" : ""), encoded);

	unsigned seen = 0;
	for (const char *at = text + length; *at == ';';) {
		size_t option = strcspn(++at, ";");
		r = parse_option(at, option, reference, &seen, err);
		if (r < 0)
			return r;
		at += option;
	}
	return 0;
}

const char *reference_kind_by_extension(const char *name)
{
	static const struct {
		const char *extension, *kind;
	} kinds[] = { { ".qcow2", "qcow2" }, { ".raw", "raw" }, { ".img", "raw" } };
	size_t length = strlen(name);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t extension = strlen(kinds[i].extension);
		if (length > extension && strcasecmp(name + length - extension, kinds[i].extension) == 0)
			return kinds[i].kind;
	}
	return NULL;
}

/* Formats of other programs. Such a file taken as raw would be a disk of nonsense, and the first write to it would destroy it. */
static const char *foreign_extension(const char *name)
{
	static const char *const extensions[] = { ".vmdk", ".vhd", ".vhdx", ".vdi", ".qcow", ".qed", ".hdd", ".hds" };
	size_t length = strlen(name);
	for (size_t i = 0; i < ARRAY_SIZE(extensions); i++) {
		size_t extension = strlen(extensions[i]);
		if (length > extension && strcasecmp(name + length - extension, extensions[i]) == 0)
			return extensions[i];
	}
	return NULL;
}

static int kind_of_path(const char *name, char ret[static REFERENCE_KIND_MAX], struct lunkit_error *err)
{
	const char *foreign = foreign_extension(name), *kind = reference_kind_by_extension(name);
	if (foreign && strncmp(name, "/dev/", 5) != 0) {
		lunkit_error_set(err, EINVAL, "'%s' is named as an image of another format (%s), which lunkit does not know", name,
				 foreign);
		return lunkit_error_hint(err, "qemu-img convert makes a qcow2 image of one; where its bytes are the disk: raw:PATH");
	}
	snprintf(ret, REFERENCE_KIND_MAX, "%s", kind ? kind : DEFAULT_KIND);
	return 0;
}

int reference_parse(const char *text, struct reference *ret, struct lunkit_error *err)
{
	struct reference reference = { .kind = DEFAULT_KIND };
	size_t length = kind_length(text);
	bool said = length && text[length] == ':';
	if (said) {
		memset(reference.kind, 0, sizeof(reference.kind));
		memcpy(reference.kind, text, length);
		text += length + 1;
	}
	int r = parse_rest(text, &reference, err);
	if (r < 0)
		return r;
	if (!said)
		r = kind_of_path(reference.name, reference.kind, err);
	if (r < 0)
		return r;
	*ret = reference;
	return 0;
}

int reference_parse_cfgstring(const char *kind, const char *cfgstring, struct reference *ret, struct lunkit_error *err)
{
	struct reference reference = { 0 };
	size_t length = kind_length(kind);
	if (!length || kind[length])
		return lunkit_error_set(err, EINVAL, "'%.32s' is not a kind of image (lower-case letters and digits, at most %d)", kind,
					REFERENCE_KIND_MAX - 1);
	memcpy(reference.kind, kind, length);
	int r = parse_rest(cfgstring, &reference, err);
	if (r < 0)
		return r;
	/* lunkitd's working directory is not the one of the person who typed it */
	if (reference.name[0] != '/' && reference_is_path(&reference)) {
		lunkit_error_set(err, EINVAL, "'%s' is not an absolute path", cfgstring);
		return lunkit_error_hint(err, "start the path with '/'");
	}
	*ret = reference;
	return 0;
}

bool reference_is_path(const struct reference *reference)
{
	return reference->name[0] == '/' || strncmp(reference->name, "./", 2) == 0 || strncmp(reference->name, "../", 3) == 0;
}

/* The name as it was typed: without the "./" that reference_parse() put in front. */
static const char *typed_name(const struct reference *reference)
{
	return reference->name + (strncmp(reference->name, "./", 2) == 0 ? 2 : 0);
}

static int resolve_failed(const struct reference *reference, int code, struct lunkit_error *err)
{
	switch (code) {
	case ENOENT:
		lunkit_error_set(err, code, "'%s' does not exist", typed_name(reference));
		break;
	case EACCES:
		lunkit_error_set(err, code, "no permission to reach '%s'", typed_name(reference));
		break;
	case ENAMETOOLONG:
		lunkit_error_set(err, code, "the path of '%s' is longer than %d bytes", reference->name, REFERENCE_NAME_MAX - 1);
		break;
	default:
		lunkit_error_set(err, code, "can't resolve '%s': %s", reference->name, strerror(code));
		break;
	}
	return -code;
}

/* The directory's real path and the last component, for a file that is about to be made. */
static int resolve_new(struct reference *reference, char resolved[static PATH_MAX], struct lunkit_error *err)
{
	char directory[REFERENCE_NAME_MAX];
	const char *slash = strrchr(reference->name, '/'), *base = slash + 1;
	if (!*base || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
		return lunkit_error_set(err, EISDIR, "'%s' names a directory", typed_name(reference));
	size_t length = (size_t)(slash - reference->name);
	memcpy(directory, reference->name, length);
	directory[length] = '\0';
	if (!realpath(length ? directory : "/", resolved)) {
		if (errno != ENOENT)
			return resolve_failed(reference, errno, err);
		const char *typed = directory + (directory[0] == '.' && directory[1] == '/' ? 2 : 0);
		lunkit_error_set(err, ENOENT, "the directory '%s' does not exist", typed);
		return lunkit_error_hint(err, "make it first: mkdir -p '%.200s'", typed);
	}
	size_t used = strlen(resolved);
	if (used == 1)
		used = 0;
	if (used + 1 + strlen(base) >= PATH_MAX)
		return resolve_failed(reference, ENAMETOOLONG, err);
	snprintf(resolved + used, PATH_MAX - used, "/%s", base);
	return 0;
}

int reference_resolve(struct reference *reference, bool must_exist, struct lunkit_error *err)
{
	char resolved[PATH_MAX];
	if (!reference_is_path(reference))
		return 0;
	if (!realpath(reference->name, resolved)) {
		if (must_exist || errno != ENOENT)
			return resolve_failed(reference, errno, err);
		int r = resolve_new(reference, resolved, err);
		if (r < 0)
			return r;
	}
	/* A device keeps the name that it was given: a link like /dev/disk/by-id/… is the stable one. */
	struct stat status;
	if (path_is_device_name(reference->name) && path_is_device_name(resolved) && stat(resolved, &status) == 0 &&
	    S_ISBLK(status.st_mode))
		return 0;
	if (strlen(resolved) >= sizeof(reference->name))
		return resolve_failed(reference, ENAMETOOLONG, err);
	strcpy(reference->name, resolved);
	return 0;
}

char **reference_config(const struct reference *reference)
{
	static const char own[] = "/etc/ceph";
	size_t most = 2, length = strlen(reference->options);
	if (reference_is_path(reference))
		return NULL;
	for (const char *c = reference->options; *c; c++)
		most += *c == '=';
	char **ret = malloc(most * sizeof(*ret) + sizeof(own) + length + 1);
	if (!ret)
		return NULL;
	size_t count = 0;
	char *text = (char *)(ret + most);
	ret[count++] = memcpy(text, own, sizeof(own));
	char *rest = memcpy(text + sizeof(own), reference->options, length + 1);
	for (char *option; (option = strsep(&rest, ";"));) {
		char *value = strchr(option, '=');
		if (!value || percent_decode(value + 1, value + 1, strlen(value)) < 0 || !path_is_plain(value + 1))
			continue;
		char *slash = strrchr(value + 1, '/');
		if (slash == value + 1) /* the root's own files */
			continue;
		*slash = '\0';
		ret[count++] = value + 1;
	}
	ret[count] = NULL;
	return ret;
}

/* "NAME;key=value…" with the core options that are not at their default in front. Returns its length, -ENAMETOOLONG. */
static int format_rest(const struct reference *reference, char *out, size_t size)
{
	char name[3 * REFERENCE_NAME_MAX];
	if (percent_encode(reference->name, name, sizeof(name)) < 0)
		return -ENAMETOOLONG;
	char key_file[3 * REFERENCE_KEY_FILE_MAX];
	if (percent_encode(reference->key_file, key_file, sizeof(key_file)) < 0)
		return -ENAMETOOLONG;
	bool cached = reference->cache != REFERENCE_CACHE_NONE;
	int length = snprintf(out, size, "%s%s%s%s%s%s%s%s", name, cached ? ";cache=" : "", cached ? cache_words[reference->cache] : "",
			      reference->read_only ? ";read-only=yes" : "", key_file[0] ? ";key-file=" : "", key_file,
			      reference->options[0] ? ";" : "", reference->options);
	return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : length;
}

int reference_format(const struct reference *reference, char *ret, size_t size, struct lunkit_error *err)
{
	char text[REFERENCE_KIND_MAX + 3 * REFERENCE_NAME_MAX + REFERENCE_OPTIONS_MAX + 64];
	/* A path needs no kind in front: an absolute one can't be taken for a kind, and neither can "./…". */
	char kind[REFERENCE_KIND_MAX];
	bool bare = reference_is_path(reference) && kind_of_path(reference->name, kind, NULL) == 0 && strcmp(reference->kind, kind) == 0;
	int prefix = snprintf(text, sizeof(text), "%s%s", bare ? "" : reference->kind, bare ? "" : ":");
	int length = format_rest(reference, text + prefix, sizeof(text) - (size_t)prefix);
	if (length < 0 || (size_t)(prefix + length) >= size)
		return lunkit_error_set(err, ENAMETOOLONG, "the reference of '%.200s' is too long", reference->name);
	memcpy(ret, text, (size_t)(prefix + length) + 1);
	return 0;
}

int reference_format_cfgstring(const struct reference *reference, char ret[static REFERENCE_CFGSTRING_MAX], struct lunkit_error *err)
{
	char text[REFERENCE_CFGSTRING_MAX];
	int length = format_rest(reference, text, sizeof(text));
	/* the kernel keeps "KIND/REST" */
	if (length < 0 || strlen(reference->kind) + 1 + (size_t)length >= sizeof(text)) {
		lunkit_error_set(err, ENAMETOOLONG,
				 "the name and options of '%.200s' are too long: the kernel target keeps %d bytes, and special characters "
				 "take three",
				 reference->name, REFERENCE_CFGSTRING_MAX - 1);
		return lunkit_error_hint(err,
					 "use a shorter path (a bind mount or a rename); a symlink does not help, since it is resolved");
	}
	memcpy(ret, text, (size_t)length + 1);
	return 0;
}
