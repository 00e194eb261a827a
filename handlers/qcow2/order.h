/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* Which write may go out when: see order.c. */

#include <stdbool.h>

/* What is written, in the order in which a round writes it. */
enum order_kind { ORDER_REFBLOCK, ORDER_REFTABLE, ORDER_HEADER, ORDER_MAP };
#define ORDER_KINDS 4
/* Not metadata. DATA: what a guest overwrote in its place. BASE: what metadata of this round will be the first to show. */
#define ORDER_DATA (1u << 4)
#define ORDER_BASE (1u << 5)

struct order {
	unsigned open;	  /* bits: written, and no round has taken care of it yet */
	unsigned round;	  /* written before the round began or by it, not durable */
	unsigned syncing; /* of round: the running fdatasync covers it */
};

static inline unsigned order_bit(enum order_kind kind)
{
	return 1u << kind;
}

/* Data or the base of a mapping has been written: ORDER_DATA, ORDER_BASE. */
static inline void order_wrote(struct order *order, unsigned bits)
{
	order->open |= bits;
}

/* True when nothing at all has been written that is not durable. No round may be running. */
static inline bool order_is_durable(const struct order *order)
{
	return !(order->open | order->round);
}

/* Metadata, or what it needs, has been written that is not durable. */
static inline bool order_has_metadata(const struct order *order)
{
	return (order->open | order->round) & ~ORDER_DATA;
}

void order_begin(struct order *order);
/* The round wants to write metadata of this kind: false, sync first. */
bool order_may_write(const struct order *order, enum order_kind kind);
void order_round_wrote(struct order *order, enum order_kind kind);
void order_sync_begin(struct order *order);
void order_sync_end(struct order *order, bool success);
/* Everything that the round has to make durable is. */
bool order_round_is_durable(const struct order *order);
