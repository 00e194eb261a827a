/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Images through pipes. The other end is in this process: it moves when the test says. */
#include "image_sides.h"

#include <signal.h>

#include "image/stream.h"

#define KIB ((uint64_t)1024)

struct probe {
	struct image_stream stream; /* first member */
	int calls, result;
	uint64_t done, total;
};

static void streamed(struct image_stream *stream, int result)
{
	struct probe *probe = (struct probe *)stream;
	probe->calls++;
	probe->result = result;
}

static void progressed(struct image_stream *stream, uint64_t done, uint64_t total)
{
	struct probe *probe = (struct probe *)stream;
	assert_true(done >= probe->done && done <= total);
	probe->done = done;
	probe->total = total;
}

static uint8_t stream_data[SIDE_MAX + 4096];
static int pipe_fds[2];

static void make_pipe(void)
{
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
}

static void begin(struct probe *probe)
{
	*probe = (struct probe){ .stream = { .done = streamed, .progress = progressed } };
}

static void turn(struct fixture *fixture, bool wait)
{
	assert_int_equal(loop_turn(fixture->loop, wait && !source_side.pending_count && !target_side.pending_count), 0);
	side_step();
}

static void assert_ended(const struct probe *probe)
{
	assert_int_equal(probe->calls, 1);
	assert_int_equal(-probe->result, probe->stream.err.code);
	assert_int_equal(source_side.pending_count + target_side.pending_count, 0);
}

/* ---- out ---- */

static void make_source(uint64_t size)
{
	side_make(&source_side, size, -1);
	for (unsigned i = 0; i < 300; i++)
		side_extent(&source_side, 1 + side_random(64 * KIB), (unsigned)side_random(4));
	side_extent(&source_side, SIDE_MAX, LUNKIT_EXTENT_ZERO);
	source_side.at_once = side_random(2);
}

/* Reads what comes, in pieces of any size, until the stream has ended; returns the bytes. */
static uint64_t drain_pipe(struct fixture *fixture, struct probe *probe, uint64_t most)
{
	uint64_t got = 0;
	assert_int_equal(fcntl(pipe_fds[0], F_SETFL, O_NONBLOCK), 0);
	for (;;) {
		uint64_t wanted = 1 + side_random(200 * KIB), room = MIN(most, sizeof(stream_data)) - got;
		ssize_t n = read(pipe_fds[0], stream_data + got, MIN(wanted, room));
		if (n > 0)
			got += (uint64_t)n;
		else if (probe->calls || got == most)
			return got;
		turn(fixture, n < 0 && !probe->calls);
	}
}

static void test_out(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	for (unsigned i = 0; i < 30; i++) {
		make_pipe();
		make_source(512 * (1 + side_random(SIDE_MAX / 512)));
		side_open_image(fixture, &source_side);
		begin(&probe);
		image_stream_out(
			fixture->loop, source_side.image, pipe_fds[1], "the pipe",
			&(struct image_copy_options){ .buffer_size = 1 + side_random(300 * KIB), .depth = (unsigned)side_random(9) },
			&probe.stream);
		assert_int_equal(drain_pipe(fixture, &probe, sizeof(stream_data)), source_side.limits.size);
		assert_ended(&probe);
		assert_int_equal(probe.result, 0);
		assert_int_equal(probe.stream.bytes, source_side.limits.size);
		assert_int_equal(probe.done, source_side.limits.size);
		assert_memory_equal(stream_data, source_side.data, source_side.limits.size);
		/* Others may have the pipe too. */
		assert_int_equal(fcntl(pipe_fds[1], F_GETFL) & O_NONBLOCK, 0);
		image_close(source_side.image);
		close(pipe_fds[0]);
		close(pipe_fds[1]);
	}
}

static void test_out_ends(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	enum { READER_LEAVES, CANCELLED, READ_FAILS, EXTENTS_FAIL, ENDS };
	signal(SIGPIPE, SIG_IGN);
	for (int how = 0; how < ENDS; how++)
		for (uint64_t after = 0; after < 2000 * KIB; after += 250 * KIB) {
			make_pipe();
			make_source(SIDE_MAX);
			if (how == READ_FAILS || how == EXTENTS_FAIL) {
				source_side.fail_op = 1u << (how == READ_FAILS ? LUNKIT_READ : LUNKIT_EXTENTS);
				source_side.fail_after = how == READ_FAILS ? (unsigned)(after / (250 * KIB)) : 0;
			}
			side_open_image(fixture, &source_side);
			begin(&probe);
			image_stream_out(fixture->loop, source_side.image, pipe_fds[1], "the pipe",
					 &(struct image_copy_options){ .buffer_size = 64 * KIB, .depth = 4 }, &probe.stream);
			drain_pipe(fixture, &probe, after);
			if (how == READER_LEAVES)
				close(pipe_fds[0]);
			if (how == CANCELLED)
				probe.stream.cancelled = true;
			if (how == READ_FAILS || how == EXTENTS_FAIL)
				drain_pipe(fixture, &probe, sizeof(stream_data));
			while (!probe.calls)
				turn(fixture, true);
			assert_ended(&probe);
			static const int results[ENDS] = { -EPIPE, -ECANCELED, -EIO, -EIO };
			assert_int_equal(probe.result, results[how]);
			assert_true(probe.stream.bytes < SIDE_MAX);
			if (how == READER_LEAVES)
				assert_non_null(strstr(probe.stream.err.message, "the pipe: nobody reads"));
			image_close(source_side.image);
			if (how != READER_LEAVES)
				close(pipe_fds[0]);
			close(pipe_fds[1]);
		}
}

static int temporary_file(void)
{
	char path[] = "/tmp/lunkit-test-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);
	assert_true(fd >= 0);
	unlink(path);
	return fd;
}

/* From the descriptor's position on, which moves. */
static void test_file(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	int fd = temporary_file();
	assert_int_equal(write(fd, "begin", 5), 5);
	make_source(1000 * 512);
	side_open_image(fixture, &source_side);
	begin(&probe);
	image_stream_out(fixture->loop, source_side.image, fd, "the file", NULL, &probe.stream);
	while (!probe.calls)
		turn(fixture, true);
	assert_int_equal(probe.result, 0);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 1000 * 512 + 5);
	assert_int_equal(pread(fd, stream_data, sizeof(stream_data), 5), 1000 * 512);
	assert_memory_equal(stream_data, source_side.data, 1000 * 512);
	image_close(source_side.image);

	assert_int_equal(lseek(fd, 5, SEEK_SET), 5);
	side_make(&target_side, 1000 * 512, 0xaa);
	side_open_image(fixture, &target_side);
	begin(&probe);
	image_stream_in(fixture->loop, fd, "the file", target_side.image, NULL, &probe.stream);
	while (!probe.calls)
		turn(fixture, true);
	assert_int_equal(probe.result, 0);
	assert_memory_equal(target_side.data, source_side.data, 1000 * 512);
	image_close(target_side.image);
	close(fd);
}

static void test_bad_descriptor(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	make_source(64 * KIB);
	side_open_image(fixture, &source_side);
	begin(&probe);
	image_stream_out(fixture->loop, source_side.image, -1, "nothing", NULL, &probe.stream);
	assert_int_equal(probe.calls, 0);
	while (!probe.calls)
		turn(fixture, true);
	assert_ended(&probe);
	assert_int_equal(probe.result, -EBADF);
	image_close(source_side.image);
}

/* ---- in ---- */

/* Writes length bytes into the pipe, as it takes them, and ends the stream. */
static void fill_pipe(struct fixture *fixture, struct probe *probe, uint64_t length, bool end)
{
	uint64_t put = 0;
	assert_int_equal(fcntl(pipe_fds[1], F_SETFL, O_NONBLOCK), 0);
	while (put < length && !probe->calls) {
		uint64_t wanted = 1 + side_random(200 * KIB);
		ssize_t n = write(pipe_fds[1], stream_data + put, MIN(wanted, length - put));
		if (n > 0)
			put += (uint64_t)n;
		turn(fixture, false);
	}
	if (!end)
		return;
	close(pipe_fds[1]);
	while (!probe->calls)
		turn(fixture, true);
}

static void test_in(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	for (unsigned i = 0; i < 40; i++) {
		uint64_t size = 512 * (1 + side_random(SIDE_MAX / 512)), length = side_random(3) ? side_random(size + 1) : size;
		struct image_copy_options options = { .target_is_zero = side_random(2), .buffer_size = 1 + side_random(300 * KIB) };
		make_pipe();
		for (uint64_t at = 0; at < length; at++)
			stream_data[at] = at / (70 * KIB) % 2 ? 0 : (uint8_t)(at * 31 + at / 512) | 1;
		side_make(&target_side, size, options.target_is_zero ? 0 : 0xaa);
		target_side.at_once = side_random(2);
		if (side_random(3) == 0) {
			options.compress = true;
			target_side.limits.compress_unit = 64 * KIB;
		}
		side_open_image(fixture, &target_side);
		begin(&probe);
		image_stream_in(fixture->loop, pipe_fds[0], "the pipe", target_side.image, &options, &probe.stream);
		fill_pipe(fixture, &probe, length, true);
		assert_ended(&probe);
		assert_int_equal(probe.result, 0);
		assert_int_equal(probe.stream.bytes, length);
		assert_int_equal(probe.done, size);
		assert_true(target_side.durable);
		assert_memory_equal(stream_data, target_side.data, length);
		for (uint64_t at = length; at < size; at++)
			assert_int_equal(target_side.data[at], 0);
		if (options.target_is_zero)
			assert_int_equal(target_side.count[LUNKIT_WRITE_ZEROES], 0);
		assert_int_equal(target_side.compressed, options.compress ? target_side.bytes[LUNKIT_WRITE] : 0);
		image_close(target_side.image);
		close(pipe_fds[0]);
	}
}

static void test_in_ends(void **state)
{
	struct fixture *fixture = *state;
	struct probe probe;
	enum { TOO_MUCH, CANCELLED, WRITE_FAILS, FLUSH_FAILS, ENDS };
	memset(stream_data, 0x77, sizeof(stream_data));
	for (int how = 0; how < ENDS; how++)
		for (unsigned after = 0; after < 6; after++) {
			make_pipe();
			side_make(&target_side, 1024 * KIB, 0xaa);
			if (how == WRITE_FAILS || how == FLUSH_FAILS) {
				target_side.fail_op = 1u << (how == WRITE_FAILS ? LUNKIT_WRITE : LUNKIT_FLUSH);
				target_side.fail_after = how == WRITE_FAILS ? after : 0;
			}
			side_open_image(fixture, &target_side);
			begin(&probe);
			image_stream_in(fixture->loop, pipe_fds[0], "the pipe", target_side.image,
					&(struct image_copy_options){ .buffer_size = 64 * KIB }, &probe.stream);
			if (how == TOO_MUCH) {
				fill_pipe(fixture, &probe, 1024 * KIB + 1, true);
			} else if (how == CANCELLED) {
				fill_pipe(fixture, &probe, after * 100 * KIB, false);
				probe.stream.cancelled = true;
				while (!probe.calls)
					turn(fixture, true);
				close(pipe_fds[1]);
			} else {
				fill_pipe(fixture, &probe, 1024 * KIB, true);
			}
			assert_ended(&probe);
			static const int results[ENDS] = { -EFBIG, -ECANCELED, -EIO, -EIO };
			assert_int_equal(probe.result, results[how]);
			image_close(target_side.image);
			close(pipe_fds[0]);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_out, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_out_ends, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_file, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_bad_descriptor, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_in, fixture_setup, side_teardown),
		cmocka_unit_test_setup_teardown(test_in_ends, fixture_setup, side_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
