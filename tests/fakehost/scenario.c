/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fakehost/scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "fakehost/model.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

const struct scenario scenarios[] = {
	{ .name = "raw", .kind = "raw", .size = 2 * MIB, .written = 50 },
	{ .name = "raw-direct", .kind = "raw", .size = 2 * MIB, .direct = true },
	{ .name = "empty-64k", .kind = "qcow2", .size = 3 * MIB, .cluster_size = 65536 },
	{ .name = "empty-4k", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 4096, .direct = true },
	{ .name = "written-64k", .kind = "qcow2", .size = 3 * MIB, .cluster_size = 65536, .written = 60, .direct = true },
	{ .name = "v2-64k", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 65536, .create = "compat=0.10", .written = 30 },
	{ .name = "v2-4k", .kind = "qcow2", .size = MIB + 512, .cluster_size = 4096, .create = "compat=0.10", .written = 50 },
	{ .name = "tiny-512", .kind = "qcow2", .size = 256 * KIB, .cluster_size = 512, .written = 40 },
	{ .name = "tiny-1k",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 1024,
	  .create = "refcount_bits=64",
	  .written = 30,
	  .direct = true },
	{ .name = "refcount-1", .kind = "qcow2", .size = MIB, .cluster_size = 4096, .create = "refcount_bits=1", .written = 30 },
	{ .name = "refcount-2",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .create = "refcount_bits=2",
	  .written = 30,
	  .snapshots = 2 },
	{ .name = "refcount-4", .kind = "qcow2", .size = MIB, .cluster_size = 512, .create = "refcount_bits=4", .written = 10 },
	{ .name = "refcount-64", .kind = "qcow2", .size = MIB, .cluster_size = 512, .create = "refcount_bits=64", .written = 30 },
	{ .name = "lazy-64k", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 65536, .create = "lazy_refcounts=on", .written = 20 },
	{ .name = "lazy-4k",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .create = "lazy_refcounts=on",
	  .written = 30,
	  .snapshots = 1,
	  .direct = true },
	{ .name = "overlay-raw", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 65536, .backing = BACKING_RAW, .backing_size = 2 * MIB },
	{ .name = "overlay-short",
	  .kind = "qcow2",
	  .size = 2 * MIB,
	  .cluster_size = 16384,
	  .backing = BACKING_RAW,
	  .backing_size = 700 * KIB + 512,
	  .written = 10,
	  .direct = true },
	{ .name = "overlay-long",
	  .kind = "qcow2",
	  .size = MIB + 3 * 512,
	  .cluster_size = 4096,
	  .backing = BACKING_QCOW2,
	  .backing_size = 2 * MIB,
	  .written = 10 },
	{ .name = "overlay-v2",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .create = "compat=0.10",
	  .backing = BACKING_QCOW2,
	  .backing_size = 600 * KIB,
	  .no_discard = true },
	{ .name = "compressed", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 65536, .written = 60, .compressed = true },
	{ .name = "compressed-4k", .kind = "qcow2", .size = MIB, .cluster_size = 4096, .written = 70, .compressed = true, .snapshots = 1 },
	{ .name = "compressed-zstd",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 16384,
	  .create = "compression_type=zstd",
	  .written = 70,
	  .compressed = true,
	  .direct = true },
	{ .name = "snapshot-64k", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 65536, .written = 60, .snapshots = 2 },
	{ .name = "snapshot-4k", .kind = "qcow2", .size = MIB, .cluster_size = 4096, .written = 60, .snapshots = 3, .direct = true },
	{ .name = "snapshot-overlay",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 8192,
	  .backing = BACKING_RAW,
	  .backing_size = 512 * KIB,
	  .written = 30,
	  .compressed = true,
	  .snapshots = 2 },
	{ .name = "metadata", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 65536, .create = "preallocation=metadata" },
	{ .name = "falloc", .kind = "qcow2", .size = 2 * MIB, .cluster_size = 32768, .create = "preallocation=falloc", .direct = true },
	{ .name = "large-clusters", .kind = "qcow2", .size = 12 * MIB, .cluster_size = 2097152, .written = 20, .requests = 120 },
	{ .name = "many-tables", .kind = "qcow2", .size = 4 * MIB, .cluster_size = 512, .written = 5, .requests = 350 },
	{ .name = "job-snapshots-64k",
	  .kind = "qcow2",
	  .size = 2 * MIB,
	  .cluster_size = 65536,
	  .written = 50,
	  .snapshots = 1,
	  .jobs = JOBS_SNAPSHOTS },
	{ .name = "job-snapshots-4k",
	  .kind = "qcow2",
	  .size = MIB + 512,
	  .cluster_size = 4096,
	  .written = 40,
	  .snapshots = 1,
	  .direct = true,
	  .jobs = JOBS_SNAPSHOTS },
	{ .name = "job-snapshots-512",
	  .kind = "qcow2",
	  .size = 256 * KIB,
	  .cluster_size = 512,
	  .create = "refcount_bits=8",
	  .written = 30,
	  .jobs = JOBS_SNAPSHOTS },
	{ .name = "job-snapshots-v2",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .create = "compat=0.10",
	  .written = 40,
	  .snapshots = 1,
	  .jobs = JOBS_SNAPSHOTS },
	{ .name = "job-snapshots-lazy",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .create = "lazy_refcounts=on",
	  .written = 40,
	  .jobs = JOBS_SNAPSHOTS | JOBS_SHRINK },
	{ .name = "job-snapshots-overlay",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 8192,
	  .backing = BACKING_RAW,
	  .backing_size = 512 * KIB,
	  .written = 30,
	  .compressed = true,
	  .jobs = JOBS_SNAPSHOTS | JOBS_SHRINK },
	{ .name = "survive-64k", .kind = "qcow2", .size = 3 * MIB, .cluster_size = 65536, .written = 20, .survive = true },
	{ .name = "survive-4k",
	  .kind = "qcow2",
	  .size = 2 * MIB,
	  .cluster_size = 4096,
	  .written = 40,
	  .snapshots = 1,
	  .direct = true,
	  .survive = true },
	{ .name = "survive-overlay",
	  .kind = "qcow2",
	  .size = 2 * MIB,
	  .cluster_size = 16384,
	  .backing = BACKING_RAW,
	  .backing_size = MIB,
	  .jobs = JOBS_SNAPSHOTS,
	  .survive = true },
	{ .name = "survive-tiny",
	  .kind = "qcow2",
	  .size = 512 * KIB,
	  .cluster_size = 512,
	  .create = "refcount_bits=8",
	  .jobs = JOBS_SNAPSHOTS,
	  .survive = true },
	{ .name = "job-flatten-raw",
	  .kind = "qcow2",
	  .size = 2 * MIB,
	  .cluster_size = 65536,
	  .backing = BACKING_RAW,
	  .backing_size = 2 * MIB,
	  .jobs = JOBS_FLATTEN },
	{ .name = "job-flatten-short",
	  .kind = "qcow2",
	  .size = MIB + 3 * 512,
	  .cluster_size = 4096,
	  .backing = BACKING_QCOW2,
	  .backing_size = 600 * KIB + 512,
	  .written = 10,
	  .direct = true,
	  .jobs = JOBS_FLATTEN | JOBS_SHRINK },
	{ .name = "job-flatten-snapshots",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .backing = BACKING_RAW,
	  .backing_size = 700 * KIB,
	  .written = 10,
	  .snapshots = 2,
	  .jobs = JOBS_FLATTEN | JOBS_SNAPSHOTS },
	{ .name = "job-flatten-snapshots-512",
	  .kind = "qcow2",
	  .size = 256 * KIB,
	  .cluster_size = 512,
	  .backing = BACKING_QCOW2,
	  .backing_size = 300 * KIB,
	  .written = 10,
	  .snapshots = 1,
	  .jobs = JOBS_FLATTEN | JOBS_SNAPSHOTS | JOBS_SHRINK },
	{ .name = "job-flatten-v2",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .create = "compat=0.10",
	  .backing = BACKING_QCOW2,
	  .backing_size = 2 * MIB,
	  .no_discard = true,
	  .jobs = JOBS_FLATTEN },
	{ .name = "device-64k",
	  .kind = "qcow2",
	  .size = 2 * MIB,
	  .cluster_size = 65536,
	  .written = 30,
	  .jobs = JOBS_SNAPSHOTS,
	  .device = 12 * MIB },
	{ .name = "device-4k",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .snapshots = 1,
	  .written = 30,
	  .direct = true,
	  .jobs = JOBS_SNAPSHOTS | JOBS_SHRINK,
	  .device = 8 * MIB },
	{ .name = "device-grows",
	  .kind = "qcow2",
	  .size = 4 * MIB,
	  .cluster_size = 512,
	  .create = "refcount_bits=64",
	  .written = 42,
	  .jobs = JOBS_SNAPSHOTS,
	  .requests = 400,
	  .device = 16 * MIB },
	{ .name = "device-overlay",
	  .kind = "qcow2",
	  .size = MIB,
	  .cluster_size = 4096,
	  .backing = BACKING_QCOW2,
	  .backing_size = 600 * KIB,
	  .jobs = JOBS_FLATTEN | JOBS_SNAPSHOTS,
	  .device = 8 * MIB },
	{ .name = "job-shrink-4k", .kind = "qcow2", .size = MIB, .cluster_size = 4096, .written = 70, .jobs = JOBS_SHRINK },
	{ .name = "job-shrink-snapshots",
	  .kind = "qcow2",
	  .size = 256 * KIB + 512,
	  .cluster_size = 512,
	  .written = 40,
	  .snapshots = 2,
	  .jobs = JOBS_SHRINK },
};
const unsigned scenario_count = ARRAY_SIZE(scenarios);

/* ---- tools ---- */

bool scenario_tools(void)
{
	return system("command -v qemu-img >/dev/null 2>&1 && command -v qemu-io >/dev/null 2>&1") == 0;
}

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

static char folder[64];

static void remove_folder(void)
{
	char command[128];
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	if (folder[0] && system(command) != 0)
		fprintf(stderr, "cannot remove %s\n", folder);
}

static const char *work_folder(void)
{
	if (!folder[0]) {
		snprintf(folder, sizeof(folder), "/dev/shm/lunkit-scenario-XXXXXX");
		if (!mkdtemp(folder))
			give_up("cannot make %s: %s", folder, strerror(errno));
		atexit(remove_folder);
	}
	return folder;
}

static void in_folder(char *path, size_t size, const char *name)
{
	snprintf(path, size, "%s/%s", work_folder(), name);
}

static void write_file(const char *name, const void *data, uint64_t size)
{
	char path[128];
	in_folder(path, sizeof(path), name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	for (uint64_t done = 0; fd >= 0 && done < size;) {
		ssize_t n = write(fd, (const char *)data + done, size - done);
		if (n <= 0)
			give_up("cannot write %s: %s", path, strerror(errno));
		done += (uint64_t)n;
	}
	if (fd < 0 || close(fd) < 0)
		give_up("cannot write %s: %s", path, strerror(errno));
}

static uint8_t *read_file(const char *name, uint64_t *ret_size)
{
	char path[128];
	in_folder(path, sizeof(path), name);
	struct stat status;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		give_up("cannot read %s: %s", path, strerror(errno));
	uint8_t *data = malloc((size_t)status.st_size + 1);
	for (off_t done = 0; data && done < status.st_size;) {
		ssize_t n = read(fd, data + done, (size_t)(status.st_size - done));
		if (n <= 0)
			give_up("cannot read %s: %s", path, strerror(errno));
		done += n;
	}
	close(fd);
	*ret_size = (uint64_t)status.st_size;
	return data;
}

/* A shell command in the work folder. Returns its status; what it printed is in text. */
__attribute__((format(printf, 3, 4))) static int run(char *text, unsigned size, const char *format, ...)
{
	char *line, *all;
	va_list args;
	va_start(args, format);
	if (vasprintf(&line, format, args) < 0 || asprintf(&all, "cd %s && %s 2>&1", work_folder(), line) < 0)
		give_up("no memory");
	va_end(args);
	FILE *pipe = popen(all, "r");
	if (!pipe)
		give_up("cannot run %s", line);
	size_t n = fread(text, 1, size - 1, pipe);
	text[n] = 0;
	char rest[512];
	while (fread(rest, 1, sizeof(rest), pipe) > 0)
		;
	int status = pclose(pipe);
	free(line);
	free(all);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

__attribute__((format(printf, 1, 2))) static void must_run(const char *format, ...)
{
	char said[2048], *line;
	va_list args;
	va_start(args, format);
	if (vasprintf(&line, format, args) < 0)
		give_up("no memory");
	va_end(args);
	if (run(said, sizeof(said), "%s", line) != 0)
		give_up("%s\nfails:\n%s", line, said);
	free(line);
}

/* ---- making ---- */

static void make_backing(const struct scenario *scenario, struct scenario_files *files)
{
	uint64_t sectors = scenario->backing_size / MODEL_SECTOR;
	char *data = calloc(sectors, MODEL_SECTOR);
	if (!data)
		give_up("no memory");
	/* Holes too: a quarter of it reads as zeros. */
	for (uint64_t at = 0; at < sectors; at++) {
		if (at / 64 % 4 == 3)
			continue;
		model_fill(data + at * MODEL_SECTOR, MODEL_BACKING, at, 1);
		if (at < scenario->size / MODEL_SECTOR)
			files->tags[at] = model_tag(MODEL_BACKING, at);
	}
	write_file("base.raw", data, scenario->backing_size);
	free(data);
	if (scenario->backing == BACKING_QCOW2)
		must_run("qemu-img convert -f raw -O qcow2 base.raw base.qcow2");
	files->backing = read_file(scenario->backing == BACKING_QCOW2 ? "base.qcow2" : "base.raw", &files->backing_size);
}

/* Writes data and zeros to some clusters, compresses some, takes a snapshot: one qemu-io, commands from a file. */
static void populate(const struct scenario *scenario, struct scenario_files *files, uint64_t *random, uint32_t phase, bool *touched)
{
	uint64_t cluster = scenario->cluster_size ? scenario->cluster_size : 4096;
	uint64_t clusters = (scenario->size + cluster - 1) / cluster;
	char *commands = NULL;
	size_t length = 0;
	FILE *out = open_memstream(&commands, &length);
	char *data = calloc(1, scenario->size);
	if (!out || !data)
		give_up("no memory");
	char name[32];
	snprintf(name, sizeof(name), "data%u", phase);
	for (uint64_t i = 0; i < clusters; i++) {
		uint64_t at = i * cluster, part = MIN(cluster, scenario->size - at);
		model_fill(data + at, MODEL_POPULATED + phase, at / MODEL_SECTOR, part / MODEL_SECTOR);
		if (fakehost_below(random, 100) >= scenario->written)
			continue;
		bool zero = scenario->cluster_size && fakehost_below(random, 8) == 0;
		/* QEMU compresses only into clusters that have never been written. */
		bool compress = !zero && scenario->compressed && part == cluster && !touched[i] && fakehost_below(random, 4) != 0;
		touched[i] = true;
		for (uint64_t k = 0; k < part / MODEL_SECTOR; k++)
			files->tags[at / MODEL_SECTOR + k] = zero ? 0 : model_tag(MODEL_POPULATED + phase, at / MODEL_SECTOR + k);
		if (zero) {
			fprintf(out, "write -z %s%llu %llu\n", fakehost_below(random, 2) ? "-u " : "", (unsigned long long)at,
				(unsigned long long)part);
			continue;
		}
		char piece[64];
		snprintf(piece, sizeof(piece), "%s.%llu", name, (unsigned long long)i);
		write_file(piece, data + at, part);
		fprintf(out, "write %s -s %s %llu %llu\n", compress ? "-c" : "", piece, (unsigned long long)at, (unsigned long long)part);
	}
	fclose(out);
	write_file("commands", commands, length);
	char said[4096];
	int status = run(said, sizeof(said), "qemu-io -f %s top <commands", scenario->kind);
	if (status != 0 || strstr(said, "rror") || strstr(said, "ailed"))
		give_up("qemu-io cannot fill the image:\n%s", said);
	must_run("rm -f data*");
	free(commands);
	free(data);
}

void scenario_make(const struct scenario *scenario, uint64_t seed, struct scenario_files *ret)
{
	*ret = (struct scenario_files){ .tags = calloc(scenario->size / MODEL_SECTOR, sizeof(uint64_t)) };
	if (!ret->tags)
		give_up("no memory");
	uint64_t random = seed;
	must_run("rm -f top base.raw base.qcow2");
	char options[256] = "", below[64] = "";
	if (scenario->backing) {
		make_backing(scenario, ret);
		bool raw = scenario->backing == BACKING_RAW;
		snprintf(below, sizeof(below), "-b %s -F %s", raw ? "base.raw" : "base.qcow2", raw ? "raw" : "qcow2");
	}
	if (scenario->cluster_size)
		snprintf(options, sizeof(options), "-o cluster_size=%u%s%s", scenario->cluster_size, scenario->create ? "," : "",
			 scenario->create ? scenario->create : "");
	must_run("qemu-img create -q -f %s %s %s top %llu", scenario->kind, options, below, (unsigned long long)scenario->size);
	bool *touched = calloc(scenario->size / 512, sizeof(bool));
	if (!touched)
		give_up("no memory");
	for (unsigned phase = 0; phase <= scenario->snapshots; phase++) {
		if (scenario->written)
			populate(scenario, ret, &random, phase, touched);
		if (phase < scenario->snapshots)
			must_run("qemu-img snapshot -c s%u top", phase);
	}
	free(touched);
	ret->image = read_file("top", &ret->image_size);
	if (scenario->device) {
		if (ret->image_size > scenario->device)
			give_up("%s does not fit on its device", scenario->name);
		ret->image = realloc(ret->image, scenario->device);
		if (!ret->image)
			give_up("no memory");
		memset(ret->image + ret->image_size, 0xee, scenario->device - ret->image_size);
		ret->image_size = scenario->device;
	}
}

void scenario_free(struct scenario_files *files)
{
	free(files->image);
	free(files->backing);
	free(files->tags);
}

static const char *backing_name(const struct scenario *scenario)
{
	return scenario->backing == BACKING_QCOW2 ? "base.qcow2" : "base.raw";
}

const char *scenario_path(const struct scenario *scenario)
{
	(void)scenario;
	return SCENARIO_FOLDER "/top";
}

struct fakehost_file *scenario_load(const struct scenario *scenario, const struct scenario_files *files, struct fakehost *fake)
{
	if (files->backing) {
		char path[64];
		snprintf(path, sizeof(path), "%s/%s", SCENARIO_FOLDER, backing_name(scenario));
		fakehost_add(fake, path, files->backing, files->backing_size);
	}
	return fakehost_add(fake, scenario_path(scenario), files->image, files->image_size);
}

int scenario_qemu_check(const struct scenario *scenario, const struct scenario_files *files, const void *image, uint64_t size,
			const char *repair, char *text, unsigned text_size)
{
	if (files->backing)
		write_file(backing_name(scenario), files->backing, files->backing_size);
	write_file("cut", image, size);
	int status = run(text, text_size, "qemu-img check -q -f %s %s %s cut", scenario->kind, repair ? "-r" : "", repair ? repair : "");
	return status == 0 ? 0 : status == 3 ? 1 : status == 2 ? 2 : 3;
}

/* ---- handlers ---- */

const struct lunkit_handler *raw_handler_entry(void);
#ifdef SCENARIO_QCOW2
const struct lunkit_handler *qcow2_handler_entry(void);
#endif

const struct lunkit_handler *scenario_handler(const char *kind)
{
	const struct lunkit_handler *raw, *qcow2 = NULL;
	struct lunkit_error err;
	int r = handler_adopt(raw_handler_entry(), &raw, &err);
#ifdef SCENARIO_QCOW2
	if (r == 0)
		r = handler_adopt(qcow2_handler_entry(), &qcow2, &err);
#endif
	if (r < 0)
		give_up("a handler cannot be used: %s", err.message);
	return strcmp(kind, "raw") == 0 ? raw : qcow2;
}
