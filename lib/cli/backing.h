/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Where files may lie that an image lies on, besides its own folder: what the configuration says with "backing = DIRECTORY", the same for images that are attached and that are not
 * (lunkit.conf(5)), and the folder of parent, a path, when it is not NULL. Ends with NULL; NULL for none. Read once; never freed.
 */
const char *const *backing_directories(const char *parent);
