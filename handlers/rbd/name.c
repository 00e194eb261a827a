/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Names as Ceph's own tools write them: POOL[/NAMESPACE]/IMAGE[@SNAPSHOT]. */
#include <errno.h>
#include <string.h>

#include "rbd.h"

static int wrong(const char *text, const char *why, struct lunkit_error *err)
{
	lunkit_error_set(err, EINVAL, "'%.300s' names no RBD image: %s", text, why);
	return lunkit_error_hint(err, "POOL/IMAGE, POOL/NAMESPACE/IMAGE, and @SNAPSHOT behind it for a snapshot");
}

static bool take(char *ret, size_t size, const char *begin, const char *end)
{
	size_t length = (size_t)(end - begin);
	if (length == 0 || length >= size || memchr(begin, '@', length))
		return false;
	memcpy(ret, begin, length);
	ret[length] = '\0';
	return true;
}

int rbd_name_parse(const char *text, struct rbd_name *ret, struct lunkit_error *err)
{
	struct rbd_name name = { 0 };
	const char *end = text + strlen(text), *at = strchr(text, '@');
	for (const char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return wrong(text, "it has control characters", err);
	if (at) {
		if (!at[1] || strlen(at + 1) >= sizeof(name.snapshot) || strchr(at + 1, '/') || strchr(at + 1, '@'))
			return wrong(text, "what follows the '@' is not a snapshot's name", err);
		strcpy(name.snapshot, at + 1);
		end = at;
	}
	const char *first = memchr(text, '/', (size_t)(end - text));
	if (!first)
		return wrong(text, "there is no pool in it", err);
	const char *second = memchr(first + 1, '/', (size_t)(end - first - 1));
	if (second && memchr(second + 1, '/', (size_t)(end - second - 1)))
		return wrong(text, "it has more than three parts", err);
	if (!take(name.pool, sizeof(name.pool), text, first) ||
	    (second && !take(name.namespace, sizeof(name.namespace), first + 1, second)) ||
	    !take(name.image, sizeof(name.image), (second ? second : first) + 1, end))
		return wrong(text, "a part of it is empty or too long", err);
	*ret = name;
	return 0;
}

int rbd_name_of(const struct lunkit_params *params, struct rbd_name *ret, struct lunkit_error *err)
{
	const struct lunkit_option_value *snapshot = lunkit_params_option(params, "snapshot");
	struct rbd_name name;
	int r = rbd_name_parse(params->name, &name, err);
	if (r < 0)
		return r;
	if (snapshot) {
		if (name.snapshot[0] || !snapshot->value[0] || strlen(snapshot->value) >= sizeof(name.snapshot))
			return lunkit_error_set(err, EINVAL, "%.300s: %s", params->name,
						name.snapshot[0] ? "a snapshot is named twice" : "snapshot= is not a snapshot's name");
		strcpy(name.snapshot, snapshot->value);
	}
	*ret = name;
	return 0;
}

void rbd_name_format(const struct rbd_name *name, char *ret, size_t size)
{
	snprintf(ret, size, "%s/%s%s%s%s%.100s", name->pool, name->namespace, name->namespace[0] ? "/" : "", name->image,
		 name->snapshot[0] ? "@" : "", name->snapshot);
}
