/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* lunkit-worker: serves one LUN, or works on one image, for the process that started it over the socket at descriptor 3. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/stdio.h"
#include "worker/session.h"

#define SOCKET_FD 3

static int usage(FILE *stream, int status)
{
	fprintf(stream, "usage: lunkit-worker --handlers DIRECTORY\n"
			"Started by lunkitd and lunkit with a socket at descriptor 3; not for use by hand.\n");
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "handlers", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	const char *handlers = NULL;
	stdio_fill();
	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (option) {
		case 'd':
			handlers = optarg;
			break;
		case 'h':
			return usage(stdout, 0);
		case 'v':
			printf("lunkit-worker %s\n", LUNKIT_VERSION);
			return 0;
		default:
			return usage(stderr, 2);
		}
	}
	int type;
	socklen_t size = sizeof(type);
	if (!handlers || optind != argc || getsockopt(SOCKET_FD, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_SEQPACKET)
		return usage(stderr, 2);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file that grows beyond the limit is an error of that request */
	return session_run(SOCKET_FD, handlers);
}
