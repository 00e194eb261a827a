/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Starting workers. Any thread: between fork and exec only async-signal-safe calls are made. The worker's fixed descriptors: 0 /dev/null, 1 and 2 the
 * starter's standard error or a pipe to the starter, 3 the socket, 4 the fd that it keeps (worker_config.keep_fd), if any. Its environment is made anew, so that nothing that the
 * starter holds there (a token, a password) reaches a process that parses hostile images.
 */
#include "host/process.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"

static char default_program[PATH_MAX] = LUNKIT_LIBDIR "/lunkit-worker";
static char default_handlers[PATH_MAX] = LUNKIT_HANDLERDIR;

void worker_config_default(struct worker_config *ret)
{
	char folder[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
	if (length > 0) {
		folder[length] = '\0';
		char *program = NULL, *handlers = NULL;
		const char *parent = dirname(folder);
		if (asprintf(&program, "%s/lunkit-worker", parent) > 0 && asprintf(&handlers, "%s/../handlers", parent) > 0 &&
		    access(program, X_OK) == 0 && access(handlers, R_OK) == 0 && strlen(program) < sizeof(default_program) &&
		    strlen(handlers) < sizeof(default_handlers)) {
			strcpy(default_program, program);
			strcpy(default_handlers, handlers);
		}
		free(program);
		free(handlers);
	}
	*ret = (struct worker_config){ .program = default_program, .handlers = default_handlers, .keep_fd = -1 };
	if (getauxval(AT_SECURE))
		return;
	const char *program = getenv("LUNKIT_WORKER"), *handlers = getenv("LUNKIT_HANDLERS");
	if (program && program[0])
		ret->program = program;
	if (handlers && handlers[0])
		ret->handlers = handlers;
}

/* Variables that a worker may have: how to log, and what sanitizers and coverage of a test build read. */
static const char *const kept_variables[] = {
	"LUNKIT_LOG", "JOURNAL_STREAM", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "GCOV_PREFIX"
};

struct child_plan {
	char *const *argv;
	char *environment[ARRAY_SIZE(kept_variables) + 1];
	const char *program;
	int socket, keep_fd, report, log;
};

/* In the child. */
__attribute__((noreturn)) static void child_exec(const struct child_plan *plan)
{
	/* Move what is passed on out of the way of 0 … 5 first. */
	int socket = fcntl(plan->socket, F_DUPFD_CLOEXEC, 16);
	int keep = plan->keep_fd >= 0 ? fcntl(plan->keep_fd, F_DUPFD_CLOEXEC, 16) : -1;
	int report = fcntl(plan->report, F_DUPFD_CLOEXEC, 16);
	int log = fcntl(plan->log, F_DUPFD_CLOEXEC, 16);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (socket < 0 || report < 0 || log < 0 || (plan->keep_fd >= 0 && keep < 0) || null < 0)
		goto fail;
	if (dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 || dup2(socket, 3) < 0)
		goto fail;
	if (keep >= 0) {
		if (dup2(keep, 4) < 0)
			goto fail;
	} else {
		close(4);
	}
	if (dup3(report, 5, O_CLOEXEC) < 0)
		goto fail;
	report = 5;
	syscall(SYS_close_range, 6u, ~0u, 0u); /* also what somebody opened without close-on-exec */
	setsid();			       /* a terminal's Ctrl-C is for lunkitd, which drains its workers */

	struct sigaction standard = { .sa_handler = SIG_DFL };
	for (int number = 1; number < NSIG; number++)
		sigaction(number, &standard, NULL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(plan->program, plan->argv, plan->environment);
fail:;
	int code = errno;
	ssize_t ignored = write(report, &code, sizeof(code));
	(void)ignored;
	_exit(127);
}

int worker_spawn(const struct worker_config *config, struct worker_process *ret, struct lunkit_error *err)
{
	int sockets[2] = { -1, -1 }, report[2] = { -1, -1 }, log[2] = { -1, -1 }, code = 0;
	/* A worker that says more than is read must not wait for it: its end does not block either. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 || pipe2(report, O_CLOEXEC) < 0 ||
	    (config->relay_log && pipe2(log, O_CLOEXEC | O_NONBLOCK) < 0)) {
		code = errno;
		goto out;
	}
	char *argv[] = { (char *)"lunkit-worker", (char *)"--handlers", (char *)config->handlers, NULL };
	struct child_plan plan = { .argv = argv,
				   .program = config->program,
				   .socket = sockets[1],
				   .keep_fd = config->keep_fd,
				   .report = report[1],
				   .log = config->relay_log ? log[1] : STDERR_FILENO };
	char variables[ARRAY_SIZE(kept_variables)][256];
	for (size_t i = 0, used = 0; i < ARRAY_SIZE(kept_variables); i++) {
		const char *value = getenv(kept_variables[i]);
		if (!value && config->relay_log && strcmp(kept_variables[i], "JOURNAL_STREAM") == 0)
			value = "relay"; /* lines with their levels, as for the journal */
		if (!value ||
		    snprintf(variables[used], sizeof(variables[used]), "%s=%s", kept_variables[i], value) >= (int)sizeof(variables[used]))
			continue;
		plan.environment[used] = variables[used];
		used++;
	}

	pid_t pid = fork();
	if (pid == 0)
		child_exec(&plan);
	if (pid < 0) {
		code = errno;
		goto out;
	}
	close(report[1]);
	report[1] = -1;
	ssize_t length;
	do
		length = read(report[0], &code, sizeof(code));
	while (length < 0 && errno == EINTR);
	if (length != sizeof(code))
		code = 0; /* the pipe closed at exec */
	int pidfd = code ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (!code && pidfd < 0)
		code = errno;
	if (code) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		goto out;
	}
	*ret = (struct worker_process){ .pid = pid, .pidfd = pidfd, .socket = sockets[0], .log = log[0] };
	sockets[0] = log[0] = -1;
out:
	for (int i = 0; i < 2; i++) {
		if (sockets[i] >= 0)
			close(sockets[i]);
		if (report[i] >= 0)
			close(report[i]);
		if (log[i] >= 0)
			close(log[i]);
	}
	if (!code)
		return 0;
	lunkit_error_set(err, code, "cannot start a worker (%s): %s", config->program, strerror(code));
	if (code == ENOENT || code == EACCES)
		lunkit_error_hint(err, "install lunkit completely, or name the program in the environment's LUNKIT_WORKER");
	return -code;
}

void worker_release(struct worker_process *process)
{
	if (process->socket >= 0)
		close(process->socket);
	if (process->pidfd >= 0)
		close(process->pidfd);
	process->socket = process->pidfd = -1;
}

int worker_wait(struct worker_process *process, int timeout_ms, int *ret_status)
{
	struct pollfd ended = { .fd = process->pidfd, .events = POLLIN };
	int ready;
	do
		ready = poll(&ended, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	if (ready == 0) {
		log_warning("worker %d does not end by itself and is killed", (int)process->pid);
		kill(process->pid, SIGKILL);
	}
	int status;
	pid_t pid;
	do
		pid = waitpid(process->pid, &status, 0);
	while (pid < 0 && errno == EINTR);
	if (pid < 0)
		return -errno;
	*ret_status = status;
	return 0;
}

static bool is_answered_by_ready(uint32_t type)
{
	return type == PROTOCOL_START_LUN || type == PROTOCOL_START_IMAGE || type == PROTOCOL_CREATE;
}

int worker_call(struct worker_process *process, const struct opener_policy *policy, const struct protocol_packet *request,
		struct protocol_packet *reply, void (*progress)(void *argument, uint64_t done, uint64_t total), void *argument,
		struct lunkit_error *err)
{
	int r = protocol_send(process->socket, request);
	if (r < 0)
		return lunkit_error_set(err, r, "the worker process ended: %s", strerror(-r));
	for (;;) {
		r = protocol_receive(process->socket, reply);
		if (r < 0)
			return lunkit_error_set(err, r, "the worker process sent something that makes no sense: %s", strerror(-r));
		if (r == 0) {
			lunkit_error_set(err, EPIPE, "the worker process ended unexpectedly");
			return lunkit_error_hint(err, "its last words are on standard error; please report this with them");
		}
		switch ((enum protocol_type)reply->message.type) {
		case PROTOCOL_OPEN:
		case PROTOCOL_REMOVE:
			r = opener_answer(policy, process->socket, reply);
			if (r < 0)
				return lunkit_error_set(err, r, "the worker process ended: %s", strerror(-r));
			continue;
		case PROTOCOL_PROGRESS:
			if (progress)
				progress(argument, reply->message.progress.done, reply->message.progress.total);
			continue;
		case PROTOCOL_READY: /* the answer to a START only: to another request its bytes would be taken for a REPLY's */
			if (is_answered_by_ready(request->message.type))
				return 0;
			protocol_close_fds(reply);
			continue;
		case PROTOCOL_REPLY:
			if (reply->message.id != request->message.id)
				continue;
			break;
		case PROTOCOL_FAILED:
			if (reply->message.result.result >= 0)
				return lunkit_error_set(err, EPROTO, "the worker process failed and does not say why");
			break;
		case PROTOCOL_NOTICE:
		case PROTOCOL_MODES:
		case PROTOCOL_SIZE_CHANGED:
		case PROTOCOL_MEMO:
		case PROTOCOL_ASK:
		case PROTOCOL_START_LUN:
		case PROTOCOL_START_IMAGE:
		case PROTOCOL_CREATE:
		case PROTOCOL_DESCRIBE:
		case PROTOCOL_ANSWER:
		case PROTOCOL_ANSWER_QUERY:
		case PROTOCOL_RESIZE:
		case PROTOCOL_INFO:
		case PROTOCOL_STATUS:
		case PROTOCOL_CAPACITY:
		case PROTOCOL_DRAIN:
		case PROTOCOL_INSPECT:
		case PROTOCOL_JOB:
		case PROTOCOL_JOB_CANCEL:
		case PROTOCOL_JOB_RATE:
			protocol_close_fds(reply);
			continue;
		}
		int result = reply->message.result.result;
		if (result < 0 && err)
			*err = reply->message.result.error;
		return result < 0 ? result : 0;
	}
}
