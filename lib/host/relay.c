/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 *     pipe ─► chunk ─► line (at most LINE_MAX bytes; the rest of a longer one is left out) ─► clean ─► "NAME: text"
 *
 * A bucket holds LINES_BURST lines and gains one each LINE_NS. While it is empty the pipe is left alone: a flood then costs the starter nothing, and the worker its own
 * lines, since its end of the pipe does not block.
 *
 * Lines of the worker's own log start with "<N>", the level (base/log.h); others are of its C library or of a sanitizer, just before its end, and count as errors.
 */
#include "host/relay.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/checked.h"

#define LINE_MAX_BYTES 1024
#define CHUNK 4096
#define READ_MAX (64u << 10)
#define LINES_BURST 50u
#define LINE_NS UINT64_C(200000000)
#define LAST_LINES 20u

struct relay {
	int fd;
	char name[64];
	relay_sink *sink;
	void *argument;
	uint64_t filled_ns; /* when lines was brought up to date; 0: never */
	unsigned lines;	    /* that may be passed on now */
	bool said;	    /* that there are too many: once for each time that the bucket runs empty */
	bool skipping;	    /* the rest of a line that is too long */
	size_t length;	    /* in line */
	char line[LINE_MAX_BYTES + 1];
	size_t chunk_at, chunk_end;
	char chunk[CHUNK];
};

static void log_line(void *argument, enum log_level level, const char *text)
{
	(void)argument;
	log_message(level, "%s", text);
}

int relay_new(int fd, const char *name, relay_sink *sink, void *argument, struct relay **ret)
{
	struct relay *relay = calloc(1, sizeof(*relay));
	if (!relay) {
		close(fd);
		return -ENOMEM;
	}
	relay->fd = fd;
	relay->lines = LINES_BURST;
	relay->sink = sink ? sink : log_line;
	relay->argument = argument;
	snprintf(relay->name, sizeof(relay->name), "%s", name);
	*ret = relay;
	return 0;
}

/* ---- one line ---- */

/* How many bytes of a printable character start at text, 0 for none: control characters (C0, DEL, C1), what is not UTF-8. */
static size_t printable(const unsigned char *text)
{
	if (text[0] < 0x80)
		return text[0] >= ' ' && text[0] != 0x7f;
	unsigned more = text[0] >= 0xc2 && text[0] < 0xe0 ? 1 : (text[0] & 0xf0) == 0xe0 ? 2 : text[0] >= 0xf0 && text[0] < 0xf5 ? 3 : 0;
	for (unsigned i = 1; i <= more; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	bool c1 = text[0] == 0xc2 && text[1] < 0xa0;
	bool overlong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xf0 && text[1] < 0x90);
	bool separator = text[0] == 0xe2 && text[1] == 0x80 && (text[2] == 0xa8 || text[2] == 0xa9); /* U+2028, U+2029 */
	return more && !c1 && !overlong && !separator ? more + 1 : 0;
}

static void clean(char *text)
{
	for (size_t at = 0; text[at];) {
		size_t length = printable((const unsigned char *)text + at);
		if (!length)
			text[at] = text[at] == '\t' ? ' ' : '?';
		at += length ? length : 1;
	}
}

static const char *skip(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);
	return strncmp(text, prefix, length) == 0 ? text + length : text;
}

static void emit(struct relay *relay, enum log_level level, const char *text)
{
	char line[sizeof(relay->name) + LINE_MAX_BYTES + 8];
	snprintf(line, sizeof(line), "%s: %s", relay->name, text);
	relay->sink(relay->argument, level, line);
}

static void end_line(struct relay *relay)
{
	char prefix[sizeof(relay->name) + 2];
	const char *text = relay->line;
	enum log_level level = LOG_LEVEL_ERROR;
	bool cut = relay->skipping;
	size_t length = relay->length;
	relay->length = 0;
	relay->skipping = false;
	relay->line[length] = '\0';
	for (size_t at = 0; at < length; at++)
		if (!relay->line[at])
			relay->line[at] = '?';
	if (text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		char digit = text[1];
		level = digit <= '3' ? LOG_LEVEL_ERROR : digit == '4' ? LOG_LEVEL_WARNING : digit == '7' ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
		text += 3;
	}
	/* What the worker's and the starter's log both put in front. */
	snprintf(prefix, sizeof(prefix), "%s: ", relay->name);
	text = skip(text, prefix);
	if (level == LOG_LEVEL_WARNING)
		text = skip(text, "warning: ");
	if (!text[0])
		return;
	clean((char *)text);
	if (cut) {
		relay->line[LINE_MAX_BYTES - 3] = '\0';
		strcat(relay->line, "...");
		clean((char *)text); /* a character may have been cut */
	}
	relay->lines--;
	emit(relay, level, text);
}

/* Takes lines out of the chunk as long as there are some left to pass on. */
static void take_lines(struct relay *relay)
{
	while (relay->chunk_at < relay->chunk_end && relay->lines) {
		char byte = relay->chunk[relay->chunk_at++];
		if (byte == '\n')
			end_line(relay);
		else if (relay->length < LINE_MAX_BYTES)
			relay->line[relay->length++] = byte;
		else
			relay->skipping = true;
	}
}

/* ---- the pipe ---- */

/* 1, 0 at the end, -EAGAIN when there is nothing, -errno. */
static int fill(struct relay *relay)
{
	ssize_t length;
	do
		length = read(relay->fd, relay->chunk, sizeof(relay->chunk));
	while (length < 0 && errno == EINTR);
	if (length <= 0)
		return length < 0 ? -errno : 0;
	relay->chunk_at = 0;
	relay->chunk_end = (size_t)length;
	return 1;
}

static void refill(struct relay *relay, uint64_t now_ns)
{
	if (!relay->filled_ns || now_ns < relay->filled_ns)
		relay->filled_ns = now_ns;
	uint64_t gained = (now_ns - relay->filled_ns) / LINE_NS;
	relay->filled_ns += gained * LINE_NS;
	relay->lines = (unsigned)MIN(relay->lines + gained, (uint64_t)LINES_BURST);
	if (relay->lines == LINES_BURST)
		relay->said = false;
}

int relay_read(struct relay *relay, uint64_t now_ns, uint64_t *ret_pause_ns)
{
	int r = 1;
	refill(relay, now_ns);
	for (unsigned taken = 0; relay->lines && taken < READ_MAX; taken += CHUNK) {
		if (relay->chunk_at == relay->chunk_end) {
			r = fill(relay);
			if (r <= 0)
				break;
		}
		take_lines(relay);
	}
	*ret_pause_ns = 0;
	if (!relay->lines) {
		if (!relay->said)
			emit(relay, LOG_LEVEL_WARNING, "says too much: some of its lines are left out");
		relay->said = true;
		*ret_pause_ns = LINE_NS;
	}
	return r == -EAGAIN ? 1 : r;
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	relay->lines = LAST_LINES;
	for (unsigned taken = 0; relay->lines && taken < READ_MAX + CHUNK; taken += CHUNK) {
		take_lines(relay);
		if (relay->chunk_at == relay->chunk_end && fill(relay) <= 0)
			break;
	}
	if (relay->length && relay->lines)
		end_line(relay);
	close(relay->fd);
	free(relay);
}
