/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the source has data, known ahead of need.
 *
 *     extents:   │ data │ zero │ data │ zero           │ …      as the source tells them, any byte
 *     runs:      │ data          │ zero     │ data …             zeros only where whole units are: the rest counts as data
 *                ^position                  ^known
 *
 * One EXTENTS request is under way at a time. Its range grows while the answers are short, so that the first pieces come soon and a disk of holes
 * is passed quickly. Runs are at least a unit long, so a bounded ring of them covers more than what is copied at once.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "image/copying.h"

#define QUERY_MIN ((uint64_t)64 << 20)
#define QUERY_MAX ((uint64_t)16 << 30)
#define AHEAD ((uint64_t)512 << 20)

static void push(struct plan *plan, uint64_t end, bool zero)
{
	end = MIN(end, plan->end);
	if (end <= plan->known)
		return;
	plan->known = end;
	if (plan->count) {
		struct plan_run *last = &plan->runs[(plan->first + plan->count - 1) % PLAN_RUNS];
		if (last->zero == zero) {
			last->end = end;
			return;
		}
	}
	plan->runs[(plan->first + plan->count++) % PLAN_RUNS] = (struct plan_run){ end, zero };
}

/* Data and zeros may meet anywhere; known is at the end of the last unit that has data. */
static void take(struct plan *plan, uint64_t end, bool zero)
{
	if (!zero) {
		push(plan, align_up(end, plan->unit), false);
		return;
	}
	push(plan, end < plan->end ? align_down(end, plan->unit) : end, true);
}

static void take_extents(struct plan *plan)
{
	const struct lunkit_request *request = &plan->request->request;
	for (unsigned i = 0; i < request->extent_count; i++) {
		plan->asked = plan->extents[i].offset + plan->extents[i].length;
		take(plan, plan->asked, plan->extents[i].flags & LUNKIT_EXTENT_ZERO);
	}
	if (plan->asked == plan->source_size)
		take(plan, plan->end, true); /* what the target has more */
	if (request->extent_count < PLAN_BATCH / 4)
		plan->query = MIN(plan->query * 2, QUERY_MAX);
}

static void answered(struct image_request *request, int result)
{
	struct plan *plan = request->user;
	plan->asking = false;
	--*plan->in_flight;
	if (result < 0)
		plan->result = result;
	else
		take_extents(plan);
	if (!plan->starting)
		plan->more(plan);
}

/* Room for what one answer can add, and not everything at once. */
static bool wants_to_ask(const struct plan *plan)
{
	return !plan->asking && !plan->result && plan->asked < plan->source_size && plan->count + 2 * PLAN_BATCH + 2 <= PLAN_RUNS &&
	       plan->asked < plan->position + AHEAD;
}

static void ask(struct plan *plan)
{
	plan->starting = true;
	while (wants_to_ask(plan)) {
		struct lunkit_request *request = &plan->request->request;
		request->op = LUNKIT_EXTENTS;
		request->flags = 0;
		request->offset = plan->asked;
		request->length = MIN(plan->query, plan->source_size - plan->asked);
		request->iov_count = 0;
		request->extents = plan->extents;
		request->extent_capacity = PLAN_BATCH;
		plan->asking = true;
		++*plan->in_flight;
		image_submit(plan->source, plan->request);
	}
	plan->starting = false;
}

int plan_next(struct plan *plan, uint64_t most, uint64_t most_zero, struct plan_piece *ret)
{
	while (plan->count && plan->runs[plan->first].end <= plan->position) {
		plan->first = (plan->first + 1) % PLAN_RUNS;
		plan->count--;
	}
	ask(plan);
	if (plan->position == plan->end)
		return 0;
	if (!plan->count)
		return plan->result ? plan->result : -EAGAIN;
	const struct plan_run *run = &plan->runs[plan->first];
	uint64_t limit = run->zero ? most_zero : most - plan->position % most;
	ret->offset = plan->position;
	ret->length = MIN(run->end - plan->position, limit);
	ret->zero = run->zero;
	plan->position += ret->length;
	return 1;
}

int plan_init(struct plan *plan, struct image *source, uint64_t unit, uint64_t end, unsigned *in_flight, void (*more)(struct plan *plan))
{
	plan->source = source;
	plan->more = more;
	plan->in_flight = in_flight;
	plan->unit = unit;
	plan->end = end;
	plan->source_size = image_limits(source)->size;
	plan->query = QUERY_MIN;
	plan->request = malloc(image_request_size(source));
	if (!plan->request)
		return -ENOMEM;
	image_request_init(source, plan->request);
	plan->request->done = answered;
	plan->request->user = plan;
	return 0;
}

void plan_destroy(struct plan *plan)
{
	free(plan->request);
}
