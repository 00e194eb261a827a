/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "fakehost/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *memory)
{
	if (!memory) {
		fputs("no memory for the model\n", stderr);
		abort();
	}
	return memory;
}

struct model *model_new(const uint64_t *initial, uint64_t sectors)
{
	struct model *model = need(calloc(1, sizeof(*model)));
	model->sectors = sectors;
	model->initial = need(calloc(sectors, sizeof(uint64_t)));
	if (initial)
		memcpy(model->initial, initial, sectors * sizeof(uint64_t));
	model->histories = need(calloc(sectors, sizeof(*model->histories)));
	model->op_count = 1;
	return model;
}

void model_free(struct model *model)
{
	if (!model)
		return;
	for (uint64_t i = 0; i < model->sectors; i++)
		free(model->histories[i].ops);
	free(model->histories);
	free(model->initial);
	free(model->ops);
	free(model);
}

void model_fill(void *buffer, uint32_t op, uint64_t sector, uint64_t count)
{
	char *at = buffer; /* at any address */
	for (uint64_t i = 0; i < count; i++) {
		uint64_t tag = model_tag(op, sector + i);
		for (unsigned k = 0; k < MODEL_SECTOR / sizeof(tag); k++, at += sizeof(tag))
			memcpy(at, &tag, sizeof(tag));
	}
}

uint64_t model_read_tag(const void *content)
{
	uint64_t tag;
	memcpy(&tag, content, sizeof(tag));
	return memcmp(content, (const char *)content + 8, MODEL_SECTOR - 8) == 0 ? tag : UINT64_MAX;
}

uint32_t model_begin(struct model *model, enum model_kind kind, uint64_t sector, uint64_t count, uint64_t moment)
{
	if (model->op_count >= model->op_room) {
		model->op_room = model->op_room ? model->op_room * 2 : 256;
		model->ops = need(realloc(model->ops, model->op_room * sizeof(*model->ops)));
	}
	uint32_t op = model->op_count++;
	model->ops[op] = (struct model_op){ .kind = kind, .submitted = moment, .completed = UINT64_MAX, .durable = UINT64_MAX };
	for (uint64_t i = sector; i < sector + count; i++) {
		struct model_history *history = &model->histories[i];
		if (history->count == history->room) {
			history->room = history->room ? history->room * 2 : 4;
			history->ops = need(realloc(history->ops, history->room * sizeof(*history->ops)));
		}
		history->ops[history->count++] = op;
	}
	return op;
}

void model_end(struct model *model, uint32_t op, uint64_t moment, bool failed)
{
	model->ops[op].completed = moment;
	model->ops[op].failed = failed;
}

void model_flushed(struct model *model, uint64_t submitted, uint64_t moment)
{
	for (uint32_t i = 1; i < model->op_count; i++) {
		struct model_op *op = &model->ops[i];
		if (op->completed <= submitted && op->durable > moment)
			op->durable = moment;
	}
}

bool model_allows(const struct model *model, uint64_t sector, uint64_t tag, bool after_cut, uint64_t known, uint64_t now)
{
	const struct model_history *history = &model->histories[sector];
	/* The latest beginning of what is surely done: whatever had ended before it is gone. */
	uint64_t done = 0;
	for (uint32_t i = 0; i < history->count; i++) {
		const struct model_op *op = &model->ops[history->ops[i]];
		bool is_done = (after_cut ? op->durable : op->completed) <= known;
		if (is_done && !op->failed && op->kind != MODEL_DISCARD && op->submitted > done)
			done = op->submitted;
	}
	if (done == 0 && tag == model->initial[sector])
		return true;
	for (uint32_t i = history->count; i--;) {
		const struct model_op *op = &model->ops[history->ops[i]];
		if (op->submitted > now || op->completed < done)
			continue;
		uint64_t left = op->kind == MODEL_WRITE	    ? model_tag(history->ops[i], sector)
				: op->kind == MODEL_RESTORE ? op->tags[sector]
							    : 0;
		if (tag == left)
			return true;
	}
	return false;
}

static void describe(const struct model *model, uint64_t sector, uint64_t tag, char *text, unsigned size)
{
	const struct model_history *history = &model->histories[sector];
	int n = snprintf(text, size,
			 "sector %llu holds tag %llx (op %llu of sector %lld); initially %llx; ops:", (unsigned long long)sector,
			 (unsigned long long)tag, (unsigned long long)(tag >> 32), (long long)(tag & UINT32_MAX) - 1,
			 (unsigned long long)model->initial[sector]);
	uint32_t first = history->count > 6 ? history->count - 6 : 0;
	for (uint32_t i = first; i < history->count && n > 0 && (unsigned)n < size; i++) {
		const struct model_op *op = &model->ops[history->ops[i]];
		n += snprintf(text + n, size - (unsigned)n, " %u:%s[%llu %lld%s durable %lld]", history->ops[i],
			      op->kind == MODEL_WRITE	  ? "write"
			      : op->kind == MODEL_ZERO	  ? "zero"
			      : op->kind == MODEL_RESTORE ? "restore"
							  : "discard",
			      (unsigned long long)op->submitted, (long long)op->completed, op->failed ? " failed" : "",
			      (long long)op->durable);
	}
}

bool model_check(const struct model *model, uint64_t sector, const void *buffer, uint64_t count, bool after_cut, uint64_t known,
		 uint64_t now, char *text, unsigned size)
{
	for (uint64_t i = 0; i < count; i++) {
		uint64_t tag = model_read_tag((const char *)buffer + i * MODEL_SECTOR);
		/* Most sectors hold what they held first and were never touched. */
		if (model->histories[sector + i].count == 0 && tag == model->initial[sector + i])
			continue;
		if (!model_allows(model, sector + i, tag, after_cut, known, now)) {
			describe(model, sector + i, tag, text, size);
			return false;
		}
	}
	return true;
}
