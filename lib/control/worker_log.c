/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/worker_log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "host/relay.h"

struct worker_log {
	struct relay *relay;
	sd_event_source *input, *pause;
};

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct worker_log *log = userdata;
	uint64_t now, pause_ns = 0;
	(void)fd;
	(void)events;
	sd_event_now(sd_event_source_get_event(source), CLOCK_MONOTONIC, &now);
	if (relay_read(log->relay, now * 1000, &pause_ns) <= 0) {
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
	} else if (pause_ns) {
		sd_event_source_set_enabled(source, SD_EVENT_OFF);
		sd_event_source_set_time_relative(log->pause, pause_ns / 1000 + 1);
		sd_event_source_set_enabled(log->pause, SD_EVENT_ONESHOT);
	}
	return 0;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct worker_log *log = userdata;
	(void)source;
	(void)usec;
	sd_event_source_set_enabled(log->input, SD_EVENT_ON);
	return 0;
}

int worker_log_new(sd_event *event, int fd, const char *label, struct worker_log **ret)
{
	struct worker_log *log = calloc(1, sizeof(*log));
	if (!log) {
		close(fd);
		return -ENOMEM;
	}
	int r = relay_new(fd, label, NULL, NULL, &log->relay);
	if (r < 0) {
		free(log);
		return r;
	}
	if ((r = sd_event_add_io(event, &log->input, fd, EPOLLIN, on_input, log)) < 0 ||
	    (r = sd_event_add_time_relative(event, &log->pause, CLOCK_MONOTONIC, 0, 0, on_pause_over, log)) < 0) {
		worker_log_free(log);
		return r;
	}
	sd_event_source_set_enabled(log->pause, SD_EVENT_OFF);
	/* Words come after everything that lunkitd has to do. */
	sd_event_source_set_priority(log->input, SD_EVENT_PRIORITY_IDLE);
	*ret = log;
	return 0;
}

void worker_log_free(struct worker_log *log)
{
	if (!log)
		return;
	sd_event_source_disable_unref(log->input);
	sd_event_source_disable_unref(log->pause);
	relay_free(log->relay);
	free(log);
}
