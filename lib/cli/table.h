/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Rows and columns for a person. Columns are as wide as their widest cell; one of them gives way when the terminal is narrower. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct table_column {
	const char *title;
	bool right;   /* aligned to the right */
	bool shrinks; /* cut in its middle when the table is too wide; at most one column */
};

struct table;

/* columns stay the caller's. NULL without memory. */
struct table *table_new(const struct table_column *columns, size_t column_count);
void table_free(struct table *table);
/* cells: column_count strings, copied and made printable; NULL or "" shows as "-". -ENOMEM. */
int table_add(struct table *table, const char *const *cells);
/* width: columns of the terminal, 0 for as wide as it gets. */
void table_print(const struct table *table, FILE *file, size_t width);

/* The width of the terminal that file is, or 0 when it is none. */
size_t table_terminal_width(FILE *file);
