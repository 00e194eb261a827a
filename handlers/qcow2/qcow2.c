/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* qcow2 as the core sees it: what the image can do, and where each operation is. */
#include "qcow2.h"

/* A list and what stands around it go out in one call, which takes 1024 entries. */
#define IOV_MAX_ENTRIES 900

void qcow2_limits(void *state, struct lunkit_limits *limits)
{
	const struct qcow2 *q = state;
	if (q->locked)
		return;
	limits->size = q->size;
	limits->block_size = q->block_size;
	limits->physical_block_size = MAX(q->block_size, 4096u);
	limits->request_alignment = q->geometry.offset_alignment;
	limits->memory_alignment = q->geometry.memory_alignment;
	limits->max_iov = IOV_MAX_ENTRIES;
	limits->optimal_transfer = q->cluster_size;
	limits->discard_granularity = q->cluster_size;
	limits->compress_unit = q->read_only || q->is_corrupt ? 0 : q->cluster_size;
	limits->flags = LUNKIT_CAN_EXTENTS;
	if (q->header.crypt_method) { /* whole sectors; QEMU does not compress in encrypted images either, and would not read it */
		limits->request_alignment = MAX(limits->request_alignment, 512u);
		limits->memory_alignment = MAX(limits->memory_alignment, 512u);
		limits->max_transfer = (uint64_t)1 << 20;
		limits->compress_unit = 0;
	}
	if (q->header.version >= 3 || !q->has_backing)
		limits->flags |= LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_DISCARD_ZEROES;
	if (!q->durable)
		limits->flags |= LUNKIT_NEEDS_FLUSH;
	else
		limits->flags |= LUNKIT_CAN_FUA;
	if (q->read_only || q->is_corrupt)
		limits->flags |= LUNKIT_READ_ONLY;
	if (q->geometry.rotational)
		limits->flags |= LUNKIT_ROTATIONAL;
}

static void qcow2_submit(void *state, struct lunkit_request *request)
{
	request_submit(state, request);
}

static const char *const children[] = { "raw", "qcow2", NULL };

static const struct lunkit_handler qcow2_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "qcow2",
	.description = "QEMU's image format: sparse, with backing files, snapshots and compression",
	.reference_help = "PATH",
	.options = qcow2_options,
	.request_size = sizeof(struct qcow2_request),
	.open = qcow2_open,
	.close = qcow2_close,
	.limits = qcow2_limits,
	.submit = qcow2_submit,
	.create = qcow2_create,
	.info = qcow2_info,
	.resize = qcow2_resize,
	.children = children,
	.check = qcow2_check,
	.busy = qcow2_busy,
	.snapshot_list = qcow2_snapshot_list,
	.snapshot = qcow2_snapshot,
	.flatten = qcow2_flatten,
	.key = qcow2_key,
};

LUNKIT_HANDLER(qcow2_handler)
