/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* What the sources of jobs share. */

#include "image/copy.h"
#include "image/map.h"
#include "image/stream.h"
#include "worker/job.h"
#include "worker/keys.h"
#include "worker/text.h"

/* The snapshot that an export of an attached image reads from. One that is found was left by a worker that died, and is removed. */
#define JOB_EXPORT_SNAPSHOT "lunkit-export"

/* Where an export or import stands: each step starts the next one when it is done. */
enum copy_step { COPY_STALE, COPY_SNAPSHOT, COPY_DATA, COPY_CLOSE, COPY_UNSNAPSHOT };

struct job {
	struct list node;
	struct jobs *jobs;
	uint32_t id;
	bool exclusive, cancelled;
	uint64_t told_ns, done, total; /* when PROGRESS was last sent, and what is known */
	struct protocol_job request;
	int fds[PROTOCOL_FDS_MAX];
	struct lunkit_error err;

	struct image_job work; /* CHECK, SNAPSHOT, FLATTEN, and the snapshots of an export */
	struct lunkit_check_report report;
	struct image_map map;
	struct text text;

	struct lunkit_key_change key_change;
	struct image_key new_key; /* KEY, and of the image that EXPORT or IMPORT makes */

	/* EXPORT, IMPORT */
	enum copy_step step;
	struct image_copy copy;
	struct image_stream stream;
	struct image *view;   /* the snapshot that is exported, opened a second time */
	struct image *target; /* what is written */
	bool target_is_file;  /* which the starter removes when the job fails; any other is ours to remove */
	bool has_snapshot;    /* JOB_EXPORT_SNAPSHOT is there and is ours */
	int result;
	bool is_stream; /* how much of it was stored is not known */
	uint64_t bytes_read, bytes_written;
	struct loop_alarm alarm;
};

/* The end: replies, gives everything back. text: JSON or NULL. */
void job_end(struct job *job, int result, const struct lunkit_error *err, const char *text);
void job_progress(struct job *job, uint64_t done, uint64_t total);
/* job_copy.c */
void job_export(struct job *job);
void job_import(struct job *job);
