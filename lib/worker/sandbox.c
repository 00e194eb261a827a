/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The order matters: what needs rights first (memory reclaim, limits, the user), then the loss of rights, the system call filter last.
 *
 * The filter is a list of what is allowed; anything else fails with EPERM rather than killing the worker: for containment the two are the same, and a C library that
 * probes for something new must not cost a tenant its disk. Left out on purpose: everything that makes a descriptor from a path or an address (open, socket,
 * connect, bind; the network profile has the first two), execve, ptrace, kill, mount, io_uring_setup, executable mappings. Files come from the starter over the socket.
 *
 * A sanitizer build has no filter: the sanitizers' own end-of-process work (threads that trace, files of /proc) needs what a worker must not have. The tests of the
 * sandbox run on the build without them.
 */
#include "worker/sandbox.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/log.h"
#include "worker/reopen.h"

/* Descriptors: a connection for each server of a cluster is one. */
#define FILES 512
#define FILES_NETWORK 16384

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef BLKGETDISKSEQ
#define BLKGETDISKSEQ _IOR(0x12, 128, uint64_t)
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_FILTER 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_FILTER 0
#endif
#endif
#ifndef SANDBOX_FILTER
#define SANDBOX_FILTER 1
#endif

static const int allowed_calls[] = {
	/* I/O on descriptors that we have */
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(readv),
	SCMP_SYS(writev),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(preadv),
	SCMP_SYS(pwritev),
	SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(fallocate),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fsync),
	SCMP_SYS(fdatasync),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fstatfs),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendto),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(eventfd2),
	SCMP_SYS(io_uring_enter),
	SCMP_SYS(io_uring_register),
	/* memory and threads */
	SCMP_SYS(memfd_create), /* nothing in it can be mapped for execution */
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(mlock),
	SCMP_SYS(munlock),
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(membarrier),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* time and chance */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(getrusage),
	SCMP_SYS(sysinfo),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(uname),
};

/* ioctl requests on block devices. Anything else, terminals included, is EPERM. */
static const unsigned long allowed_ioctls[] = { BLKGETSIZE64,  BLKSSZGET,  BLKPBSZGET, BLKIOMIN, BLKIOOPT,     BLKALIGNOFF,
						BLKROTATIONAL, BLKDISCARD, BLKZEROOUT, BLKROGET, BLKGETDISKSEQ };

/*
 * Locks, and what C libraries use. Not F_SETOWN and F_SETSIG, which make the kernel send any signal to a process of the same user, as every other worker is,
 * and not F_SETFL: some descriptors' flags are shared with the starter.
 */
static const unsigned allowed_fcntls[] = { F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC, F_OFD_GETLK, F_OFD_SETLK };

/*
 * What a library that talks TCP needs besides (librados was watched): its sockets, epoll and pipes for its threads, names for these. Not bind, listen and accept, nor sockets of any
 * other family: the system bus and other daemons here stay out of reach, and datagrams too, so that names of hosts can't be looked up.
 */
static const int network_calls[] = {
	SCMP_SYS(connect),	  SCMP_SYS(shutdown),	     SCMP_SYS(setsockopt),
	SCMP_SYS(getsockopt),	  SCMP_SYS(getsockname),     SCMP_SYS(getpeername),
	SCMP_SYS(epoll_create),	  SCMP_SYS(epoll_create1),   SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),	  SCMP_SYS(epoll_pwait),     SCMP_SYS(pipe2),
	SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(sched_get_priority_max),
};

static int add_network_rules(scmp_filter_ctx filter)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int r = 0;
	for (size_t i = 0; i < ARRAY_SIZE(network_calls) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, network_calls[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(families) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, SCMP_A0(SCMP_CMP_EQ, (unsigned)families[i]),
				     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, SOCK_STREAM));
	/* Sockets and pipes have to be made non-blocking; nothing else may be changed about a descriptor. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 2, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, F_SETFL),
				     SCMP_A2(SCMP_CMP_MASKED_EQ, ~(uint64_t)(O_ACCMODE | O_NONBLOCK), 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffff, PR_SET_NAME));
	return r;
}

static int add_filter_rules(scmp_filter_ctx filter)
{
	int r = 0;
	for (size_t i = 0; i < ARRAY_SIZE(allowed_calls) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed_calls[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(allowed_ioctls) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
				     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, allowed_ioctls[i]));
	for (size_t i = 0; i < ARRAY_SIZE(allowed_fcntls) && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
				     SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, allowed_fcntls[i]));
	/* abort() needs it. To this process only: all workers are one user, and could end or stop each other. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffff, (unsigned)getpid()));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* Threads, not processes. clone3 hides its flags in memory: the C library falls back to clone when it does not exist. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return r;
}

static int enter_filter(bool network, struct lunkit_error *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return lunkit_error_set(err, ENOMEM, "no memory for the system call filter");
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE,
				 2); /* a binary tree: the filter is on every system call of the data path */
	r = add_filter_rules(filter);
	if (r == 0 && network)
		r = add_network_rules(filter);
	/*
	 * Not allowed either, but answered for what is open already: reopen.h. Not where a library has threads of its own, which block signals: the trap would end the worker.
	 */
	if (r == 0 && !network)
		r = seccomp_rule_add(filter, SCMP_ACT_TRAP, SCMP_SYS(openat), 0);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	if (r < 0) {
		lunkit_error_set(err, r, "cannot load the system call filter: %s", strerror(-r));
		return lunkit_error_hint(err, "the kernel needs CONFIG_SECCOMP_FILTER; lunkit never serves an image without it");
	}
	return 0;
}

static int set_limits(bool network, struct lunkit_error *err)
{
	const struct {
		int resource;
		rlim_t limit;
		const char *name;
	} limits[] = { { RLIMIT_CORE, 0, "core" }, { RLIMIT_NOFILE, network ? FILES_NETWORK : FILES, "nofile" } };
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit limit;
		getrlimit((__rlimit_resource_t)limits[i].resource, &limit);
		limit.rlim_max = MIN(limit.rlim_max, limits[i].limit);
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit((__rlimit_resource_t)limits[i].resource, &limit) < 0)
			return lunkit_error_set(err, errno, "cannot limit %s: %s", limits[i].name, strerror(errno));
	}
	return 0;
}

static int become_user(uint32_t uid, uint32_t gid, struct lunkit_error *err)
{
	if (uid == (uint32_t)-1)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return lunkit_error_set(err, errno, "cannot become user %u: %s", uid, strerror(errno));
	if (uid != 0 && setuid(0) == 0)
		return lunkit_error_set(err, EPERM, "cannot give up the rights of root for good");
	return 0;
}

int sandbox_enter(uint32_t uid, uint32_t gid, bool network, struct lunkit_error *err)
{
	/* The kernel may need this very disk to write dirty pages when our next allocation runs short of memory. Only root may say so. */
	if (geteuid() == 0 && prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_debug("cannot mark this worker as part of the I/O path: %s", strerror(errno));
	umask(077);
	int r = set_limits(network, err);
	if (r == 0)
		r = reopen_init(err);
	if (r == 0)
		r = become_user(uid, gid, err);
	if (r < 0)
		return r;
	capng_clear(CAPNG_SELECT_ALL);
	if (capng_apply(CAPNG_SELECT_CAPS) < 0)
		return lunkit_error_set(err, EPERM, "cannot give up capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || (SANDBOX_FILTER && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0))
		return lunkit_error_set(err, errno, "cannot give up new privileges: %s", strerror(errno));
	return SANDBOX_FILTER ? enter_filter(network, err) : 0;
}
