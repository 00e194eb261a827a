/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Texts of others (names of files, of snapshots in an image) may be any bytes; D-Bus and JSON take UTF-8 only, and one byte that is not would spoil all the rest. */

/* Replaces each byte that is not part of a character in UTF-8 by a question mark. */
void utf8_make_valid(char *text);
