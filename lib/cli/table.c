/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/format.h"

#define GAP 2
#define SHRUNK_MIN 12
#define ELLIPSIS "..."

struct table {
	const struct table_column *columns;
	size_t column_count, row_count;
	char **cells; /* row by row */
};

struct table *table_new(const struct table_column *columns, size_t column_count)
{
	struct table *table = calloc(1, sizeof(*table));
	if (table)
		*table = (struct table){ .columns = columns, .column_count = column_count };
	return table;
}

void table_free(struct table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->row_count * table->column_count; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table);
}

int table_add(struct table *table, const char *const *cells)
{
	size_t count = table->column_count, first = table->row_count * count;
	char **grown = reallocarray(table->cells, first + count, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	table->cells = grown;
	for (size_t i = 0; i < count; i++) {
		grown[first + i] = format_printable(cells[i] && cells[i][0] ? cells[i] : "-");
		if (!grown[first + i]) {
			while (i--)
				free(grown[first + i]);
			return -ENOMEM;
		}
	}
	table->row_count++;
	return 0;
}

static size_t column_width(const struct table *table, size_t column)
{
	size_t width = format_width(table->columns[column].title);
	for (size_t row = 0; row < table->row_count; row++) {
		size_t cell = format_width(table->cells[row * table->column_count + column]);
		width = cell > width ? cell : width;
	}
	return width;
}

/*
 * The cell in at most width columns: both ends of a path say more than its middle. Cut by bytes, at character boundaries of UTF-8, since names with wider
 * characters may only come out shorter than need be.
 */
static void shorten(const char *text, size_t width, char *out, size_t size)
{
	size_t length = strlen(text), keep = width - strlen(ELLIPSIS), head = keep / 3, tail = keep - head;
	if (format_width(text) <= width || length <= width || width <= strlen(ELLIPSIS)) {
		snprintf(out, size, "%s", text);
		return;
	}
	const char *end = text + length - tail;
	while (head && ((unsigned char)text[head] & 0xc0) == 0x80)
		head--;
	while (((unsigned char)*end & 0xc0) == 0x80)
		end++;
	snprintf(out, size, "%.*s" ELLIPSIS "%s", (int)head, text, end);
}

static void print_cell(FILE *file, const char *text, size_t width, bool right, bool last)
{
	size_t pad = width > format_width(text) ? width - format_width(text) : 0;
	if (right)
		fprintf(file, "%*s%s", (int)pad, "", text);
	else
		fprintf(file, "%s%*s", text, last ? 0 : (int)pad, "");
	fputs(last ? "\n" : "  ", file);
}

void table_print(const struct table *table, FILE *file, size_t width)
{
	size_t widths[32], total = 0, count = table->column_count < 32 ? table->column_count : 32;
	for (size_t i = 0; i < count; i++) {
		widths[i] = column_width(table, i);
		total += widths[i] + (i ? GAP : 0);
	}
	for (size_t i = 0; i < count && width && total > width; i++)
		if (table->columns[i].shrinks) {
			size_t over = total - width;
			widths[i] = widths[i] > over + SHRUNK_MIN ? widths[i] - over : widths[i] < SHRUNK_MIN ? widths[i] : SHRUNK_MIN;
			break;
		}
	for (size_t i = 0; i < count; i++)
		print_cell(file, table->columns[i].title, widths[i], table->columns[i].right, i + 1 == count);
	for (size_t row = 0; row < table->row_count; row++)
		for (size_t i = 0; i < count; i++) {
			const char *cell = table->cells[row * table->column_count + i];
			char cut[8192];
			shorten(cell, widths[i], cut, sizeof(cut));
			print_cell(file, cut, widths[i], table->columns[i].right, i + 1 == count);
		}
}

size_t table_terminal_width(FILE *file)
{
	struct winsize size;
	int fd = fileno(file);
	if (!isatty(fd) || ioctl(fd, TIOCGWINSZ, &size) < 0)
		return 0;
	return size.ws_col;
}
