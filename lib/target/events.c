/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The TCMU thread. Owner of the libtcmu context and of everything of libtcmu's; the main thread sees events only. Each callback runs inside
 * tcmulib_master_fd_ready() (or tcmulib_initialize()), one at a time:
 *
 *     kernel: enable, rmdir, dev_size …  ── netlink ──>  TCMU thread: callback ── event ──> queue ──> main thread
 *                     │                                       │ waits (bounded)                          │
 *                  waits without a limit  <── netlink ── result <───────────── target_event_answer() ────┘
 *
 * An event has two users, the waiting thread and the main thread; the last one frees it. libtcmu has no pointer to lunkit's context in a callback, so the one context
 * of the process is a static.
 */
#include "target/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "target/libtcmu.h"

#define HANDLERS_MAX 32
#define RETRY_SECONDS 60
#define NETLINK_BUFFER (4 * 1024 * 1024)
#define BUSY_SECONDS 10
#define NETLINK_OVERRUN 5 /* libnl's NLE_NOMEM, which ENOBUFS becomes */
#define RTSLIB_FOLDER "/etc/rtslib-fb-target"
#define PARAMETERS "module/target_core_user/parameters"

struct target_events {
	struct target_events_config config;
	struct tcmulib_handler handlers[HANDLERS_MAX];
	pthread_mutex_t lock; /* of the events' answers, and of busy */
	pthread_cond_t answered, busy_changed;
	bool busy;     /* the TCMU thread handles an event, and does not wait for the main thread */
	uint64_t turn; /* counts its changes */
	uint64_t last_device;
	bool starting;
};

static struct target_events *the_events;

/* How long the kernel may be kept waiting. The main thread's own limits are shorter, so that these end a wait only when something is badly wrong. */
static unsigned patience_seconds(enum target_event_type type)
{
	switch (type) {
	case TARGET_ADDED:
		return 90;
	case TARGET_REMOVED:
		return 30;
	case TARGET_SIZE:
	case TARGET_WRITE_CACHE:
	case TARGET_CFGSTRING:
		return 60;
	case TARGET_STARTED:
	case TARGET_FAILED:
		break;
	}
	return 10;
}

static void event_free(struct target_event *event)
{
	if (event->uio_fd >= 0)
		close(event->uio_fd);
	free(event->cfgstring);
	free(event);
}

static struct target_event *event_new(struct target_events *events, enum target_event_type type)
{
	struct target_event *event = calloc(1, sizeof(*event));
	if (!event)
		return NULL;
	event->events = events;
	event->type = type;
	event->uio_fd = -1;
	return event;
}

bool target_event_answer(struct target_event *event, int result)
{
	struct target_events *events = event->events;
	pthread_mutex_lock(&events->lock);
	bool waited_for = !event->abandoned;
	event->answered = true;
	event->result = result;
	pthread_cond_broadcast(&events->answered);
	pthread_mutex_unlock(&events->lock);
	if (!waited_for)
		event_free(event);
	return waited_for;
}

static void event_run(struct queue_item *item)
{
	struct target_event *event = (struct target_event *)((char *)item - offsetof(struct target_event, item));
	event->events->config.receive(event, event->events->config.argument);
}

static void set_parameter(const struct target_root *root, const char *name, const char *value)
{
	int r = file_write(value, "%s/" PARAMETERS "/%s", root->sys, name);
	if (r < 0)
		log_warning("cannot write %s of module target_core_user: %s", name, strerror(-r));
}

/* The kernel resets only what is blocked; what begins meanwhile fails at once. */
void target_events_release(void *argument)
{
	const struct target_root *root = argument;
	if (!file_exists("%s/" PARAMETERS "/reset_netlink", root->sys))
		return;
	set_parameter(root, "block_netlink", "1");
	set_parameter(root, "reset_netlink", "1");
	set_parameter(root, "block_netlink", "0");
}

/* Returns what it was. */
static bool set_busy(struct target_events *events, bool busy)
{
	pthread_mutex_lock(&events->lock);
	bool was_busy = events->busy;
	events->busy = busy;
	events->turn++;
	pthread_cond_signal(&events->busy_changed);
	pthread_mutex_unlock(&events->lock);
	return was_busy;
}

/*
 * Somebody removes a device while it is being enabled: the removal waits for the enabling, that waits for us, and configfs lets nobody open the device's files, as
 * libtcmu and we do, once a removal waits. The enabling has to fail then; so does whatever else waits for an answer at that moment.
 */
static void *guard_main(void *argument)
{
	struct target_events *events = argument;
	pthread_setname_np(pthread_self(), "guard");
	pthread_mutex_lock(&events->lock);
	for (;;) {
		while (!events->busy)
			pthread_cond_wait(&events->busy_changed, &events->lock);
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += BUSY_SECONDS;
		int code = 0;
		uint64_t turn = events->turn;
		while (events->turn == turn && code == 0)
			code = pthread_cond_timedwait(&events->busy_changed, &events->lock, &until);
		if (events->turn != turn)
			continue;
		pthread_mutex_unlock(&events->lock);
		log_warning("a device is removed while it is being enabled: what waits for the kernel target fails");
		target_events_release(&events->config.root);
		pthread_mutex_lock(&events->lock);
	}
	return NULL;
}

/* Hands the event over and waits for its answer. The event is gone afterwards. */
static int event_ask(struct target_event *event)
{
	struct target_events *events = event->events;
	struct timespec until;
	bool busy = set_busy(events, false);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += patience_seconds(event->type);
	event->item.run = event_run;
	queue_post(events->config.queue, &event->item);

	pthread_mutex_lock(&events->lock);
	int code = 0;
	while (!event->answered && code == 0)
		code = pthread_cond_timedwait(&events->answered, &events->lock, &until);
	bool answered = event->answered;
	int result = event->result;
	event->abandoned = !answered;
	pthread_mutex_unlock(&events->lock);
	set_busy(events, busy);
	if (answered) {
		event_free(event);
		return result;
	}
	log_error("an event of the kernel target was not answered in time");
	return -ETIMEDOUT;
}

static int fill_added(struct target_events *events, struct tcmu_device *dev, struct target_event *event)
{
	const struct target_root *root = &events->config.root;
	const char *uio = tcmu_dev_get_uio_name(dev);
	char name[1024], length[32];
	int r = file_read(name, sizeof(name), "%s/class/uio/%s/name", root->sys, uio);
	if (r < 0 || (r = backstore_parse_uio(name, &event->backstore)) < 0) {
		log_error("cannot tell whose device %s is: %s", uio, strerror(-r));
		return r;
	}
	r = file_read(length, sizeof(length), "%s/class/uio/%s/maps/map0/size", root->sys, uio);
	if (r < 0)
		return r;
	event->ring_length = strtoull(length, NULL, 0);
	r = backstore_read(root, &event->backstore, &event->info);
	if (r < 0)
		return r;
	event->cfgstring = strdup(tcmu_dev_get_cfgstring(dev));
	/* The same opening: a uio device of the target can be opened once only. */
	event->uio_fd = fcntl(tcmu_dev_get_fd(dev), F_DUPFD_CLOEXEC, 16);
	if (!event->cfgstring || event->uio_fd < 0)
		return event->cfgstring ? -errno : -ENOMEM;
	event->existing = events->starting;
	return 0;
}

static int on_added(struct tcmu_device *dev)
{
	struct target_events *events = the_events;
	struct target_event *event = event_new(events, TARGET_ADDED);
	if (!event)
		return -ENOMEM;
	int r = fill_added(events, dev, event);
	if (r < 0) {
		event_free(event);
		return r;
	}
	uint64_t device = event->device = ++events->last_device;
	tcmu_dev_set_private(dev, (void *)(uintptr_t)device);
	return event_ask(event);
}

static void on_removed(struct tcmu_device *dev)
{
	struct target_event *event = event_new(the_events, TARGET_REMOVED);
	if (!event)
		return;
	event->device = (uint64_t)(uintptr_t)tcmu_dev_get_private(dev);
	event_ask(event);
}

static int on_reconfig(struct tcmu_device *dev, struct tcmulib_cfg_info *cfg)
{
	struct target_event *event = event_new(the_events, TARGET_SIZE);
	if (!event)
		return -ENOMEM;
	event->device = (uint64_t)(uintptr_t)tcmu_dev_get_private(dev);
	switch (cfg->type) {
	case TCMULIB_CFG_DEV_SIZE:
		event->size = cfg->data.dev_size;
		return event_ask(event);
	case TCMULIB_CFG_WRITE_CACHE:
		event->type = TARGET_WRITE_CACHE;
		event->write_cache = cfg->data.write_cache;
		return event_ask(event);
	case TCMULIB_CFG_DEV_CFGSTR:
		event->type = TARGET_CFGSTRING;
		event->cfgstring = strdup(cfg->data.dev_cfgstring);
		if (!event->cfgstring)
			break;
		return event_ask(event);
	}
	event_free(event);
	return -EOPNOTSUPP;
}

/* Where the kernel keeps persistent reservations: Debian's rtslib wants this folder, and it can only be named before the first fabric module is loaded. */
static void set_database_folder(const struct target_root *root)
{
	char current[256];
	if (file_exists(RTSLIB_FOLDER) && file_read(current, sizeof(current), "%s/dbroot", root->configfs) >= 0 &&
	    strcmp(current, RTSLIB_FOLDER) != 0)
		file_write(RTSLIB_FOLDER, "%s/dbroot", root->configfs); /* refused when a fabric is there: rtslib lives with that as well */
}

static struct tcmulib_context *start_libtcmu(struct target_events *events, struct lunkit_error *err)
{
	const struct target_root *root = &events->config.root;
	if (module_load(root, "target_core_user", err) < 0)
		return NULL;
	set_database_folder(root);
	tcmu_set_log_level(log_get_level() >= LOG_LEVEL_DEBUG ? 4 : 2);
	/* What a former daemon left unanswered fails now, and nothing new comes until all devices are known: without this, libtcmu and configfs race. */
	set_parameter(root, "block_netlink", "1");
	set_parameter(root, "reset_netlink", "1");
	events->starting = true;
	struct tcmulib_context *context = tcmulib_initialize(events->handlers, events->config.handler_count);
	events->starting = false;
	if (context) {
		/* 32 KiB lose events when many devices are made at once, and a lost event hangs its maker for ever. */
		int size = NETLINK_BUFFER, fd = tcmulib_get_master_fd(context);
		if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
			log_warning("cannot enlarge the netlink buffer: %s", strerror(errno));
	} else {
		lunkit_error_set(err, ENODEV, "cannot reach the kernel's TCM-User interface");
		lunkit_error_hint(err, "lunkitd has to run as root, in the host's network namespace, on a kernel with target_core_user");
	}
	set_parameter(root, "block_netlink", "0");
	return context;
}

static void *events_main(void *argument)
{
	struct target_events *events = argument;
	pthread_setname_np(pthread_self(), "tcmu");
	struct tcmulib_context *context = NULL;
	/* Without the kernel's side lunkitd lives on, says so, and looks again now and then: a module may be installed later. */
	for (bool told = false; !context;) {
		struct lunkit_error err = LUNKIT_ERROR_INIT;
		context = start_libtcmu(events, &err);
		struct target_event *event = NULL;
		if ((context || !told) && (event = event_new(events, context ? TARGET_STARTED : TARGET_FAILED))) {
			event->err = err;
			event_ask(event);
			told = true;
		}
		if (!context)
			sleep(RETRY_SECONDS);
	}

	struct pollfd master = { .fd = tcmulib_get_master_fd(context), .events = POLLIN };
	for (;;) {
		if (poll(&master, 1, -1) < 0 && errno != EINTR)
			log_error("cannot wait for the kernel target's events: %s", strerror(errno));
		set_busy(events, true);
		int r = master.revents ? tcmulib_master_fd_ready(context) : 0;
		set_busy(events, false);
		if (r < 0) {
			log_warning("an event of the kernel target could not be read (netlink error %d)", -r);
			/* Events were lost, and whoever waits for their answers would wait for ever: let them fail. */
			if (r == -NETLINK_OVERRUN)
				target_events_release(&events->config.root);
			usleep(100000); /* never spin on an error that stays */
		}
	}
	return NULL;
}

int target_events_start(const struct target_events_config *config, struct target_events **ret, struct lunkit_error *err)
{
	if (config->handler_count == 0 || config->handler_count > HANDLERS_MAX)
		return lunkit_error_set(err, EINVAL, "there are %zu handlers; 1 to %d are possible", config->handler_count, HANDLERS_MAX);
	struct target_events *events = calloc(1, sizeof(*events));
	if (!events)
		return lunkit_error_set(err, ENOMEM, "out of memory");
	events->config = *config;
	for (size_t i = 0; i < config->handler_count; i++)
		events->handlers[i] = (struct tcmulib_handler){
			.name = config->handlers[i].kind,
			.subtype = config->handlers[i].kind,
			.cfg_desc = config->handlers[i].description,
			.reconfig = on_reconfig,
			.added = on_added,
			.removed = on_removed,
		};
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&events->answered, &attributes);
	pthread_cond_init(&events->busy_changed, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&events->lock, NULL);
	the_events = events;

	pthread_t guard, thread;
	int code = pthread_create(&guard, NULL, guard_main, events);
	if (code == 0)
		pthread_detach(guard);
	if (code == 0)
		code = pthread_create(&thread, NULL, events_main, events);
	if (code) /* lunkitd ends, and the guard with it */
		return lunkit_error_set(err, code, "cannot start a thread: %s", strerror(code));
	pthread_detach(thread);
	*ret = events;
	return 0;
}
