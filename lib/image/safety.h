/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Looks at an image that somebody else made, before it is used for the first time: what in it could make this host read files, run out of memory or space, or show
 * one thing to lunkit and another to QEMU. The image is not opened by its handler; its header is read, and nothing in it is followed.
 */

#include "base/error.h"
#include "image/image.h"

/*
 * *ret_json, to be freed: {"kind", "name", "safe": bool, "properties": [{"property", "verdict": "ok" | "note" | "unsafe", "value", "message"}, …]}. properties: one for each
 * thing that was looked at. -errno: it can't be read, or is not of that kind.
 */
int safety_inspect(struct lunkit_host *host, const char *kind, const char *path, char **ret_json, struct lunkit_error *err);
