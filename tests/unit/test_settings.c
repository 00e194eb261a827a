/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "control/settings.h"

static char file[64];

static int load(const char *text, struct settings *settings, struct lunkit_error *err)
{
	strcpy(file, "/tmp/test_settings.XXXXXX");
	int fd = mkstemp(file);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
	*err = LUNKIT_ERROR_INIT;
	int r = settings_load(settings, file, err);
	unlink(file);
	return r;
}

static void test_all(void **state)
{
	(void)state;
	struct settings settings;
	struct lunkit_error err;
	setenv("LUNKIT_RUNTIME_DIR", "/tmp/r", 1);
	unsetenv("LUNKIT_STATE_DIR");
	assert_int_equal(load("# comment\nhandlers = /usr/lib/h\nworker-user = nobody\nallow = /srv/images/\nallow=/data\nbacking = "
			      "/srv/templates\ncache = writeback\n"
			      "command-timeout = 60\nmax-size = 2T\nlog = debug\n",
			      &settings, &err),
			 0);
	assert_string_equal(settings.handlers, "/usr/lib/h");
	assert_string_equal(settings.worker_user, "nobody");
	assert_int_equal(settings.allow.count, 2);
	assert_int_equal(settings.backing.count, 1);
	assert_int_equal(settings.cache, REFERENCE_CACHE_WRITEBACK);
	assert_int_equal(settings.command_timeout, 60);
	assert_int_equal(settings.log_level, LOG_LEVEL_DEBUG);
	assert_string_equal(settings.runtime_directory, "/tmp/r");
	assert_non_null(strstr(settings.state_directory, "lunkit"));

	static const struct {
		const char *name;
		int result;
	} cases[] = {
		{ "/srv/images/a", 0 },
		{ "/srv/images/b/c", 0 },
		{ "/data/x", 0 },
		{ "/srv/images2/a", -EACCES },
		{ "/srv/images", -EACCES },
		{ "/etc/passwd", -EACCES },
		{ "/srv/images/../../etc/passwd", -EACCES },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reference reference = { .kind = "raw" };
		strcpy(reference.name, cases[i].name);
		assert_int_equal(settings_check_allowed(&settings, &reference, &err), cases[i].result);
	}
	assert_int_equal(settings_check_size(&settings, UINT64_C(2) << 40, &err), 0);
	assert_int_equal(settings_check_size(&settings, (UINT64_C(2) << 40) + 512, &err), -EFBIG);
	assert_non_null(strstr(err.hint, "max-size"));
	struct reference other = { .kind = "rbd", .name = "pool/image" };
	assert_int_equal(settings_check_allowed(&settings, &other, &err), 0);
	settings_free(&settings);
}

static void test_bad(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"handlers = relative\n",
		"allow = relative\n",
		"cache = fast\n",
		"command-timeout = 0\n",
		"command-timeout = x\n",
		"log = loud\n",
		"unknown = 1\n",
		"[section]\nlog = info\n",
		"worker-user = root\n",
		"max-size = much\n",
		"max-size = 99999999999999999999\n",
		"worker-user = \n",
		"no equals sign\n",
		"command-timeout = 999999\n",
	};
	struct settings settings = { .command_timeout = 7 };
	struct lunkit_error err;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		bool about_users = strncmp(bad[i], "worker-user = root", 18) == 0;
		if (about_users && geteuid() != 0)
			continue;
		assert_true(load(bad[i], &settings, &err) < 0);
		assert_string_not_equal(err.message, "");
		assert_int_equal(settings.command_timeout, 7);
	}
	assert_int_equal(settings_load(&settings, "/nonexistent/lunkit.conf", &err), -ENOENT);
}

/* The first wrong line is the one that is told. */
static void test_lines(void **state)
{
	(void)state;
	struct settings settings;
	struct lunkit_error err;
	assert_true(load("# comment\nlog = info\n\ncache = fast\nlog = loud\n", &settings, &err) < 0);
	assert_non_null(strstr(err.message, "line 4: 'cache' can't be 'fast'"));
	assert_non_null(strstr(err.hint, "lunkit.conf"));
	assert_true(load("log = info\nunknown = 1\n", &settings, &err) < 0);
	assert_non_null(strstr(err.message, "line 2: 'unknown' is not a setting"));
	assert_true(load("log = info\nword\n", &settings, &err) < 0);
	assert_non_null(strstr(err.message, "line 2: this is not 'key = value'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_all), cmocka_unit_test(test_bad), cmocka_unit_test(test_lines) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
