/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The mailbox against a ring that the test writes as the kernel does, and against rings that no kernel would write. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define __LINUX_UIO_H
#include <cmocka.h>
#include <linux/target_core_user.h>

#include "tcmu/mailbox.h"

#define RING_OFFSET 128u
#define RING_SIZE 1024u
#define DATA_OFFSET 2048u
#define LENGTH 8192u

struct ring {
	char *base; /* exactly LENGTH bytes, so that the sanitizer sees an access beyond */
	struct mailbox mailbox;
	uint32_t head;
};

static struct tcmu_mailbox *header(struct ring *ring)
{
	return (struct tcmu_mailbox *)ring->base;
}

static struct tcmu_cmd_entry *entry_at(struct ring *ring, uint32_t position)
{
	return (struct tcmu_cmd_entry *)(ring->base + RING_OFFSET + position);
}

static int set_up(void **state)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	ring->base = aligned_alloc(4096, LENGTH);
	memset(ring->base, 0, LENGTH);
	*header(ring) = (struct tcmu_mailbox){ .version = 2, .flags = 0xf, .cmdr_off = RING_OFFSET, .cmdr_size = RING_SIZE };
	assert_int_equal(mailbox_init(&ring->mailbox, ring->base, LENGTH), 0);
	*state = ring;
	return 0;
}

static int tear_down(void **state)
{
	struct ring *ring = *state;
	free(ring->base);
	free(ring);
	return 0;
}

static void set_head(struct ring *ring, uint32_t head)
{
	ring->head = head;
	__atomic_store_n((uint32_t *)(ring->base + offsetof(struct tcmu_mailbox, cmd_head)), head, __ATOMIC_RELEASE);
}

/* An entry of at least 112 bytes with count buffers of a page each, the CDB behind them. Returns its position. */
static uint32_t put_command(struct ring *ring, uint16_t id, uint32_t count)
{
	uint32_t base = 48 + count * 16;
	base = base < 112 ? 112 : base;
	uint32_t length = (base + 16 + 7) & ~7u;
	if (RING_SIZE - ring->head < length) {
		struct tcmu_cmd_entry *pad = entry_at(ring, ring->head);
		pad->hdr.len_op = (RING_SIZE - ring->head) | TCMU_OP_PAD;
		set_head(ring, 0);
	}
	uint32_t position = ring->head;
	struct tcmu_cmd_entry *entry = entry_at(ring, position);
	memset(entry, 0, length);
	entry->hdr.len_op = length | TCMU_OP_CMD;
	entry->hdr.cmd_id = id;
	entry->req.iov_cnt = count;
	entry->req.cdb_off = RING_OFFSET + position + base;
	for (uint32_t i = 0; i < count; i++) {
		struct iovec one = { (void *)(uintptr_t)(DATA_OFFSET + i * 64), 64 };
		memcpy((char *)entry + 48 + i * 16, &one, sizeof(one));
	}
	uint8_t cdb[16] = { 0x88, [13] = (uint8_t)count, [15] = (uint8_t)id };
	memcpy(ring->base + entry->req.cdb_off, cdb, sizeof(cdb));
	set_head(ring, (position + length) % RING_SIZE);
	return position;
}

static uint32_t put_tmr(struct ring *ring, uint8_t type, uint32_t count, const uint16_t *ids)
{
	uint32_t length = (uint32_t)(sizeof(struct tcmu_tmr_entry) + count * 2 + 7) & ~7u, position = ring->head;
	struct tcmu_tmr_entry *entry = (void *)entry_at(ring, position);
	memset(entry, 0, length);
	entry->hdr.len_op = length | TCMU_OP_TMR;
	entry->tmr_type = type;
	entry->cmd_cnt = count;
	for (uint32_t i = 0; i < count; i++)
		memcpy((char *)entry + sizeof(*entry) + i * 2, &ids[i], 2);
	set_head(ring, (position + length) % RING_SIZE);
	return position;
}

static struct mailbox_entry fetched;
static struct iovec iov[16];

static enum mailbox_entry_kind fetch(struct ring *ring)
{
	enum mailbox_entry_kind kind;
	assert_int_equal(mailbox_fetch(&ring->mailbox, &fetched, iov, 16, &kind), 0);
	return kind;
}

static void expect_broken(struct ring *ring)
{
	enum mailbox_entry_kind kind = MAILBOX_EMPTY;
	assert_int_equal(mailbox_fetch(&ring->mailbox, &fetched, iov, 16, &kind), -EPROTO);
	assert_int_equal(kind, MAILBOX_EMPTY);
	/* and it stays so */
	assert_int_equal(mailbox_fetch(&ring->mailbox, &fetched, iov, 16, &kind), -EPROTO);
	assert_false(mailbox_publish(&ring->mailbox));
}

static void test_init_refuses(void **state)
{
	struct ring *ring = *state;
	struct tcmu_mailbox good = *header(ring);
	struct mailbox untouched = { .length = 42 }, mailbox = untouched;
#define REFUSES(...)                                                                                                                       \
	do {                                                                                                                               \
		*header(ring) = good;                                                                                                      \
		__VA_ARGS__;                                                                                                               \
		assert_int_equal(mailbox_init(&mailbox, ring->base, LENGTH), -EPROTO);                                                     \
		assert_memory_equal(&mailbox, &untouched, sizeof(mailbox));                                                                \
	} while (0)
	REFUSES(header(ring)->version = 1);
	REFUSES(header(ring)->version = 3);
	REFUSES(header(ring)->flags = 0xe);
	REFUSES(header(ring)->cmdr_off = 8);
	REFUSES(header(ring)->cmdr_off = RING_OFFSET + 4);
	REFUSES(header(ring)->cmdr_off = UINT32_MAX - 7);
	REFUSES(header(ring)->cmdr_size = 0);
	REFUSES(header(ring)->cmdr_size = 104);
	REFUSES(header(ring)->cmdr_size = RING_SIZE + 4);
	REFUSES(header(ring)->cmdr_size = LENGTH);
	REFUSES(header(ring)->cmdr_size = UINT32_MAX - 7);
	REFUSES(header(ring)->cmd_tail = RING_SIZE);
	REFUSES(header(ring)->cmd_tail = 4);
	*header(ring) = good;
	assert_int_equal(mailbox_init(&mailbox, ring->base, 64), -EPROTO);
	assert_int_equal(mailbox_init(&mailbox, ring->base, RING_OFFSET + RING_SIZE - 8), -EPROTO);
	assert_int_equal(mailbox_init(&mailbox, ring->base, RING_OFFSET + RING_SIZE), 0);
}

static void test_one_command(void **state)
{
	struct ring *ring = *state;
	assert_false(mailbox_pending(&ring->mailbox));
	assert_int_equal(fetch(ring), MAILBOX_EMPTY);
	uint32_t position = put_command(ring, 7, 3);
	assert_true(mailbox_pending(&ring->mailbox));
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetched.id, 7);
	assert_int_equal(fetched.cdb_length, 16);
	assert_int_equal(fetched.cdb[0], 0x88);
	assert_int_equal(fetched.cdb[15], 7);
	assert_int_equal(fetched.iov_count, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_ptr_equal(iov[i].iov_base, ring->base + DATA_OFFSET + i * 64);
		assert_int_equal(iov[i].iov_len, 64);
	}
	assert_int_equal(fetch(ring), MAILBOX_EMPTY);
	assert_false(mailbox_pending(&ring->mailbox));
	assert_false(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, 0);

	mailbox_complete(&ring->mailbox, 7, 0, NULL, 0, false, 0);
	assert_int_equal(header(ring)->cmd_tail, 0);
	assert_true(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, ring->head);
	assert_int_equal(entry_at(ring, position)->hdr.cmd_id, 7);
	assert_int_equal(entry_at(ring, position)->hdr.uflags, 0);
	assert_int_equal(entry_at(ring, position)->rsp.scsi_status, 0);
	assert_false(mailbox_publish(&ring->mailbox));
}

static void test_out_of_order(void **state)
{
	struct ring *ring = *state;
	uint32_t first = put_command(ring, 1, 0), second = put_command(ring, 2, 1), third = put_command(ring, 3, 2);
	for (uint16_t id = 1; id <= 3; id++) {
		assert_int_equal(fetch(ring), MAILBOX_COMMAND);
		assert_int_equal(fetched.id, id);
	}
	mailbox_complete(&ring->mailbox, 3, 0, NULL, 0, false, 0);
	assert_true(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, second);
	assert_int_equal(entry_at(ring, first)->hdr.cmd_id, 3);
	mailbox_complete(&ring->mailbox, 1, 8, NULL, 0, false, 0);
	mailbox_complete(&ring->mailbox, 2, 0, NULL, 0, false, 0);
	assert_int_equal(header(ring)->cmd_tail, second);
	assert_true(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, ring->head);
	assert_int_equal(entry_at(ring, second)->hdr.cmd_id, 1);
	assert_int_equal(entry_at(ring, second)->rsp.scsi_status, 8);
	assert_int_equal(entry_at(ring, third)->hdr.cmd_id, 2);
	/* what the kernel walks by is untouched */
	assert_int_equal(entry_at(ring, second)->hdr.len_op & 7, TCMU_OP_CMD);
	assert_int_equal(entry_at(ring, second)->hdr.len_op & ~7u, third - second);
}

static void test_sense_and_read_length(void **state)
{
	struct ring *ring = *state;
	uint8_t sense[18] = { 0x70, 0, 5, [7] = 10, [12] = 0x20 };
	uint32_t first = put_command(ring, 1, 1);
	memset(ring->base + RING_OFFSET + first + 48 + 16, 0xaa, 40);
	uint32_t second = put_command(ring, 2, 1);
	fetch(ring);
	fetch(ring);
	mailbox_complete(&ring->mailbox, 1, 2, sense, sizeof(sense), false, 0);
	mailbox_complete(&ring->mailbox, 2, 0, NULL, 0, true, 36);
	struct tcmu_cmd_entry *entry = entry_at(ring, first);
	assert_int_equal(entry->rsp.scsi_status, 2);
	assert_memory_equal(entry->rsp.sense_buffer, sense, sizeof(sense));
	for (unsigned i = sizeof(sense); i < 96; i++)
		assert_int_equal(entry->rsp.sense_buffer[i], 0);
	assert_int_equal(entry_at(ring, second)->hdr.uflags, TCMU_UFLAG_READ_LEN);
	assert_int_equal(entry_at(ring, second)->rsp.read_len, 36);
}

static void test_read_length_unknown_to_kernel(void **state)
{
	struct ring *ring = *state;
	header(ring)->flags = TCMU_MAILBOX_FLAG_CAP_OOOC;
	assert_int_equal(mailbox_init(&ring->mailbox, ring->base, LENGTH), 0);
	uint32_t position = put_command(ring, 1, 1);
	fetch(ring);
	mailbox_complete(&ring->mailbox, 1, 0, NULL, 0, true, 36);
	assert_int_equal(entry_at(ring, position)->hdr.uflags, 0);
}

static void test_wrap_with_padding(void **state)
{
	struct ring *ring = *state;
	unsigned laps = 0;
	for (uint16_t id = 1; id < 200; id++) {
		uint32_t position = put_command(ring, id, id % 5);
		laps += !position;
		assert_int_equal(fetch(ring), MAILBOX_COMMAND);
		assert_int_equal(fetched.id, id);
		assert_int_equal(fetched.iov_count, id % 5);
		mailbox_complete(&ring->mailbox, id, 0, NULL, 0, false, 0);
		assert_true(mailbox_publish(&ring->mailbox));
		assert_int_equal(header(ring)->cmd_tail, ring->head);
		assert_int_equal(entry_at(ring, position)->hdr.cmd_id, id);
	}
	assert_true(laps > 20);
}

static void test_wrap_with_commands_in_flight(void **state)
{
	struct ring *ring = *state;
	uint16_t next = 1, oldest = 1;
	for (unsigned i = 0; i < 3; i++, next++) {
		put_command(ring, next, 0);
		fetch(ring);
	}
	for (unsigned i = 0; i < 100; i++, next++) {
		put_command(ring, next, 0);
		assert_int_equal(fetch(ring), MAILBOX_COMMAND);
		/* the newest first, then what was left over */
		uint16_t id = i % 2 ? next : oldest++;
		if (i % 2 == 0 && id == next)
			continue;
		mailbox_complete(&ring->mailbox, id, 0, NULL, 0, false, 0);
		assert_true(mailbox_publish(&ring->mailbox));
		assert_false(ring->mailbox.broken);
	}
	assert_int_equal(ring->mailbox.outstanding, 3);
}

static void test_tmr(void **state)
{
	struct ring *ring = *state;
	put_command(ring, 5, 0);
	put_command(ring, 6, 0);
	put_tmr(ring, TCMU_TMR_LUN_RESET, 2, (uint16_t[]){ 5, 6 });
	uint32_t behind = put_command(ring, 7, 0);
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetch(ring), MAILBOX_TMR);
	assert_int_equal(fetched.tmr_type, TCMU_TMR_LUN_RESET);
	assert_int_equal(fetched.tmr_count, 2);
	assert_int_equal(mailbox_tmr_id(&fetched, 0), 5);
	assert_int_equal(mailbox_tmr_id(&fetched, 1), 6);
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	mailbox_complete(&ring->mailbox, 6, 0, NULL, 0, false, 0);
	mailbox_complete(&ring->mailbox, 7, 0, NULL, 0, false, 0);
	mailbox_complete(&ring->mailbox, 5, 0, NULL, 0, false, 0);
	assert_true(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, ring->head);
	assert_int_equal(entry_at(ring, behind)->hdr.cmd_id, 5);
}

static void test_tmr_alone_is_consumed(void **state)
{
	struct ring *ring = *state;
	put_tmr(ring, TCMU_TMR_ABORT_TASK, 0, NULL);
	assert_int_equal(fetch(ring), MAILBOX_TMR);
	assert_int_equal(fetched.tmr_count, 0);
	assert_int_equal(fetch(ring), MAILBOX_EMPTY);
	assert_true(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, ring->head);
}

static void test_entries_left_by_a_reader_are_seen_again(void **state)
{
	struct ring *ring = *state;
	for (uint16_t id = 1; id <= 3; id++) {
		put_command(ring, id, 0);
		fetch(ring);
	}
	mailbox_complete(&ring->mailbox, 1, 0, NULL, 0, false, 0);
	assert_true(mailbox_publish(&ring->mailbox));
	struct mailbox next;
	assert_int_equal(mailbox_init(&next, ring->base, LENGTH), 0);
	ring->mailbox = next;
	assert_true(mailbox_pending(&ring->mailbox));
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetched.id, 2);
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetched.id, 3);
	assert_int_equal(fetch(ring), MAILBOX_EMPTY);
}

static void test_cdb_lengths(void **state)
{
	struct ring *ring = *state;
	static const struct {
		uint8_t opcode, additional;
		unsigned length;
	} cases[] = { { 0x00, 0, 6 },
		      { 0x28, 0, 10 },
		      { 0x5e, 0, 10 },
		      { 0x88, 0, 16 },
		      { 0xa0, 0, 12 },
		      { 0xc1, 0, 10 },
		      { 0x60, 0, 12 },
		      { 0x7f, 4, 12 },
		      /* it says more than the entry holds */
		      { 0x7f, 0xff, 16 } };
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t position = put_command(ring, 1, 0);
		char *cdb = ring->base + entry_at(ring, position)->req.cdb_off;
		cdb[0] = (char)cases[i].opcode;
		cdb[7] = (char)cases[i].additional;
		assert_int_equal(fetch(ring), MAILBOX_COMMAND);
		assert_int_equal(fetched.cdb_length, cases[i].length);
		mailbox_complete(&ring->mailbox, 1, 0, NULL, 0, false, 0);
		mailbox_publish(&ring->mailbox);
	}
}

/* The command is refused, and nothing else suffers. */
static void expect_unparsable(struct ring *ring, uint16_t id)
{
	put_command(ring, 99, 1);
	assert_int_equal(fetch(ring), MAILBOX_UNPARSABLE);
	assert_int_equal(fetched.id, id);
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetched.id, 99);
	mailbox_complete(&ring->mailbox, id, 2, "p", 1, false, 0);
	mailbox_complete(&ring->mailbox, 99, 0, NULL, 0, false, 0);
	assert_true(mailbox_publish(&ring->mailbox));
	assert_int_equal(header(ring)->cmd_tail, ring->head);
}

static void test_hostile_cdb(void **state)
{
	struct ring *ring = *state;
	static const int64_t offsets[] = { 0, RING_OFFSET, LENGTH - 1, LENGTH, INT64_MAX, -1, -16 };
	for (unsigned i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		uint32_t position = put_command(ring, 1, 1);
		entry_at(ring, position)->req.cdb_off = (uint64_t)offsets[i];
		expect_unparsable(ring, 1);
	}
	/* right behind the entry */
	uint32_t position = put_command(ring, 1, 1);
	entry_at(ring, position)->req.cdb_off = RING_OFFSET + ring->head;
	expect_unparsable(ring, 1);
}

static void test_hostile_buffers(void **state)
{
	struct ring *ring = *state;
	static const struct {
		uint64_t offset, length;
	} cases[] = {
		{ LENGTH, 1 },
		{ LENGTH - 63, 64 },
		{ 0, 64 },
		{ RING_OFFSET + RING_SIZE - 8, 64 },
		{ UINT64_MAX, 64 },
		{ DATA_OFFSET, UINT64_MAX },
		{ UINT64_MAX - 63, 64 },
		{ DATA_OFFSET, LENGTH },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t position = put_command(ring, 1, 2);
		memcpy((char *)entry_at(ring, position) + 48 + 16, &cases[i], 16);
		expect_unparsable(ring, 1);
	}
}

static void test_hostile_counts(void **state)
{
	struct ring *ring = *state;
	static const uint32_t counts[] = { 5, 17, 0x10000000, UINT32_MAX };
	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		uint32_t position = put_command(ring, 1, 1);
		entry_at(ring, position)->req.iov_cnt = counts[i] == 5 ? 20 : counts[i];
		expect_unparsable(ring, 1);
		position = put_command(ring, 2, 1);
		entry_at(ring, position)->req.iov_bidi_cnt = counts[i] == 5 ? 20 : counts[i];
		expect_unparsable(ring, 2);
		position = put_command(ring, 3, 1);
		entry_at(ring, position)->req.iov_dif_cnt = counts[i] == 5 ? 20 : counts[i];
		expect_unparsable(ring, 3);
	}
}

static void test_more_buffers_than_room(void **state)
{
	struct ring *ring = *state;
	put_command(ring, 1, 17);
	expect_unparsable(ring, 1);
	put_command(ring, 2, 16);
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetched.iov_count, 16);
}

static void test_empty_buffers_are_left_out(void **state)
{
	struct ring *ring = *state;
	uint32_t position = put_command(ring, 1, 2);
	struct iovec empty = { (void *)(uintptr_t)DATA_OFFSET, 0 };
	memcpy((char *)entry_at(ring, position) + 48, &empty, sizeof(empty));
	assert_int_equal(fetch(ring), MAILBOX_COMMAND);
	assert_int_equal(fetched.iov_count, 1);
	assert_int_equal(iov[0].iov_len, 64);
}

static void test_hostile_head(void **state)
{
	struct ring *ring = *state;
	static const uint32_t heads[] = { RING_SIZE, RING_SIZE + 8, UINT32_MAX, 4, 0x80000000 };
	for (unsigned i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		assert_int_equal(mailbox_init(&ring->mailbox, ring->base, LENGTH), 0);
		set_head(ring, heads[i]);
		assert_true(mailbox_pending(&ring->mailbox));
		expect_broken(ring);
	}
}

/* A head that has run into what is not completed yet. */
static void test_head_laps_tail(void **state)
{
	struct ring *ring = *state;
	put_command(ring, 1, 0);
	put_command(ring, 2, 0);
	fetch(ring);
	fetch(ring);
	set_head(ring, 128);
	expect_broken(ring);
}

static void test_hostile_lengths(void **state)
{
	struct ring *ring = *state;
	static const uint32_t len_ops[] = {
		0 | TCMU_OP_CMD,
		8 | TCMU_OP_CMD,
		104 | TCMU_OP_CMD,
		(RING_SIZE + 8) | TCMU_OP_CMD,
		0xfffffff8 | TCMU_OP_CMD,
		136 | TCMU_OP_CMD, /* past the head */
		0 | TCMU_OP_PAD,
		(RING_SIZE + 8) | TCMU_OP_PAD,
		0 | TCMU_OP_TMR,
		16 | TCMU_OP_TMR,
		128 | 3,
		128 | 7,
	};
	for (unsigned i = 0; i < sizeof(len_ops) / sizeof(len_ops[0]); i++) {
		set_head(ring, 0);
		header(ring)->cmd_tail = 0;
		assert_int_equal(mailbox_init(&ring->mailbox, ring->base, LENGTH), 0);
		uint32_t position = put_command(ring, 1, 0);
		entry_at(ring, position)->hdr.len_op = len_ops[i];
		expect_broken(ring);
	}
}

static void test_hostile_tmr_count(void **state)
{
	struct ring *ring = *state;
	static const uint32_t counts[] = { 13, 0x80000000, UINT32_MAX };
	for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		set_head(ring, 0);
		assert_int_equal(mailbox_init(&ring->mailbox, ring->base, LENGTH), 0);
		uint32_t position = put_tmr(ring, 5, 10, (uint16_t[10]){ 0 });
		((struct tcmu_tmr_entry *)entry_at(ring, position))->cmd_cnt = counts[i];
		expect_broken(ring);
	}
}

/* The ring is shared: lengths that were right when fetched may be wrong when completed. */
static void test_entry_changes_after_fetch(void **state)
{
	struct ring *ring = *state;
	static const uint32_t len_ops[] = { 0 | TCMU_OP_CMD, 8 | TCMU_OP_CMD, 0xfffffff8 | TCMU_OP_CMD, 512 | TCMU_OP_CMD, 0 | TCMU_OP_PAD,
					    0xfffffff8 | TCMU_OP_TMR,
					    /* nothing left to complete into */
					    128 | TCMU_OP_PAD };
	for (unsigned i = 0; i < sizeof(len_ops) / sizeof(len_ops[0]); i++) {
		set_head(ring, 0);
		header(ring)->cmd_tail = 0;
		assert_int_equal(mailbox_init(&ring->mailbox, ring->base, LENGTH), 0);
		uint32_t position = put_command(ring, 1, 0);
		assert_int_equal(fetch(ring), MAILBOX_COMMAND);
		entry_at(ring, position)->hdr.len_op = len_ops[i];
		mailbox_complete(&ring->mailbox, 1, 0, NULL, 0, false, 0);
		assert_false(mailbox_publish(&ring->mailbox));
		assert_int_equal(header(ring)->cmd_tail, 0);
		expect_broken(ring);
	}
}

static void test_completing_too_much_breaks(void **state)
{
	struct ring *ring = *state;
	put_command(ring, 1, 0);
	fetch(ring);
	mailbox_complete(&ring->mailbox, 1, 0, NULL, 0, false, 0);
	mailbox_complete(&ring->mailbox, 1, 0, NULL, 0, false, 0);
	assert_false(mailbox_publish(&ring->mailbox));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_init_refuses),
		TEST(test_one_command),
		TEST(test_out_of_order),
		TEST(test_sense_and_read_length),
		TEST(test_read_length_unknown_to_kernel),
		TEST(test_wrap_with_padding),
		TEST(test_wrap_with_commands_in_flight),
		TEST(test_tmr),
		TEST(test_tmr_alone_is_consumed),
		TEST(test_entries_left_by_a_reader_are_seen_again),
		TEST(test_cdb_lengths),
		TEST(test_hostile_cdb),
		TEST(test_hostile_buffers),
		TEST(test_hostile_counts),
		TEST(test_more_buffers_than_room),
		TEST(test_empty_buffers_are_left_out),
		TEST(test_hostile_head),
		TEST(test_head_laps_tail),
		TEST(test_hostile_lengths),
		TEST(test_hostile_tmr_count),
		TEST(test_entry_changes_after_fetch),
		TEST(test_completing_too_much_breaks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
