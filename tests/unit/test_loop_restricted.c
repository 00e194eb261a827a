/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A ring that was to be restricted and can't be is no ring. The system call by which it is registered is wrapped by the linker (--wrap). */
#include <errno.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#include <cmocka.h>

#include "io/loop.h"

static int refusal; /* of IORING_REGISTER_RESTRICTIONS; 0: none */
static unsigned registered;

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

long __wrap_syscall(long number, ...)
{
	long argument[6];
	va_list list;
	va_start(list, number);
	for (unsigned i = 0; i < 6; i++)
		argument[i] = va_arg(list, long);
	va_end(list);
	bool restricts = number == __NR_io_uring_register && argument[1] == IORING_REGISTER_RESTRICTIONS;
	registered += restricts;
	if (restricts && refusal) {
		errno = -refusal;
		return -1;
	}
	return __real_syscall(number, argument[0], argument[1], argument[2], argument[3], argument[4], argument[5]);
}

static void a_kernel_that_cannot_is_refused(void **state)
{
	(void)state;
	struct loop_config config = { .depth = 8, .restrict_ops = true };
	struct loop *loop = NULL;
	refusal = -EINVAL;
	registered = 0;
	assert_int_equal(loop_new(&config, &loop), -EOPNOTSUPP);
	assert_null(loop);
	assert_true(registered > 0);
	refusal = -EPERM;
	assert_int_equal(loop_new(&config, &loop), -EPERM);
	assert_null(loop);
}

static void one_that_can_is_asked_to(void **state)
{
	(void)state;
	struct loop_config config = { .depth = 8, .restrict_ops = true };
	struct loop *loop;
	refusal = 0;
	registered = 0;
	assert_int_equal(loop_new(&config, &loop), 0);
	assert_true(registered > 0);
	loop_free(loop);
	refusal = -EINVAL;
	registered = 0;
	config.restrict_ops = false; /* lunkit's own tests and tools */
	assert_int_equal(loop_new(&config, &loop), 0);
	assert_int_equal(registered, 0);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kernel_that_cannot_is_refused),
		cmocka_unit_test(one_that_can_is_asked_to),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
