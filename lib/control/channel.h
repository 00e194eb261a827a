/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * lunkitd's end of one worker: its socket, its process, its requests. Owner: the main thread. The worker may have been taken over by a hostile image: it can't make
 * lunkitd wait (non-blocking socket; files are opened for it on a task's thread, one at a time), grow (bounded messages, bounded questions) or believe (messages that make no sense end
 * it).
 */

#include <systemd/sd-event.h>

#include "base/error.h"
#include "control/task.h"
#include "host/process.h"
#include "target/files.h"

struct channel;

struct channel_config {
	sd_event *event;
	struct tasks *tasks; /* for opening files */
	const struct worker_config *worker;
	const char *runtime_directory;	  /* for its lease */
	const char *label;		  /* for log lines */
	const char *path;		  /* the one that it may open, or NULL */
	struct opener_identity *identity; /* of path, as in the policy; or NULL. Stays valid until channel_free() */
	/* For a kind whose images lie on others: where it may read as well, besides the image's own folder. NULL: only path. Stays valid. */
	const struct names *directories;
	char **config; /* folders of configuration that it may read, from reference_config(), or NULL; the channel's from then on, also on failure */
	bool may_write;
	unsigned *count; /* of live processes: counted up and down */

	/* Never called from inside a channel function. Each may free the channel. */
	void (*ready)(void *argument, const struct protocol_ready *ready); /* or NULL */
	/* Its questions; answer each with channel_answer(). NULL: it may ask none. */
	void (*ask)(void *argument, uint32_t id, const struct protocol_query *query);
	void (*notice)(void *argument, const char *text); /* or NULL */
	void (*modes)(void *argument, uint32_t modes);	  /* what initiators have set, for the LUN's next worker; or NULL */
	void (*memo)(void *argument, const char *text);	  /* the handler's note, for the same; or NULL */
	void (*size_changed)(void *argument);		  /* somebody else changed the storage's size; or NULL */
	/* The process is gone: the last call. failure: why, as far as it is known; code 0 after a drain that went well. */
	void (*ended)(void *argument, const struct lunkit_error *failure);
	void *argument;
};

/* Starts a worker. Strings of config are copied. */
int channel_new(const struct channel_config *config, struct channel **ret, struct lunkit_error *err);
/* ended() will not be called. A worker that still lives is killed; takes NULL. */
void channel_free(struct channel *channel);

/* Sends a START message. Without READY after seconds the worker is killed. */
void channel_start(struct channel *channel, const struct protocol_packet *start, unsigned seconds);
/*
 * A request; done() is called exactly once, never from inside: with the reply, or NULL when the worker ended or did not answer in time (err says which).
 */
void channel_call(struct channel *channel, struct protocol_packet *request, unsigned seconds,
		  void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument);
/*
 * A JOB, which takes as long as it takes: like channel_call(), with progress() called now and then before done(). Returns its id. The packet's descriptors
 * stay the caller's.
 */
uint32_t channel_job(struct channel *channel, struct protocol_packet *packet,
		     void (*progress)(void *argument, uint64_t done, uint64_t total),
		     void (*done)(void *argument, const struct protocol_result *reply, const struct lunkit_error *err), void *argument);
/* The job ends soon, if it still runs; or goes on at another rate (bytes a second, 0: no limit). */
void channel_job_cancel(struct channel *channel, uint32_t id);
void channel_job_rate(struct channel *channel, uint32_t id, uint64_t rate);
/* Answers a question; result 0 or -errno. */
void channel_answer(struct channel *channel, uint32_t id, int result, const void *bytes, size_t length);
/* Asks it to finish what it does and leave; after seconds it is killed. */
void channel_drain(struct channel *channel, unsigned seconds);
/* Kills it; ended() gives this as the reason. */
void channel_fail(struct channel *channel, const struct lunkit_error *err);

pid_t channel_pid(const struct channel *channel);
