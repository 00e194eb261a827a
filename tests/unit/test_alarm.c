/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/list.h"
#include "io/loop.h"

#define MS ((uint64_t)1000000)

struct test {
	struct loop_alarm alarm; /* first */
	struct loop *loop;
	struct test *other;
	unsigned number, *order, rings;
};

static void ring(struct loop_alarm *alarm)
{
	struct test *test = (struct test *)alarm;
	test->rings++;
	*test->order = *test->order * 10 + test->number;
}

static void ring_and_cancel(struct loop_alarm *alarm)
{
	struct test *test = (struct test *)alarm;
	ring(alarm);
	loop_alarm_cancel(test->loop, &test->other->alarm);
}

static void ring_again(struct loop_alarm *alarm)
{
	struct test *test = (struct test *)alarm;
	ring(alarm);
	if (test->rings < 3)
		loop_alarm_set(test->loop, alarm, 0);
}

static int setup(void **state)
{
	const struct loop_config config = { .depth = 8 };
	return loop_new(&config, (struct loop **)state);
}

static int teardown(void **state)
{
	loop_free(*state);
	return 0;
}

static void run_until(struct loop *loop, const unsigned *rings, unsigned wanted)
{
	while (*rings < wanted)
		assert_int_equal(loop_turn(loop, true), 0);
}

static void they_ring_in_the_order_of_their_times(void **state)
{
	unsigned order = 0;
	struct test tests[3];
	for (unsigned i = 0; i < 3; i++)
		tests[i] = (struct test){ .alarm.ring = ring, .number = i + 1, .order = &order };
	loop_alarm_set(*state, &tests[0].alarm, 30 * MS);
	loop_alarm_set(*state, &tests[1].alarm, 10 * MS);
	loop_alarm_set(*state, &tests[2].alarm, 20 * MS);
	run_until(*state, &tests[0].rings, 1);
	assert_int_equal(order, 231);
}

static void an_earlier_one_is_not_held_up_by_a_later_one(void **state)
{
	unsigned order = 0;
	struct test late = { .alarm.ring = ring, .number = 1, .order = &order }, early = late;
	early.number = 2;
	loop_alarm_set(*state, &late.alarm, 3600000 * MS);
	loop_turn(*state, false); /* the timeout is the kernel's now */
	loop_alarm_set(*state, &early.alarm, MS);
	run_until(*state, &early.rings, 1);
	assert_int_equal(late.rings, 0);
	loop_alarm_cancel(*state, &late.alarm);
}

static void a_moved_one_rings_once(void **state)
{
	unsigned order = 0;
	struct test a = { .alarm.ring = ring, .number = 1, .order = &order }, b = a;
	b.number = 2;
	loop_alarm_set(*state, &a.alarm, MS);
	loop_alarm_set(*state, &a.alarm, 40 * MS);
	loop_alarm_set(*state, &b.alarm, 20 * MS);
	run_until(*state, &a.rings, 1);
	assert_int_equal(order, 21);
}

static void a_cancelled_one_is_silent_even_when_it_is_due(void **state)
{
	unsigned order = 0;
	struct test a = { .alarm.ring = ring_and_cancel, .loop = *state, .number = 1, .order = &order };
	struct test b = { .alarm.ring = ring, .number = 2, .order = &order }, c = b;
	c.number = 3;
	a.other = &b;
	loop_alarm_set(*state, &a.alarm, MS);
	loop_alarm_set(*state, &b.alarm, MS);
	loop_alarm_set(*state, &c.alarm, 30 * MS);
	run_until(*state, &c.rings, 1);
	assert_int_equal(order, 13);
	loop_alarm_cancel(*state, &b.alarm); /* once more does nothing */
}

static void one_may_set_itself_again(void **state)
{
	unsigned order = 0;
	struct test a = { .alarm.ring = ring_again, .loop = *state, .number = 1, .order = &order };
	loop_alarm_set(*state, &a.alarm, MS);
	run_until(*state, &a.rings, 3);
	assert_int_equal(order, 111);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(they_ring_in_the_order_of_their_times, setup, teardown),
		cmocka_unit_test_setup_teardown(an_earlier_one_is_not_held_up_by_a_later_one, setup, teardown),
		cmocka_unit_test_setup_teardown(a_moved_one_rings_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_cancelled_one_is_silent_even_when_it_is_due, setup, teardown),
		cmocka_unit_test_setup_teardown(one_may_set_itself_again, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
