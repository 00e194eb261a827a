/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/byteorder.h"
#include "base/checked.h"
#include "base/list.h"

static void test_arithmetic(void **state)
{
	(void)state;
	uint64_t result = 7;
	assert_true(checked_add(UINT64_MAX - 1, 1, &result));
	assert_true(result == UINT64_MAX);
	assert_false(checked_add(UINT64_MAX, 1, &result));
	assert_true(result == UINT64_MAX);
	assert_true(checked_mul(1ULL << 32, (1ULL << 32) - 1, &result));
	assert_false(checked_mul(1ULL << 32, 1ULL << 32, &result));
	assert_true(range_within(0, 0, 0));
	assert_true(range_within(4, 6, 10));
	assert_false(range_within(4, 7, 10));
	assert_false(range_within(UINT64_MAX, 2, UINT64_MAX));
	assert_false(range_within(11, 0, 10));
	assert_true(range_overlaps(0, 5, 4, 1));
	assert_false(range_overlaps(0, 4, 4, 1));
	assert_int_equal(align_up(4097, 4096), 8192);
	assert_int_equal(align_down(8191, 4096), 4096);
}

static void test_byte_order(void **state)
{
	(void)state;
	uint8_t bytes[9] = { 0xff, 1, 2, 3, 4, 5, 6, 7, 8 };
	assert_int_equal(get_be16(bytes + 1), 0x0102);
	assert_int_equal(get_be24(bytes + 1), 0x010203);
	assert_int_equal(get_be32(bytes + 1), 0x01020304);
	assert_true(get_be64(bytes + 1) == 0x0102030405060708);
	assert_int_equal(get_le32(bytes + 1), 0x04030201);
	put_be24(bytes + 1, 0xa1b2c3);
	assert_int_equal(bytes[1], 0xa1);
	assert_int_equal(bytes[3], 0xc3);
	assert_int_equal(bytes[0], 0xff);
	assert_int_equal(bytes[4], 4);
	put_le64(bytes + 1, 1);
	assert_int_equal(bytes[1], 1);
}

static void test_list(void **state)
{
	(void)state;
	struct list head, nodes[3];
	list_init(&head);
	assert_null(list_pop(&head));
	list_add_tail(&head, &nodes[1]);
	list_add_tail(&head, &nodes[2]);
	list_add_head(&head, &nodes[0]);
	int index = 0;
	list_for_each (node, &head)
		assert_ptr_equal(node, &nodes[index++]);
	assert_int_equal(index, 3);
	list_for_each_safe (node, &head)
		if (node == &nodes[1])
			list_remove(node);
	assert_ptr_equal(list_pop(&head), &nodes[0]);
	assert_ptr_equal(list_pop(&head), &nodes[2]);
	assert_true(list_empty(&head));
	list_remove(&nodes[1]); /* again: nothing happens */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arithmetic),
		cmocka_unit_test(test_byte_order),
		cmocka_unit_test(test_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
