/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a worker's SCSI layer asks: who the device is and its target port groups, from configfs, each time anew, since targetcli changes them. Reading and writing is done on a
 * task's thread. The query is a struct scsi_query in the worker's memory layout: both come from one build.
 *
 *     core/user_N/NAME/alua/GROUP/{tg_pt_gp_id,alua_access_state,…,members}      members: "FABRIC/WWN/tpgt_N/lun_N", one a line
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "control/lun.h"
#include "control/state.h"
#include "scsi/scsi.h"

struct query_task {
	struct task task;
	struct control *control;
	uint64_t lun, generation;
	uint32_t id;
	struct target_root root;
	struct backstore_id backstore;
	char serial[BACKSTORE_SERIAL_MAX], kind[REFERENCE_KIND_MAX]; /* for what configfs does not say */
	struct scsi_query query;
	int result;
};

static int read_identity(struct query_task *task)
{
	struct backstore_info info = { 0 };
	backstore_read_identity(&task->root, &task->backstore, &info);
	struct scsi_identity *identity = &task->query.identity;
	memset(identity, 0, sizeof(*identity));
	snprintf(identity->serial, sizeof(identity->serial), "%.127s", info.serial[0] ? info.serial : task->serial);
	/* What nobody has set is the kernel's default vendor, and nothing else. */
	bool unset = !info.vendor[0] || strcmp(info.vendor, "LIO-ORG") == 0;
	snprintf(identity->vendor, sizeof(identity->vendor), "%.8s", unset ? "LUNKIT" : info.vendor);
	snprintf(identity->product, sizeof(identity->product), "%.16s", info.product[0] ? info.product : task->kind);
	snprintf(identity->revision, sizeof(identity->revision), "%.4s", info.revision[0] ? info.revision : LUNKIT_VERSION);
	return 0;
}

static uint64_t group_number(const struct query_task *task, const char *group, const char *file)
{
	uint64_t value = 0;
	file_read_u64(&value, "%s/core/user_%u/%s/alua/%s/%s", task->root.configfs, task->backstore.hba, task->backstore.name, group, file);
	return value;
}

static unsigned group_word(const struct query_task *task, const char *group, const char *file, const char *const *words, unsigned count)
{
	char text[64];
	if (file_read(text, sizeof(text), "%s/core/user_%u/%s/alua/%s/%s", task->root.configfs, task->backstore.hba, task->backstore.name,
		      group, file) >= 0)
		for (unsigned i = 0; i < count; i++)
			if (strcmp(text, words[i]) == 0)
				return i;
	return 0;
}

/* The relative identifiers of the ports in a group. */
static void read_ports(const struct query_task *task, const char *group, struct scsi_port_group *ret)
{
	char text[4096];
	if (file_read(text, sizeof(text), "%s/core/user_%u/%s/alua/%s/members", task->root.configfs, task->backstore.hba,
		      task->backstore.name, group) < 0)
		return;
	char *rest = NULL;
	for (char *member = strtok_r(text, "\n", &rest); member && ret->port_count < SCSI_PORTS_MAX; member = strtok_r(NULL, "\n", &rest)) {
		char *lun = strrchr(member, '/');
		uint64_t port;
		if (!lun)
			continue;
		*lun++ = '\0';
		for (char *c = member; *c && c < strchr(member, '/'); c++)
			if (*c >= 'A' && *c <= 'Z')
				*c = (char)(*c - 'A' + 'a'); /* some fabrics call themselves otherwise than their folder */
		if (file_read_u64(&port, "%s/%s/lun/%s/statistics/scsi_port/indx", task->root.configfs, member, lun) == 0 &&
		    port <= UINT16_MAX)
			ret->ports[ret->port_count++] = (uint16_t)port;
	}
}

static int read_groups(struct query_task *task)
{
	static const char *const types[] = { "None", "Implicit", "Explicit", "Implicit and Explicit" };
	static const char *const statuses[] = { "None", "Altered by Explicit STPG", "Altered by Implicit ALUA" };
	static const struct {
		const char *file;
		uint8_t bit;
	} supported[] = {
		{ "alua_support_active_optimized", 0x01 }, { "alua_support_active_nonoptimized", 0x02 }, { "alua_support_standby", 0x04 },
		{ "alua_support_unavailable", 0x08 },	   { "alua_support_lba_dependent", 0x10 },	 { "alua_support_offline", 0x40 },
		{ "alua_support_transitioning", 0x80 },
	};
	struct names groups;
	int r = names_read(&groups, "%s/core/user_%u/%s/alua", task->root.configfs, task->backstore.hba, task->backstore.name);
	if (r < 0)
		return r;
	struct scsi_port_groups *ret = &task->query.port_groups;
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < groups.count && ret->count < SCSI_PORT_GROUPS_MAX; i++) {
		const char *name = groups.items[i];
		struct scsi_port_group *group = &ret->groups[ret->count++];
		group->id = (uint16_t)group_number(task, name, "tg_pt_gp_id");
		group->access_state = (uint8_t)(group_number(task, name, "alua_access_state") & 0xf);
		group->access_status = (uint8_t)group_word(task, name, "alua_access_status", statuses, ARRAY_SIZE(statuses));
		group->access_type = (uint8_t)group_word(task, name, "alua_access_type", types, ARRAY_SIZE(types));
		group->preferred = group_number(task, name, "preferred") != 0;
		for (size_t j = 0; j < ARRAY_SIZE(supported); j++)
			if (group_number(task, name, supported[j].file))
				group->supported_states |= supported[j].bit;
		unsigned seconds = (unsigned)group_number(task, name, "implicit_trans_secs");
		ret->transition_seconds = MAX(ret->transition_seconds, seconds);
		read_ports(task, name, group);
	}
	names_free(&groups);
	return 0;
}

static int write_group(const struct query_task *task, const char *group, unsigned state)
{
	char text[8];
	snprintf(text, sizeof(text), "%u", state);
	int r = file_write(text, "%s/core/user_%u/%s/alua/%s/alua_access_state", task->root.configfs, task->backstore.hba,
			   task->backstore.name, group);
	if (r == 0) /* the kernel takes every write for an implicit change */
		file_write("1", "%s/core/user_%u/%s/alua/%s/alua_access_status", task->root.configfs, task->backstore.hba,
			   task->backstore.name, group);
	return r;
}

static int write_groups(struct query_task *task)
{
	struct names groups;
	int r = names_read(&groups, "%s/core/user_%u/%s/alua", task->root.configfs, task->backstore.hba, task->backstore.name);
	if (r < 0)
		return r;
	const struct scsi_port_groups *wanted = &task->query.port_groups;
	unsigned count = MIN(wanted->count, SCSI_PORT_GROUPS_MAX);
	for (unsigned i = 0; i < count && r == 0; i++) {
		r = -ENOENT;
		for (size_t j = 0; j < groups.count && r == -ENOENT; j++)
			if (group_number(task, groups.items[j], "tg_pt_gp_id") == wanted->groups[i].id)
				r = write_group(task, groups.items[j], wanted->groups[i].access_state);
	}
	names_free(&groups);
	return r;
}

static void query_work(struct task *task)
{
	struct query_task *query = (struct query_task *)task;
	query->result = -EOPNOTSUPP;
	switch (query->query.question) {
	case SCSI_ASK_IDENTITY:
		query->result = read_identity(query);
		return;
	case SCSI_ASK_PORT_GROUPS:
		query->result = read_groups(query);
		return;
	case SCSI_ASK_SET_PORT_GROUPS:
		query->result = write_groups(query);
		return;
	}
}

static void query_done(struct task *task)
{
	struct query_task *query = (struct query_task *)task;
	struct lun *lun = lun_by_id(query->control, query->lun);
	if (lun && lun->channel && lun->generation == query->generation)
		channel_answer(lun->channel, query->id, query->result, &query->query, sizeof(query->query));
	free(query);
}

void lun_query(struct lun *lun, uint32_t id, const struct protocol_query *message)
{
	_Static_assert(sizeof(struct scsi_query) <= PROTOCOL_QUERY_MAX, "a query has to fit its message");
	if (message->length != sizeof(struct scsi_query)) {
		channel_answer(lun->channel, id, -EINVAL, NULL, 0);
		return;
	}
	struct query_task *query = control_alloc(sizeof(*query));
	query->task.work = query_work;
	query->task.done = query_done;
	query->control = lun->control;
	query->lun = lun->id;
	query->generation = lun->generation;
	query->id = id;
	query->root = lun->control->root;
	query->backstore = lun->backstore;
	memcpy(query->serial, lun->serial, sizeof(query->serial));
	memcpy(query->kind, lun->reference.kind, sizeof(query->kind));
	memcpy(&query->query, message->bytes, sizeof(query->query));
	tasks_start(lun->control->short_tasks, &query->task);
}
