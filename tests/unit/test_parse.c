/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "base/parse.h"

static void sizes_are_bytes_with_binary_units(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "512", 0, 512 },
		{ "512B", 0, 512 },
		{ "10G", 0, UINT64_C(10) << 30 },
		{ "10g", 0, UINT64_C(10) << 30 },
		{ "3KiB", 0, 3072 },
		{ "3kb", 0, 3072 },
		{ "1M", 0, 1 << 20 },
		{ "2T", 0, UINT64_C(2) << 40 },
		{ "1P", 0, UINT64_C(1) << 50 },
		{ "15E", 0, UINT64_C(15) << 60 },
		{ "18446744073709551615", 0, UINT64_MAX },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "99999999999999999999999", -ERANGE, 0 },
		{ "16E", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "G", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1 G", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "1X", -EINVAL, 0 },
		{ "1iB", -EINVAL, 0 },
		{ "1GG", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t bytes = 77;
		int r = parse_size(cases[i].text, &bytes);
		if (r != cases[i].result)
			fail_msg("\"%s\" gave %d", cases[i].text, r);
		assert_int_equal(bytes, r ? 77 : cases[i].bytes);
	}
}

static void numbers_are_digits_only(void **state)
{
	(void)state;
	uint64_t value = 1;
	assert_int_equal(parse_u64("0018", &value), 0);
	assert_int_equal(value, 18);
	assert_int_equal(parse_u64("18k", &value), -EINVAL);
	assert_int_equal(parse_u64("", &value), -EINVAL);
	assert_int_equal(parse_u64("18446744073709551616", &value), -ERANGE);
	assert_int_equal(value, 18);
}

static void bools_are_words(void **state)
{
	(void)state;
	bool value = false;
	assert_int_equal(parse_bool("on", &value), 0);
	assert_true(value);
	assert_int_equal(parse_bool("No", &value), 0);
	assert_false(value);
	assert_int_equal(parse_bool("1", &value), 0);
	assert_true(value);
	assert_int_equal(parse_bool("maybe", &value), -EINVAL);
	assert_int_equal(parse_bool("", &value), -EINVAL);
	assert_true(value);
}

static void percent_codes_decode(void **state)
{
	(void)state;
	char out[16];
	assert_int_equal(percent_decode("a%2cb%3A%25", out, sizeof(out)), 0);
	assert_string_equal(out, "a,b:%");
	assert_int_equal(percent_decode("%", out, sizeof(out)), -EINVAL);
	assert_int_equal(percent_decode("%4", out, sizeof(out)), -EINVAL);
	assert_int_equal(percent_decode("%4g", out, sizeof(out)), -EINVAL);
	assert_int_equal(percent_decode("%00", out, sizeof(out)), -EINVAL);
	assert_int_equal(percent_decode("123456789012345", out, sizeof(out)), 0);
	assert_int_equal(percent_decode("1234567890123456", out, sizeof(out)), -ERANGE);
	assert_int_equal(percent_decode("", out, 0), -ERANGE);
	char self[] = "x%20y";
	assert_int_equal(percent_decode(self, self, sizeof(self)), 0);
	assert_string_equal(self, "x y");
}

static void percent_encode_round_trips_every_byte(void **state)
{
	(void)state;
	char in[256], out[800], back[256];
	for (int i = 1; i < 256; i++)
		in[i - 1] = (char)i;
	in[255] = '\0';
	assert_int_equal(percent_encode(in, out, sizeof(out)), 0);
	assert_null(strpbrk(out, " ,:;=\n\""));
	assert_int_equal(percent_decode(out, back, sizeof(back)), 0);
	assert_string_equal(in, back);
	assert_int_equal(percent_encode("/a b", out, 7), 0);
	assert_string_equal(out, "/a%20b");
	assert_int_equal(percent_encode("/a b", out, 6), -ERANGE);
	assert_int_equal(percent_encode("", out, 0), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_bytes_with_binary_units),
		cmocka_unit_test(numbers_are_digits_only),
		cmocka_unit_test(bools_are_words),
		cmocka_unit_test(percent_codes_decode),
		cmocka_unit_test(percent_encode_round_trips_every_byte),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
