/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/service.h"

static void test_names(void **state)
{
	(void)state;
	static const struct {
		int code;
		const char *name;
	} cases[] = {
		{ EINVAL, "InvalidArgument" },
		{ ENAMETOOLONG, "InvalidArgument" },
		{ EISDIR, "InvalidArgument" },
		{ ENOENT, "NotFound" },
		{ EEXIST, "Exists" },
		{ EBUSY, "InUse" },
		{ EAGAIN, "InUse" },
		{ ENOSPC, "NoSpace" },
		{ EACCES, "AccessDenied" },
		{ EPERM, "AccessDenied" },
		{ EOPNOTSUPP, "NotSupported" },
		{ ETIMEDOUT, "TimedOut" },
		{ EIO, "Failed" },
		{ ENODEV, "Failed" },
		{ 0, "Failed" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_string_equal(bus_error_name(cases[i].code) + sizeof("org.lunkit1.Error.") - 1, cases[i].name);
		assert_string_equal(bus_error_name(-cases[i].code), bus_error_name(cases[i].code));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_names) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
