/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The vectors were made with OpenSSL: printf 'KIND\0NAME' | openssl mac -macopt hexkey:… -macopt size:16 SIPHASH. They may never change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "pool/reference.h"

static struct reference make(const char *kind, const char *name)
{
	struct reference reference = { 0 };
	strcpy(reference.kind, kind);
	strcpy(reference.name, name);
	return reference;
}

static void serials_are_for_ever(void **state)
{
	(void)state;
	static const struct {
		const char *kind, *name, *serial;
	} vectors[] = {
		{ "raw", "/var/lib/images/disk1.raw", "ca730a28-3e4b-8680-a01a-f5957fb85448" },
		{ "raw", "/srv/vm/debian 12.img", "230d7630-8104-8ea2-acc3-742e580583b1" },
		{ "rbd", "pool/image", "338d5ca4-4344-8a32-9fc0-77a2fd823116" },
		{ "null", "x", "ca8452dd-a812-86c9-b3bf-4370436b3994" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct reference reference = make(vectors[i].kind, vectors[i].name);
		char serial[37];
		reference_serial(&reference, serial);
		assert_string_equal(serial, vectors[i].serial);
	}
}

static void options_do_not_change_who_it_is(void **state)
{
	(void)state;
	struct reference plain = make("raw", "/a"), other = make("raw", "/a");
	other.read_only = true;
	other.cache = REFERENCE_CACHE_WRITEBACK;
	strcpy(other.options, "x=y");
	char one[37], two[37];
	reference_serial(&plain, one);
	reference_serial(&other, two);
	assert_string_equal(one, two);
}

static void kind_and_name_do_not_run_together(void **state)
{
	(void)state;
	struct reference a = make("ab", "c"), b = make("a", "bc");
	char one[37], two[37];
	reference_serial(&a, one);
	reference_serial(&b, two);
	assert_string_not_equal(one, two);
}

static void backstores_are_readable(void **state)
{
	(void)state;
	static const struct {
		const char *kind, *name, *stem;
	} cases[] = {
		{ "raw", "/var/lib/images/disk1.raw", "disk1-ca730a28" },
		{ "raw", "/srv/vm/debian 12.img", "debian-12-230d7630" },
		{ "rbd", "pool/image", "image-338d5ca4" },
		{ "raw", "/x/..", NULL },
		{ "raw", "/x/\xc3\xa4\xc3\xb6", NULL },
		{ "raw", "/x/.hidden", NULL },
		{ "raw", "/x/--a--b--.tar.gz", NULL },
		{ "raw", "/x/0123456789012345678901234567890123456789", NULL },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct reference reference = make(cases[i].kind, cases[i].name);
		char name[64];
		reference_backstore(&reference, name);
		if (cases[i].stem)
			assert_string_equal(name, cases[i].stem);
		assert_true(strlen(name) <= 32 + 9);
		assert_int_not_equal(name[0], '-');
		assert_null(strstr(name, "--"));
		assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"), strlen(name));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(serials_are_for_ever),
		cmocka_unit_test(options_do_not_change_who_it_is),
		cmocka_unit_test(kind_and_name_do_not_run_together),
		cmocka_unit_test(backstores_are_readable),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
