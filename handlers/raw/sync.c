/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a failed sync means. Owner: the worker's thread.
 *
 * Linux tells of a writeback error once for each opening of a file (errseq_t, fs/sync.c and mm/filemap.c): the pages that could not be written are marked clean or
 * dropped, and the next fdatasync() on the same descriptor succeeds although they never reached the storage. A device's failed cache flush is told of once as well.
 * So the first failure is kept: from then on every FLUSH and every durable write gets the same error, until the image is opened again by somebody who has seen it. A
 * sync that ran beside the one that was told may have lost its data without hearing of it: it fails too.
 *
 *     sync failed ─► sync_error ─► FLUSH, FUA write, any write of cache=writethrough: that error
 *                                  other writes and reads: go on, nobody was promised anything
 */
#include "raw.h"

#include <errno.h>
#include <string.h>

/* False for failures after which everything that was written before is where it was. */
static bool loses_data(const struct raw *raw, bool by_write, int result)
{
	switch (-result) {
	case EAGAIN:
	case EINTR:
	case ECANCELED:
		return false; /* nothing was begun */
	case ENOSPC:
	case EDQUOT:
		/* Where no write leaves dirty pages behind, the write itself found no room. Else pages that were written earlier may have. */
		return !(by_write && (raw->direct || raw->durable));
	default:
		return true;
	}
}

int raw_synced(struct raw *raw, bool by_write, int result)
{
	if (raw->sync_error)
		return raw->sync_error;
	if (result >= 0 || !loses_data(raw, by_write, result))
		return result;
	raw->sync_error = result;
	lunkit_log(LUNKIT_LOG_ERROR,
		   "%s: %s failed: %s. Data that the guest was told is written may be lost, and the kernel tells of it once only: every "
		   "flush fails from now on, until the image is detached and attached again",
		   raw->name, by_write ? "a durable write" : "a flush", strerror(-result));
	return result;
}
