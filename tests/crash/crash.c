/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Power cuts: random requests to an image on the fake host; then the file is rebuilt as a cut at any moment may have left it, thousands of
 * times. Each time
 *   - the independent checker finds no corruption (leaks are what a cut may cost; with the dirty bit set, refcounts may be wrong);
 *   - the handler opens it, and each sector holds what was flushed or something written later, and nothing else;
 *   - snapshots that had been taken before, and not deleted, hold what they held;
 *   - some are written to, flushed, closed and looked at again, strictly; some are shown to qemu-img check.
 * A failure prints the command that repeats it.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "crash/cuts.h"
#include "fakehost/qcow2_check.h"
#include "fakehost/scenario.h"
#include "fakehost/workload.h"

#define ROOM_EXTRA ((uint64_t)24 << 20)
#define ROOM_SURVIVE ((uint64_t)64 << 20) /* the file is made longer in larger steps */
#define REQUESTS_DEFAULT 250

static struct {
	const char *kind, *scenario, *dump;
	uint64_t cuts, seed, cuts_a_run, qemu_every, only_cut;
	bool keep_going;
	uint64_t done, qemu_checked, reopened, jobs;
	unsigned failures;
} options = { .cuts = 3000, .seed = 1, .cuts_a_run = 120, .qemu_every = 150, .only_cut = UINT64_MAX };

struct run {
	const struct scenario *scenario;
	struct scenario_files files;
	const struct lunkit_handler *handler;
	uint64_t seed, cut;
	struct model *model;
	struct fakehost *fake;	/* where it was written */
	struct fakehost *after; /* where it is opened after a cut */
	struct fakehost_file *file;
	struct jobs jobs;
};

/* Version 2 has no dirty bit to set while refcounts rise in one place and COPIED goes in another: a cut in between leaks. */
static bool may_leak_copied(const struct run *run)
{
	return run->scenario->jobs & JOBS_SNAPSHOTS && run->scenario->create && strstr(run->scenario->create, "compat=0.10");
}

static void dump(const struct run *run, const void *image, uint64_t size)
{
	char path[512];
	if (!options.dump)
		return;
	snprintf(path, sizeof(path), "%s/%s-%" PRIu64 "-%" PRIu64, options.dump, run->scenario->name, run->seed, run->cut);
	FILE *out = fopen(path, "w");
	if (out && fwrite(image, 1, size, out) == size)
		printf("    the image is %s\n", path);
	if (out)
		fclose(out);
}

/* Returns false always. */
static bool fail(const struct run *run, const void *image, uint64_t size, const char *what, const char *text)
{
	printf("FAILED %s: %s: %s\n    again: --scenario %s --seed %" PRIu64, run->scenario->name, what, text, run->scenario->name,
	       run->seed);
	if (run->cut != UINT64_MAX)
		printf(" --cut %" PRIu64, run->cut);
	printf("\n");
	dump(run, image, size);
	fflush(stdout);
	options.failures++;
	return false;
}

/* strict: after a clean close. Then there is nothing to forgive but leaks. */
static bool look(const struct run *run, const void *image, uint64_t size, bool strict, const char *when)
{
	struct qcow2_findings found;
	char what[128];
	if (strcmp(run->scenario->kind, "qcow2") != 0)
		return true;
	qcow2_find(image, size, &found);
	if (found.corruptions) {
		snprintf(what, sizeof(what), "%s: %u corruptions", when, found.corruptions);
		return fail(run, image, size, what, found.first);
	}
	if (found.early_copied && !found.dirty && !may_leak_copied(run)) {
		snprintf(what, sizeof(what), "%s: COPIED where the refcount is too high: %u", when, found.early_copied);
		return fail(run, image, size, what, found.first);
	}
	if (strict && (found.dirty || (found.stale_copied && !may_leak_copied(run)))) {
		snprintf(what, sizeof(what), "%s: dirty bit %u, COPIED clear where the refcount is 1: %u", when, found.dirty,
			 found.stale_copied);
		return fail(run, image, size, what, found.first);
	}
	if (!found.dirty && found.stale_copied && !may_leak_copied(run)) {
		snprintf(what, sizeof(what), "%s: COPIED clear where the refcount is 1: %u", when, found.stale_copied);
		return fail(run, image, size, what, "qemu-img check calls it an error");
	}
	return true;
}

static bool show_to_qemu(const struct run *run, const void *image, uint64_t size)
{
	char text[2000];
	struct qcow2_findings found;
	qcow2_find(image, size, &found);
	const char *repair = found.dirty || found.early_copied || found.stale_copied ? "all" : NULL;
	int verdict = scenario_qemu_check(run->scenario, &run->files, image, size, repair, text, sizeof(text));
	options.qemu_checked++;
	if (verdict >= 2)
		return fail(run, image, size, "qemu-img check", text);
	if (!repair && (verdict == 1) != (found.leaks > 0))
		return fail(run, image, size, "qemu-img and the test's own checker disagree about leaks", found.first);
	return true;
}

/* Opens what the cut left. */
static bool reopen(struct run *run, const void *image, uint64_t size, uint64_t moment, bool write)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	char text[700];
	const struct image_params params = {
		.name = scenario_path(run->scenario), .options = run->scenario->options, .cache = LUNKIT_CACHE_NONE, .read_only = !write
	};
	struct image *opened;
	fakehost_set(run->after, run->file, image, size);
	if (fakehost_try_open(run->after, run->handler, &params, &opened, &err) < 0)
		return fail(run, image, size, "after the cut the image does not open", err.message);
	bool good = workload_verify(run->after, opened, run->model, true, moment, moment, text, sizeof(text));
	if (!good)
		fail(run, image, size, "after the cut", text);
	if (good && write) {
		/* New data in a few places, and it goes on living. */
		uint64_t random = run->seed ^ run->cut, sectors = MIN(run->model->sectors, image_limits(opened)->size / MODEL_SECTOR);
		char *buffer = malloc(64 * MODEL_SECTOR), *back = malloc(64 * MODEL_SECTOR);
		for (unsigned i = 0; i < 6 && good; i++) {
			uint64_t count = 1 + fakehost_below(&random, MIN(sectors, 64u)), at = fakehost_below(&random, sectors - count + 1);
			model_fill(buffer, 0x77000000u + i, at, count);
			int r = fakehost_request(run->after, opened, LUNKIT_WRITE, 0, at * MODEL_SECTOR, buffer, count * MODEL_SECTOR);
			if (r == 0)
				r = fakehost_request(run->after, opened, LUNKIT_READ, 0, at * MODEL_SECTOR, back, count * MODEL_SECTOR);
			if (r < 0 || memcmp(buffer, back, count * MODEL_SECTOR) != 0)
				good = fail(run, image, size, "writing after the cut",
					    r < 0 ? strerror(-r) : "other data is read than was written");
		}
		int r = fakehost_request(run->after, opened, LUNKIT_FLUSH, 0, 0, NULL, 0);
		if (r < 0)
			good = fail(run, image, size, "a flush after the cut", strerror(-r));
		free(buffer);
		free(back);
		options.reopened++;
	}
	fakehost_close(run->after, opened);
	for (unsigned i = 0; i < run->jobs.snapshot_count && good && (write || run->cut % 4 == 1); i++) {
		const struct jobs_snapshot *snapshot = &run->jobs.snapshots[i];
		if (!snapshot->tags || snapshot->created > moment || snapshot->deleted <= moment)
			continue;
		good = jobs_verify(run->after, run->handler, &params, snapshot, run->model->sectors, text, sizeof(text)) ||
		       fail(run, image, size, "after the cut", text);
	}
	if (good && write)
		good = look(run, run->file->data, run->file->size, true, "written to after the cut and closed");
	return good;
}

static bool check_cut(struct run *run, struct cuts *cuts, uint64_t moment)
{
	options.done++;
	if (!look(run, cuts->image, cuts->image_size, false, "after the cut"))
		return false;
	bool write = run->cut % 8 == 0;
	if (!reopen(run, cuts->image, cuts->image_size, moment, write))
		return false;
	bool is_qcow2 = strcmp(run->scenario->kind, "qcow2") == 0;
	if (is_qcow2 && options.qemu_every && options.done % options.qemu_every == 0)
		return show_to_qemu(run, cuts->image, cuts->image_size);
	return true;
}

static int compare_moments(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Moments just before and after something was written, completed or flushed: nothing changes in between. */
static uint64_t choose_moment(const struct fakehost *fake, uint64_t *random)
{
	if (fake->write_count == 0)
		return fakehost_below(random, fake->moment + 1);
	const struct fakehost_write *write = &fake->writes[fakehost_below(random, fake->write_count)];
	uint64_t moment = write->effected;
	if (fake->sync_count && fakehost_below(random, 4) == 0)
		moment = fake->syncs[fakehost_below(random, fake->sync_count)].completed;
	else if (write->completed != UINT64_MAX && fakehost_below(random, 2))
		moment = write->completed;
	return moment + fakehost_below(random, 2);
}

static bool cut_all(struct run *run)
{
	struct cuts cuts;
	bool good = true;
	uint64_t count = options.cuts_a_run, random = run->seed * 7919 + 3;
	uint64_t *moments = calloc(count, sizeof(*moments));
	if (!moments)
		abort();
	for (uint64_t i = 0; i < count; i++)
		moments[i] = choose_moment(run->fake, &random);
	qsort(moments, count, sizeof(*moments), compare_moments);
	uint64_t room = run->files.image_size + run->scenario->size * 3 + (run->scenario->survive ? ROOM_SURVIVE : ROOM_EXTRA);
	cuts_new(&cuts, run->fake, fakehost_find(run->fake, scenario_path(run->scenario))->index, run->files.image, run->files.image_size,
		 room);
	for (uint64_t i = 0; i < count; i++) {
		uint64_t state = random + i;
		enum cut_mode mode = (enum cut_mode)(fakehost_random64(&state) % CUT_MODES);
		if (options.only_cut != UINT64_MAX && options.only_cut != i)
			continue;
		cuts_make(&cuts, moments[i], mode, state);
		run->cut = i;
		if (!check_cut(run, &cuts, moments[i])) {
			good = false;
			printf("    mode %d, moment %" PRIu64 "\n", mode, moments[i]);
			if (!options.keep_going)
				break;
		}
	}
	cuts_free(&cuts);
	free(moments);
	return good;
}

/* The workload; then the file as it is after a clean end. */
static bool write_all(struct run *run)
{
	const struct scenario *scenario = run->scenario;
	struct workload_result result;
	char text[700];
	/* Not the same requests in each scenario. */
	uint64_t hash = run->seed;
	for (const char *at = scenario->name; *at; at++)
		hash = hash * 31 + (unsigned char)*at;
	struct workload_config config = { .seed = hash,
					  .requests = scenario->requests ? scenario->requests : REQUESTS_DEFAULT,
					  .cluster_size = scenario->cluster_size ? scenario->cluster_size : 4096,
					  .no_discard = scenario->no_discard };
	const struct image_params params = {
		.name = scenario_path(scenario), .options = scenario->options, .cache = LUNKIT_CACHE_NONE, .survive = scenario->survive
	};
	struct fakehost_file *file = fakehost_find(run->fake, params.name);
	struct image *image = fakehost_open(run->fake, run->handler, &params);
	bool good = jobs_init(&run->jobs, run->fake, image, run->handler, &params, run->model, scenario->jobs, hash);
	if (scenario->jobs) {
		config.tick = jobs_tick;
		config.tick_argument = &run->jobs;
	}
	workload_run(run->fake, image, run->model, &config, &result);
	jobs_finish(&run->jobs);
	options.jobs += run->jobs.done;
	if (!good || run->jobs.wrong || result.wrong || result.unexpected) {
		good = false;
		snprintf(text, sizeof(text), "%s", run->jobs.wrong ? run->jobs.text : result.text);
	}
	if (good)
		good = workload_verify(run->fake, image, run->model, false, run->fake->moment, run->fake->moment, text, sizeof(text));
	if (!good)
		fail(run, file->data, file->size, "before any cut", text);
	/* The shim promises a flush before the close. */
	int r = fakehost_request(run->fake, image, LUNKIT_FLUSH, 0, 0, NULL, 0);
	if (r < 0)
		good = fail(run, file->data, file->size, "the last flush", strerror(-r));
	fakehost_close(run->fake, image);
	return good && look(run, file->data, file->size, true, "closed without any cut");
}

static void run_one(const struct scenario *scenario, const struct scenario_files *files, const struct lunkit_handler *handler,
		    uint64_t seed)
{
	struct run run = { .scenario = scenario, .files = *files, .handler = handler, .seed = seed, .cut = UINT64_MAX };
	const struct fakehost_config written = { .seed = seed, .record = true, .direct = scenario->direct, .block = scenario->device };
	const struct fakehost_config after = { .seed = seed + 1, .direct = scenario->direct, .block = scenario->device };
	run.fake = fakehost_new(&written);
	run.after = fakehost_new(&after);
	run.model = model_new(files->tags, scenario->size / MODEL_SECTOR);
	scenario_load(scenario, files, run.fake);
	run.file = scenario_load(scenario, files, run.after);
	if (write_all(&run)) {
		fakehost_seal(run.fake);
		cut_all(&run);
	}
	model_free(run.model);
	jobs_free(&run.jobs);
	fakehost_free(run.after);
	fakehost_free(run.fake);
}

/* ---- the command ---- */

static void usage(FILE *to)
{
	fputs("usage: crash [--kind raw|qcow2] [--scenario NAME] [--cuts N] [--cuts-a-run N] [--seed S] [--cut N] [--qemu-every N]\n"
	      "             [--dump FOLDER] [--keep-going] [--verbose] [--list]\n"
	      "Cuts the power N times in random workloads, spread over the scenarios. --cut repeats one cut of one seed of one scenario.\n",
	      to);
}

static void parse(int argc, char **argv)
{
	enum { KIND = 1, SCENARIO, CUTS, CUTS_A_RUN, SEED, CUT, QEMU_EVERY, DUMP, KEEP_GOING, VERBOSE, LIST, HELP };
	static const struct option table[] = {
		{ "kind", required_argument, NULL, KIND },
		{ "scenario", required_argument, NULL, SCENARIO },
		{ "cuts", required_argument, NULL, CUTS },
		{ "cuts-a-run", required_argument, NULL, CUTS_A_RUN },
		{ "seed", required_argument, NULL, SEED },
		{ "cut", required_argument, NULL, CUT },
		{ "qemu-every", required_argument, NULL, QEMU_EVERY },
		{ "dump", required_argument, NULL, DUMP },
		{ "keep-going", no_argument, NULL, KEEP_GOING },
		{ "verbose", no_argument, NULL, VERBOSE },
		{ "list", no_argument, NULL, LIST },
		{ "help", no_argument, NULL, HELP },
		{ 0 },
	};
	int option;
	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		uint64_t number = optarg ? strtoull(optarg, NULL, 0) : 0;
		switch (option) {
		case KIND:
			options.kind = optarg;
			break;
		case SCENARIO:
			options.scenario = optarg;
			break;
		case CUTS:
			options.cuts = number;
			break;
		case CUTS_A_RUN:
			options.cuts_a_run = MAX(number, 1u);
			break;
		case SEED:
			options.seed = number;
			break;
		case CUT:
			options.only_cut = number;
			break;
		case QEMU_EVERY:
			options.qemu_every = number;
			break;
		case DUMP:
			options.dump = optarg;
			break;
		case KEEP_GOING:
			options.keep_going = true;
			break;
		case VERBOSE:
			fakehost_verbose = true;
			break;
		case LIST:
			for (unsigned i = 0; i < scenario_count; i++)
				printf("%-8s %s\n", scenarios[i].kind, scenarios[i].name);
			exit(0);
		case HELP:
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(2);
		}
	}
}

static bool is_wanted(const struct scenario *scenario)
{
	return (!options.kind || strcmp(options.kind, scenario->kind) == 0) &&
	       (!options.scenario || strcmp(options.scenario, scenario->name) == 0);
}

int main(int argc, char **argv)
{
	parse(argc, argv);
	if (!scenario_tools()) {
		printf("qemu-img or qemu-io is not installed\n");
		return 77;
	}
	unsigned wanted = 0;
	for (unsigned i = 0; i < scenario_count; i++)
		wanted += is_wanted(&scenarios[i]) && scenario_handler(scenarios[i].kind);
	if (!wanted) {
		fprintf(stderr, "no scenario matches, or its handler is not built\n");
		return 2;
	}
	uint64_t each = MAX(options.cuts / wanted, 1u);
	for (unsigned i = 0; i < scenario_count; i++) {
		const struct scenario *scenario = &scenarios[i];
		const struct lunkit_handler *handler = scenario_handler(scenario->kind);
		struct scenario_files files;
		if (!is_wanted(scenario) || !handler)
			continue;
		struct timespec begin, end;
		clock_gettime(CLOCK_MONOTONIC, &begin);
		scenario_make(scenario, options.seed, &files);
		uint64_t first = options.done;
		unsigned failures = options.failures;
		for (uint64_t seed = options.seed; options.done - first < each; seed++) {
			run_one(scenario, &files, handler, seed);
			if (options.only_cut != UINT64_MAX || (options.failures > failures && !options.keep_going))
				break;
		}
		scenario_free(&files);
		clock_gettime(CLOCK_MONOTONIC, &end);
		printf("%s %-18s %6" PRIu64 " cuts, %.1f s\n", options.failures > failures ? "not ok" : "ok    ", scenario->name,
		       options.done - first, (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
		fflush(stdout);
	}
	printf("%" PRIu64 " cuts, %" PRIu64 " of them written to afterwards, %" PRIu64 " shown to qemu-img; %" PRIu64
	       " jobs; %u failures\n",
	       options.done, options.reopened, options.qemu_checked, options.jobs, options.failures);
	return options.failures ? 1 : 0;
}
