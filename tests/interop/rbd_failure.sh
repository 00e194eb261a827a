#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# rbd_failure.sh LUNKIT : what is wrong is said in so many words, in time, and nothing half made is left.
# shellcheck disable=SC2016 # what the inner shell expands
set -u
lunkit=$1
# shellcheck source=tests/interop/rbd_cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/rbd_cluster.sh"

rbd create rbd/disk --size 16

# ---- names
for name in disk rbd/ /disk a/b/c/d rbd/disk@ rbd/disk@a@b 'rbd//disk'; do
    fails 1 "" "$lunkit" info "rbd:$name$options"
done
fails 1 "there is no pool in it" "$lunkit" info "rbd:disk$options"
fails 1 "the cluster has no pool 'none'" "$lunkit" info "rbd:none/disk$options"
fails 1 "pool 'rbd' has no namespace 'none'" "$lunkit" info "rbd:rbd/none/disk$options"
fails 1 "there is no such image" "$lunkit" info "rbd:rbd/none$options"
fails 1 "the image has no snapshot 'none'" "$lunkit" info "rbd:rbd/disk@none$options"
fails 1 "names a snapshot" "$lunkit" create "rbd:rbd/new@snap$options" 8M

# ---- the way there
fails 1 "can't be read: No such file" "$lunkit" info "rbd:rbd/disk;conf=$scratch/none.conf"
fails 1 "is not an absolute path" "$lunkit" info "rbd:rbd/disk;conf=ceph.conf"
printf '[global]\nfsid = x\n' >"$scratch/empty.conf"
fails 1 "names no monitor" "$lunkit" info "rbd:rbd/disk;conf=$scratch/empty.conf"
head -c 2000000 /dev/zero >"$scratch/large.conf"
fails 1 "" "$lunkit" info "rbd:rbd/disk;conf=$scratch/large.conf"
mkfifo "$scratch/pipe.conf"
fails 1 "" "$lunkit" info "rbd:rbd/disk;conf=$scratch/pipe.conf"
fails 1 "has no key of client.nobody" "$lunkit" info "rbd:rbd/disk$options;id=nobody"
fails 1 "there is no key of client.admin" "$lunkit" info "rbd:rbd/disk$options;keyring=$cluster/none"
fails 1 "can't be an option" "$lunkit" info "rbd:rbd/disk$options;key=AQ=="
ceph-authtool "$cluster/wrong.keyring" --create-keyring --gen-key -n client.admin >/dev/null
fails 1 "the key is not the one that it knows" "$lunkit" info "rbd:rbd/disk$options;keyring=$cluster/wrong.keyring"
ceph-authtool "$cluster/unknown.keyring" --create-keyring --gen-key -n client.unknown >/dev/null
fails 1 "" "$lunkit" info "rbd:rbd/disk$options;id=unknown;keyring=$cluster/unknown.keyring"
expect "no key is shown" bash -c '! grep -qF "$1" <<<"$2"' sh "$(awk '/key/ { print $3 }' "$cluster/unknown.keyring")" "$err"

# ---- sizes and options
fails 1 "not a multiple" "$lunkit" create "rbd:rbd/odd$options" 1000
fails 1 "object-size is a power of two" "$lunkit" create "rbd:rbd/odd$options" 8M --option object-size=3M
fails 1 "go together" "$lunkit" create "rbd:rbd/odd$options" 8M --option stripe-unit=64K
fails 1 "are not features" "$lunkit" create "rbd:rbd/odd$options" 8M --option features=speed
fails 1 "has no pool 'none' for the data" "$lunkit" create "rbd:rbd/odd$options" 8M --option data-pool=none
fails 1 "there is no snapshot 'rbd/disk@none' to clone" "$lunkit" create "rbd:rbd/odd$options" 16M --option parent=rbd/disk@none
fails 2 "is more than an image can have" "$lunkit" create "rbd:rbd/odd$options" 9E
rbd snap create rbd/disk@base --no-progress && rbd snap protect rbd/disk@base
fails 1 "a clone can't have less" "$lunkit" create "rbd:rbd/odd$options" 8M --option parent=rbd/disk@base
fails 1 "there is such an image already" "$lunkit" create "rbd:rbd/disk$options" 8M
expect "nothing was made" test "$(rbd ls rbd)" = disk
# what is interrupted goes away again
head -c 8M /dev/urandom >"$scratch/source.raw"
timeout -s INT 2 "$lunkit" import --rate 1M "$scratch/source.raw" "rbd:rbd/odd$options" >/dev/null 2>&1
expect "an import that is interrupted leaves no image" test "$(rbd ls rbd)" = disk

# ---- an image that goes away, one that is in use
rbd create rbd/gone --size 16
timeout 20 rbd bench --io-type write --io-size 4K --io-total 16M rbd/gone >/dev/null 2>&1
"$lunkit" export --rate 2M "rbd:rbd/gone$options" "$scratch/gone.raw" >"$scratch/export" 2>&1 &
export_pid=$!
sleep 1
# its parts, as when somebody cleans up without asking: the copy reads zeros or says so, and ends either way
rados -c "$conf" -p rbd ls | grep -E '^rbd_(header|id|data|object_map)' | grep -v "$(rbd info rbd/disk --format json | jq -r .id)" |
    grep -v 'rbd_id.disk' | xargs -r -n 50 rados -c "$conf" -p rbd rm
wait "$export_pid"
rm -f "$scratch/gone.raw"
fails 1 "there is no such image" "$lunkit" export "rbd:rbd/gone$options" "$scratch/gone.raw"
expect "nothing half made" test ! -e "$scratch/gone.raw"

# ---- nobody there: an answer within the time that was asked for
"$sources/scripts/ceph" stop "$cluster" osd
start=$SECONDS
fails 1 "did not answer in time" "$lunkit" info "rbd:rbd/disk$options;osd-op-timeout=2"
expect "in time: $((SECONDS - start)) s" test "$((SECONDS - start))" -le 20
"$sources/scripts/ceph" stop "$cluster" mon
start=$SECONDS
fails 1 "do not answer" "$lunkit" info "rbd:rbd/disk$options;connect-timeout=2"
expect "in time: $((SECONDS - start)) s" test "$((SECONDS - start))" -le 15
"$sources/scripts/ceph" start "$cluster" >/dev/null 2>&1
succeeds "$lunkit" info "rbd:rbd/disk$options"
finish
