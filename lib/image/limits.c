/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a handler says about its image: checked before anybody relies on it, since handlers may be others' work. */
#include <errno.h>
#include <inttypes.h>

#include "base/checked.h"
#include "base/log.h"
#include "image/shim.h"

#define ALIGNMENT_MAX (64u << 10)
#define PHYSICAL_BLOCK_MAX (16u << 20)
#define COMPRESS_UNIT_MAX ((uint64_t)8 << 20)
#define IOV_DEFAULT 1024
/* A request of this length ends within the time that initiators wait (30 s) on the slowest of disks; a multiple of every alignment. */
#define EMULATED_ZEROES_MAX ((uint64_t)32 << 20)
#define FLAGS_KNOWN                                                                                                                        \
	(LUNKIT_CAN_DISCARD | LUNKIT_CAN_WRITE_ZEROES | LUNKIT_CAN_FUA | LUNKIT_CAN_EXTENTS | LUNKIT_DISCARD_ZEROES | LUNKIT_READ_ONLY |   \
	 LUNKIT_ROTATIONAL | LUNKIT_NEEDS_FLUSH | LUNKIT_FRESH_IS_NOISE)

static void fill_defaults(struct lunkit_limits *limits)
{
	if (!limits->block_size)
		limits->block_size = 512;
	if (!limits->physical_block_size)
		limits->physical_block_size = limits->block_size;
	if (!limits->request_alignment)
		limits->request_alignment = 1;
	if (!limits->memory_alignment)
		limits->memory_alignment = 1;
	/* One entry may hold the whole request: its length is then a multiple of both. */
	limits->request_alignment = MAX(limits->request_alignment, limits->memory_alignment);
	if (!limits->max_iov)
		limits->max_iov = IOV_DEFAULT;
	if (!limits->discard_granularity)
		limits->discard_granularity = limits->block_size;
	uint64_t *const maxima[] = { &limits->max_transfer, &limits->max_discard, &limits->max_write_zeroes };
	for (size_t i = 0; i < ARRAY_SIZE(maxima); i++)
		if (!*maxima[i])
			*maxima[i] = UINT64_MAX;
}

static bool is_alignment(unsigned value)
{
	return is_power_of_two(value) && value <= ALIGNMENT_MAX;
}

int limits_complete(struct lunkit_limits *limits, bool look_only, const char *name, struct lunkit_error *err)
{
	fill_defaults(limits);
	const char *wrong = NULL;
	if (limits->flags & ~FLAGS_KNOWN)
		wrong = "flags";
	else if (limits->block_size != 512 && limits->block_size != 4096)
		wrong = "block size";
	else if (!is_power_of_two(limits->physical_block_size) || limits->physical_block_size > PHYSICAL_BLOCK_MAX)
		wrong = "physical block size";
	else if (!is_alignment(limits->request_alignment))
		wrong = "request alignment";
	else if (!is_alignment(limits->memory_alignment))
		wrong = "memory alignment";
	else if (limits->max_transfer < limits->request_alignment || limits->max_discard < limits->request_alignment ||
		 limits->max_write_zeroes < limits->request_alignment)
		wrong = "largest transfer";
	else if (limits->compress_unit && (!is_power_of_two(limits->compress_unit) || limits->compress_unit < limits->request_alignment ||
					   limits->compress_unit < 512 || limits->compress_unit > COMPRESS_UNIT_MAX))
		wrong = "unit of compression";
	if (wrong)
		return lunkit_error_set(err, EINVAL, "%s: the handler gives an impossible %s", name, wrong);

	if (limits->size > INT64_MAX)
		return lunkit_error_set(err, EFBIG, "%s: a size of %" PRIu64 " bytes is too large", name, limits->size);
	if (limits->size == 0 && !look_only)
		return lunkit_error_set(err, EINVAL, "%s: the image is empty", name);
	unsigned unit = MAX(limits->block_size, limits->request_alignment);
	if (!is_aligned(limits->size, unit) && !look_only)
		return lunkit_error_set(err, EINVAL, "%s: the size of %" PRIu64 " bytes is not a multiple of %u", name, limits->size, unit);

	/* A piece of the largest size is a whole number of units, and so are its offset and its end. */
	limits->max_transfer = align_down(limits->max_transfer, limits->request_alignment);
	limits->max_discard = align_down(limits->max_discard, limits->request_alignment);
	limits->max_write_zeroes = align_down(limits->max_write_zeroes, limits->request_alignment);
	return 0;
}

/* What is zeroed by writing zeros takes its time. */
static void limit_zeroes(struct lunkit_limits *limits)
{
	if (!(limits->flags & LUNKIT_CAN_WRITE_ZEROES))
		limits->max_write_zeroes = MIN(limits->max_write_zeroes, EMULATED_ZEROES_MAX);
}

void image_apply_limits(struct image *image)
{
	struct lunkit_limits *limits = &image->limits;
	limits->flags &= ~image->dropped;
	limit_zeroes(limits);
	image->request_mask = limits->request_alignment - 1;
	image->memory_mask = limits->memory_alignment - 1;
	bool read_only = image->read_only || image->look_only || limits->flags & LUNKIT_READ_ONLY;
	if (read_only)
		limits->flags |= LUNKIT_READ_ONLY;
	image->straight[LUNKIT_READ] = true;
	image->straight[LUNKIT_WRITE] = !read_only;
	image->straight_flags[LUNKIT_READ] = 0;
	/* Where nothing is volatile, the handler may as well be told. */
	image->straight_flags[LUNKIT_WRITE] = limits->flags & LUNKIT_CAN_FUA ? LUNKIT_REQUEST_FUA : 0;
	bounce_configure(&image->bounce, limits);
}

void image_drop_flag(struct image *image, unsigned flag)
{
	if (image->dropped & flag)
		return;
	log_debug("%s: the storage cannot do operation %#x after all; lunkit does without", image->name, flag);
	image->dropped |= flag;
	image->limits.flags &= ~flag;
	limit_zeroes(&image->limits);
}
