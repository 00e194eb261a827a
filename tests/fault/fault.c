/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Each I/O of a scripted workload fails: with EIO or ENOSPC, once or from then on, or moves less than it should. And the disk below is full: at
 * sizes of the file from what it has to what the workload would need.
 *
 * Each time: a transfer that is only short is no error to the guest; reads give what the model allows; once the fault is gone, everything that
 * was promised can be read, new writes and a flush work, the closed file has no corruption, and opened again it holds the same.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/checked.h"
#include "fakehost/qcow2_check.h"
#include "fakehost/scenario.h"
#include "fakehost/workload.h"

#define TIME_MAX_S 60 /* of the processor, for one run */

enum fault_kind {
	FAULT_NONE,
	FAULT_SHORT,
	FAULT_EIO,
	FAULT_EIO_STICKY,
	FAULT_ENOSPC,
	FAULT_ENOSPC_STICKY,
	FAULT_SYNC,
	FAULT_SYNC_STICKY,
	FAULT_FULL
};
#define FAULT_KINDS 9
static const char *const kind_names[FAULT_KINDS] = { "none",	      "short", "eio",	      "eio-sticky", "enospc",
						     "enospc-sticky", "sync",  "sync-sticky", "full" };

#define READS (1u << FAKEHOST_READ)
#define WRITES (1u << FAKEHOST_WRITE | 1u << FAKEHOST_ALLOCATE | 1u << FAKEHOST_TRUNCATE)
#define SYNCS (1u << FAKEHOST_SYNC)

static const struct fakehost_fault faults[FAULT_KINDS] = {
	[FAULT_SHORT] = { .ops = READS | 1u << FAKEHOST_WRITE },
	[FAULT_EIO] = { .ops = READS | WRITES, .error = -EIO },
	[FAULT_EIO_STICKY] = { .ops = READS | WRITES, .error = -EIO, .sticky = true },
	[FAULT_ENOSPC] = { .ops = WRITES, .error = -ENOSPC },
	[FAULT_ENOSPC_STICKY] = { .ops = WRITES, .error = -ENOSPC, .sticky = true },
	[FAULT_SYNC] = { .ops = SYNCS, .error = -EIO },
	[FAULT_SYNC_STICKY] = { .ops = SYNCS, .error = -EIO, .sticky = true },
};

static struct {
	const char *kind, *scenario, *fault;
	uint64_t seed, points, only;
	uint64_t runs, hits, refused, stuck, jobs;
	unsigned failures;
} options = { .seed = 1, .points = 30 };

struct run {
	const struct scenario *scenario;
	const struct scenario_files *files;
	const struct lunkit_handler *handler;
	enum fault_kind kind;
	uint64_t nth;	     /* 0: none; FULL: bytes that the file may have */
	uint64_t io_count;   /* out: I/Os of the kind */
	uint64_t final_size; /* out */
	bool stuck;	     /* out: no flush succeeds any more */
	struct model *model;
	struct fakehost *fake;
	struct fakehost_file *file;
	struct image_params params;
	struct jobs jobs;
	bool repaired; /* opened again since a job failed */
};

static bool fail(const struct run *run, const char *what, const char *text)
{
	printf("FAILED %s: %s: %s\n    again: --scenario %s --seed %" PRIu64 " --fault %s --nth %" PRIu64 "\n", run->scenario->name, what,
	       text, run->scenario->name, options.seed, kind_names[run->kind], run->nth);
	fflush(stdout);
	options.failures++;
	return false;
}

static bool look(const struct run *run, const char *when)
{
	struct qcow2_findings found;
	char what[128];
	if (strcmp(run->scenario->kind, "qcow2") != 0)
		return true;
	qcow2_find(run->file->data, run->file->size, &found);
	/* A job that could not take back what it had begun leaves leaks, and the dirty bit for whoever opens the image next; version 2 has none. */
	bool failed = run->jobs.failed && !run->repaired, v2 = run->scenario->create && strstr(run->scenario->create, "compat=0.10");
	bool copied = (found.stale_copied || found.early_copied) && !(run->jobs.failed && v2);
	if (!found.corruptions && !copied && (failed || !(found.dirty && !found.dirty_errors)))
		return true;
	snprintf(what, sizeof(what), "%s: %u corruptions, %u stale COPIED flags, dirty %u with %u errors", when, found.corruptions,
		 found.stale_copied, found.dirty, found.dirty_errors);
	return fail(run, what, found.first);
}

static bool is_expected(const struct run *run, int error)
{
	switch (run->kind) {
	case FAULT_NONE:
	case FAULT_SHORT:
		return false;
	case FAULT_ENOSPC:
	case FAULT_ENOSPC_STICKY:
	case FAULT_FULL:
		return error == -ENOSPC;
	case FAULT_EIO:
	case FAULT_EIO_STICKY:
	case FAULT_SYNC:
	case FAULT_SYNC_STICKY:
		return error == -EIO;
	}
	return false;
}

static struct image *try_open(struct run *run, struct lunkit_error *err)
{
	run->params = (struct image_params){ .name = scenario_path(run->scenario),
					     .options = run->scenario->options,
					     .cache = LUNKIT_CACHE_NONE,
					     .survive = run->scenario->survive };
	struct image *image;
	return fakehost_try_open(run->fake, run->handler, &run->params, &image, err) < 0 ? NULL : image;
}

/*
 * A flush that failed may have lost what the page cache or the device held, for good. So a handler may refuse every flush until the image is opened again, and
 * then there is what a power cut would have left: all that was flushed.
 */
static bool is_stuck(struct run *run, struct image *image)
{
	/* A durable write that fails is a flush that fails, where it goes straight to the file. */
	bool raw = strcmp(run->scenario->kind, "raw") == 0 && run->kind != FAULT_NONE && run->kind != FAULT_SHORT;
	if (run->kind != FAULT_SYNC && run->kind != FAULT_SYNC_STICKY && !raw)
		return false;
	for (unsigned i = 0; i < 2; i++)
		if (fakehost_request(run->fake, image, LUNKIT_FLUSH, 0, 0, NULL, 0) == 0)
			return false;
	options.stuck++;
	return true;
}

/* The disk below works again. */
static bool recover(struct run *run, struct image *image)
{
	char text[700];
	struct workload_result result;
	const struct workload_config more = { .seed = options.seed + 1000,
					      .requests = 25,
					      .slots = 3,
					      .cluster_size = run->scenario->cluster_size,
					      .no_discard = run->scenario->no_discard };
	struct fakehost *fake = run->fake;
	if (!workload_verify(fake, image, run->model, false, fake->moment, fake->moment, text, sizeof(text)))
		return fail(run, "when the fault is gone", text);
	run->stuck = is_stuck(run, image);
	if (run->stuck)
		return true;
	/* One flush that has an error left to tell. */
	if (run->kind == FAULT_SYNC || run->kind == FAULT_SYNC_STICKY)
		fakehost_request(fake, image, LUNKIT_FLUSH, 0, 0, NULL, 0);
	workload_run(fake, image, run->model, &more, &result);
	if (result.wrong || result.unexpected)
		return fail(run, "new requests when the fault is gone", result.text);
	int r = fakehost_request(fake, image, LUNKIT_FLUSH, 0, 0, NULL, 0);
	return r == 0 || fail(run, "a flush when the fault is gone", strerror(-r));
}

static bool work(struct run *run, struct image *image)
{
	struct workload_result result;
	struct workload_config config = { .seed = options.seed,
					  .requests = 70,
					  .slots = 4,
					  .cluster_size = run->scenario->cluster_size,
					  .length_max = 128 << 10,
					  .no_discard = run->scenario->no_discard,
					  .errors_expected = true };
	unsigned kinds = run->scenario->jobs;
	if (kinds && jobs_init(&run->jobs, run->fake, image, run->handler, &run->params, run->model, kinds & ~JOBS_SHRINK, options.seed)) {
		run->jobs.errors_expected = run->kind != FAULT_SHORT && run->kind != FAULT_NONE;
		config.tick = jobs_tick;
		config.tick_argument = &run->jobs;
	} else if (run->fake->fault_hits) {
		run->jobs.wrong = false; /* the fault came before them */
	}
	workload_run(run->fake, image, run->model, &config, &result);
	jobs_finish(&run->jobs);
	if (config.tick && kinds & JOBS_SHRINK)
		jobs_smaller(&run->jobs);
	options.refused += result.failed;
	run->io_count = run->fake->io_count;
	if (run->fake->fault_hits)
		options.hits++;
	fakehost_arm(run->fake, &(struct fakehost_fault){ 0 });
	run->final_size = run->file->size;
	run->file->capacity = UINT64_MAX;
	if (config.tick && kinds & JOBS_SHRINK)
		jobs_as_before(&run->jobs);
	options.jobs += run->jobs.done;
	if (result.wrong || run->jobs.wrong)
		return fail(run, "under the fault", result.wrong ? result.text : run->jobs.text);
	if (run->jobs.error && !is_expected(run, run->jobs.error))
		return fail(run, "a job's error that does not follow from the fault", run->jobs.job.err.message);
	if (result.failed && !is_expected(run, result.first_error))
		return fail(run, "an error that does not follow from the fault", strerror(-result.first_error));
	return recover(run, image);
}

static bool reopen(struct run *run)
{
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	char text[700];
	struct image *image = try_open(run, &err);
	if (!image)
		return fail(run, "it does not open again", err.message);
	bool good = workload_verify(run->fake, image, run->model, run->stuck, run->fake->moment, run->fake->moment, text, sizeof(text));
	fakehost_close(run->fake, image);
	run->repaired = true;
	for (unsigned i = 0; i < run->jobs.snapshot_count && good; i++)
		if (run->jobs.snapshots[i].tags && run->jobs.snapshots[i].deleted == UINT64_MAX)
			good = jobs_verify(run->fake, run->handler, &run->params, &run->jobs.snapshots[i], run->model->sectors, text,
					   sizeof(text));
	return good || fail(run, "opened again", text);
}

static const struct run *running;

/* Nothing here takes long: it goes round and round. */
static void too_long(int signal)
{
	(void)signal;
	fail(running, "processor time", "it does not end");
	_exit(1);
}

static void watch(const struct run *run)
{
	const struct itimerval limit = { .it_value.tv_sec = TIME_MAX_S };
	running = run;
	signal(SIGVTALRM, too_long);
	setitimer(ITIMER_VIRTUAL, &limit, NULL);
}

/* The fault comes after open(), or in it when the nth I/O is there. */
static bool run_one(struct run *run)
{
	watch(run);
	const struct fakehost_config config = { .seed = options.seed, .direct = run->scenario->direct, .block = run->scenario->device };
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	struct fakehost_fault fault = faults[run->kind];
	run->stuck = run->repaired = false;
	run->jobs = (struct jobs){ 0 };
	run->fake = fakehost_new(&config);
	run->model = model_new(run->files->tags, run->scenario->size / MODEL_SECTOR);
	run->file = scenario_load(run->scenario, run->files, run->fake);
	if (run->kind == FAULT_FULL)
		run->file->capacity = run->nth;
	else
		fault.nth = run->nth;
	fakehost_arm(run->fake, &fault);
	struct image *image = try_open(run, &err);
	bool good = true;
	options.runs++;
	if (image) {
		good = work(run, image);
		fakehost_close(run->fake, image);
	} else {
		run->io_count = run->fake->io_count;
		if (!run->fake->fault_hits || !is_expected(run, -err.code))
			good = fail(run, "open", err.message);
		fakehost_arm(run->fake, &(struct fakehost_fault){ 0 });
	}
	if (good)
		good = look(run, "closed") && reopen(run) && look(run, "opened and closed again");
	model_free(run->model);
	jobs_free(&run->jobs);
	fakehost_free(run->fake);
	return good;
}

/* The numbers of the I/Os that fail: all, or as many as asked for, the first ones among them. */
static void run_kind(struct run *run)
{
	run->nth = 0;
	if (run->kind == FAULT_FULL)
		run->nth = UINT64_MAX;
	if (!run_one(run))
		return;
	uint64_t first = 1, last = run->io_count, points = options.points;
	if (run->kind == FAULT_FULL) {
		first = run->files->image_size;
		last = run->final_size;
	}
	if (options.only) {
		run->nth = options.only;
		run_one(run);
		return;
	}
	for (uint64_t i = 0; i < points && first <= last; i++) {
		uint64_t span = last - first + 1, step = MAX(span / points, 1u);
		uint64_t random = options.seed + i;
		run->nth = first + i * step + (step > 1 ? fakehost_below(&random, step) : 0);
		if (run->kind == FAULT_FULL)
			run->nth = align_down(run->nth, 512);
		if (run->nth > last || !run_one(run))
			return;
	}
}

static bool is_wanted(const struct scenario *scenario)
{
	return (!options.kind || strcmp(options.kind, scenario->kind) == 0) &&
	       (!options.scenario || strcmp(options.scenario, scenario->name) == 0) && scenario_handler(scenario->kind);
}

static void parse(int argc, char **argv)
{
	enum { KIND = 1, SCENARIO, FAULT, SEED, POINTS, NTH, VERBOSE };
	static const struct option table[] = {
		{ "kind", required_argument, NULL, KIND },     { "scenario", required_argument, NULL, SCENARIO },
		{ "fault", required_argument, NULL, FAULT },   { "seed", required_argument, NULL, SEED },
		{ "points", required_argument, NULL, POINTS }, { "nth", required_argument, NULL, NTH },
		{ "verbose", no_argument, NULL, VERBOSE },     { 0 },
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
		case FAULT:
			options.fault = optarg;
			break;
		case SEED:
			options.seed = number;
			break;
		case POINTS:
			options.points = MAX(number, 1u);
			break;
		case NTH:
			options.only = number;
			break;
		case VERBOSE:
			fakehost_verbose = true;
			break;
		default:
			fprintf(stderr, "usage: fault [--kind KIND] [--scenario NAME] [--fault NAME] [--seed S] [--points N] [--nth N] "
					"[--verbose]\nfaults:");
			for (unsigned i = 1; i < FAULT_KINDS; i++)
				fprintf(stderr, " %s", kind_names[i]);
			fprintf(stderr, "\n");
			exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	unsigned wanted = 0;
	parse(argc, argv);
	if (!scenario_tools()) {
		printf("qemu-img or qemu-io is not installed\n");
		return 77;
	}
	for (unsigned i = 0; i < scenario_count; i++) {
		const struct scenario *scenario = &scenarios[i];
		struct scenario_files files;
		if (!is_wanted(scenario))
			continue;
		wanted++;
		scenario_make(scenario, options.seed, &files);
		unsigned failures = options.failures;
		uint64_t runs = options.runs;
		for (unsigned kind = FAULT_SHORT; kind < FAULT_KINDS; kind++) {
			struct run run = { .scenario = scenario,
					   .files = &files,
					   .handler = scenario_handler(scenario->kind),
					   .kind = (enum fault_kind)kind };
			if (!options.fault || strcmp(options.fault, kind_names[kind]) == 0)
				run_kind(&run);
		}
		scenario_free(&files);
		printf("%s %-18s %5" PRIu64 " runs\n", options.failures > failures ? "not ok" : "ok    ", scenario->name,
		       options.runs - runs);
		fflush(stdout);
	}
	if (!wanted) {
		fprintf(stderr, "no scenario matches, or its handler is not built\n");
		return 2;
	}
	printf("%" PRIu64 " runs, in %" PRIu64 " of them an I/O failed, %" PRIu64 " requests failed; %u failures\n", options.runs,
	       options.hits, options.refused, options.failures);
	return options.failures ? 1 : 0;
}
