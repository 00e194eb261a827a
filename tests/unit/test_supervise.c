/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/supervise.h"

#define SECOND UINT64_C(1000000)

static void test_pauses_grow(void **state)
{
	(void)state;
	struct supervise supervise = { 0 };
	static const uint64_t pauses[] = { 0, 100000, 200000, 400000, 800000 };
	uint64_t pause = 77;
	for (unsigned i = 0; i < SUPERVISE_DEATHS_MAX; i++) {
		assert_int_equal(supervise_died(&supervise, (1 + i) * SECOND, &pause), SUPERVISE_RESTART);
		assert_int_equal(pause, pauses[i]);
	}
	pause = 77;
	assert_int_equal(supervise_died(&supervise, 7 * SECOND, &pause), SUPERVISE_HOLD);
	assert_int_equal(pause, 77);
	assert_int_equal(supervise.restarts, 5);
}

static void test_window(void **state)
{
	(void)state;
	struct supervise supervise = { 0 };
	uint64_t pause;
	/* one death every 13 seconds: never more than five within a minute */
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(supervise_died(&supervise, (1 + 13 * i) * SECOND, &pause), SUPERVISE_RESTART);
	assert_int_equal(supervise.restarts, 100);
	/* one every 11 seconds: the sixth within a minute is one too many */
	supervise = (struct supervise){ 0 };
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(supervise_died(&supervise, (1 + 11 * i) * SECOND, &pause), SUPERVISE_RESTART);
	assert_int_equal(supervise_died(&supervise, (1 + 55) * SECOND, &pause), SUPERVISE_HOLD);
}

static void test_held_stays_held(void **state)
{
	(void)state;
	struct supervise supervise = { 0 };
	uint64_t pause;
	for (unsigned i = 0; i < 5; i++)
		supervise_died(&supervise, SECOND, &pause);
	assert_int_equal(supervise_died(&supervise, SECOND, &pause), SUPERVISE_HOLD);
	assert_int_equal(supervise_died(&supervise, 2 * SECOND, &pause), SUPERVISE_HOLD);
	supervise_forgive(&supervise);
	assert_int_equal(supervise_died(&supervise, 3 * SECOND, &pause), SUPERVISE_RESTART);
	assert_int_equal(pause, 0);
}

static void test_busy(void **state)
{
	(void)state;
	struct supervise supervise = { 0 };
	uint64_t pause = 0;
	assert_int_equal(supervise_busy(&supervise, 5 * SECOND, &pause), SUPERVISE_RESTART);
	assert_int_equal(pause, SUPERVISE_BUSY_PAUSE);
	assert_int_equal(supervise_busy(&supervise, 35 * SECOND, &pause), SUPERVISE_RESTART);
	assert_int_equal(supervise_busy(&supervise, 35 * SECOND + 1, &pause), SUPERVISE_HOLD);
	assert_int_equal(supervise.restarts, 0);
	supervise_serving(&supervise);
	assert_int_equal(supervise_busy(&supervise, 100 * SECOND, &pause), SUPERVISE_RESTART);
	/* busy is not counted among the deaths */
	assert_int_equal(supervise_died(&supervise, 100 * SECOND, &pause), SUPERVISE_RESTART);
	assert_int_equal(pause, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pauses_grow),
		cmocka_unit_test(test_window),
		cmocka_unit_test(test_held_stays_held),
		cmocka_unit_test(test_busy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
