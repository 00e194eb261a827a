/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "target/backstore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/parse.h"
#include "target/call.h"

#define HBA_PREFIX "user_"
#define SERIAL_PREFIX "T10 VPD Unit Serial Number: "

static bool is_name_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
}

bool backstore_name_is_valid(const char *name)
{
	size_t length = strlen(name);
	if (length == 0 || length > 63 || name[0] == '.' || name[0] == '-')
		return false;
	for (size_t i = 0; i < length; i++)
		if (!is_name_character(name[i]))
			return false;
	return true;
}

bool backstore_id_equal(const struct backstore_id *a, const struct backstore_id *b)
{
	return a->hba == b->hba && strcmp(a->name, b->name) == 0;
}

/* Digits up to end. */
static int parse_index(const char *text, const char *end, unsigned *ret)
{
	char digits[12];
	size_t length = (size_t)(end - text);
	uint64_t value;
	if (length == 0 || length >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text, length);
	digits[length] = '\0';
	int r = parse_u64(digits, &value);
	if (r < 0 || value > INT32_MAX)
		return -EINVAL;
	*ret = (unsigned)value;
	return 0;
}

int backstore_parse_uio(const char *text, struct backstore_id *ret)
{
	struct backstore_id id;
	if (strncmp(text, "tcm-user/", 9) != 0)
		return -EINVAL;
	const char *number = text + 9, *slash = strchr(number, '/');
	if (!slash || parse_index(number, slash, &id.hba) < 0)
		return -EINVAL;
	const char *name = slash + 1, *end = strchrnul(name, '/');
	size_t length = (size_t)(end - name);
	if (length == 0 || length >= sizeof(id.name))
		return -EINVAL;
	memset(id.name, 0, sizeof(id.name));
	memcpy(id.name, name, length);
	*ret = id;
	return 0;
}

int backstore_find(const struct target_root *root, const char *name, struct backstore_id *ret)
{
	struct names hbas;
	int r = names_read(&hbas, "%s/core", root->configfs);
	if (r < 0)
		return r;
	r = -ENOENT;
	for (size_t i = 0; i < hbas.count && r < 0; i++) {
		const char *hba = hbas.items[i];
		struct backstore_id id = { 0 };
		if (strncmp(hba, HBA_PREFIX, strlen(HBA_PREFIX)) != 0 ||
		    parse_index(hba + strlen(HBA_PREFIX), hba + strlen(hba), &id.hba) < 0 || strlen(name) >= sizeof(id.name) ||
		    !file_exists("%s/core/%s/%s/enable", root->configfs, hba, name))
			continue;
		strcpy(id.name, name);
		*ret = id;
		r = 0;
	}
	names_free(&hbas);
	return r;
}

static uint64_t read_number(const struct target_root *root, const struct backstore_id *id, const char *file)
{
	uint64_t value = 0;
	file_read_u64(&value, "%s/core/user_%u/%s/%s", root->configfs, id->hba, id->name, file);
	return value;
}

static void read_text(const struct target_root *root, const struct backstore_id *id, const char *file, char *ret, size_t size)
{
	char text[512];
	if (file_read(text, sizeof(text), "%s/core/user_%u/%s/%s", root->configfs, id->hba, id->name, file) >= 0)
		snprintf(ret, size, "%s", text);
}

void backstore_read_identity(const struct target_root *root, const struct backstore_id *id, struct backstore_info *ret)
{
	char serial[512] = "";
	read_text(root, id, "wwn/vpd_unit_serial", serial, sizeof(serial));
	if (strncmp(serial, SERIAL_PREFIX, strlen(SERIAL_PREFIX)) == 0)
		snprintf(ret->serial, sizeof(ret->serial), "%.*s", BACKSTORE_SERIAL_MAX - 1, serial + strlen(SERIAL_PREFIX));
	read_text(root, id, "wwn/vendor_id", ret->vendor, sizeof(ret->vendor));
	read_text(root, id, "wwn/product_id", ret->product, sizeof(ret->product));
	read_text(root, id, "wwn/revision", ret->revision, sizeof(ret->revision));
}

int backstore_read(const struct target_root *root, const struct backstore_id *id, struct backstore_info *ret)
{
	if (!file_exists("%s/core/user_%u/%s", root->configfs, id->hba, id->name))
		return -ENOENT;
	struct backstore_info info = {
		.enabled = read_number(root, id, "enable") != 0,
		.write_cache = read_number(root, id, "attrib/emulate_write_cache") != 0,
		.size = read_number(root, id, "attrib/dev_size"),
		.block_size = (uint32_t)read_number(root, id, "attrib/hw_block_size"),
		.max_sectors = (uint32_t)read_number(root, id, "attrib/hw_max_sectors"),
	};
	backstore_read_identity(root, id, &info);
	*ret = info;
	return 0;
}

int backstore_write(const struct target_root *root, const struct backstore_id *id, const char *file, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return call_write(root, text, "%s/core/user_%u/%s/%s", root->configfs, id->hba, id->name, file);
}

/* The smallest number that no HBA of any kind uses (rtslib numbers all kinds together), made into a folder. */
static int make_hba(const struct target_root *root, unsigned *ret)
{
	for (int attempt = 0; attempt < 64; attempt++) {
		struct names hbas;
		int r = names_read(&hbas, "%s/core", root->configfs);
		if (r < 0)
			return r;
		unsigned index = 0;
		for (bool used = true; used; index += used) {
			used = false;
			for (size_t i = 0; i < hbas.count && !used; i++) {
				const char *underscore = strrchr(hbas.items[i], '_');
				unsigned other;
				used = underscore && parse_index(underscore + 1, underscore + strlen(underscore), &other) == 0 &&
				       other == index;
			}
		}
		names_free(&hbas);
		r = folder_make("%s/core/" HBA_PREFIX "%u", root->configfs, index);
		if (r != -EEXIST) {
			if (r == 0)
				*ret = index;
			return r;
		}
	}
	return -EBUSY;
}

/* rtslib takes this lock while it chooses a number. */
static int lock_numbers(const struct target_root *root)
{
	if (!root->numbers_lock)
		return -1;
	int fd = open(root->numbers_lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	for (int attempt = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && attempt < 100; attempt++)
		usleep(10000); /* never waits for ever for a program that holds it: mkdir finds collisions anyway */
	return fd;
}

static int control(const struct target_root *root, const struct backstore_id *id, const char *key, const char *value)
{
	char text[512];
	if (snprintf(text, sizeof(text), "%s=%s", key, value) >= (int)sizeof(text))
		return -ENAMETOOLONG;
	return file_write(text, "%s/core/user_%u/%s/control", root->configfs, id->hba, id->name);
}

static int control_number(const struct target_root *root, const struct backstore_id *id, const char *key, uint64_t value)
{
	char text[24];
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return control(root, id, key, text);
}

static int configure(const struct target_root *root, const struct backstore_id *id, const struct backstore_config *config,
		     const char **ret_what)
{
	int r;
	*ret_what = "dev_config";
	r = control(root, id, "dev_config", config->dev_config);
	if (r < 0)
		return r;
	const struct {
		const char *key;
		uint64_t value;
	} keys[] = {
		{ "dev_size", config->size },
		{ "hw_block_size", config->block_size },
		{ "hw_max_sectors", config->max_sectors },
		{ "max_data_area_mb", config->data_area_mb },
	};
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!keys[i].value)
			continue;
		*ret_what = keys[i].key;
		r = control_number(root, id, keys[i].key, keys[i].value);
		if (r < 0)
			return r;
	}
	*ret_what = "wwn/vpd_unit_serial";
	r = file_write(config->serial, "%s/core/user_%u/%s/wwn/vpd_unit_serial", root->configfs, id->hba, id->name);
	if (r < 0)
		return r;
	*ret_what = "attrib/emulate_write_cache";
	r = backstore_write(root, id, "attrib/emulate_write_cache", config->write_cache);
	if (r == 0 && config->command_timeout) {
		*ret_what = "attrib/cmd_time_out";
		r = backstore_write(root, id, "attrib/cmd_time_out", config->command_timeout);
	}
	return r;
}

/* Made, but never enabled, by somebody who was killed in between: removed. */
static bool is_leftover(const struct target_root *root, const struct backstore_id *id)
{
	uint64_t enabled;
	return file_read_u64(&enabled, "%s/core/user_%u/%s/enable", root->configfs, id->hba, id->name) == 0 && !enabled &&
	       backstore_remove(root, id) == 0;
}

int backstore_create(const struct target_root *root, const char *name, const struct backstore_config *config, struct backstore_id *ret,
		     struct lunkit_error *err)
{
	struct backstore_id id = { 0 };
	if (!backstore_name_is_valid(name))
		return lunkit_error_set(err, EINVAL, "'%.80s' can't be a backstore's name", name);
	if (backstore_find(root, name, &id) == 0 && !is_leftover(root, &id)) {
		lunkit_error_set(err, EEXIST, "the kernel target has a user backstore '%s' already", name);
		return lunkit_error_hint(err, "choose another name with --name, or see `targetcli ls /backstores/user:`");
	}
	strcpy(id.name, name);
	int lock = lock_numbers(root);
	int r = make_hba(root, &id.hba);
	if (lock >= 0)
		close(lock);
	if (r < 0) {
		lunkit_error_set(err, r, "cannot make an HBA in %s/core: %s", root->configfs, strerror(-r));
		return lunkit_error_hint(err, "is configfs mounted on /sys/kernel/config, and is the module target_core_user loaded?");
	}
	r = folder_make("%s/core/user_%u/%s", root->configfs, id.hba, name);
	if (r < 0) {
		folder_remove("%s/core/user_%u", root->configfs, id.hba);
		return lunkit_error_set(err, r, "cannot make backstore '%s' in configfs: %s", name, strerror(-r));
	}
	const char *what = "";
	r = configure(root, &id, config, &what);
	if (r < 0) {
		backstore_remove(root, &id);
		return lunkit_error_set(err, r, "cannot configure backstore '%s' (%s): %s", name, what, strerror(-r));
	}
	*ret = id;
	return 0;
}

int backstore_enable(const struct target_root *root, const struct backstore_id *id)
{
	return backstore_write(root, id, "enable", 1);
}

int backstore_remove(const struct target_root *root, const struct backstore_id *id)
{
	struct names groups;
	if (names_read(&groups, "%s/core/user_%u/%s/alua", root->configfs, id->hba, id->name) == 0) {
		for (size_t i = 0; i < groups.count; i++)
			if (strcmp(groups.items[i], "default_tg_pt_gp") != 0)
				folder_remove("%s/core/user_%u/%s/alua/%s", root->configfs, id->hba, id->name, groups.items[i]);
		names_free(&groups);
	}
	int r = call_rmdir(root, "%s/core/user_%u/%s", root->configfs, id->hba, id->name);
	if (r < 0 && r != -ENOENT)
		return r;
	folder_remove("%s/core/user_%u", root->configfs, id->hba); /* stays when it has other backstores */
	return 0;
}
