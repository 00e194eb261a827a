/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image_fake.h"

/* What the handler was given, as text. */
static char given[512];

static int open_and_note(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	given[0] = '\0';
	for (size_t i = 0; i < params->option_count; i++) {
		size_t used = strlen(given);
		snprintf(given + used, sizeof(given) - used, "%s[%s|%s|%llu]", used ? " " : "", params->options[i].key,
			 params->options[i].value, (unsigned long long)params->options[i].number);
		assert_ptr_equal(lunkit_params_option(params, params->options[i].key), &params->options[i]);
	}
	assert_null(lunkit_params_option(params, "never"));
	return fake_open(params, ret_state, err);
}

static int try_open(struct fixture *fixture, const char *options, struct lunkit_error *err)
{
	struct lunkit_handler handler = fake_handler;
	const struct lunkit_handler *adopted;
	struct image *image = NULL;
	handler.open = open_and_note;
	fake.limits = (struct lunkit_limits){ .size = FAKE_SIZE };
	assert_int_equal(handler_adopt(&handler, &adopted, err), 0);
	const struct image_params params = { .name = "fake", .options = options };
	int r = image_open(&fixture->host, adopted, &params, &image, err);
	image_close(image);
	return r;
}

static void options_reach_the_handler_checked(void **state)
{
	struct lunkit_error err;
	assert_int_equal(try_open(*state, NULL, &err), 0);
	assert_string_equal(given, "");
	assert_int_equal(try_open(*state, "", &err), 0);
	assert_int_equal(try_open(*state, "length=3K;on=yes;word=three;text=a%3Bb%3D", &err), 0);
	assert_string_equal(given, "[length|3K|3072] [on|yes|1] [word|three|0] [text|a;b=|0]");
	assert_int_equal(try_open(*state, ";text=;;on=0;", &err), 0);
	assert_string_equal(given, "[text||0] [on|0|0]");
	assert_int_equal(try_open(*state, "text=a=b", &err), 0);
	assert_string_equal(given, "[text|a=b|0]");
}

static void wrong_options_are_clear_errors(void **state)
{
	static const struct {
		const char *options, *says;
	} cases[] = {
		{ "what=1", "what" },
		{ "WORD=one", "WORD" },
		{ "word", "no value" },
		{ "word=two", "two" },
		{ "word=", "word" },
		{ "word=on", "on" },
		{ "word=one|three", "one|three" },
		{ "length=big", "not a size" },
		{ "length=99999E", "too large" },
		{ "length=-1", "not a size" },
		{ "on=perhaps", "perhaps" },
		{ "text=%zz", "percent" },
		{ "text=%00", "percent" },
		{ "on=1;on=1", "twice" },
		{ "=1", "option" },
		{ "on=1;oops", "oops" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lunkit_error err;
		int r = try_open(*state, cases[i].options, &err);
		if (r >= 0 || err.code != -r || !strstr(err.message, cases[i].says))
			fail_msg("\"%s\" gave %d: %s", cases[i].options, r, err.message);
	}
	char *endless = malloc(100000);
	struct lunkit_error err;
	memset(endless, ';', 99999);
	endless[99999] = '\0';
	assert_int_equal(try_open(*state, endless, &err), -E2BIG);
	free(endless);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(options_reach_the_handler_checked),
		TEST(wrong_options_are_clear_errors),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
