/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* An image from open to close, and what it says about itself. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"
#include "base/log.h"
#include "image/shim.h"

struct lunkit_info {
	struct json_object *object;
	bool failed;
};

static int make_params(struct lunkit_host *host, const struct lunkit_handler *handler, const struct image_params *params, unsigned use,
		       struct lunkit_params *ret, struct lunkit_option_value **ret_values, struct lunkit_error *err)
{
	struct lunkit_option_value *values;
	size_t count;
	int r = options_parse(handler, params->options, use, &values, &count, err);
	if (r < 0)
		return r;
	*ret_values = values;
	*ret = (struct lunkit_params){
		.host = host,
		.name = params->name,
		.options = values,
		.option_count = count,
		.cache = params->cache,
		.read_only = params->read_only || params->look_only,
		.look_only = params->look_only,
		.survive = params->survive,
		.locked = params->locked,
		.memo = params->memo,
		.size = params->size,
		.depth = params->depth,
	};
	return 0;
}

/* Handlers set an error when they fail; one that forgets still gets a message. */
static int failed(int r, const char *name, const char *what, struct lunkit_error *err)
{
	if (err && !err->code)
		lunkit_error_set(err, r, "%.300s: cannot %s: %s", name, what, strerror(-r));
	return r;
}

static void image_free(struct image *image)
{
	if (image->zeroes)
		munmap(image->zeroes, ZEROES_SIZE);
	bounce_destroy(&image->bounce);
	free(image->name);
	free(image);
}

/* The zeros are mapped, never touched for writing, and so cost no memory. */
static struct image *image_new(const struct image_params *params)
{
	struct image *image = calloc(1, sizeof(*image));
	if (!image)
		return NULL;
	list_init(&image->writes);
	list_init(&image->exclusive);
	list_init(&image->waiting);
	list_init(&image->held);
	image->name = strdup(params->name);
	void *zeroes = mmap(NULL, ZEROES_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (zeroes != MAP_FAILED)
		image->zeroes = zeroes;
	if (!image->name || !image->zeroes || bounce_init(&image->bounce) < 0) {
		image_free(image);
		return NULL;
	}
	image->read_only = params->read_only;
	image->look_only = params->look_only || params->locked;
	return image;
}

bool image_is_busy(struct image *image)
{
	return image->handler->busy && image->handler->busy(image->state);
}

/* Outside of the loop's own calls: the loop turns until the handler has nothing under way. */
static void wait_until_idle(struct image *image)
{
	while (image_is_busy(image) && loop_turn(image->host->loop, true) >= 0)
		;
}

static void state_close(struct image *image)
{
	wait_until_idle(image);
	image->handler->close(image->state);
}

int image_open(struct lunkit_host *host, const struct lunkit_handler *handler, const struct image_params *params, struct image **ret,
	       struct lunkit_error *err)
{
	if (err)
		err->code = 0;
	struct image *image = image_new(params);
	if (!image)
		return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory to open the image", params->name);
	image->host = host;
	image->handler = handler;
	struct lunkit_params checked;
	struct lunkit_option_value *values = NULL;
	unsigned use = LUNKIT_OPTION_OPEN | (params->new ? LUNKIT_OPTION_CREATE : 0);
	int r = make_params(host, handler, params, use, &checked, &values, err);
	if (r == 0) {
		/* Only what lunkit_child_open() opens from within open() lies below this image. */
		struct image_opening opening = { .outer = params->depth ? host->opening : NULL }, *before = host->opening;
		host->opening = &opening;
		r = handler->open(&checked, &image->state, err);
		host->opening = before;
		free(values);
		if (r < 0)
			r = failed(r, params->name, "open the image", err);
	}
	if (r < 0) {
		image_free(image);
		return r;
	}
	handler->limits(image->state, &image->limits);
	r = limits_complete(&image->limits, image->look_only, image->name, err);
	if (r < 0) {
		state_close(image);
		image_free(image);
		return r;
	}
	image_apply_limits(image);
	*ret = image;
	return 0;
}

static void check_idle(const struct image *image)
{
	if (image->in_flight || !list_empty(&image->waiting) || !list_empty(&image->held)) {
		log_error("%s: the image was closed with requests in flight", image->name);
		abort();
	}
}

void image_close(struct image *image)
{
	if (!image)
		return;
	check_idle(image);
	state_close(image);
	image_free(image);
}

int image_remove(struct image *image, struct lunkit_error *err)
{
	const struct lunkit_handler *handler = image->handler;
	if (err)
		err->code = 0;
	check_idle(image);
	if (!handler->remove) {
		int r = lunkit_error_set(err, EOPNOTSUPP, "%s: lunkit removes no images of the kind \"%s\"", image->name, handler->name);
		image_close(image);
		return r;
	}
	wait_until_idle(image);
	int r = handler->remove(image->state, err);
	if (r < 0)
		failed(r, image->name, "remove the image", err);
	image_free(image);
	return r;
}

int image_create(struct lunkit_host *host, const struct lunkit_handler *handler, const struct image_params *params,
		 struct lunkit_error *err)
{
	if (err)
		err->code = 0;
	if (!handler->create) {
		lunkit_error_set(err, EOPNOTSUPP, "%.300s: images of the kind \"%s\" cannot be created", params->name, handler->name);
		return lunkit_error_hint(err, "Make it with the tools of that kind and attach it then.");
	}
	if (params->size == 0 || params->size > INT64_MAX) {
		lunkit_error_set(err, EINVAL, "%.300s: %s", params->name, params->size ? "the size is too large" : "an image needs a size");
		return lunkit_error_hint(err, "Give a size like 10G.");
	}
	struct lunkit_params checked;
	struct lunkit_option_value *values = NULL;
	int r = make_params(host, handler, params, LUNKIT_OPTION_CREATE, &checked, &values, err);
	if (r < 0)
		return r;
	r = handler->create(&checked, err);
	free(values);
	return r < 0 ? failed(r, params->name, "create the image", err) : 0;
}

const struct lunkit_limits *image_limits(const struct image *image)
{
	return &image->limits;
}

bool image_is_read_only(const struct image *image)
{
	return image->limits.flags & LUNKIT_READ_ONLY;
}

const char *image_kind(const struct image *image)
{
	return image->handler->name;
}

const char *image_name(const struct image *image)
{
	return image->name;
}

/* ---- info ---- */

static void add(struct lunkit_info *info, const char *key, struct json_object *value)
{
	if (!value || json_object_object_add(info->object, key, value) < 0) {
		json_object_put(value);
		info->failed = true;
	}
}

void lunkit_info_string(struct lunkit_info *info, const char *key, const char *value)
{
	add(info, key, json_object_new_string(value));
}

void lunkit_info_bytes(struct lunkit_info *info, const char *key, uint64_t bytes)
{
	add(info, key, json_object_new_uint64(bytes));
}

void lunkit_info_bool(struct lunkit_info *info, const char *key, bool value)
{
	add(info, key, json_object_new_boolean(value));
}

void lunkit_info_number(struct lunkit_info *info, const char *key, uint64_t number)
{
	add(info, key, json_object_new_uint64(number));
}

int image_info(struct image *image, char **ret_json, struct lunkit_error *err)
{
	if (err)
		err->code = 0;
	struct lunkit_info info = { .object = json_object_new_object() };
	if (!info.object)
		return lunkit_error_set(err, ENOMEM, "%s: not enough memory to describe the image", image->name);
	lunkit_info_string(&info, "kind", image->handler->name);
	lunkit_info_string(&info, "name", image->name);
	lunkit_info_bytes(&info, "virtual-size", image->limits.size);
	lunkit_info_bytes(&info, "block-size", image->limits.block_size);
	lunkit_info_bool(&info, "read-only", image_is_read_only(image));
	int r = image->handler->info ? image->handler->info(image->state, &info, err) : 0;
	if (r < 0) {
		json_object_put(info.object);
		return failed(r, image->name, "describe the image", err);
	}
	char *text = NULL;
	if (!info.failed) {
		const char *json = json_object_to_json_string_ext(info.object, JSON_C_TO_STRING_PLAIN);
		text = json ? strdup(json) : NULL;
	}
	json_object_put(info.object);
	if (!text)
		return lunkit_error_set(err, ENOMEM, "%s: not enough memory to describe the image", image->name);
	*ret_json = text;
	return 0;
}
