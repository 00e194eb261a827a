/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Looking at the whole file: check.c and its parts. */

#include "qcow2.h"

/*
 * Looks at the whole file and repairs it. Blocking, on any thread; no request may be in flight and nothing dirty. check_finish() has to follow,
 * as blocking, where repairs were allowed: it makes the image see them. -errno: the file can't be read or written.
 */
int check_image(struct qcow2 *q, unsigned flags, struct lunkit_check_report *report);
int check_finish(struct qcow2 *q, unsigned flags, const struct lunkit_check_report *report);

/* check_refs.c: what refers to each cluster. */
struct check {
	struct qcow2 *q;
	unsigned flags;
	struct lunkit_check_report *report;
	uint64_t clusters; /* of the file */
	bool behind_end;   /* something refers to what lies behind these */
	uint16_t *counts;
	uint8_t *buffer; /* a cluster */
};
__attribute__((format(printf, 2, 3))) void check_found(struct check *check, const char *format, ...);
int check_count_all(struct check *check);
/* The bitmaps that the header's extension names. */
int check_count_bitmaps(struct check *check);
void check_count(struct check *check, uint64_t offset, uint64_t length, const char *what);
