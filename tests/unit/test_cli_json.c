/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/checked.h"
#include "cli/bus.h"
#include "cli/offline.h"
#include "pool/bus.h"

static void keys(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
		{ "Name", "name" }, { "WorkerPid", "worker-pid" }, { "DeviceLinks", "device-links" }, { "start-time", "start-time" },
		{ "", "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char out[64];
		bus_key_to_json(cases[i][0], out, sizeof(out));
		assert_string_equal(out, cases[i][1]);
	}
	char small[4];
	bus_key_to_json("LongName", small, sizeof(small));
	assert_true(strlen(small) < sizeof(small));
}

static void errors(void **state)
{
	(void)state;
	static const struct {
		const char *name, *message, *part, *hint;
		int code;
	} cases[] = {
		{ BUS_ERROR_PREFIX "InUse", "'/x' is locked\nstop the VM", "'/x' is locked", "stop the VM", EBUSY },
		{ BUS_ERROR_PREFIX "NotFound", "nothing", "nothing", "", ENOENT },
		{ BUS_ERROR_PREFIX "Unheard", "odd", "odd", "", EIO },
		{ SD_BUS_ERROR_SERVICE_UNKNOWN, "The name org.lunkit1 was not provided", "does not run", "systemctl start lunkitd",
		  ENOTCONN },
		{ SD_BUS_ERROR_ACCESS_DENIED, "Rejected send message", "root and the group lunkit", "usermod", EACCES },
		{ SD_BUS_ERROR_NO_REPLY, "timed out", "in time", "journalctl", ETIMEDOUT },
		{ "org.example.Other", "words", "words", "", EIO },
		{ NULL, NULL, "", "", EIO },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		sd_bus_error error = { .name = cases[i].name, .message = cases[i].message };
		assert_int_equal(bus_error_to_lunkit(&error, &err), -cases[i].code);
		assert_int_equal(err.code, cases[i].code);
		assert_non_null(strstr(err.message, cases[i].part));
		assert_non_null(strstr(err.hint, cases[i].hint));
		assert_null(strchr(err.message, '\n'));
	}
}

static void members_that_are_not_there_read_as_empty(void **state)
{
	(void)state;
	struct json_object *object = json_tokener_parse("{\"s\":\"t\",\"n\":18446744073709551615,\"b\":true,\"a\":[\"x\",1]}");
	assert_non_null(object);
	assert_string_equal(json_string(object, "s", "-"), "t");
	assert_string_equal(json_string(object, "n", "-"), "-");
	assert_string_equal(json_string(object, "z", "-"), "-");
	assert_true(json_number(object, "n") == UINT64_MAX);
	assert_true(json_number(object, "s") == 0);
	assert_true(json_is_true(object, "b"));
	assert_false(json_is_true(object, "s"));
	assert_string_equal(json_string_at(object, "a", 0), "x");
	assert_null(json_string_at(object, "a", 1));
	assert_null(json_string_at(object, "a", 2));
	assert_null(json_string_at(object, "s", 0));
	json_object_put(object);
}

static void resize_targets(void **state)
{
	(void)state;
	static const struct {
		struct offline_resize resize;
		uint64_t now, target;
		int result;
	} cases[] = {
		{ { .size = 2048 }, 1024, 2048, 0 },
		{ { .size = 1024 }, 1024, 1024, 0 },
		{ { .size = 512 }, 1024, 0, -EINVAL },
		{ { .size = 512, .shrink = true }, 1024, 512, 0 },
		{ { .size = 512, .relative = true }, 1024, 1536, 0 },
		{ { .size = UINT64_MAX, .relative = true }, 1024, 0, -ERANGE },
		{ { .size = INT64_MAX, .relative = true }, 1024, 0, -ERANGE },
		{ { .size = 0 }, 1024, 0, -EINVAL },
		{ { .size = 0, .shrink = true }, 1024, 0, -EINVAL },
		{ { .size = 0, .relative = true }, 1024, 1024, 0 },
		{ { .adopt = true }, 1024, 0, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		uint64_t target = 77;
		assert_int_equal(resize_target(&cases[i].resize, cases[i].now, &target, &err), cases[i].result);
		assert_true(target == (cases[i].result ? 77 : cases[i].target));
		assert_int_equal(err.code, -cases[i].result);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),
		cmocka_unit_test(errors),
		cmocka_unit_test(members_that_are_not_there_read_as_empty),
		cmocka_unit_test(resize_targets),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
