/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* MODULES and CLASH are directories of shared objects that the build makes from image_module.c; see image.cmake. */
#include "image_fixture.h"

static void refused(const char *directory, const char *name, int code, const char *says)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct lunkit_handler *handler = NULL;
	int r = handler_load(directory, name, &handler, &err);
	if (r != -code)
		fail_msg("%s gave %d (%s), not %d", name, r, err.message, -code);
	assert_null(handler);
	assert_int_equal(err.code, code);
	if (!strstr(err.message, says) && !strstr(err.hint, says))
		fail_msg("\"%s\" (%s) does not say \"%s\"", err.message, err.hint, says);
}

static void a_handler_is_loaded_once(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err;
	const struct lunkit_handler *handler, *again;
	int r = handler_load(MODULES, "good", &handler, &err);
	if (r < 0)
		fail_msg("%s", err.message);
	assert_string_equal(handler->name, "good");
	assert_non_null(handler->create);
	assert_int_equal(handler_load(MODULES, "good", &again, &err), 0);
	assert_ptr_equal(handler, again);

	/* And works, calling back into this program. */
	struct image *image;
	struct slot slot;
	char buffer[512];
	const struct image_params params = { .name = "x" };
	assert_int_equal(image_open(&fixture->host, handler, &params, &image, &err), 0);
	slot_init(image, &slot);
	assert_int_equal(do_request(fixture, &slot, LUNKIT_READ, 0, 0, buffer, sizeof(buffer)), 0);
	char *json;
	assert_int_equal(image_info(image, &json, &err), 0);
	assert_non_null(strstr(json, "\"virtual-size\":1048576"));
	assert_non_null(strstr(json, "\"kind\":\"good\""));
	free(json);
	slot_free(&slot);
	image_close(image);
}

static void an_older_struct_ends_where_it_ends(void **state)
{
	struct fixture *fixture = *state;
	struct lunkit_error err;
	const struct lunkit_handler *handler;
	assert_int_equal(handler_load(MODULES, "older", &handler, &err), 0);
	assert_non_null(handler->submit);
	assert_null(handler->create); /* set in the object, but beyond its struct_size */
	const struct image_params params = { .name = "x", .size = 1 << 20 };
	assert_int_equal(image_create(&fixture->host, handler, &params, &err), -EOPNOTSUPP);
	assert_int_equal(err.code, EOPNOTSUPP);
}

static void what_is_no_handler_is_refused(void **state)
{
	(void)state;
	refused(MODULES, "missing", ENOENT, "good");
	refused("/nonexistent", "missing", ENOENT, "/nonexistent");
	refused(MODULES, "", ENOENT, "kind");
	refused(MODULES, "../good", ENOENT, "kind");
	refused(MODULES, "Good", ENOENT, "kind");
	refused(MODULES, "abcdefghijklmnop", ENOENT, "kind");
	refused(MODULES, "newer", ENOEXEC, "version");
	refused(MODULES, "liar", ENOEXEC, "honest");
	refused(MODULES, "tiny", ENOEXEC, "short");
	refused(CLASH, "pre", ENOEXEC, "prefix");
	refused(CLASH, "prefix", ENOEXEC, "pre");
}

static void adopted_handlers_are_checked_too(void **state)
{
	(void)state;
	const struct lunkit_handler *handler;
	struct lunkit_error err;
	struct lunkit_handler mine = { .struct_size = sizeof(mine), .interface_version = 1, .name = "mine" };
	assert_int_equal(handler_adopt(&mine, &handler, &err), -ENOEXEC); /* no functions */
	assert_int_equal(handler_load(MODULES, "good", &handler, &err), 0);
	mine = *handler;
	mine.name = "goods";
	assert_int_equal(handler_adopt(&mine, &handler, &err), -ENOEXEC);
	mine.name = "mine";
	mine.request_size = 1 << 20;
	assert_int_equal(handler_adopt(&mine, &handler, &err), -ENOEXEC);
	mine.request_size = 0;
	assert_int_equal(handler_adopt(&mine, &handler, &err), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_handler_is_loaded_once),
		TEST(an_older_struct_ends_where_it_ends),
		TEST(what_is_no_handler_is_refused),
		TEST(adopted_handlers_are_checked_too),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
