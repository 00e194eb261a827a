/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "image/shim.h"

void drain_check(struct image *image)
{
	if (image->in_flight)
		return;
	while (image->drains) {
		struct loop_op *op = image->drains;
		image->drains = op->next;
		loop_defer(image->host->loop, op, 0);
	}
}

void image_drain(struct image *image, struct loop_op *op)
{
	image->draining++;
	op->next = image->drains;
	image->drains = op;
	drain_check(image);
}

void image_resume(struct image *image)
{
	if (image->draining == 0 || --image->draining)
		return;
	range_wake(image);
	while (!image->draining && !list_empty(&image->held)) {
		struct list *node = list_pop(&image->held);
		shim_start(list_entry(node, struct image_request, node));
	}
}

unsigned image_in_flight(const struct image *image)
{
	return image->in_flight;
}
