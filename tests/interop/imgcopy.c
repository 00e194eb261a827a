/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Copies with lunkit's engine in one process, as `qemu-img convert` does with QEMU's. For tests and benchmarks.
 *
 *     imgcopy copy KIND FROM KIND TO [WORD…]     imgcopy out KIND FROM [WORD…] > …     imgcopy in KIND TO [WORD…] < …     imgcopy map KIND FROM
 *
 * Words: create[=OPTIONS] makes TO first, as large as FROM, or size=BYTES; compress; dirty: TO has content already; direct: past the page cache;
 * depth=N; buffer=BYTES; rate=BYTES; progress; from=OPTIONS: for opening FROM.
 * What was done goes to standard error, "bytes-read bytes-written"; what is wrong too, with exit status 1.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "image/copy.h"
#include "image/map.h"
#include "image/stream.h"

static struct {
	struct engine engine;
	struct image *source, *target;
	struct image_copy_options options;
	const char *create_options, *from_options;
	bool create, direct, progress, ended;
	uint64_t size, rate;
} tool;

__attribute__((noreturn)) static void give_up(const char *message)
{
	fprintf(stderr, "imgcopy: %s\n", message);
	exit(1);
}

static void progressed(uint64_t done, uint64_t total)
{
	if (tool.progress)
		fprintf(stderr, "%" PRIu64 " of %" PRIu64 "\n", done, total);
}

static void copy_progress(struct image_copy *copy, uint64_t done, uint64_t total)
{
	(void)copy;
	progressed(done, total);
}

static void stream_progress(struct image_stream *stream, uint64_t done, uint64_t total)
{
	(void)stream;
	progressed(done, total);
}

static void copied(struct image_copy *copy, int result)
{
	if (result < 0)
		give_up(copy->err.message);
	tool.ended = true;
}

static void streamed(struct image_stream *stream, int result)
{
	if (result < 0)
		give_up(stream->err.message);
	tool.ended = true;
}

static void mapped(struct image_map *map, int result)
{
	if (result < 0)
		give_up(map->err.message);
	tool.ended = true;
}

static void print_run(struct image_map *map, const struct lunkit_extent *run)
{
	static const char *const names[] = { "hole", "allocated", "zero", "zero-allocated" };
	(void)map;
	printf("%" PRIu64 " %" PRIu64 " %s\n", run->offset, run->length, names[run->flags & 3]);
}

static void parse_word(char *word)
{
	char *value = strchr(word, '=');
	if (value)
		*value++ = '\0';
	if (strcmp(word, "create") == 0) {
		tool.create = true;
		tool.create_options = value;
	} else if (strcmp(word, "compress") == 0) {
		tool.options.compress = true;
	} else if (strcmp(word, "dirty") == 0) {
		tool.options.target_is_zero = false;
	} else if (strcmp(word, "direct") == 0) {
		tool.direct = true;
	} else if (strcmp(word, "progress") == 0) {
		tool.progress = true;
	} else if (strcmp(word, "from") == 0) {
		tool.from_options = value;
	} else if (!value) {
		give_up(word);
	} else if (strcmp(word, "depth") == 0) {
		tool.options.depth = (unsigned)strtoul(value, NULL, 10);
	} else if (strcmp(word, "buffer") == 0) {
		tool.options.buffer_size = strtoul(value, NULL, 10);
	} else if (strcmp(word, "rate") == 0) {
		tool.rate = strtoull(value, NULL, 10);
	} else if (strcmp(word, "size") == 0) {
		tool.size = strtoull(value, NULL, 10);
	} else {
		give_up(word);
	}
}

static struct image *open_one(const char *kind, const char *name, const char *options, bool write)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const struct lunkit_handler *handler;
	struct image *image;
	const char *folder = getenv("LUNKIT_HANDLERS");
	if (handler_load(folder, kind, &handler, &err) < 0)
		give_up(err.message);
	handler_load_children(folder, handler);
	struct image_params params = {
		.name = name,
		.options = options,
		.cache = tool.direct ? LUNKIT_CACHE_NONE : LUNKIT_CACHE_WRITEBACK,
		.read_only = !write,
	};
	if (write && tool.create) {
		params.options = tool.create_options;
		params.size = tool.size ? tool.size : image_limits(tool.source)->size;
		if (image_create(&tool.engine.host, handler, &params, &err) < 0)
			give_up(err.message);
		params.options = NULL;
	}
	if (image_open(&tool.engine.host, handler, &params, &image, &err) < 0)
		give_up(err.message);
	return image;
}

static void wait_for_end(void)
{
	while (!tool.ended)
		if (loop_turn(tool.engine.loop, true) < 0)
			give_up("the loop broke");
}

static void run_copy(void)
{
	struct image_copy copy = { .done = copied, .progress = copy_progress, .rate = tool.rate };
	image_copy_start(tool.engine.loop, tool.source, tool.target, &tool.options, &copy);
	wait_for_end();
	fprintf(stderr, "%" PRIu64 " %" PRIu64 "\n", copy.bytes_read, copy.bytes_written);
}

static void run_stream(bool out)
{
	struct image_stream stream = { .done = streamed, .progress = stream_progress, .rate = tool.rate };
	if (out)
		image_stream_out(tool.engine.loop, tool.source, STDOUT_FILENO, "standard output", &tool.options, &stream);
	else
		image_stream_in(tool.engine.loop, STDIN_FILENO, "standard input", tool.target, &tool.options, &stream);
	wait_for_end();
	fprintf(stderr, "%" PRIu64 "\n", stream.bytes);
}

static void run_map(void)
{
	struct image_map map = { .run = print_run, .done = mapped };
	image_map_start(tool.source, &map, 0, 0);
	wait_for_end();
}

int main(int argc, char **argv)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	bool copy = argc > 5 && strcmp(argv[1], "copy") == 0, out = argc > 3 && strcmp(argv[1], "out") == 0;
	bool in = argc > 3 && strcmp(argv[1], "in") == 0, map = argc > 3 && strcmp(argv[1], "map") == 0;
	if (!copy && !out && !in && !map) {
		fprintf(stderr, "usage: imgcopy copy KIND FROM KIND TO [WORD…] | out KIND FROM | in KIND TO | map KIND FROM\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	tool.options.target_is_zero = true;
	for (int i = copy ? 6 : 4; i < argc; i++)
		parse_word(argv[i]);
	if (engine_start(&tool.engine, argv[2], 128, 0, &err) < 0)
		give_up(err.message);
	if (!in)
		tool.source = open_one(argv[2], argv[3], tool.from_options, false);
	if (copy || in)
		tool.target = open_one(argv[copy ? 4 : 2], argv[copy ? 5 : 3], NULL, true);
	if (copy)
		run_copy();
	else if (map)
		run_map();
	else
		run_stream(out);
	if (tool.target)
		image_close(tool.target);
	if (tool.source)
		image_close(tool.source);
	engine_stop(&tool.engine);
	return 0;
}
