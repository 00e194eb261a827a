/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Jobs on attached images: each is done by the LUN's worker, and lunkitd keeps what is known of it, for KEEP_SECONDS after its end. Main thread. A worker that
 * dies ends its jobs with an error, while its LUN recovers as ever.
 */

#include <systemd/sd-event.h>

#include "base/list.h"
#include "control/lun.h"

enum job_state { JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_CANCELLED };
const char *job_state_name(enum job_state state);

struct job {
	struct list node;
	struct control *control;
	uint64_t id;
	const char *kind; /* its word, for people and on the bus */
	char lun_name[64];
	uint64_t lun, generation; /* whose worker does it */
	uint32_t call;
	enum protocol_job_kind work;
	bool exclusive, cancelled;
	enum job_state state;
	uint64_t done, total;
	struct lunkit_error err;
	char *result; /* JSON, or NULL */
	sd_event_source *timer;
	void *watch; /* the daemon's */
};

/*
 * Starts it: packet is a whole JOB message, whose descriptors stay the caller's. -EBUSY: another one works on the image, or it is resized; -ENOTCONN: there is no worker now.
 * The config's job_ended() is called at its end, never from inside.
 */
int job_start(struct lun *lun, const char *kind, struct protocol_packet *packet, struct job **ret, struct lunkit_error *err);
/* Of one that has ended: nothing. */
void job_cancel(struct job *job);
void job_set_rate(struct job *job, uint64_t rate);
struct job *job_by_id(struct control *control, uint64_t id);
/* In the order of their start; the first after NULL; NULL at the end. */
const struct job *job_next(const struct control *control, const struct job *job);
