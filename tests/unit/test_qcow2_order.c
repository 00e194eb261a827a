/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * order.c against a model of a disk that knows, for each write, whether it is durable. Random rounds write what is dirty in the order that order.c
 * allows; whenever metadata of a kind goes out, everything that the rules put before it must be durable in the model.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "order.h"

#define BITS 6 /* four kinds, DATA, BASE */

static uint64_t state_of_random;
static unsigned below(unsigned n)
{
	state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)((state_of_random >> 33) % n);
}

/* Writes by bit, numbered by time: the last one complete, the last one durable, and what had been complete when the round began. */
struct disk {
	unsigned complete[BITS], durable[BITS], at_begin[BITS], at_sync[BITS];
};

static unsigned index_of(unsigned bit)
{
	return (unsigned)__builtin_ctz(bit);
}

/* The rules, said independently of order.c: all of these that the round depends on come first. */
static const unsigned must_come_before[ORDER_KINDS][BITS] = {
	[ORDER_REFBLOCK] = { 0 },
	[ORDER_REFTABLE] = { [ORDER_REFBLOCK] = 1, [5] = 1 },
	[ORDER_HEADER] = { [ORDER_REFBLOCK] = 1, [ORDER_REFTABLE] = 1, [5] = 1 },
	[ORDER_MAP] = { [ORDER_REFBLOCK] = 1, [ORDER_REFTABLE] = 1, [ORDER_HEADER] = 1, [5] = 1 },
};

static void guest_writes(struct order *order, struct disk *disk)
{
	for (unsigned n = below(3); n; n--) {
		unsigned bit = below(2) ? ORDER_DATA : ORDER_BASE;
		order_wrote(order, bit);
		disk->complete[index_of(bit)]++;
	}
}

static void sync_disk(struct order *order, struct disk *disk, bool success, unsigned *syncs)
{
	order_sync_begin(order);
	for (unsigned i = 0; i < BITS; i++)
		disk->at_sync[i] = disk->complete[i];
	guest_writes(order, disk); /* these are not covered */
	if (success)
		for (unsigned i = 0; i < BITS; i++)
			disk->durable[i] = disk->at_sync[i];
	order_sync_end(order, success);
	++*syncs;
}

static bool round_once(struct order *order, struct disk *disk, unsigned kinds, bool may_fail, unsigned *syncs)
{
	order_begin(order);
	for (unsigned i = 0; i < BITS; i++)
		disk->at_begin[i] = disk->complete[i];
	for (unsigned kind = 0; kind < ORDER_KINDS; kind++) {
		if (!(kinds & 1u << kind))
			continue;
		if (!order_may_write(order, (enum order_kind)kind)) {
			bool success = !may_fail || below(4);
			sync_disk(order, disk, success, syncs);
			if (!success)
				return false;
		}
		assert_true(order_may_write(order, (enum order_kind)kind));
		for (unsigned i = 0; i < BITS; i++) {
			/* What the round itself wrote counts too: its own kinds come after at_begin. */
			unsigned needed = i < ORDER_KINDS ? disk->complete[i] : disk->at_begin[i];
			if (must_come_before[kind][i])
				assert_true(disk->durable[i] >= needed);
		}
		guest_writes(order, disk);
		disk->complete[kind]++;
		order_round_wrote(order, (enum order_kind)kind);
	}
	if (!order_round_is_durable(order)) {
		bool success = !may_fail || below(4);
		sync_disk(order, disk, success, syncs);
		if (!success)
			return false;
	}
	/* A flush is answered: all that was complete when the round began is durable, and all that the round wrote. */
	for (unsigned i = 0; i < BITS; i++)
		assert_true(disk->durable[i] >= disk->at_begin[i]);
	for (unsigned kind = 0; kind < ORDER_KINDS; kind++)
		assert_int_equal(disk->durable[kind], disk->complete[kind]);
	return true;
}

static void random_rounds_keep_the_rules(void **state)
{
	(void)state;
	for (unsigned seed = 1; seed <= 200; seed++) {
		struct order order = { 0 };
		struct disk disk = { 0 };
		unsigned syncs = 0;
		state_of_random = seed;
		for (unsigned i = 0; i < 100; i++) {
			guest_writes(&order, &disk);
			round_once(&order, &disk, below(16), seed % 2, &syncs);
			if (order_is_durable(&order))
				for (unsigned bit = 0; bit < BITS; bit++)
					assert_int_equal(disk.durable[bit], disk.complete[bit]);
		}
	}
}

static unsigned syncs_for(unsigned wrote, unsigned kinds)
{
	struct order order = { 0 };
	unsigned syncs = 0;
	order_wrote(&order, wrote);
	order_begin(&order);
	for (unsigned kind = 0; kind < ORDER_KINDS; kind++) {
		if (!(kinds & 1u << kind))
			continue;
		if (!order_may_write(&order, (enum order_kind)kind)) {
			order_sync_begin(&order);
			order_sync_end(&order, true);
			syncs++;
		}
		order_round_wrote(&order, (enum order_kind)kind);
	}
	if (!order_round_is_durable(&order))
		syncs++;
	return syncs;
}

static void no_sync_is_more_than_needed(void **state)
{
	(void)state;
	const unsigned refblock = 1u << ORDER_REFBLOCK, reftable = 1u << ORDER_REFTABLE, header = 1u << ORDER_HEADER, map = 1u << ORDER_MAP;
	assert_int_equal(syncs_for(0, 0), 0);
	assert_int_equal(syncs_for(ORDER_DATA, 0), 1);
	assert_int_equal(syncs_for(ORDER_DATA, map), 1);	    /* a discard, zeros */
	assert_int_equal(syncs_for(ORDER_DATA, refblock), 1);	    /* what was freed */
	assert_int_equal(syncs_for(ORDER_DATA, refblock | map), 2); /* new clusters, however many */
	assert_int_equal(syncs_for(ORDER_BASE, map), 2);
	assert_int_equal(syncs_for(ORDER_BASE, refblock | map), 2);
	assert_int_equal(syncs_for(ORDER_BASE, refblock | reftable | map), 3);
	assert_int_equal(syncs_for(ORDER_BASE, refblock | reftable | header | map), 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_rounds_keep_the_rules),
		cmocka_unit_test(no_sync_is_more_than_needed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
