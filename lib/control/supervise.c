/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "control/supervise.h"

#include <string.h>

enum supervise_verdict supervise_died(struct supervise *supervise, uint64_t now, uint64_t *ret_pause)
{
	unsigned old = 0;
	while (old < supervise->count && now - supervise->deaths[old] > SUPERVISE_WINDOW)
		old++;
	supervise->count -= old;
	memmove(supervise->deaths, supervise->deaths + old, supervise->count * sizeof(supervise->deaths[0]));
	if (supervise->count >= SUPERVISE_DEATHS_MAX)
		return SUPERVISE_HOLD;
	supervise->deaths[supervise->count++] = now;
	supervise->restarts++;
	*ret_pause = supervise->count == 1 ? 0 : SUPERVISE_FIRST_PAUSE << (supervise->count - 2);
	return SUPERVISE_RESTART;
}

enum supervise_verdict supervise_busy(struct supervise *supervise, uint64_t now, uint64_t *ret_pause)
{
	if (!supervise->busy_since)
		supervise->busy_since = now;
	if (now - supervise->busy_since > SUPERVISE_BUSY_LIMIT)
		return SUPERVISE_HOLD;
	*ret_pause = SUPERVISE_BUSY_PAUSE;
	return SUPERVISE_RESTART;
}

void supervise_serving(struct supervise *supervise)
{
	supervise->busy_since = 0;
}

void supervise_forgive(struct supervise *supervise)
{
	supervise->count = 0;
	supervise->busy_since = 0;
}
