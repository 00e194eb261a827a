/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "worker/reopen.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>

#define FOLDER "/proc/self/fd/"
#define FD_MAX 1000000

#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1 /* si_code of a filter's trap: include/uapi/asm-generic/siginfo.h */
#endif

#if defined(__x86_64__)
#define ARGUMENT_PATH(context) ((const char *)(context)->uc_mcontext.gregs[REG_RSI])
#define RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARGUMENT_PATH(context) ((const char *)(context)->uc_mcontext.regs[1])
#define RESULT(context) ((context)->uc_mcontext.regs[0])
#else
#error "say here where this processor has a system call's arguments and its result"
#endif

int reopen_path(const char *path)
{
	int fd = 0;
	size_t length = strlen(FOLDER);
	if (!path)
		return -EFAULT;
	if (strncmp(path, FOLDER, length) != 0 || !path[length])
		return -EPERM;
	for (const char *digit = path + length; *digit; digit++) {
		if (*digit < '0' || *digit > '9' || fd > FD_MAX)
			return -EPERM;
		fd = fd * 10 + (*digit - '0');
	}
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return copy < 0 ? -errno : copy;
}

/* On the thread that called; its system call returns what is stored in the context. */
static void trapped(int number, siginfo_t *info, void *opaque)
{
	ucontext_t *context = opaque;
	int before = errno;
	(void)number;
	if (info->si_code == SYS_SECCOMP && info->si_syscall == SYS_openat)
		RESULT(context) = reopen_path(ARGUMENT_PATH(context));
	errno = before;
}

int reopen_init(struct lunkit_error *err)
{
	struct sigaction action = { .sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER };
	if (sigaction(SIGSYS, &action, NULL) < 0)
		return lunkit_error_set(err, errno, "cannot set up the handler of trapped system calls: %s", strerror(errno));
	return 0;
}
