/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* RBD images as the core sees them: what they can do, and where each operation is. */
#include "rbd.h"

#include "base/checked.h"

/* An initiator waits 30 s for a command, however much of the image it names; a multiple of every object size. */
#define DISCARD_MAX ((uint64_t)1 << 30)
/* What is to stay allocated is written. */
#define ZEROES_MAX ((uint64_t)64 << 20)
#define TRANSFER_MAX ((uint64_t)64 << 20)

static void rbd_limits(void *state, struct lunkit_limits *limits)
{
	const struct rbd *rbd = state;
	const struct rbd_facts *facts = &rbd->facts;
	limits->size = rbd->size;
	limits->physical_block_size = 4096; /* what BlueStore writes whole */
	limits->max_transfer = TRANSFER_MAX;
	limits->max_discard = DISCARD_MAX;
	limits->max_write_zeroes = ZEROES_MAX;
	limits->optimal_transfer = MIN(facts->stripe_unit * facts->stripe_count, TRANSFER_MAX);
	/* Parts of an object are freed as well where the store can, but only a whole one is certain to go. */
	limits->discard_granularity = facts->stripe_count > 1 ? facts->stripe_unit : facts->object_size;
	limits->flags = LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_CAN_EXTENTS | LUNKIT_DISCARD_ZEROES;
	if (rbd->write_back)
		limits->flags |= LUNKIT_NEEDS_FLUSH;
	else
		limits->flags |= LUNKIT_CAN_FUA; /* the cluster has it on its disks before it answers */
	if (rbd->read_only)
		limits->flags |= LUNKIT_READ_ONLY;
}

static const struct lunkit_handler rbd_handler = {
	.struct_size = sizeof(struct lunkit_handler),
	.interface_version = LUNKIT_HANDLER_INTERFACE,
	.name = "rbd",
	.description = "an image in a Ceph cluster",
	.reference_help = "POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]",
	.options = rbd_options,
	.request_size = sizeof(struct rbd_request),
	.open = rbd_handler_open,
	.close = rbd_handler_close,
	.limits = rbd_limits,
	.submit = rbd_submit,
	.create = rbd_handler_create,
	.info = rbd_handler_info,
	.resize = rbd_handler_resize,
	.busy = rbd_handler_busy,
	.snapshot_list = rbd_handler_snapshot_list,
	.snapshot = rbd_handler_snapshot,
	.flatten = rbd_handler_flatten,
	.flags = LUNKIT_HANDLER_NETWORK | LUNKIT_HANDLER_PROTECTS,
	.remove = rbd_handler_remove,
};

LUNKIT_HANDLER(rbd_handler)
