/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * LUKS headers by libcryptsetup, which wants a device with a path. It gets a memfd that holds a copy of the header, named /proc/self/fd/N:
 *
 *     image ─► copy in a memfd ─► crypt_load(), keys … ─► slots.c: what differs ─► image
 *
 * Found by trying (libcryptsetup 2.6.1): on such a file it needs neither device-mapper nor AF_ALG nor loop devices. Key slots are encrypted by libcrypto in the process, Argon2 runs
 * on threads of its own, and all that it opens once it is set up is that path, which the worker's sandbox answers with the descriptor itself. What it opens to set itself up
 * (/dev/urandom, OpenSSL's configuration and providers) is opened when this handler is loaded, before the sandbox.
 *
 * The headers are parsed by libcryptsetup inside the sandbox; of its own, lunkit looks at the first 592 bytes, to know how much to copy.
 */
#include "header.h"

#include <dlfcn.h>
#include <errno.h>
#include <libcryptsetup.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "cipher.h"
#include "header_copy.h"

#define SECTOR 512u
/* LUKS2: two copies of at most 4 MiB, and at most 128 MiB of key slots; the data begins behind them, aligned. */
#define LUKS2_METADATA_MAX ((uint64_t)4 << 20)
#define LUKS2_LENGTH ((uint64_t)16 << 20)
#define HEADER_LENGTH_MAX ((uint64_t)160 << 20)
/* Room for a new header of any version, before it is known how long it is. */
#define FORMAT_ROOM ((off_t)64 << 20)

/* LUKS1 (on-disk format 1.2.3) and LUKS2 (1.0.0): where the fields are that tell a header's length. Big-endian. */
#define LUKS1_PAYLOAD_OFFSET 104
#define LUKS1_LENGTH 592
static const uint8_t magic[] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

/* ---- what libcryptsetup says ---- */

static char last_words[256]; /* owner: the thread that calls libcryptsetup; no key is ever among them */

static void on_log(int level, const char *message, void *argument)
{
	(void)argument;
	if (level == CRYPT_LOG_ERROR)
		snprintf(last_words, sizeof(last_words), "%.*s", (int)strcspn(message, "\n"), message);
	if (level == CRYPT_LOG_ERROR || level == CRYPT_LOG_VERBOSE)
		lunkit_log(LUNKIT_LOG_DEBUG, "libcryptsetup: %.*s", (int)strcspn(message, "\n"), message);
}

const char *header_why(int r)
{
	return last_words[0] ? last_words : strerror(-r);
}

/* ---- a copy ---- */

void header_copy_free(struct header_copy *copy)
{
	crypt_free(copy->device);
	if (copy->bytes)
		munmap(copy->bytes, copy->length);
	if (copy->fd >= 0)
		close(copy->fd);
}

static int copy_new(struct header_copy *copy, size_t length)
{
	char path[32];
	*copy = (struct header_copy){ .fd = memfd_create("lunkit-header", MFD_CLOEXEC), .length = length };
	if (copy->fd < 0)
		return -errno;
	void *bytes =
		ftruncate(copy->fd, (off_t)length) < 0 ? MAP_FAILED : mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, copy->fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	copy->bytes = bytes;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", copy->fd);
	last_words[0] = '\0';
	return crypt_init(&copy->device, path);
}

/* Once, when this handler is loaded, and before the sandbox: everything that has to be opened or mapped as code for it. The header is none, so that it fails in the end. */
__attribute__((constructor)) static void header_prepare(void)
{
	struct header_copy copy;
	crypt_set_log_callback(NULL, on_log, NULL);
	/* Locks are files of the whole host, for devices that others may change meanwhile; nobody else sees our copy. */
	crypt_metadata_locking(NULL, 0);
	OPENSSL_init_crypto(OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS | OPENSSL_INIT_LOAD_CONFIG, NULL);
	dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_GLOBAL); /* the C library needs it where a thread ends */
	if (copy_new(&copy, BLOCK) == 0)
		crypt_load(copy.device, CRYPT_LUKS, NULL);
	header_copy_free(&copy);
	last_words[0] = '\0';
}

/* ---- measuring: the only parsing that is ours ---- */

static int damaged(struct lunkit_error *err, const char *name, const char *what)
{
	lunkit_error_set(err, EINVAL, "%.300s: the LUKS header is damaged: %.200s", name, what);
	return lunkit_error_hint(err, "If there is a backup of it: lunkit key restore IMAGE FILE.");
}

int header_measure(const uint8_t *first, uint64_t room, const char *name, unsigned *ret_version, uint64_t *ret_length,
		   struct lunkit_error *err)
{
	if (memcmp(first, magic, sizeof(magic)) != 0) {
		lunkit_error_set(err, EINVAL, "%.300s is not a LUKS image: it does not begin like one", name);
		return lunkit_error_hint(err,
					 "Name the kind that it is; if it should be LUKS its header is destroyed: lunkit key restore.");
	}
	unsigned version = get_be16(first + FIELD_VERSION);
	uint64_t length, size;
	switch (version) {
	case 1:
		length = (uint64_t)get_be32(first + LUKS1_PAYLOAD_OFFSET) * SECTOR;
		if (length < LUKS1_LENGTH || length > HEADER_LENGTH_MAX)
			return damaged(err, name, "an impossible place for the data");
		break;
	case 2:
		size = get_be64(first + LUKS2_HEADER_SIZE);
		if (size < 4 * BLOCK || size > LUKS2_METADATA_MAX || size & (size - 1))
			return damaged(err, name, "an impossible size");
		/* How long it is stands in its JSON part, which libcryptsetup reads; more is copied when it says so. */
		length = MIN(MAX(2 * size, LUKS2_LENGTH), room);
		break;
	default:
		lunkit_error_set(err, ENOTSUP, "%.300s: version %u of LUKS is not supported", name, version);
		return lunkit_error_hint(err, "Versions 1 and 2 are.");
	}
	if (length > room)
		return damaged(err, name, "it is longer than the image");
	*ret_version = version;
	*ret_length = length;
	return 0;
}

/* ---- loading ---- */

static int fill(const struct lunkit_crypt_store *store, uint64_t length, struct header_copy *copy)
{
	int r = copy_new(copy, (size_t)length);
	return r < 0 ? r : store->read(store->argument, copy->bytes, (size_t)length, 0);
}

static int load_device(const struct lunkit_crypt_store *store, unsigned version, struct header_copy *copy, struct lunkit_error *err)
{
	int r = crypt_load(copy->device, version == 1 ? CRYPT_LUKS1 : CRYPT_LUKS2, NULL);
	if (r == -ENOTSUP)
		return lunkit_error_set(err, ENOTSUP, "%.300s: its LUKS header needs what is not supported here: %.200s", store->name,
					header_why(r));
	return r < 0 ? damaged(err, store->name, header_why(r)) : 0;
}

/* *copy has to be freed in any case. */
int header_load(const struct lunkit_crypt_store *store, struct header_copy *copy, struct lunkit_error *err)
{
	uint8_t first[HEADER_FIRST];
	unsigned version;
	uint64_t length;
	*copy = (struct header_copy){ .fd = -1 };
	int r = store->size < sizeof(first) ? 0 : store->read(store->argument, first, sizeof(first), 0);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot read the LUKS header: %s", store->name, strerror(-r));
	if (store->size < sizeof(first))
		memset(first, 0, sizeof(first));
	r = header_measure(first, store->size, store->name, &version, &length, err);
	if (r < 0)
		return r;
	r = fill(store, length, copy);
	if (r < 0)
		return lunkit_error_set(err, r, "%.300s: cannot read the LUKS header: %s", store->name, strerror(-r));
	r = load_device(store, version, copy, err);
	uint64_t data = r == 0 ? crypt_get_data_offset(copy->device) * SECTOR : 0;
	if (r == 0 && data > length) { /* a LUKS2 header with more room for keys than usual */
		if (data > MIN(store->size, HEADER_LENGTH_MAX))
			return damaged(err, store->name, "its data begins behind the image's end");
		header_copy_free(copy);
		r = fill(store, data, copy);
		r = r < 0 ? lunkit_error_set(err, r, "%.300s: cannot read the LUKS header: %s", store->name, strerror(-r))
			  : load_device(store, version, copy, err);
	}
	return r;
}

static void describe_slots(struct crypt_device *device, struct lunkit_crypt_facts *facts)
{
	int most = crypt_keyslot_max(crypt_get_type(device));
	facts->slots_total = most < 0 ? 0 : MIN((unsigned)most, (unsigned)LUNKIT_CRYPT_SLOTS);
	for (unsigned slot = 0; slot < facts->slots_total; slot++) {
		struct crypt_pbkdf_type kdf = { 0 };
		crypt_keyslot_info state = crypt_keyslot_status(device, (int)slot);
		if (state != CRYPT_SLOT_ACTIVE && state != CRYPT_SLOT_ACTIVE_LAST && state != CRYPT_SLOT_UNBOUND)
			continue;
		facts->slots[slot].used = true;
		if (crypt_keyslot_get_pbkdf(device, (int)slot, &kdf) < 0 || !kdf.type)
			continue;
		bool argon = strncmp(kdf.type, "argon", 5) == 0;
		snprintf(facts->slots[slot].kdf, sizeof(facts->slots[slot].kdf), "%s%s%s", kdf.type, argon ? "" : "-",
			 argon || !kdf.hash ? "" : kdf.hash);
	}
}

int header_read_facts(const char *name, struct crypt_device *device, struct lunkit_crypt_facts *ret, struct lunkit_error *err)
{
	const char *type = crypt_get_type(device), *uuid = crypt_get_uuid(device);
	struct lunkit_crypt_facts facts = { .version = type && strcmp(type, CRYPT_LUKS1) == 0 ? 1 : 2 };
	int sector = crypt_get_sector_size(device), bytes = crypt_get_volume_key_size(device);
	facts.sector_size = sector > 0 ? (unsigned)sector : SECTOR;
	facts.key_bits = bytes > 0 ? (unsigned)bytes * 8 : 0;
	facts.payload_offset = crypt_get_data_offset(device) * SECTOR;
	snprintf(facts.cipher, sizeof(facts.cipher), "%s-%s", crypt_get_cipher(device) ? crypt_get_cipher(device) : "?",
		 crypt_get_cipher_mode(device) ? crypt_get_cipher_mode(device) : "?");
	snprintf(facts.uuid, sizeof(facts.uuid), "%s", uuid ? uuid : "");
	describe_slots(device, &facts);
	struct crypt_params_integrity integrity = { 0 };
	uint32_t requirements = 0;
	bool authenticated = crypt_get_integrity_info(device, &integrity) == 0 && integrity.integrity && integrity.integrity[0];
	crypt_persistent_flags_get(device, CRYPT_FLAGS_REQUIREMENTS, &requirements);
	if (authenticated || requirements) {
		lunkit_error_set(err, ENOTSUP, "%.300s: %s, which is not supported", name,
				 authenticated ? "its sectors are authenticated (integrity)" : "a reencryption of it is under way");
		return lunkit_error_hint(err, "%s",
					 authenticated ? "Copy it to an image without." : "cryptsetup reencrypt --resume-only ends it.");
	}
	if (crypt_get_iv_offset(device) != 0)
		return lunkit_error_set(err, ENOTSUP, "%.300s: its data does not start with IV 0, which is not supported", name);
	if (!is_power_of_two(facts.sector_size) || facts.sector_size < SECTOR || facts.sector_size > BLOCK || facts.payload_offset % SECTOR)
		return damaged(err, name, "an impossible sector size or place for the data");
	*ret = facts;
	return 0;
}

/* ---- keys ---- */

int header_explain_key(const char *name, int r, const uint8_t *key, size_t length, struct lunkit_error *err)
{
	switch (-r) {
	case EPERM:
		lunkit_error_set(err, EACCES, "%.300s: the key does not fit: it opens none of the image's key slots", name);
		if (length && key[length - 1] == '\n')
			return lunkit_error_hint(err,
						 "The key ends with a newline, which counts: printf %%s PASSPHRASE > FILE leaves it away.");
		return lunkit_error_hint(err, "Is it this image's key file? `lunkit key list` shows the slots that there are.");
	case ENOENT:
		lunkit_error_set(err, ENOENT, "%.300s: none of its key slots holds a key: nothing can open it", name);
		return lunkit_error_hint(err, "If there is a backup of its header: lunkit key restore IMAGE FILE.");
	case ENOMEM:
		lunkit_error_set(err, ENOMEM, "%.300s: not enough memory to derive the key", name);
		return lunkit_error_hint(
			err, "Argon2 needs what the header says, a gigabyte at times; `cryptsetup luksConvertKey` makes it less.");
	default:
		return lunkit_error_set(err, r, "%.300s: cannot open a key slot: %.200s", name, header_why(r));
	}
}

int header_need_key(const char *name, const uint8_t *key, struct lunkit_error *err)
{
	if (key)
		return 0;
	lunkit_error_set(err, ENOKEY, "%.300s is encrypted, and no key was given", name);
	return lunkit_error_hint(err, "--key-file FILE; FILE holds the passphrase, without a newline at its end.");
}

int header_describe(const struct lunkit_crypt_store *store, struct lunkit_crypt_facts *ret, struct lunkit_error *err)
{
	struct header_copy copy;
	int r = header_load(store, &copy, err);
	if (r == 0)
		r = header_read_facts(store->name, copy.device, ret, err);
	header_copy_free(&copy);
	return r;
}

int header_unlock(const struct lunkit_crypt_store *store, const uint8_t *key, size_t key_length, struct lunkit_crypt_facts *ret_facts,
		  struct lunkit_cipher **ret, struct lunkit_error *err)
{
	struct header_copy copy;
	struct lunkit_crypt_facts facts;
	int r = header_load(store, &copy, err);
	if (r == 0)
		r = header_read_facts(store->name, copy.device, &facts, err);
	if (r == 0)
		r = cipher_check(facts.cipher, facts.key_bits / 8, store->name, err);
	if (r == 0)
		r = header_need_key(store->name, key, err);
	size_t length = r == 0 ? facts.key_bits / 8 : 0;
	char *volume_key = length ? lunkit_secret_new(length) : NULL;
	if (r == 0 && !volume_key)
		r = lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", store->name);
	if (r == 0) {
		size_t got = length;
		r = crypt_volume_key_get(copy.device, CRYPT_ANY_SLOT, volume_key, &got, (const char *)key, key_length);
		if (r < 0)
			r = header_explain_key(store->name, r, key, key_length, err);
		else
			r = cipher_new(facts.cipher, (const uint8_t *)volume_key, got, facts.sector_size, store->name, ret, err);
	}
	lunkit_secret_free(volume_key, length);
	header_copy_free(&copy);
	if (r == 0 && ret_facts)
		*ret_facts = facts;
	return r;
}

/* ---- making one ---- */

bool header_cheap_keys;

void header_set_kdf(const struct lunkit_crypt_format *format, struct crypt_pbkdf_type *ret)
{
	bool argon = format->version == 2;
	*ret = (struct crypt_pbkdf_type){
		.type = argon ? CRYPT_KDF_ARGON2ID : CRYPT_KDF_PBKDF2,
		.hash = "sha256",
		.time_ms = format->derivation_ms ? format->derivation_ms : HEADER_DERIVATION_MS,
		.max_memory_kb = !argon			  ? 0
				 : format->derivation_kib ? format->derivation_kib
							  : HEADER_DERIVATION_KIB,
		.parallel_threads = argon ? 2 : 0,
	};
	if (!header_cheap_keys)
		return;
	ret->flags = CRYPT_PBKDF_NO_BENCHMARK;
	ret->iterations = argon ? 4 : 1000; /* the fewest that are allowed */
	ret->max_memory_kb = argon ? 32 : 0;
}

static int format_device(struct header_copy *copy, const struct lunkit_crypt_format *format, const uint8_t *key, size_t key_length)
{
	char cipher[64];
	struct crypt_pbkdf_type kdf;
	snprintf(cipher, sizeof(cipher), "%s", format->cipher);
	char *mode = strchr(cipher, '-');
	if (!mode)
		return -EINVAL;
	*mode++ = '\0';
	header_set_kdf(format, &kdf);
	int r = crypt_set_pbkdf_type(copy->device, &kdf);
	struct crypt_params_luks1 luks1 = { .hash = "sha256" };
	struct crypt_params_luks2 luks2 = { .pbkdf = &kdf, .sector_size = format->sector_size };
	if (r == 0)
		r = crypt_format(copy->device, format->version == 1 ? CRYPT_LUKS1 : CRYPT_LUKS2, cipher, mode, NULL, NULL,
				 format->key_bits / 8, format->version == 1 ? (void *)&luks1 : (void *)&luks2);
	if (r == 0)
		r = crypt_keyslot_add_by_volume_key(copy->device, 0, NULL, 0, (const char *)key, key_length);
	return r < 0 ? r : 0;
}

int header_format(const struct lunkit_crypt_format *format, const uint8_t *key, size_t key_length, const char *name, uint8_t **ret_header,
		  size_t *ret_length, struct lunkit_crypt_facts *ret_facts, struct lunkit_error *err)
{
	struct header_copy copy = { .fd = -1 };
	struct lunkit_crypt_facts facts;
	if (!key) {
		lunkit_error_set(err, ENOKEY, "%.300s: an encrypted image needs a key, and none was given", name);
		return lunkit_error_hint(err, "--key-file FILE with create, --new-key-file FILE with import, export and clone.");
	}
	int r = copy_new(&copy, FORMAT_ROOM);
	if (r == 0)
		r = format_device(&copy, format, key, key_length);
	if (r < 0)
		lunkit_error_set(err, r, "%.300s: cannot make a LUKS header: %.200s", name, header_why(r));
	else
		r = header_read_facts(name, copy.device, &facts, err);
	uint8_t *header = NULL;
	if (r == 0 && facts.payload_offset > (uint64_t)FORMAT_ROOM)
		r = lunkit_error_set(err, EIO, "%.300s: the new LUKS header is too long", name);
	if (r == 0 && !(header = malloc(facts.payload_offset)))
		r = lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", name);
	if (r == 0)
		memcpy(header, copy.bytes, facts.payload_offset);
	header_copy_free(&copy);
	if (r < 0)
		return r;
	*ret_header = header;
	*ret_length = facts.payload_offset;
	*ret_facts = facts;
	return 0;
}
