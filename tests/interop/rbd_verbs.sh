#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# rbd_verbs.sh LUNKIT : every verb on images of a real cluster; Ceph's own tools and qemu-img say the same.
# shellcheck disable=SC2016 # what the inner shell expands
set -u
lunkit=$1
# shellcheck source=tests/interop/rbd_cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/rbd_cluster.sh"

# rbd_says IMAGE FILTER : of rbd info
rbd_says() {
    last="rbd info $1"
    out=$(rbd info "$1" --format json)
    expect_json "$2"
}
same_content() {
    cmp -s <(rbd export "$1" - 2>/dev/null) "$2"
}

# ---- create, info
succeeds "$lunkit" create "rbd:rbd/plain$options" 64M
rbd_says rbd/plain '.size == 67108864 and .object_size == 4194304'
succeeds "$lunkit" create "rbd:rbd/made$options" 64M --option object-size=1M --option features=layering+exclusive-lock --option data-pool=other
rbd_says rbd/made '.object_size == 1048576 and .data_pool == "other" and (.features | contains(["layering", "exclusive-lock"])) and (.features | contains(["object-map"]) | not)'
succeeds "$lunkit" create "rbd:rbd/striped$options" 64M --option stripe-unit=64K --option stripe-count=4
rbd_says rbd/striped '.stripe_unit == 65536 and .stripe_count == 4'
succeeds "$lunkit" info --json "rbd:rbd/made$options"
expect_json '."virtual-size" == 67108864 and ."object-size" == 1048576 and ."data-pool" == "other" and .kind == "rbd" and .name == "rbd/made"'
expect_json ".\"cluster-id\" == \"$(ceph fsid 2>/dev/null)\" and (.features | test(\"exclusive-lock\"))"
expect "info shows no key" bash -c '! grep -qF "$1" <<<"$2"' sh "$(awk '/key/ { print $3 }' "$cluster/ceph.client.admin.keyring")" "$out"
rbd namespace create rbd/room
succeeds "$lunkit" create "rbd:rbd/room/inner$options" 8M
expect "the namespace has it" test "$(rbd ls rbd/room)" = inner

# ---- import, map, export
truncate -s 64M "$scratch/disk.raw"
dd if=/dev/urandom of="$scratch/disk.raw" bs=64K seek=80 count=50 conv=notrunc status=none
dd if=/dev/urandom of="$scratch/disk.raw" bs=64K seek=900 count=3 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 "$scratch/disk.raw" "$scratch/disk.qcow2"
succeeds "$lunkit" import "$scratch/disk.qcow2" "rbd:rbd/vm$options"
expect "rbd export has the content" same_content rbd/vm "$scratch/disk.raw"
expect "holes stay holes" test "$(rbd du rbd/vm --format json 2>/dev/null | jq '.images[0].used_size')" -le 16777216
"$lunkit" import - "rbd:rbd/piped$options" --size 64M <"$scratch/disk.raw" >/dev/null 2>&1
expect "a pipe's content is there" same_content rbd/piped "$scratch/disk.raw"
succeeds "$lunkit" map --json "rbd:rbd/vm$options"
expect_json 'map(.length) | add == 67108864'
# all that rbd diff names is data, and nothing that it does not name
rbd diff rbd/vm --format json | jq -c '[.[] | select(.exists == "true") | (.offset + .length)] | max' >"$scratch/diff"
expect_json "map(select(.data)) | map(.offset + .length) | max == $(<"$scratch/diff")"
expect_json "(map(select(.data)) | map(.length) | add) == $(rbd diff rbd/vm --format json | jq '[.[] | select(.exists == "true") | .length] | add')"
succeeds "$lunkit" export "rbd:rbd/vm$options" "$scratch/back.qcow2"
expect "qemu-img finds what was imported" qemu-img compare -q -f qcow2 -F raw "$scratch/back.qcow2" "$scratch/disk.raw"
"$lunkit" export "rbd:rbd/vm$options" - 2>/dev/null | cmp - "$scratch/disk.raw"
expect "the stream is the disk" test "${PIPESTATUS[1]}" = 0
qemu_image="rbd:rbd/vm:conf=$conf"
if qemu-img info "$qemu_image" >/dev/null 2>&1; then
    expect "qemu-img reads it from the cluster" qemu-img compare -q -f raw -F raw "$qemu_image" "$scratch/disk.raw"
fi

# ---- resize
succeeds "$lunkit" resize "rbd:rbd/plain$options" +64M
rbd_says rbd/plain '.size == 134217728'
fails 1 "would cut off its end" "$lunkit" resize "rbd:rbd/plain$options" 32M
succeeds "$lunkit" resize --shrink "rbd:rbd/plain$options" 32M
rbd_says rbd/plain '.size == 33554432'

# ---- snapshots
succeeds "$lunkit" snapshot create "rbd:rbd/vm$options" first
expect "rbd sees the snapshot" test "$(rbd snap ls rbd/vm --format json | jq -r '.[].name')" = first
fails 1 "there is a snapshot 'first' already" "$lunkit" snapshot create "rbd:rbd/vm$options" first
rbd bench --io-type write --io-size 64K --io-total 4M rbd/vm >/dev/null 2>&1
expect "the image has changed" bash -c '! cmp -s <(rbd export "$1" - 2>/dev/null) "$2"' sh rbd/vm "$scratch/disk.raw"
succeeds "$lunkit" export "rbd:rbd/vm@first$options" "$scratch/first.raw"
expect "the snapshot has not" cmp -s "$scratch/first.raw" "$scratch/disk.raw"
succeeds "$lunkit" export --force "rbd:rbd/vm$options;snapshot=first" "$scratch/first.raw"
expect "nor named as an option" cmp -s "$scratch/first.raw" "$scratch/disk.raw"
succeeds "$lunkit" snapshot revert "rbd:rbd/vm$options" first
expect "it is back" same_content rbd/vm "$scratch/disk.raw"
succeeds "$lunkit" snapshot protect "rbd:rbd/vm$options" first
succeeds "$lunkit" snapshot protect "rbd:rbd/vm$options" first
succeeds "$lunkit" snapshot list --json "rbd:rbd/vm$options"
expect_json 'length == 1 and .[0].name == "first" and .[0].protected and .[0].size == 67108864'
fails 1 "is protected" "$lunkit" snapshot delete "rbd:rbd/vm$options" first
fails 1 "there is no snapshot 'none'" "$lunkit" snapshot revert "rbd:rbd/vm$options" none
fails 1 "the image is read-only" "$lunkit" snapshot create "rbd:rbd/vm@first$options" second

# ---- clones
succeeds "$lunkit" clone "rbd:rbd/vm@first$options" rbd:rbd/clone
rbd_says rbd/clone '.parent.image == "vm" and .parent.snapshot == "first"'
succeeds "$lunkit" info "rbd:rbd/clone$options"
expect_out "rbd/vm@first"
fails 1 "has clones" "$lunkit" snapshot unprotect "rbd:rbd/vm$options" first
succeeds "$lunkit" clone "rbd:rbd/vm$options;snapshot=first" rbd:other/second
rbd_says other/second '.parent.pool == "rbd"'
fails 1 "there is such an image already" "$lunkit" clone "rbd:rbd/vm@first$options" rbd:rbd/clone
fails 1 "is not a snapshot" "$lunkit" clone "rbd:rbd/vm$options" rbd:rbd/third
succeeds "$lunkit" clone --full "rbd:rbd/vm@first$options" "rbd:rbd/copy$options"
expect "the copy stands alone" bash -c 'rbd info rbd/copy --format json | jq -e ".parent == null" >/dev/null'
expect "and has the content" same_content rbd/copy "$scratch/disk.raw"
rbd snap create rbd/copy@loose --no-progress
fails 1 "the snapshot is not protected" "$lunkit" clone "rbd:rbd/copy@loose$options" rbd:rbd/third
expect "nothing half made" bash -c '! rbd info rbd/third >/dev/null 2>&1'
succeeds "$lunkit" flatten "rbd:rbd/clone$options"
expect "rbd sees no parent" bash -c 'rbd info rbd/clone --format json | jq -e ".parent == null" >/dev/null'
expect "the content has come over" same_content rbd/clone "$scratch/disk.raw"
fails 1 "it has no parent" "$lunkit" flatten "rbd:rbd/clone$options"
succeeds "$lunkit" flatten "rbd:other/second$options"
succeeds "$lunkit" snapshot unprotect "rbd:rbd/vm$options" first
fails 1 "is not protected" "$lunkit" snapshot unprotect "rbd:rbd/vm$options" first
succeeds "$lunkit" snapshot delete "rbd:rbd/vm$options" first
fails 1 "there is no snapshot 'first'" "$lunkit" snapshot delete "rbd:rbd/vm$options" first

# ---- other users, other names
ceph auth get-or-create client.reader mon 'profile rbd' osd 'profile rbd-read-only pool=rbd' -o "$cluster/reader.keyring" 2>/dev/null
succeeds "$lunkit" info "rbd:rbd/vm$options;id=reader;keyring=$cluster/reader.keyring"
succeeds "$lunkit" export --force "rbd:rbd/vm$options;id=reader;keyring=$cluster/reader.keyring" "$scratch/first.raw"
fails 1 "lacks the right" "$lunkit" create "rbd:rbd/theirs$options;id=reader;keyring=$cluster/reader.keyring" 8M
succeeds "$lunkit" info "rbd:rbd/vm$options;osd_op_timeout=5"
finish
