/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One EXTENTS after the other; a run is told when one of another kind follows, or the end. Answers may come at once: a loop, never a recursion. */
#include "image/map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static void tell(struct image_map *map)
{
	if (map->merged.length)
		map->run(map, &map->merged);
	map->merged.length = 0;
}

static void take(struct image_map *map)
{
	for (unsigned i = 0; i < map->request->request.extent_count; i++) {
		const struct lunkit_extent *extent = &map->extents[i];
		if (map->merged.length && map->merged.flags == extent->flags) {
			map->merged.length += extent->length;
		} else {
			tell(map);
			map->merged = *extent;
		}
		map->position = extent->offset + extent->length;
	}
}

static void finish(struct image_map *map)
{
	if (map->result == 0)
		tell(map);
	free(map->request);
	map->request = NULL;
	map->done(map, map->result);
}

static void run(struct image_map *map);

static void answered(struct image_request *request, int result)
{
	struct image_map *map = request->user;
	if (result < 0)
		map->result = lunkit_error_set(&map->err, result, "%.300s: cannot tell what is at offset %" PRIu64 ": %s",
					       image_name(map->image), map->position, strerror(-result));
	else
		take(map);
	map->again = true;
	if (!map->running)
		run(map);
}

static void run(struct image_map *map)
{
	map->running = true;
	do {
		map->again = false;
		if (map->cancelled && !map->result)
			map->result = lunkit_error_set(&map->err, ECANCELED, "%.300s: cancelled", image_name(map->image));
		if (map->result || map->position == map->end) {
			finish(map);
			return;
		}
		struct lunkit_request *request = &map->request->request;
		request->op = LUNKIT_EXTENTS;
		request->flags = 0;
		request->offset = map->position;
		request->length = map->end - map->position;
		request->iov_count = 0;
		request->extents = map->extents;
		request->extent_capacity = IMAGE_MAP_BATCH;
		image_submit(map->image, map->request);
	} while (map->again);
	map->running = false;
}

void image_map_start(struct image *image, struct image_map *map, uint64_t offset, uint64_t length)
{
	uint64_t size = image_limits(image)->size;
	map->err = LUNKIT_ERROR_INIT;
	map->image = image;
	map->merged = (struct lunkit_extent){ 0 };
	map->result = 0;
	map->request = NULL;
	if (offset > size || length > size - offset)
		map->result =
			lunkit_error_set(&map->err, ERANGE, "%.300s: the range goes beyond its %" PRIu64 " bytes", image_name(image), size);
	else if (!(map->request = malloc(image_request_size(image))))
		map->result = lunkit_error_set(&map->err, ENOMEM, "%.300s: not enough memory", image_name(image));
	if (map->result) {
		map->done(map, map->result);
		return;
	}
	image_request_init(image, map->request);
	map->request->done = answered;
	map->request->user = map;
	map->position = offset;
	map->end = length ? offset + length : size;
	run(map);
}
