/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <fcntl.h>
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

#include "host/process.h"
#include "host/relay.h"

#define SECOND UINT64_C(1000000000)
#define LINES 512

static int ends[2];
static struct relay *relay;
static struct {
	enum log_level level;
	char text[1200];
} lines[LINES];
static unsigned count;

static void note(void *argument, enum log_level level, const char *text)
{
	assert_ptr_equal(argument, &count);
	assert_true(count < LINES);
	lines[count].level = level;
	snprintf(lines[count++].text, sizeof(lines[0].text), "%s", text);
}

static int setup(void **state)
{
	(void)state;
	count = 0;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	return relay_new(ends[0], "disk1", note, &count, &relay);
}

static int teardown(void **state)
{
	(void)state;
	relay_free(relay);
	if (ends[1] >= 0)
		close(ends[1]);
	relay = NULL;
	return 0;
}

static void say(const void *text, size_t length)
{
	assert_int_equal(write(ends[1], text, length), (ssize_t)length);
}

static uint64_t read_at(uint64_t now, int expected)
{
	uint64_t pause = 77;
	assert_int_equal(relay_read(relay, now, &pause), expected);
	return pause;
}

static void assert_line(unsigned index, enum log_level level, const char *text)
{
	assert_true(index < count);
	assert_int_equal(lines[index].level, level);
	assert_string_equal(lines[index].text, text);
}

static void lines_get_the_name_and_keep_their_level(void **state)
{
	(void)state;
	const char text[] = "<6>disk1: one\n<4>disk1: warning: two\n<3>three\nabort\n<7>five\n<9>six\n\n<6>disk1: \n<6>disk2: forged\n";
	say(text, sizeof(text) - 1);
	assert_int_equal(read_at(SECOND, 1), 0);
	assert_int_equal(count, 7);
	assert_line(0, LOG_LEVEL_INFO, "disk1: one");
	assert_line(1, LOG_LEVEL_WARNING, "disk1: two");
	assert_line(2, LOG_LEVEL_ERROR, "disk1: three");
	assert_line(3, LOG_LEVEL_ERROR, "disk1: abort");
	assert_line(4, LOG_LEVEL_DEBUG, "disk1: five");
	assert_line(5, LOG_LEVEL_ERROR, "disk1: <9>six");
	assert_line(6, LOG_LEVEL_INFO, "disk1: disk2: forged");
}

static void nothing_there_and_the_end(void **state)
{
	(void)state;
	assert_int_equal(read_at(SECOND, 1), 0);
	say("last", 4);
	assert_int_equal(read_at(SECOND, 1), 0);
	assert_int_equal(count, 0);
	close(ends[1]);
	ends[1] = -1;
	read_at(SECOND, 0);
	relay_free(relay);
	relay = NULL;
	assert_int_equal(count, 1);
	assert_line(0, LOG_LEVEL_ERROR, "disk1: last");
}

static void lines_come_in_any_pieces(void **state)
{
	(void)state;
	const char text[] = "<6>a line in pieces\n";
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		say(text + i, 1);
		read_at(SECOND, 1);
	}
	assert_int_equal(count, 1);
	assert_line(0, LOG_LEVEL_INFO, "disk1: a line in pieces");
}

static void control_characters_do_not_pass(void **state)
{
	(void)state;
	const char text[] = "<6>a\tb\r\033[2Jc\x7f\x00"
			    "d \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\n" /* é € and one beyond the first plane */
			    "<6>\xc2\x9b"
			    "e \xff\xfe \xc0\xaf \xe0\x80\xaf \xe2\x80\xa8 \xe2\x82\n";
	say(text, sizeof(text) - 1);
	read_at(SECOND, 1);
	assert_int_equal(count, 2);
	assert_line(0, LOG_LEVEL_INFO, "disk1: a b??[2Jc??d \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
	assert_line(1, LOG_LEVEL_INFO, "disk1: ??e ?? ?? ??? ??? ??");
}

static void a_long_line_is_cut(void **state)
{
	(void)state;
	static char text[10001];
	memset(text, 'x', 10000);
	text[0] = '<';
	text[1] = '6';
	text[2] = '>';
	text[10000] = '\n';
	say(text, 10001);
	say("<6>next\n", 8);
	read_at(SECOND, 1);
	assert_int_equal(count, 2);
	assert_true(strlen(lines[0].text) < 1100);
	assert_non_null(strstr(lines[0].text, "xxx..."));
	assert_line(1, LOG_LEVEL_INFO, "disk1: next");
}

/* The pipe is full, and stays so: the starter reads no more than it passes on. */
static unsigned flood(void)
{
	unsigned said = 0;
	while (write(ends[1], "<6>flood\n", 9) == 9)
		said++;
	assert_int_equal(errno, EAGAIN);
	return said;
}

static void a_flood_is_bounded(void **state)
{
	(void)state;
	assert_true(flood() > 1000);
	uint64_t now = SECOND;
	for (unsigned i = 0; i < 20; i++)
		assert_true(read_at(now, 1) > 0);
	assert_int_equal(count, 51); /* a burst, and that there are more */
	assert_non_null(strstr(lines[50].text, "too much"));
	/* A second later: five more, and nothing is said again. */
	now += SECOND;
	assert_true(read_at(now, 1) > 0);
	assert_int_equal(count, 56);
	for (unsigned i = 0; i < 600; i++) {
		flood();
		now += SECOND / 10;
		read_at(now, 1);
	}
	assert_true(count <= 56 + 5 * 60 + 1);
	/* Its last words come all the same, a few. */
	unsigned before = count;
	relay_free(relay);
	relay = NULL;
	assert_true(count > before && count <= before + 20);
}

static void a_quiet_worker_gets_its_burst_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 60; i++)
		say("<6>a\n", 5);
	assert_true(read_at(SECOND, 1) > 0);
	assert_int_equal(count, 51);
	assert_int_equal(read_at(100 * SECOND, 1), 0);
	assert_int_equal(count, 61);
	assert_int_equal(read_at(50 * SECOND, 1), 0); /* a clock that goes back gives nothing */
	for (unsigned i = 0; i < 60; i++)
		say("<6>a\n", 5);
	read_at(200 * SECOND, 1);
	assert_int_equal(count, 61 + 51);
}

static void a_worker_speaks_through_it(void **state)
{
	(void)state;
	struct worker_config config = { .program = "/bin/sh", .handlers = "-c", .keep_fd = -1, .relay_log = true };
	struct worker_process process;
	struct lunkit_error err;
	int status;
	/* sh --handlers fails, and says so on standard error */
	assert_int_equal(worker_spawn(&config, &process, &err), 0);
	assert_true(process.log >= 0);
	assert_true(fcntl(process.log, F_GETFL) & O_NONBLOCK);
	assert_int_equal(worker_wait(&process, 10000, &status), 0);
	worker_release(&process);
	struct relay *its;
	assert_int_equal(relay_new(process.log, "disk2", note, &count, &its), 0);
	relay_free(its);
	assert_true(count > 0);
	assert_non_null(strstr(lines[0].text, "disk2: "));
	config.relay_log = false;
	assert_int_equal(worker_spawn(&config, &process, &err), 0);
	assert_int_equal(process.log, -1);
	assert_int_equal(worker_wait(&process, 10000, &status), 0);
	worker_release(&process);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(lines_get_the_name_and_keep_their_level), TEST(nothing_there_and_the_end),	 TEST(lines_come_in_any_pieces),
		TEST(control_characters_do_not_pass),	       TEST(a_long_line_is_cut),	 TEST(a_flood_is_bounded),
		TEST(a_quiet_worker_gets_its_burst_back),      TEST(a_worker_speaks_through_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
