/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image_fixture.h"

const struct lunkit_handler *null_handler_entry(void);

static int try_open(struct fixture *fixture, const char *options, struct image **ret, struct lunkit_error *err)
{
	const struct lunkit_handler *handler;
	const struct image_params params = { .name = "bench", .options = options };
	assert_int_equal(handler_adopt(null_handler_entry(), &handler, err), 0);
	return image_open(&fixture->host, handler, &params, ret, err);
}

static void everything_completes_at_once(void **state)
{
	static const enum lunkit_op ops[] = { LUNKIT_READ, LUNKIT_WRITE, LUNKIT_FLUSH, LUNKIT_DISCARD, LUNKIT_WRITE_ZEROES };
	struct lunkit_error err;
	struct image *image;
	struct slot slot;
	char buffer[1024];
	assert_int_equal(try_open(*state, NULL, &image, &err), 0);
	assert_int_equal(image_limits(image)->size, 1 << 30);
	slot_init(image, &slot);
	memset(buffer, 'x', sizeof(buffer));
	slot.iov[0] = (struct iovec){ buffer, sizeof(buffer) };
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		slot_submit(&slot, ops[i], 0, 512, sizeof(buffer), 1);
		assert_int_equal(slot.calls, 1);
		assert_int_equal(slot.result, 0);
	}
	assert_int_equal(buffer[0], 'x'); /* reads leave the buffer alone */
	slot_submit(&slot, LUNKIT_WRITE, LUNKIT_REQUEST_FUA, 1, sizeof(buffer), 1);
	assert_int_equal(slot.result, 0);
	slot_submit(&slot, LUNKIT_READ, 0, 1 << 30, sizeof(buffer), 1);
	assert_int_equal(slot.result, -ERANGE);
	slot_free(&slot);
	image_close(image);
}

static void options_are_obeyed(void **state)
{
	struct lunkit_error err;
	struct image *image;
	struct slot slot;
	char buffer[512], zero[512] = { 0 };
	assert_int_equal(try_open(*state, "size=10M;zero=yes", &image, &err), 0);
	assert_int_equal(image_limits(image)->size, 10 << 20);
	slot_init(image, &slot);
	memset(buffer, 'x', sizeof(buffer));
	assert_int_equal(do_request(*state, &slot, LUNKIT_READ, 0, 0, buffer, sizeof(buffer)), 0);
	assert_memory_equal(buffer, zero, sizeof(zero));
	slot_free(&slot);
	image_close(image);
	assert_int_equal(try_open(*state, "size=1000", &image, &err), -EINVAL);
	assert_int_equal(try_open(*state, "size=0", &image, &err), -EINVAL);
	assert_int_equal(try_open(*state, "size=15E", &image, &err), -EINVAL);
	assert_int_equal(try_open(*state, "path=/x", &image, &err), -EINVAL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
int main(void)
{
	const struct CMUnitTest tests[] = { TEST(everything_completes_at_once), TEST(options_are_obeyed) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
