/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * null: a disk without storage, to measure everything else by. Writes are dropped and every request completes at once.
 *
 * Reads leave the buffer as it is, since filling it would be most of the work: an initiator sees zeros or old data of this same disk, never
 * another's (its command buffers belong to one LUN, and the kernel clears their pages when it allocates them). zero=yes fills them with zeros.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "image/handler.h"

#define DEFAULT_SIZE (UINT64_C(1) << 30)

struct null {
	uint64_t size;
	bool zero;
};

static const struct lunkit_option null_options[] = {
	{ "size", LUNKIT_OPTION_SIZE, LUNKIT_OPTION_OPEN, "size of the disk (1G)", NULL },
	{ "zero", LUNKIT_OPTION_BOOL, LUNKIT_OPTION_OPEN, "fill what is read with zeros, instead of leaving it as it is (no)", NULL },
	{ 0 },
};

static int null_open(const struct lunkit_params *params, void **ret_state, struct lunkit_error *err)
{
	const struct lunkit_option_value *size = lunkit_params_option(params, "size");
	const struct lunkit_option_value *zero = lunkit_params_option(params, "zero");
	uint64_t bytes = size ? size->number : DEFAULT_SIZE;
	if (bytes == 0 || bytes % 512 || bytes > INT64_MAX) {
		lunkit_error_set(err, EINVAL, "%s: %s bytes is not the size of a disk", params->name, size->value);
		return lunkit_error_hint(err, "Give a multiple of 512, like size=1G.");
	}
	struct null *null = malloc(sizeof(*null));
	if (!null)
		return lunkit_error_set(err, ENOMEM, "%s: not enough memory", params->name);
	*null = (struct null){ .size = bytes, .zero = zero && zero->number };
	*ret_state = null;
	return 0;
}

static void null_close(void *state)
{
	free(state);
}

static void null_limits(void *state, struct lunkit_limits *limits)
{
	const struct null *null = state;
	limits->size = null->size;
	limits->flags = LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_CAN_FUA;
}

static void null_submit(void *state, struct lunkit_request *request)
{
	const struct null *null = state;
	if (null->zero && request->op == LUNKIT_READ)
		for (unsigned i = 0; i < request->iov_count; i++)
			memset(request->iov[i].iov_base, 0, request->iov[i].iov_len);
	lunkit_request_done(request, 0);
}

/* There is no storage whose size could be taken: 0 keeps what is. */
static void null_resize(void *state, struct lunkit_job *job, uint64_t size, unsigned flags)
{
	struct null *null = state;
	(void)flags;
	if (size)
		null->size = size;
	lunkit_job_done(job, 0);
}

static const struct lunkit_handler null_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "null",
	.description = "accepts and drops everything: the ceiling for benchmarks",
	.reference_help = "NAME",
	.options = null_options,
	.open = null_open,
	.close = null_close,
	.limits = null_limits,
	.submit = null_submit,
	.resize = null_resize,
};

LUNKIT_HANDLER(null_handler)
