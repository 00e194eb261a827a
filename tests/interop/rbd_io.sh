#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# rbd_io.sh IMGIO HANDLERS : many requests in flight at any byte of images of a real cluster, beside a model; and the same while the OSD ends and comes back, waits, is full, or
# shuts us out.
# shellcheck disable=SC2016 # what the inner shell expands
set -u
imgio=$1
export LUNKIT_HANDLERS=$2
# shellcheck source=tests/interop/rbd_cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/rbd_cluster.sh"
options=${options#;}

# image NAME MIB : makes the image and its model
image() {
    rbd create "rbd/$1" --size "$2"
    truncate -s "$2M" "$scratch/$1"
}
# imgio NAME [OPTION] <COMMANDS
imgio() {
    "$imgio" rbd "rbd/$1" "$scratch/$1" "$options${2:+;$2}" >"$scratch/.out" 2>"$scratch/.err"
    status=$?
    out=$(<"$scratch/.out")
    err=$(<"$scratch/.err")
}

# is_open NAME : somebody watches the image
is_open() {
    rbd status "rbd/$1" --format json | jq -e '.watchers | length > 0' >/dev/null
}

last='random requests, snapshots, sizes'
image plain 64
imgio plain <<'END'
random 800 1 4194304
verify
flush
snapshot create s1
random 300 2 4194304
verify
snapshot create s2
random 300 3 65536
snapshot revert s1
verify
random 300 7 4096
snapshot revert s2
verify
resize 134217728
random 300 4 4194304
verify
resize 33554432 shrink
random 300 4 4194304
verify
snapshot delete s1 during
snapshot delete s2
verify
map
END
expect_status 0
expect "another program reads the same" bash -c 'cmp -s <(rbd export rbd/plain - 2>/dev/null) "$1"' sh "$scratch/plain"

last='a clone, flattened under requests'
rbd snap create rbd/plain@base --no-progress && rbd snap protect rbd/plain@base && rbd clone rbd/plain@base rbd/clone
cp "$scratch/plain" "$scratch/clone"
imgio clone <<'END'
random 100 1 65536
verify
flatten during
verify
END
expect_status 0
expect "another program reads the same" bash -c 'cmp -s <(rbd export rbd/clone - 2>/dev/null) "$1"' sh "$scratch/clone"


last='the OSD ends and comes back'
image restarted 64
(
    sleep 1
    "$sources/scripts/ceph" stop "$cluster" osd
    sleep 1
    "$sources/scripts/ceph" start "$cluster" osd
) >/dev/null 2>&1 &
imgio restarted <<'END'
random 4000 5 4096
verify
END
wait "$!"
expect_status 0

last='the OSD waits longer than we do'
image suspended 64
imgio suspended osd-op-timeout=2 < <(
    echo random 300 5 4096
    wait_for is_open suspended
    sleep 1
    kill -STOP "$(<"$cluster/osd.pid")"
    echo random 100 6 4096
)
kill -CONT "$(<"$cluster/osd.pid")"
expect_status 1
expect_out "Device or resource busy"
expect_err "the cluster does not answer in time"

last='the cluster has shut us out'
image fenced 16
imgio fenced < <(
    echo random 100 5 4096 nodiscard
    wait_for is_open fenced
    sleep 1
    # shellcheck disable=SC2046 # one address
    ceph osd blocklist add $(rbd status rbd/fenced --format json | jq -r '.watchers[0].address') 60 >/dev/null 2>&1
    echo random 100 6 4096
)
expect_status 1
expect_out "Cannot send after transport endpoint shutdown"
expect_err "has shut this client out"

last='the pool is full'
image full 4096
set_ratios() {
    local ratio=("$@") name
    for name in nearfull backfillfull full; do
        ceph osd "set-$name-ratio" "${ratio[0]}" >/dev/null 2>&1
        ratio=("${ratio[@]:1}")
    done
}
is_full() {
    ceph osd pool ls detail 2>/dev/null | grep -q "'rbd'.*,full,"
}
imgio full osd-op-timeout=10 < <(
    echo random 10 5 4096 nodiscard
    wait_for is_open full
    sleep 1
    set_ratios 0.001 0.002 0.003
    wait_for is_full
    echo random 100 6 4096 nodiscard
)
expect "the pool was full" is_full
expect_status 1
expect_out "No space left on device"
set_ratios 0.90 0.92 0.95
is_empty() {
    ! is_full
}
expect "the pool has room again" wait_for is_empty
image roomy 16
imgio roomy <<'END'
random 50 6 4096
verify
END
expect_status 0
finish
