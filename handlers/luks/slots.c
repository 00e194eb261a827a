/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Changes of a header: done on the copy, then what differs is written back, in an order that a crash can't hurt:
 *
 *     key slots' material ─► sync ─► LUKS2: second header ─► sync ─► first header ─► sync
 *
 * so that a key is only said to be there once its material is, and a change of a key is an addition and then a removal, each written back.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "header_copy.h"

/* Writes the blocks of [from, to) that differ from before, the last one first, and makes them durable. */
static int store_changes(const struct lunkit_crypt_store *store, const uint8_t *before, const struct header_copy *copy, size_t from,
			 size_t to)
{
	bool any = false;
	for (size_t at = align_up(to, BLOCK); at > from;) {
		at -= BLOCK;
		size_t length = MIN(BLOCK, to - at);
		if (memcmp(before + at, copy->bytes + at, length) == 0)
			continue;
		int r = store->write(store->argument, copy->bytes + at, length, at);
		if (r < 0)
			return r;
		any = true;
	}
	return any ? store->sync(store->argument) : 0;
}

static int write_back(const struct lunkit_crypt_store *store, const uint8_t *before, const struct header_copy *copy)
{
	bool luks2 = get_be16(copy->bytes + FIELD_VERSION) == 2;
	size_t size = luks2 ? (size_t)get_be64(copy->bytes + LUKS2_HEADER_SIZE) : BLOCK;
	size_t slots = MIN(luks2 ? 2 * size : BLOCK, copy->length);
	int r = store_changes(store, before, copy, slots, copy->length);
	if (r == 0 && luks2)
		r = store_changes(store, before, copy, size, slots);
	return r == 0 ? store_changes(store, before, copy, 0, MIN(size, slots)) : r;
}

static unsigned count_used(const struct lunkit_crypt_facts *facts)
{
	unsigned used = 0;
	for (unsigned slot = 0; slot < facts->slots_total; slot++)
		used += facts->slots[slot].used;
	return used;
}

static int check_slot(const struct lunkit_crypt_store *store, const struct lunkit_crypt_facts *facts, int slot, bool want_used,
		      struct lunkit_error *err)
{
	if (slot < 0)
		return 0;
	if ((unsigned)slot >= facts->slots_total)
		return lunkit_error_set(err, ERANGE, "%.300s has key slots 0 to %u, and no slot %d", store->name, facts->slots_total - 1,
					slot);
	if (facts->slots[slot].used == want_used)
		return 0;
	lunkit_error_set(err, want_used ? ENOENT : EEXIST, "%.300s: key slot %d %s", store->name, slot,
			 want_used ? "is empty" : "is in use");
	return lunkit_error_hint(err, "`lunkit key list` shows the slots.");
}

static int add(const struct lunkit_crypt_store *store, const struct header_copy *copy, const struct lunkit_crypt_facts *facts,
	       const struct lunkit_key_change *change, int slot, struct lunkit_error *err)
{
	int r = check_slot(store, facts, slot, false, err);
	if (r == 0 && count_used(facts) == facts->slots_total) {
		lunkit_error_set(err, ENOSPC, "%.300s: all %u key slots are in use", store->name, facts->slots_total);
		r = lunkit_error_hint(err, "Remove one that is no longer needed: lunkit key remove IMAGE SLOT.");
	}
	if (r < 0)
		return r;
	r = crypt_keyslot_add_by_passphrase(copy->device, slot < 0 ? CRYPT_ANY_SLOT : slot, (const char *)change->key, change->key_length,
					    (const char *)change->new_key, change->new_key_length);
	return r < 0 ? header_explain_key(store->name, r, change->key, change->key_length, err) : 0;
}

static int remove_slot(const struct lunkit_crypt_store *store, const struct header_copy *copy, int slot, struct lunkit_error *err)
{
	int r = crypt_keyslot_destroy(copy->device, slot);
	return r < 0 ? lunkit_error_set(err, r, "%.300s: cannot empty key slot %d: %.200s", store->name, slot, header_why(r)) : 0;
}

/* The slot that the key opens, or -errno. only: -1 for any. */
static int slot_of(const struct lunkit_crypt_store *store, const struct header_copy *copy, const struct lunkit_key_change *change, int only,
		   struct lunkit_error *err)
{
	int r = header_need_key(store->name, change->key, err);
	if (r < 0)
		return r;
	r = crypt_activate_by_passphrase(copy->device, NULL, only < 0 ? CRYPT_ANY_SLOT : only, (const char *)change->key,
					 change->key_length, 0);
	return r < 0 ? header_explain_key(store->name, r, change->key, change->key_length, err) : r;
}

static int save(const struct lunkit_crypt_store *store, const struct header_copy *copy, int fd, struct lunkit_error *err)
{
	int r = lunkit_file_write(NULL, fd, copy->bytes, copy->length, 0);
	if (r == 0)
		r = lunkit_file_sync(NULL, fd);
	return r < 0 ? lunkit_error_set(err, r, "%.300s: cannot write the backup of the header: %s", store->name, strerror(-r)) : 0;
}

struct backup {
	int fd;
};

static int backup_read(void *argument, void *buffer, size_t length, uint64_t offset)
{
	const struct backup *backup = argument;
	return lunkit_file_read(NULL, backup->fd, buffer, length, offset);
}

/* What the file holds is checked as a header is, then written, first header last. */
static int restore(const struct lunkit_crypt_store *store, int fd, struct lunkit_error *err)
{
	struct backup backup = { .fd = fd };
	struct header_copy copy;
	struct lunkit_crypt_facts facts, old;
	off_t size = lseek(fd, 0, SEEK_END);
	const struct lunkit_crypt_store source = {
		.read = backup_read, .argument = &backup, .size = size < 0 ? 0 : (uint64_t)size, .name = "the backup"
	};
	int r = header_load(&source, &copy, err);
	if (r == 0)
		r = header_read_facts("the backup", copy.device, &facts, err);
	if (r == 0 && (facts.payload_offset > store->size || copy.length > store->size))
		r = lunkit_error_set(err, EINVAL, "%.300s is too short for the header in the backup", store->name);
	/* Over a header of another volume the data would be lost: the volume key is another. */
	if (r == 0 && header_describe(store, &old, NULL) == 0 && strcmp(old.uuid, facts.uuid) != 0) {
		lunkit_error_set(err, EEXIST, "%.300s has a sound header of another volume (%.40s) than the backup (%.40s)", store->name,
				 old.uuid, facts.uuid);
		r = lunkit_error_hint(err,
				      "Its data could not be read any more. If that is meant, destroy the header first: dd if=/dev/zero.");
	}
	uint8_t *before = r == 0 ? malloc(copy.length) : NULL;
	if (r == 0 && !before)
		r = lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", store->name);
	if (r == 0) {
		r = store->read(store->argument, before, copy.length, 0);
		if (r == 0)
			r = write_back(store, before, &copy);
		if (r < 0)
			lunkit_error_set(err, r, "%.300s: cannot restore the header: %s", store->name, strerror(-r));
	}
	free(before);
	header_copy_free(&copy);
	return r;
}

/* One step, loaded, done and written back: add, or remove of a slot. */
static int step(const struct lunkit_crypt_store *store, const struct lunkit_key_change *change, enum lunkit_key_op op, int slot,
		struct lunkit_error *err)
{
	struct header_copy copy;
	struct lunkit_crypt_facts facts;
	uint8_t *before = NULL;
	int r = header_load(store, &copy, err);
	if (r == 0)
		r = header_read_facts(store->name, copy.device, &facts, err);
	if (r == 0 && op == LUNKIT_KEY_BACKUP) {
		r = save(store, &copy, change->fd, err);
		header_copy_free(&copy);
		return r;
	}
	if (r == 0 && !(before = malloc(copy.length)))
		r = lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", store->name);
	if (r == 0) {
		memcpy(before, copy.bytes, copy.length);
		const struct lunkit_crypt_format format = { .version = facts.version };
		struct crypt_pbkdf_type kdf;
		header_set_kdf(&format, &kdf);
		crypt_set_pbkdf_type(copy.device, &kdf);
		if (op == LUNKIT_KEY_ADD)
			r = header_need_key(store->name, change->key, err);
		if (r == 0 && op == LUNKIT_KEY_ADD)
			r = add(store, &copy, &facts, change, slot, err);
		else if (r == 0)
			r = remove_slot(store, &copy, slot, err);
	}
	if (r == 0 && (r = write_back(store, before, &copy)) < 0)
		lunkit_error_set(err, r, "%.300s: cannot write the LUKS header: %s", store->name, strerror(-r));
	free(before);
	header_copy_free(&copy);
	return r;
}

/* The header's copy, which is to be freed however this ends; slot, unless it is -1, holds a key. */
static int load_used(const struct lunkit_crypt_store *store, int slot, struct header_copy *copy, struct lunkit_crypt_facts *ret,
		     struct lunkit_error *err)
{
	int r = header_load(store, copy, err);
	if (r == 0)
		r = header_read_facts(store->name, copy->device, ret, err);
	return r < 0 ? r : check_slot(store, ret, slot, true, err);
}

static int remove_key(const struct lunkit_crypt_store *store, const struct lunkit_key_change *change, struct lunkit_error *err)
{
	struct header_copy copy;
	struct lunkit_crypt_facts facts;
	int slot = -1;
	int r = load_used(store, change->slot, &copy, &facts, err);
	if (r == 0 && count_used(&facts) <= 1) {
		lunkit_error_set(err, EPERM, "%.300s: it has one key only, and without it nobody could read the image any more",
				 store->name);
		r = lunkit_error_hint(err, "Add another key first: lunkit key add.");
	}
	/* Whoever can't open the image takes no key of it away. */
	if (r == 0)
		r = slot = slot_of(store, &copy, change, -1, err);
	header_copy_free(&copy);
	return r < 0 ? r : step(store, change, LUNKIT_KEY_REMOVE, change->slot >= 0 ? change->slot : slot, err);
}

/* Which slot the old key is in has to be known before the new one, which may be the same, is there. */
static int change_key(const struct lunkit_crypt_store *store, const struct lunkit_key_change *change, struct lunkit_error *err)
{
	struct header_copy copy;
	struct lunkit_crypt_facts facts;
	int slot = -1;
	int r = load_used(store, change->slot, &copy, &facts, err);
	if (r == 0)
		r = slot = slot_of(store, &copy, change, change->slot, err);
	header_copy_free(&copy);
	if (r >= 0)
		r = step(store, change, LUNKIT_KEY_ADD, -1, err);
	return r < 0 ? r : step(store, change, LUNKIT_KEY_REMOVE, slot, err);
}

int header_change(const struct lunkit_crypt_store *store, const struct lunkit_key_change *change, struct lunkit_error *err)
{
	switch (change->op) {
	case LUNKIT_KEY_ADD:
	case LUNKIT_KEY_BACKUP:
		return step(store, change, change->op, change->slot, err);
	case LUNKIT_KEY_REMOVE:
		return remove_key(store, change, err);
	case LUNKIT_KEY_CHANGE:
		return change_key(store, change, err);
	case LUNKIT_KEY_RESTORE:
		return restore(store, change->fd, err);
	}
	return lunkit_error_set(err, EINVAL, "%.300s: there is no such key operation", store->name);
}
