/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Making, opening, resizing and describing luks images, and the keys of their headers. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "cipher.h"
#include "header.h"
#include "luks.h"

#define CIPHER_DEFAULT "aes-xts-plain64"
#define CIPHERS "aes-xts-plain64|aes-cbc-essiv:sha256|aes-cbc-plain64"

const struct lunkit_option luks_options[] = {
	{ "discard", LUNKIT_OPTION_BOOL, LUNKIT_OPTION_OPEN, "pass discards on, which shows what is in use (no)", NULL },
	{ "format", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN, "luks, or plain: dm-crypt without a header", "luks|plain" },
	{ "cipher", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE, "of a new or a plain image (aes-xts-plain64)",
	  CIPHERS },
	{ "key-size", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE, "bits of the volume key of a new or a plain image",
	  "128|256|512" },
	{ "sector-size", LUNKIT_OPTION_STRING, LUNKIT_OPTION_OPEN | LUNKIT_OPTION_CREATE,
	  "bytes encrypted together, of a new or a plain image", "512|4096" },
	{ "version", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "of LUKS (2); QEMU reads 1 only", "1|2" },
	{ "preallocation", LUNKIT_OPTION_STRING, LUNKIT_OPTION_CREATE, "as for raw images", "off|falloc|full" },
	{ 0 },
};

static unsigned number(const struct lunkit_params *params, const char *key, unsigned otherwise)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, key);
	return option ? (unsigned)strtoul(option->value, NULL, 10) : otherwise;
}

static const char *text(const struct lunkit_params *params, const char *key, const char *otherwise)
{
	const struct lunkit_option_value *option = lunkit_params_option(params, key);
	return option ? option->value : otherwise;
}

static unsigned default_key_bits(const char *cipher)
{
	return strcmp(cipher, CIPHER_DEFAULT) == 0 ? 512 : 256;
}

/* ---- the header's place ---- */

static int store_read(void *argument, void *buffer, size_t length, uint64_t offset)
{
	return lunkit_child_read(argument, buffer, length, offset);
}

static int store_write(void *argument, const void *buffer, size_t length, uint64_t offset)
{
	return lunkit_child_write(argument, buffer, length, offset);
}

static int store_sync(void *argument)
{
	return lunkit_child_sync(argument);
}

static struct lunkit_crypt_store store_of(struct lunkit_child *child, const char *name)
{
	return (struct lunkit_crypt_store){
		.read = store_read,
		.write = store_write,
		.sync = store_sync,
		.argument = child,
		.size = lunkit_child_limits(child)->size,
		.name = name,
	};
}

/* ---- create ---- */

static int make_header(const struct lunkit_params *params, uint8_t **ret_header, size_t *ret_length, struct lunkit_error *err)
{
	size_t key_length = 0;
	const uint8_t *key = lunkit_params_key(params, &key_length);
	struct lunkit_crypt_facts facts;
	struct lunkit_crypt_format format = {
		.version = number(params, "version", 2),
		.cipher = text(params, "cipher", CIPHER_DEFAULT),
	};
	format.sector_size = number(params, "sector-size", format.version == 2 && params->size % 4096 == 0 ? 4096 : 512);
	format.key_bits = number(params, "key-size", default_key_bits(format.cipher));
	if (format.version == 1 && format.sector_size != 512) {
		lunkit_error_set(err, EINVAL, "%.300s: LUKS version 1 encrypts sectors of 512 bytes", params->name);
		return lunkit_error_hint(err, "Leave sector-size away, or take version=2.");
	}
	if (params->size % format.sector_size) {
		lunkit_error_set(err, EINVAL, "%.300s: a size of %" PRIu64 " bytes is not a multiple of the sector size, %u", params->name,
				 params->size, format.sector_size);
		return lunkit_error_hint(err, "The next size that is: %" PRIu64 ".", align_up(params->size, format.sector_size));
	}
	int r = cipher_check(format.cipher, format.key_bits / 8, params->name, err);
	if (r < 0)
		return r;
	return header_format(&format, key, key_length, params->name, ret_header, ret_length, &facts, err);
}

int luks_create(const struct lunkit_params *params, struct lunkit_error *err)
{
	const char *preallocation = text(params, "preallocation", NULL);
	char options[64] = "";
	uint8_t *header;
	size_t length;
	uint64_t size;
	int r = make_header(params, &header, &length, err);
	if (r < 0)
		return r;
	if (preallocation)
		snprintf(options, sizeof(options), "preallocation=%s", preallocation);
	if (!checked_add(params->size, length, &size))
		r = lunkit_error_set(err, EFBIG, "%.300s: the size is too large", params->name);
	else
		r = lunkit_child_create(params, "raw", params->name, preallocation ? options : NULL, size, err);
	if (r < 0) {
		free(header);
		return r;
	}
	struct lunkit_child *child = NULL;
	r = lunkit_child_open(params, "raw", params->name, NULL, 0, &child, err);
	if (r == 0) {
		r = lunkit_child_write(child, header, length, 0);
		if (r == 0)
			r = lunkit_child_sync(child);
		if (r < 0)
			lunkit_error_set(err, r, "cannot write the LUKS header of %.300s: %s", params->name, strerror(-r));
	}
	if (r < 0)
		lunkit_file_remove(params->host, params->name, NULL);
	lunkit_child_close(child);
	free(header);
	return r;
}

/* ---- open ---- */

static int open_plain(struct luks *luks, const struct lunkit_params *params, const uint8_t *key, size_t key_length,
		      struct lunkit_error *err)
{
	struct lunkit_crypt_facts *facts = &luks->facts;
	snprintf(facts->cipher, sizeof(facts->cipher), "%s", text(params, "cipher", CIPHER_DEFAULT));
	facts->key_bits = number(params, "key-size", default_key_bits(facts->cipher));
	facts->sector_size = number(params, "sector-size", 512);
	if (!key) {
		lunkit_error_set(err, ENOKEY, "%.300s: without a header there is nothing to open it with but its key, and none was given",
				 luks->name);
		return lunkit_error_hint(err, "--key-file FILE; its first %u bytes are the volume key.", facts->key_bits / 8);
	}
	if (key_length < facts->key_bits / 8) {
		lunkit_error_set(err, EINVAL, "%.300s: the key has %zu bytes, and a volume key of %u bits needs %u", luks->name, key_length,
				 facts->key_bits, facts->key_bits / 8);
		return lunkit_error_hint(err, "Give the key's size: --option key-size=256, or the right key file.");
	}
	return cipher_new(facts->cipher, key, facts->key_bits / 8, facts->sector_size, luks->name, &luks->cipher, err);
}

static int open_luks(struct luks *luks, const struct lunkit_params *params, const uint8_t *key, size_t key_length, struct lunkit_error *err)
{
	static const char *const not_ours[] = { "cipher", "key-size", "sector-size" };
	struct lunkit_crypt_store store = store_of(luks->child, luks->name);
	for (size_t i = 0; i < ARRAY_SIZE(not_ours); i++)
		if (lunkit_params_option(params, not_ours[i])) {
			lunkit_error_set(err, EINVAL, "%.300s: a LUKS header says itself what option %s would", luks->name, not_ours[i]);
			return lunkit_error_hint(err, "Leave it away, or open a volume without a header with format=plain.");
		}
	/* Looking needs no key. */
	if (params->look_only && !key)
		return header_describe(&store, &luks->facts, err);
	return header_unlock(&store, key, key_length, &luks->facts, &luks->cipher, err);
}

static int check_size(const struct luks *luks, struct lunkit_error *err)
{
	uint64_t size = lunkit_child_limits(luks->child)->size;
	if (size <= luks->facts.payload_offset) {
		lunkit_error_set(err, EINVAL, "%.300s holds nothing: its %" PRIu64 " bytes end before the data begins, at %" PRIu64,
				 luks->name, size, luks->facts.payload_offset);
		return lunkit_error_hint(err, "It has been cut off, or is a header only.");
	}
	return 0;
}

uint64_t luks_size(const struct luks *luks)
{
	uint64_t size = lunkit_child_limits(luks->child)->size, begin = luks->facts.payload_offset;
	return size > begin ? align_down(size - begin, MAX(luks->facts.sector_size, 512u)) : 0;
}

static void destroy(struct luks *luks)
{
	cipher_free(luks->cipher);
	while (luks->child_count)
		lunkit_child_request_free(luks->children[--luks->child_count]);
	free(luks->children);
	pool_destroy(&luks->pool);
	lunkit_child_close(luks->child);
	free(luks);
}

int luks_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	const struct lunkit_option_value *discard = lunkit_params_option(params, "discard");
	size_t key_length = 0;
	const uint8_t *key = lunkit_params_key(params, &key_length);
	struct luks *luks = calloc(1, sizeof(*luks));
	if (!luks)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", params->name);
	luks->host = params->host;
	luks->discard = discard && discard->number;
	luks->plain = strcmp(text(params, "format", "luks"), "plain") == 0;
	luks->locked = params->locked;
	snprintf(luks->name, sizeof(luks->name), "%s", params->name);
	pool_init(&luks->pool);
	int r = lunkit_child_open(params, "raw", params->name, NULL, 0, &luks->child, err);
	if (r == 0 && !luks->locked) {
		r = luks->plain ? open_plain(luks, params, key, key_length, err) : open_luks(luks, params, key, key_length, err);
		if (r == 0 && !params->look_only)
			r = check_size(luks, err);
	}
	if (r < 0) {
		destroy(luks);
		return r;
	}
	*ret_state = luks;
	return 0;
}

void luks_close(void *state)
{
	destroy(state);
}

/* ---- info ---- */

void luks_add_facts(const struct lunkit_crypt_facts *facts, struct lunkit_info *info)
{
	char line[LUNKIT_CRYPT_SLOTS * 24] = "", text_bits[16];
	snprintf(text_bits, sizeof(text_bits), "%u", facts->key_bits);
	if (facts->version) {
		snprintf(line, sizeof(line), "LUKS%u", facts->version);
		lunkit_info_string(info, "encryption", line);
	} else {
		lunkit_info_string(info, "encryption", "plain");
	}
	lunkit_info_string(info, "cipher", facts->cipher);
	lunkit_info_string(info, "key-bits", text_bits);
	lunkit_info_bytes(info, "encryption-sector-size", facts->sector_size);
	if (!facts->version)
		return;
	lunkit_info_bytes(info, "payload-offset", facts->payload_offset);
	lunkit_info_string(info, "luks-uuid", facts->uuid);
	line[0] = '\0';
	for (unsigned slot = 0; slot < facts->slots_total; slot++) {
		size_t used = strlen(line);
		if (facts->slots[slot].used)
			snprintf(line + used, sizeof(line) - used, "%s%u (%s)", used ? ", " : "", slot, facts->slots[slot].kdf);
	}
	lunkit_info_string(info, "key-slots", line[0] ? line : "none");
}

int luks_info(void *state, struct lunkit_info *info, struct lunkit_error *err)
{
	struct luks *luks = state;
	if (!luks->locked)
		luks_add_facts(&luks->facts, info);
	return lunkit_child_info(luks->child, info, err);
}

/* ---- resize ---- */

static void resized(void *user, int result)
{
	lunkit_job_done(user, result);
}

void luks_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags)
{
	struct luks *luks = state;
	uint64_t whole = 0;
	if (size && !checked_add(size, luks->facts.payload_offset, &whole)) {
		lunkit_job_done(job, lunkit_error_set(lunkit_job_error(job), EFBIG, "%.300s: the size is too large", luks->name));
		return;
	}
	lunkit_child_resize(luks->child, job, whole, flags, resized, job);
}

/* ---- keys ---- */

void luks_key(void *state, struct lunkit_job *job, const struct lunkit_key_change *change)
{
	struct luks *luks = state;
	struct lunkit_error *err = lunkit_job_error(job);
	struct lunkit_crypt_store store = store_of(luks->child, luks->name);
	if (luks->plain) {
		lunkit_error_set(err, EOPNOTSUPP, "%.300s: a plain dm-crypt volume has no header and so no key slots", luks->name);
		lunkit_job_done(job, -EOPNOTSUPP);
		return;
	}
	lunkit_job_done(job, header_change(&store, change, err));
}
