/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* An intrusive, circular, doubly linked list. A node that is in no list points at itself. */

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define list_entry(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

#define list_for_each(pos, head) for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
/* pos may be removed and freed inside the loop */
#define list_for_each_safe(pos, head)                                                                                                      \
	for (struct list *pos = (head)->next, *pos##_next = pos->next; pos != (head); pos = pos##_next, pos##_next = pos->next)

static inline void list_init(struct list *node)
{
	node->next = node->prev = node;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

static inline void list_add_head(struct list *head, struct list *node)
{
	list_add_tail(head->next, node);
}

static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* The first node, taken out of the list, or NULL. */
static inline struct list *list_pop(struct list *head)
{
	if (list_empty(head))
		return NULL;
	struct list *node = head->next;
	list_remove(node);
	return node;
}
