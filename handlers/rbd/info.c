/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the image is: for lunkit info, and its snapshots. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "rbd.h"

#define FEATURES_MAX 256

static void add_pool(struct rbd *rbd, struct lunkit_info *info, const char *key, int64_t id)
{
	char name[RBD_NAME_MAX];
	if (id >= 0 && rados_pool_reverse_lookup(rbd->pool.cluster, id, name, sizeof(name)) > 0)
		lunkit_info_string(info, key, name);
}

static void add_parent(struct rbd *rbd, struct lunkit_info *info)
{
	rbd_linked_image_spec_t parent;
	rbd_snap_spec_t snapshot;
	char text[600];
	if (rbd_get_parent(rbd->image, &parent, &snapshot) < 0)
		return;
	snprintf(text, sizeof(text), "%s/%s%s%s@%s", parent.pool_name, parent.pool_namespace, parent.pool_namespace[0] ? "/" : "",
		 parent.image_name, snapshot.name);
	lunkit_info_string(info, "parent", text);
	rbd_linked_image_spec_cleanup(&parent);
	rbd_snap_spec_cleanup(&snapshot);
}

int rbd_handler_info(void *state, struct lunkit_info *info, struct lunkit_error *err)
{
	struct rbd *rbd = state;
	const struct rbd_facts *facts = &rbd->facts;
	char features[FEATURES_MAX] = "", fsid[64] = "";
	size_t size = sizeof(features);
	(void)err;
	if (rados_cluster_fsid(rbd->pool.cluster, fsid, sizeof(fsid)) > 0)
		lunkit_info_string(info, "cluster-id", fsid);
	lunkit_info_string(info, "pool", rbd->name.pool);
	if (rbd->name.namespace[0])
		lunkit_info_string(info, "namespace", rbd->name.namespace);
	if (rbd->name.snapshot[0])
		lunkit_info_string(info, "snapshot", rbd->name.snapshot);
	lunkit_info_string(info, "image-id", facts->id);
	lunkit_info_bytes(info, "object-size", facts->object_size);
	if (facts->stripe_count > 1) {
		lunkit_info_bytes(info, "stripe-unit-size", facts->stripe_unit);
		lunkit_info_number(info, "stripe-count", facts->stripe_count);
	}
	if (facts->features & RBD_FEATURE_DATA_POOL)
		add_pool(rbd, info, "data-pool", facts->data_pool);
	if (rbd_features_to_string(facts->features, features, &size) == 0)
		lunkit_info_string(info, "features", features);
	add_parent(rbd, info);
	if (rbd->fenced)
		lunkit_info_bool(info, "shut-out", true);
	return 0;
}

static int add_snapshot(struct rbd *rbd, struct lunkit_snapshots *list, const rbd_snap_info_t *from)
{
	struct lunkit_snapshot snapshot = { .size = from->size };
	struct timespec time;
	rbd_snap_namespace_type_t type;
	/* Those of other namespaces (groups, trash, mirroring) are not the user's. */
	if (rbd_snap_get_namespace_type(rbd->image, from->id, &type) == 0 && type != RBD_SNAP_NAMESPACE_TYPE_USER)
		return 0;
	if (strlen(from->name) >= sizeof(snapshot.name))
		return 0;
	snprintf(snapshot.id, sizeof(snapshot.id), "%llu", (unsigned long long)from->id);
	snprintf(snapshot.name, sizeof(snapshot.name), "%s", from->name);
	if (rbd_snap_get_timestamp(rbd->image, from->id, &time) == 0)
		snapshot.time_ns = (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
	int is_protected = 0, r = lunkit_snapshots_add(list, &snapshot);
	if (r == 0 && rbd_snap_is_protected(rbd->image, from->name, &is_protected) == 0 && is_protected)
		lunkit_snapshots_protected(list);
	return r;
}

static int compare_id(const void *a, const void *b)
{
	uint64_t left = ((const rbd_snap_info_t *)a)->id, right = ((const rbd_snap_info_t *)b)->id;
	return (left > right) - (left < right);
}

int rbd_handler_snapshot_list(void *state, struct lunkit_snapshots *list, struct lunkit_error *err)
{
	struct rbd *rbd = state;
	rbd_snap_info_t *snapshots = NULL;
	int most = 32, r;
	do {
		rbd_snap_info_t *more = reallocarray(snapshots, (size_t)most, sizeof(*snapshots));
		if (!more) {
			free(snapshots);
			return lunkit_error_set(err, ENOMEM, "%.300s: not enough memory", rbd->label);
		}
		snapshots = more;
		r = rbd_snap_list(rbd->image, snapshots, &most);
	} while (r == -ERANGE);
	if (r < 0) {
		free(snapshots);
		return rbd_say(err, r, rbd->label, "list the snapshots");
	}
	int count = r;
	qsort(snapshots, (size_t)count, sizeof(*snapshots), compare_id); /* ids grow */
	r = 0;
	for (int i = 0; i < count && r == 0; i++)
		r = add_snapshot(rbd, list, &snapshots[i]);
	if (count > 0)
		rbd_snap_list_end(snapshots);
	free(snapshots);
	return r < 0 ? lunkit_error_set(err, r, "%.300s: not enough memory", rbd->label) : 0;
}
