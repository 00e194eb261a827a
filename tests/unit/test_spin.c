/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/spin.h"

#define MAX_NS 50000

/* Runs dry at now, work comes after gap. Returns how long it was looked for; the clock is looked at every 1000 ns. */
static uint64_t gap_once(struct spin *spin, uint64_t now, uint64_t gap)
{
	uint64_t at = now;
	bool go_on = spin_start(spin, now);
	while (go_on && at < now + gap) {
		at += 1000;
		go_on = spin_continue(spin, at);
	}
	if (go_on)
		spin_paid(spin);
	else
		spin_slept(spin, now + gap);
	return at - now;
}

static void short_gaps_are_looked_through(void **state)
{
	(void)state;
	struct spin spin;
	spin_init(&spin, MAX_NS, 4);
	uint64_t now = 1;
	for (int i = 0; i < 20; i++, now += 10000)
		gap_once(&spin, now, 10000);
	assert_true(spin_start(&spin, now));
	/* Still looking after the usual gap, but not for ever. */
	assert_true(spin_continue(&spin, now + 10000));
	assert_false(spin_continue(&spin, now + MAX_NS));
}

static void long_gaps_cost_nothing(void **state)
{
	(void)state;
	struct spin spin;
	spin_init(&spin, MAX_NS, 4);
	uint64_t now = 1, spent = 0;
	for (int i = 0; i < 100; i++, now += 1000000)
		spent += gap_once(&spin, now, 1000000);
	assert_int_equal(spent, 0);
}

static void a_disk_that_falls_idle_is_left_alone_soon(void **state)
{
	(void)state;
	struct spin spin;
	spin_init(&spin, MAX_NS, 4);
	uint64_t now = 1, spent = 0;
	for (int i = 0; i < 50; i++, now += 5000)
		gap_once(&spin, now, 5000);
	for (int i = 0; i < 100; i++, now += 10000000)
		spent += gap_once(&spin, now, 10000000);
	assert_in_range(spent, 1, 10 * MAX_NS);
	/* And comes back when the load does, although gaps are measured asleep. */
	for (int i = 0; i < 10; i++, now += 20000)
		gap_once(&spin, now, 20000);
	assert_true(spin_start(&spin, now));
}

static void zero_never_looks(void **state)
{
	(void)state;
	struct spin spin;
	spin_init(&spin, 0, 4);
	uint64_t now = 1;
	for (int i = 0; i < 50; i++, now += 10)
		assert_int_equal(gap_once(&spin, now, 10), 0);
}

static void few_processors_yield_often(void **state)
{
	(void)state;
	struct spin spin;
	spin_init(&spin, MAX_NS, 1);
	spin_start(&spin, 1);
	assert_true(spin_relax(&spin));
	assert_true(spin_relax(&spin));
	spin_init(&spin, MAX_NS, 16);
	spin_start(&spin, 1);
	assert_false(spin_relax(&spin));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_gaps_are_looked_through),
		cmocka_unit_test(long_gaps_cost_nothing),
		cmocka_unit_test(a_disk_that_falls_idle_is_left_alone_soon),
		cmocka_unit_test(zero_never_looks),
		cmocka_unit_test(few_processors_yield_often),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
