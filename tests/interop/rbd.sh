#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# rbd.sh LUNKIT IMGIO HANDLERS : all tests of images in a Ceph cluster, on one cluster; each of them runs alone as well.
set -u
# shellcheck source=tests/interop/rbd_cluster.sh
source "$(dirname "${BASH_SOURCE[0]}")/rbd_cluster.sh"
export LUNKIT_TEST_CLUSTER=$cluster
failed=0
for part in "rbd_verbs $1" "rbd_io $2 $3" "rbd_failure $1"; do
    start=$SECONDS
    # shellcheck disable=SC2086 # words
    "$here"/${part%% *}.sh ${part#* } || failed=1
    echo "${part%% *}: $((SECONDS - start)) s"
done
exit "$failed"
