/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Headers in a store in memory, which remembers how it was written: so that every moment of a change can be gone back to. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/error.h"
#include "cipher.h"
#include "header.h"

#define WRITES_MAX 4096

struct write {
	uint64_t offset;
	size_t length; /* 0: a sync */
	uint8_t *bytes;
};

struct memory {
	uint8_t *bytes;
	size_t size;
	struct write writes[WRITES_MAX];
	size_t count;
	int fail; /* what writing answers; 0: it works */
};

static int memory_read(void *argument, void *buffer, size_t length, uint64_t offset)
{
	const struct memory *memory = argument;
	assert_true(range_within(offset, length, memory->size));
	memcpy(buffer, memory->bytes + offset, length);
	return 0;
}

static int memory_write(void *argument, const void *buffer, size_t length, uint64_t offset)
{
	struct memory *memory = argument;
	assert_true(range_within(offset, length, memory->size));
	assert_true(memory->count < WRITES_MAX);
	if (memory->fail)
		return memory->fail;
	struct write *write = &memory->writes[memory->count++];
	*write = (struct write){ offset, length, malloc(length) };
	memcpy(write->bytes, buffer, length);
	memcpy(memory->bytes + offset, buffer, length);
	return 0;
}

static int memory_sync(void *argument)
{
	struct memory *memory = argument;
	assert_true(memory->count < WRITES_MAX);
	memory->writes[memory->count++] = (struct write){ 0 };
	return 0;
}

static struct lunkit_crypt_store store_of(struct memory *memory)
{
	return (struct lunkit_crypt_store){ .read = memory_read,
					    .write = memory_write,
					    .sync = memory_sync,
					    .argument = memory,
					    .size = memory->size,
					    .name = "the image" };
}

static void forget(struct memory *memory)
{
	while (memory->count)
		free(memory->writes[--memory->count].bytes);
}

static void destroy(struct memory *memory)
{
	forget(memory);
	free(memory->bytes);
	free(memory);
}

#define KEY(text) (const uint8_t *)(text), strlen(text)

static struct memory *make(unsigned version, struct lunkit_crypt_facts *facts)
{
	const struct lunkit_crypt_format format = {
		.version = version,
		.sector_size = version == 2 ? 4096 : 512,
		.key_bits = 512,
		.cipher = "aes-xts-plain64",
	};
	struct memory *memory = calloc(1, sizeof(*memory));
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int r = header_format(&format, KEY("one"), "the image", &memory->bytes, &memory->size, facts, &err);
	if (r < 0)
		print_error("%s\n", err.message);
	assert_int_equal(r, 0);
	assert_int_equal(memory->size, facts->payload_offset);
	return memory;
}

static int try_key(struct memory *memory, const char *key, struct lunkit_error *err)
{
	struct lunkit_crypt_store store = store_of(memory);
	struct lunkit_cipher *cipher = NULL;
	struct lunkit_crypt_facts facts;
	int r = header_unlock(&store, (const uint8_t *)key, key ? strlen(key) : 0, &facts, &cipher, err);
	assert_true((r == 0) == (cipher != NULL));
	cipher_free(cipher);
	return r;
}

static void test_format_and_unlock(void **state)
{
	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		struct lunkit_crypt_facts facts, read;
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		struct memory *memory = make(version, &facts);
		struct lunkit_crypt_store store = store_of(memory);
		assert_int_equal(facts.version, version);
		assert_string_equal(facts.cipher, "aes-xts-plain64");
		assert_int_equal(facts.key_bits, 512);
		assert_int_equal(facts.sector_size, version == 2 ? 4096 : 512);
		assert_true(facts.slots[0].used && !facts.slots[1].used);
		assert_int_equal(header_describe(&store, &read, &err), 0);
		assert_memory_equal(&read, &facts, sizeof(facts));
		assert_int_equal(try_key(memory, "one", &err), 0);
		assert_int_equal(try_key(memory, "two", &err), -EACCES);
		assert_non_null(strstr(err.message, "does not fit"));
		assert_int_equal(try_key(memory, "one\n", &err), -EACCES);
		assert_non_null(strstr(err.hint, "newline"));
		assert_int_equal(try_key(memory, NULL, &err), -ENOKEY);
		assert_int_equal(memory->count, 0); /* looking writes nothing */
		destroy(memory);
	}
}

/* Whether one of the keys opens what a power cut after that many writes leaves, less one of the last writes that no sync had made durable. */
static void check_moment(const struct memory *after, const uint8_t *before, size_t writes, size_t lost, const char *const *keys)
{
	struct memory then = { .bytes = malloc(after->size), .size = after->size };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	memcpy(then.bytes, before, after->size);
	for (size_t i = 0; i < writes; i++)
		if (after->writes[i].length && i != lost)
			memcpy(then.bytes + after->writes[i].offset, after->writes[i].bytes, after->writes[i].length);
	bool opens = false;
	for (size_t i = 0; keys[i] && !opens; i++)
		opens = try_key(&then, keys[i], &err) == 0;
	if (!opens)
		print_error("after %zu writes without the one at %zu: %s\n", writes, lost, err.message);
	assert_true(opens);
	free(then.bytes);
}

static void change(struct memory *memory, const struct lunkit_key_change *what, const char *const *keys)
{
	struct lunkit_crypt_store store = store_of(memory);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	uint8_t *before = malloc(memory->size);
	memcpy(before, memory->bytes, memory->size);
	forget(memory);
	int r = header_change(&store, what, &err);
	if (r < 0)
		print_error("%s\n", err.message);
	assert_int_equal(r, 0);
	assert_true(memory->count > 1);
	assert_int_equal(memory->writes[memory->count - 1].length, 0); /* durable */
	/* Each moment near a sync, where it is decided; and some in between, each less one write. */
	size_t synced = 0;
	for (size_t i = 0; i <= memory->count; i++) {
		bool near = i == memory->count || !memory->writes[i].length || (i && !memory->writes[i - 1].length);
		if (near || i % 32 == 0)
			check_moment(memory, before, i, SIZE_MAX, keys);
		if (near && i > synced)
			check_moment(memory, before, i, synced + (i - synced) / 2, keys);
		if (i < memory->count && !memory->writes[i].length)
			synced = i + 1;
	}
	free(before);
}

static void test_changes_survive_a_power_cut(void **state)
{
	(void)state;
	static const char *const one[] = { "one", NULL }, *const two[] = { "two", NULL }, *const any[] = { "two", "three", NULL };
	for (unsigned version = 1; version <= 2; version++) {
		struct lunkit_crypt_facts facts;
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		struct memory *memory = make(version, &facts);
		change(memory, &(struct lunkit_key_change){ LUNKIT_KEY_ADD, -1, KEY("one"), KEY("two"), -1 }, one);
		assert_int_equal(try_key(memory, "two", &err), 0);
		change(memory, &(struct lunkit_key_change){ LUNKIT_KEY_REMOVE, 0, KEY("two"), NULL, 0, -1 }, two);
		assert_int_equal(try_key(memory, "one", &err), -EACCES);
		change(memory, &(struct lunkit_key_change){ LUNKIT_KEY_CHANGE, -1, KEY("two"), KEY("three"), -1 }, any);
		assert_int_equal(try_key(memory, "two", &err), -EACCES);
		assert_int_equal(try_key(memory, "three", &err), 0);
		destroy(memory);
	}
}

static int refuse(struct memory *memory, enum lunkit_key_op op, int slot, const char *key, const char *new_key, const char *text)
{
	struct lunkit_crypt_store store = store_of(memory);
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct lunkit_key_change what = {
		.op = op,
		.slot = slot,
		.key = (const uint8_t *)key,
		.key_length = key ? strlen(key) : 0,
		.new_key = (const uint8_t *)new_key,
		.new_key_length = new_key ? strlen(new_key) : 0,
		.fd = -1,
	};
	forget(memory);
	int r = header_change(&store, &what, &err);
	assert_true(r < 0);
	if (!strstr(err.message, text))
		print_error("'%s' is not in: %s\n", text, err.message);
	assert_non_null(strstr(err.message, text));
	assert_int_equal(memory->count, 0);
	return r;
}

static void test_refused(void **state)
{
	(void)state;
	struct lunkit_crypt_facts facts;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct memory *memory = make(1, &facts);
	assert_int_equal(refuse(memory, LUNKIT_KEY_ADD, -1, "wrong", "two", "does not fit"), -EACCES);
	assert_int_equal(refuse(memory, LUNKIT_KEY_ADD, -1, NULL, "two", "no key was given"), -ENOKEY);
	assert_int_equal(refuse(memory, LUNKIT_KEY_ADD, 0, "one", "two", "is in use"), -EEXIST);
	assert_int_equal(refuse(memory, LUNKIT_KEY_ADD, 8, "one", "two", "no slot 8"), -ERANGE);
	assert_int_equal(refuse(memory, LUNKIT_KEY_REMOVE, 0, "one", NULL, "one key only"), -EPERM);
	assert_int_equal(refuse(memory, LUNKIT_KEY_REMOVE, 3, "one", NULL, "is empty"), -ENOENT);
	assert_int_equal(refuse(memory, LUNKIT_KEY_CHANGE, -1, "wrong", "two", "does not fit"), -EACCES);
	memory->fail = -EIO;
	assert_int_equal(refuse(memory, LUNKIT_KEY_ADD, -1, "one", "two", "cannot write"), -EIO);
	assert_int_equal(try_key(memory, "one", &err), 0);
	destroy(memory);
}

static void test_backup(void **state)
{
	(void)state;
	for (unsigned version = 1; version <= 2; version++) {
		struct lunkit_crypt_facts facts, other_facts;
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		struct memory *memory = make(version, &facts), *other = make(version, &other_facts);
		struct lunkit_crypt_store store = store_of(memory), other_store = store_of(other);
		int fd = memfd_create("backup", 0);
		struct lunkit_key_change backup = { .op = LUNKIT_KEY_BACKUP, .slot = -1, .fd = fd };
		struct lunkit_key_change restore = { .op = LUNKIT_KEY_RESTORE, .slot = -1, .fd = fd };
		assert_int_equal(header_change(&store, &backup, &err), 0);
		assert_int_equal(header_change(&other_store, &restore, &err), -EEXIST);
		assert_int_equal(other->count, 0);
		memset(memory->bytes, 0, memory->size);
		assert_int_equal(try_key(memory, "one", &err), -EINVAL);
		assert_int_equal(header_change(&store, &restore, &err), 0);
		assert_int_equal(try_key(memory, "one", &err), 0);
		/* what is no header changes nothing */
		forget(memory);
		assert_int_equal(pwrite(fd, "nonsense", 8, 0), 8);
		assert_int_equal(header_change(&store, &restore, &err), -EINVAL);
		assert_int_equal(memory->count, 0);
		assert_int_equal(ftruncate(fd, 10), 0);
		assert_int_equal(header_change(&store, &restore, &err), -EINVAL);
		close(fd);
		destroy(memory);
		destroy(other);
	}
}

static void test_measure(void **state)
{
	(void)state;
	uint8_t first[HEADER_FIRST] = "LUKS\xba\xbe";
	unsigned version = 7;
	uint64_t length = 7;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	put_be16(first + 6, 1);
	put_be32(first + 104, 4096);
	assert_int_equal(header_measure(first, (uint64_t)1 << 30, "it", &version, &length, &err), 0);
	assert_int_equal(version, 1);
	assert_int_equal(length, 2 << 20);
	assert_int_equal(header_measure(first, (2 << 20) - 1, "it", &version, &length, &err), -EINVAL); /* cut off */
	put_be32(first + 104, 1);
	assert_int_equal(header_measure(first, (uint64_t)1 << 30, "it", &version, &length, &err), -EINVAL);
	put_be32(first + 104, UINT32_MAX);
	assert_int_equal(header_measure(first, UINT64_MAX, "it", &version, &length, &err), -EINVAL);
	put_be16(first + 6, 2);
	static const uint64_t wrong[] = { 0, 1, 4096, 16385, (uint64_t)8 << 20, UINT64_MAX, (uint64_t)1 << 63 };
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		put_be64(first + 8, wrong[i]);
		assert_int_equal(header_measure(first, (uint64_t)1 << 30, "it", &version, &length, &err), -EINVAL);
	}
	put_be64(first + 8, 16384);
	assert_int_equal(header_measure(first, (uint64_t)1 << 30, "it", &version, &length, &err), 0);
	assert_int_equal(length, 16 << 20);
	put_be16(first + 6, 3);
	assert_int_equal(header_measure(first, (uint64_t)1 << 30, "it", &version, &length, &err), -ENOTSUP);
	first[0] = 'l';
	assert_int_equal(header_measure(first, (uint64_t)1 << 30, "it", &version, &length, &err), -EINVAL);
	assert_non_null(strstr(err.message, "is not a LUKS image"));
}

int main(void)
{
	header_cheap_keys = true;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_format_and_unlock), cmocka_unit_test(test_changes_survive_a_power_cut),
		cmocka_unit_test(test_refused),		  cmocka_unit_test(test_backup),
		cmocka_unit_test(test_measure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
