/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * An independent look at a qcow2 file's bytes, as strict as `qemu-img check` and a thousand times faster. It shares no code with the handler: the same
 * mistake should not be made on both sides.
 */

#include <stdint.h>

struct qcow2_findings {
	unsigned corruptions;
	unsigned leaks;
	unsigned stale_copied; /* COPIED is clear although the refcount is 1: costs a copy, endangers nothing; qemu-img calls it an error */
	unsigned early_copied; /* COPIED where the refcount is too high, and there is one reference: a leak that qemu-img calls an error */
	unsigned dirty_errors; /* refcounts and COPIED flags that are wrong while the dirty bit says so */
	unsigned dirty;
	char first[200]; /* the first corruption, else the first leak */
};

void qcow2_find(const uint8_t *image, uint64_t size, struct qcow2_findings *ret);
