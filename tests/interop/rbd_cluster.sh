# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# A cluster for tests, on the loopback of a network namespace of its own: tests run beside each other and beside whatever this machine serves. Source it with
# the test's arguments; it starts the script again in the namespace. Afterwards: scratch, cluster, conf, options (;conf=…), rbd, ceph and expect.sh's functions.
# The cluster is LUNKIT_TEST_CLUSTER, emptied, when that is set.

# shellcheck disable=SC2034,SC2154 # what the sourcing script uses and sets
here=$(dirname "${BASH_SOURCE[0]}")
sources=$(cd "$here/../.." && pwd)
type ceph-mon ceph-osd rbd unshare ip >/dev/null 2>&1 || {
    echo "ceph-mon, ceph-osd and ceph-common are not installed"
    exit 77
}
if [[ ! ${LUNKIT_TEST_NAMESPACE-} ]]; then
    unshare --net true 2>/dev/null || {
        echo "making a network namespace needs root"
        exit 77
    }
    LUNKIT_TEST_NAMESPACE=1 exec unshare --net -- "$0" "$@"
fi
[[ ${LUNKIT_TEST_CLUSTER-} ]] || ip link set lo up
scratch=$(mktemp -d /tmp/lunkit-rbd-XXXXXX)
cluster=${LUNKIT_TEST_CLUSTER:-$scratch/ceph}
given=${LUNKIT_TEST_CLUSTER-} # whoever made it ends it
conf=$cluster/ceph.conf
options=";conf=$conf"
export LC_ALL=C.UTF-8
# The sanitizer's own accounting of leaks does not reach into librados' threads.
export ASAN_OPTIONS=${ASAN_OPTIONS-detect_leaks=0}

clean_up() {
    # shellcheck disable=SC2046 # words
    kill $(jobs -p) 2>/dev/null
    [[ $given ]] || "$sources/scripts/ceph" stop "$cluster" >/dev/null 2>&1
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM
# shellcheck source=tests/interop/expect.sh
source "$here/expect.sh"
last='the cluster starts'
"$sources/scripts/ceph" start "$cluster" --pool rbd --pool other >"$scratch/start" 2>&1 || {
    cat "$scratch/start" "$cluster"/*log 2>/dev/null | tail -n 40
    exit 1
}

rbd() {
    timeout 60 rbd -c "$conf" "$@"
}
ceph() {
    timeout 60 ceph -c "$conf" "$@"
}
export -f rbd ceph
export conf

# wait_for COMMAND… : at most 60 s
wait_for() {
    local deadline=$((SECONDS + 60))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

if [[ ${LUNKIT_TEST_CLUSTER-} ]]; then
    for pool in rbd other; do
        for image in $(rbd ls "$pool"); do
            for snapshot in $(rbd snap ls "$pool/$image" --format json | jq -r '.[] | select(.protected == "true") | .name'); do
                rbd snap unprotect "$pool/$image@$snapshot"
            done
            rbd snap purge "$pool/$image" --no-progress
            rbd rm "$pool/$image" --no-progress
        done
    done >/dev/null 2>&1
fi
