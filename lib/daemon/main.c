/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lunkitd: the control process. The start, in this order: one lunkitd only (lock), workers of a killed predecessor are gone, handlers are described, the bus names are ours
 * (so tcmu-runner does not run), libtcmu finds the devices and their workers start, READY. The end: workers finish and leave, devices stay in the kernel for the next
 * lunkitd.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/log.h"
#include "base/stdio.h"
#include "control/lease.h"
#include "daemon/service.h"
#include "pool/bus.h"
#include "target/events.h"

#define AWAIT_WORKERS_MS 45000

static int usage(FILE *stream, int status)
{
	fprintf(stream, "usage: lunkitd [--config FILE]\n"
			"Serves disk images to the kernel's SCSI target. Runs in the foreground; systemd starts it.\n\n"
			"  --config FILE   instead of " LUNKIT_SYSCONFDIR "/lunkit/lunkit.conf\n"
			"  --version\n"
			"  --help\n");
	return status;
}

static int fail(const struct lunkit_error *err)
{
	log_error("%s", err->message);
	if (err->hint[0])
		log_error("hint: %s", err->hint);
	sd_notifyf(0, "STATUS=%s\nERRNO=%d", err->message, err->code);
	return EXIT_FAILURE;
}

/* lunkit-configfs lies beside lunkitd in a build, and where lunkit's own programs are when it is installed. */
static int find_caller(const char **ret, struct lunkit_error *err)
{
	static char beside[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", beside, sizeof(beside) - sizeof("lunkit-configfs"));
	char *slash = NULL;
	if (length > 0) {
		beside[length] = '\0';
		slash = strrchr(beside, '/');
	}
	if (slash) {
		strcpy(slash + 1, "lunkit-configfs");
		if (access(beside, X_OK) == 0) {
			*ret = beside;
			return 0;
		}
	}
	if (access(LUNKIT_LIBDIR "/lunkit-configfs", X_OK) < 0) {
		lunkit_error_set(err, errno, "cannot run " LUNKIT_LIBDIR "/lunkit-configfs: %s", strerror(errno));
		return lunkit_error_hint(err, "lunkit is not installed completely: install it again");
	}
	*ret = LUNKIT_LIBDIR "/lunkit-configfs";
	return 0;
}

/* Stops the event loop because of err. */
static void give_up(struct service *service, const struct lunkit_error *err)
{
	service->exit_status = fail(err);
	sd_event_exit(service->event, service->exit_status);
}

/* ---- bus */

static int request_name(struct service *service, const char *name, struct lunkit_error *err)
{
	int r = sd_bus_request_name(service->bus, name, 0);
	if (r >= 0)
		return 0;
	if (r != -EEXIST) {
		lunkit_error_set(err, r, "cannot own the bus name %s: %s", name, strerror(-r));
		return lunkit_error_hint(err, "is the policy file org.lunkit1.conf in /usr/share/dbus-1/system.d?");
	}
	sd_bus_creds *creds = NULL;
	const char *comm = NULL;
	pid_t pid = 0;
	if (sd_bus_get_name_creds(service->bus, name, SD_BUS_CREDS_PID | SD_BUS_CREDS_COMM | SD_BUS_CREDS_AUGMENT, &creds) >= 0) {
		sd_bus_creds_get_pid(creds, &pid);
		sd_bus_creds_get_comm(creds, &comm);
	}
	bool runner = comm && strncmp(comm, "tcmu-runner", 11) == 0;
	lunkit_error_set(err, EBUSY, "%s (process %d) has the bus name %s already", comm ? comm : "another program", (int)pid, name);
	if (runner)
		lunkit_error_hint(err, "only one of lunkitd and tcmu-runner can serve TCM-User: systemctl disable --now tcmu-runner");
	sd_bus_creds_unref(creds);
	return -EBUSY;
}

static void handlers_known(void *argument)
{
	struct service *service = argument;
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	int r;
	if ((r = access_add(service)) < 0 || (r = manager_add(service)) < 0 || (r = lun_object_add(service)) < 0 ||
	    (r = job_object_add(service)) < 0 || (r = tcmu_service_add(service)) < 0) {
		lunkit_error_set(&err, r, "cannot put objects on the bus: %s", strerror(-r));
		give_up(service, &err);
		return;
	}
	/* The objects are there before the names: who sees the name finds everything. */
	if (request_name(service, BUS_TCMU_NAME, &err) < 0 || control_start(service->control, &err) < 0 ||
	    request_name(service, BUS_NAME, &err) < 0)
		give_up(service, &err);
}

static void tell_ready(struct service *service, const char *status)
{
	sd_notifyf(0, "%sSTATUS=%s", service->started ? "" : "READY=1\n", status);
	service->started = true;
}

static void target_ready(void *argument)
{
	log_info("lunkitd %s serves the kernel target", LUNKIT_VERSION);
	tell_ready(argument, "serving");
}

static void target_failed(void *argument, const struct lunkit_error *err)
{
	log_error("%s", err->message);
	if (err->hint[0])
		log_error("hint: %s", err->hint);
	tell_ready(argument, err->message);
}

static void lun_added(void *argument, struct lun *lun)
{
	lun_object_added(argument, lun);
}

static void lun_removed(void *argument, struct lun *lun)
{
	lun_object_removed(argument, lun);
}

static void job_ended(void *argument, struct job *job)
{
	job_object_ended(argument, job);
}

static void job_removed(void *argument, struct job *job)
{
	(void)argument;
	job_object_removed(job);
}

/* ---- end */

static void stopped(void *argument)
{
	struct service *service = argument;
	log_info("stopped; devices wait in the kernel for the next lunkitd");
	sd_event_exit(service->event, service->exit_status);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
	struct service *service = userdata;
	(void)source;
	log_info("signal %u: stopping", info->ssi_signo);
	sd_notify(0, "STOPPING=1\nSTATUS=workers finish what they have");
	if (service->control)
		control_stop(service->control, stopped, service);
	else
		sd_event_exit(service->event, 0);
	return 0;
}

/* ---- start */

static int make_runtime_directory(const char *path, struct lunkit_error *err)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return lunkit_error_set(err, errno, "cannot make %s: %s", path, strerror(errno));
	return 0;
}

/* Three descriptors or so a LUN, and the default of 1024 is soon reached with many. */
static void raise_limits(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max < 65536 ? limit.rlim_max : 65536;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int start(struct service *service, struct lunkit_error *err)
{
	int r = sd_event_default(&service->event);
	if (r >= 0)
		r = sd_event_add_signal(service->event, NULL, SIGTERM, on_signal, service);
	if (r >= 0)
		r = sd_event_add_signal(service->event, NULL, SIGINT, on_signal, service);
	if (r >= 0)
		r = sd_event_set_watchdog(service->event, true);
	if (r < 0)
		return lunkit_error_set(err, r, "cannot make the event loop: %s", strerror(-r));
	r = sd_bus_open_system(&service->bus);
	if (r >= 0)
		r = sd_bus_attach_event(service->bus, service->event, SD_EVENT_PRIORITY_NORMAL);
	/* systemd starts lunkitd again then, and with the same workers' care as after a crash */
	if (r >= 0)
		r = sd_bus_set_exit_on_disconnect(service->bus, true);
	if (r < 0) {
		lunkit_error_set(err, r, "cannot connect to the system bus: %s", strerror(-r));
		return lunkit_error_hint(err, "is dbus running? systemctl start dbus");
	}
	struct control_config config = {
		.event = service->event,
		.settings = &service->settings,
		.root = service->root,
		.handlers_known = handlers_known,
		.target_ready = target_ready,
		.target_failed = target_failed,
		.lun_added = lun_added,
		.lun_removed = lun_removed,
		.job_ended = job_ended,
		.job_removed = job_removed,
		.argument = service,
	};
	return control_new(&config, &service->control, err);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	static struct service service; /* tasks may still run while main() returns */
	struct lunkit_error err = LUNKIT_ERROR_INIT;
	const char *config = NULL;
	stdio_fill();
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (option) {
		case 'c':
			config = optarg;
			break;
		case 'h':
			return usage(stdout, 0);
		case 'v':
			printf("lunkitd %s\n", LUNKIT_VERSION);
			return 0;
		default:
			return usage(stderr, 2);
		}
	}
	if (optind != argc)
		return usage(stderr, 2);
	log_set_name("lunkitd");
	if (settings_load(&service.settings, config, &err) < 0)
		return fail(&err);
	if (service.settings.log_level && !getenv("LUNKIT_LOG")) {
		static const char *const names[] = {
			[LOG_LEVEL_ERROR] = "error", [LOG_LEVEL_WARNING] = "warning", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_DEBUG] = "debug"
		};
		log_set_level((enum log_level)service.settings.log_level);
		setenv("LUNKIT_LOG", names[service.settings.log_level], 1); /* workers take it from there */
	}

	/* Signals are for the event loop, in every thread. */
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	umask(022);
	raise_limits();

	int lock;
	service.root = target_root_system;
	if (find_caller(&service.root.caller, &err) < 0)
		return fail(&err);
	if (make_runtime_directory(service.settings.runtime_directory, &err) < 0 ||
	    lease_take(service.settings.runtime_directory, target_events_release, &service.root, &lock, &err) < 0 ||
	    lease_await_workers(service.settings.runtime_directory, AWAIT_WORKERS_MS, &err) < 0)
		return fail(&err);
	/* What the kernel still waits for is an answer of the lunkitd before this one. */
	target_events_release(&service.root);
	if (start(&service, &err) < 0)
		return fail(&err);
	int r = sd_event_loop(service.event);
	sd_bus_flush(service.bus);
	return r < 0 ? EXIT_FAILURE : service.exit_status ? service.exit_status : r;
}
