/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/secret.h"

/* Whether the mapping that holds the address has the flag, as /proc/self/smaps names it. */
static bool has_flag(const void *address, const char *flag)
{
	char line[512];
	bool inside = false, found = false;
	FILE *maps = fopen("/proc/self/smaps", "re");
	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps)) {
		uintptr_t begin, end;
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			inside = (uintptr_t)address >= begin && (uintptr_t)address < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(maps);
	return found;
}

static void test_kept_out_of_dumps(void **state)
{
	(void)state;
	char *secret = secret_new(100);
	assert_non_null(secret);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(secret[i], 0);
	assert_true(has_flag(secret, " dd")); /* not dumped */
	assert_true(has_flag(secret, " wf")); /* wiped in a child */
	secret_free(secret, 100);
	secret_free(NULL, 100);
}

static void test_children_see_nothing(void **state)
{
	(void)state;
	char *secret = secret_new(4);
	memcpy(secret, "key", 4);
	pid_t pid = fork();
	if (pid == 0)
		_exit(memcmp(secret, "\0\0\0\0", 4) == 0 ? 0 : 1);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	assert_string_equal(secret, "key");
	secret_free(secret, 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_kept_out_of_dumps), cmocka_unit_test(test_children_see_nothing) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
