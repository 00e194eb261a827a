#!/bin/bash
# limit: 420 seconds
# An image in a Ceph cluster as a disk: by lunkit and by targetcli with tcmu-runner's configuration string, resized by somebody else, snapshots, a killed worker.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
type ceph-osd ceph-mon rbd &>/dev/null || skip 'ceph-mon, ceph-osd and ceph-common are not installed'
test_begin
conf=$work/ceph/ceph.conf
stop_cluster() {
    local status=$?
    "$tests_root/scripts/ceph" stop "$work/ceph" &>/dev/null
    (exit $status)
    test_end
}
trap stop_cluster EXIT
rbd() {
    timeout 120 rbd -c "$conf" "$@"
}

step 'a cluster'
"$tests_root/scripts/ceph" start "$work/ceph" --memory 512 || fail "$(tail -n 20 "$work"/ceph/*log)"
rbd create rbd/vm --size 64
image="rbd:rbd/vm;conf=$conf"

step 'attach, I/O with checks'
attach "$image"
expect_equal 'size of the disk' $((64 << 11)) "$(sectors "$device")"
expect_equal 'optimal transfer: an object, as far as one command goes' $((1 << 20)) "$(cat "/sys/class/block/${device##*/}/queue/optimal_io_size")"
expect_equal 'discard granularity' $((4 << 20)) "$(cat "/sys/class/block/${device##*/}/queue/discard_granularity")"
worker=$(lun_property "$image" worker-pid)
[[ $(stat -c %U "/proc/$worker") != root ]] || fail 'the worker is root'
grep -q '^Seccomp:.*2' "/proc/$worker/status" || fail 'the worker has no filter of system calls'
fio_job verify --rw=randwrite --bs=4k-64k --size=16M --iodepth=8 --ioengine=libaio --verify=crc32c
head -c 8M /dev/urandom >"$work/content"
dd if="$work/content" of="$device" bs=1M oflag=direct status=none
same_as_cluster() {
    cmp -n $((8 << 20)) <(rbd export rbd/vm - 2>/dev/null) "$work/content"
}
same_as_cluster || fail 'rbd export finds something else'
expect_match info 'cluster id' "$(lunkit info "$image")"

step 'snapshots of the attached image'
lunkit snapshot create "$image" before
dd if=/dev/zero of="$device" bs=1M count=8 oflag=direct status=none
lunkit export "$image;snapshot=before" "$work/before.raw"
cmp -n $((8 << 20)) "$work/before.raw" "$work/content" || fail 'the export of the snapshot differs'
lunkit snapshot revert "$image" before
blockdev --flushbufs "$device"
cmp -n $((8 << 20)) "$device" "$work/content" || fail 'the disk was not reverted'
lunkit snapshot delete "$image" before

step 'resized by lunkit, and by somebody else'
lunkit resize "$image" 80M
expect_equal 'size of the disk' $((80 << 11)) "$(sectors "$device")"
rbd resize rbd/vm --size 96 --no-progress
has_size() {
    [[ $(sectors "$device") == "$1" ]]
}
wait_for 60 'the disk has the size that another client gave the image' has_size $((96 << 11))
dd if=/dev/urandom of="$device" bs=1M seek=95 count=1 oflag=direct status=none

step 'a killed worker'
worker=$(lun_property "$image" worker-pid)
kill -KILL "$worker"
wait_for 60 'another worker' new_worker "$image" "$worker"
timeout 15 dd if="$work/content" of="$device" bs=1M count=8 oflag=direct status=none || fail 'no writes soon after a worker was killed'
same_as_cluster || fail 'what was written after that is not in the cluster'

step 'a new lunkitd takes it over'
kill_lunkitd TERM
start_lunkitd
wait_for 60 'serving again' lun_state_is "$image" serving
cmp -n $((8 << 20)) "$device" "$work/content" || fail 'the content is another one'
detach "$image"

step "targetcli, with tcmu-runner's configuration string"
target set global color_mode=false auto_save_on_exit=false logfile=/dev/null >"$work/set"
output=$(timeout 150 targetcli 2>&1 <<END
/backstores/user:rbd create moved 96M rbd/vm;osd_op_timeout=15;conf=$conf;id=admin
/backstores/user:rbd create wrong 96M rbd/none;osd_op_timeout=15;conf=$conf;id=admin
/loopback create naa.5001405aaaaaaaa2
/loopback/naa.5001405aaaaaaaa2/luns create /backstores/user:rbd/moved
END
) || fail "targetcli: $output"
printf '%s\n' "$output" | grep -v '^$' | sed 's/^/  | /'
expect_match 'missing image' 'there is no such image' "$output"
wait_for 30 'it is a disk' lun_device moved
device=$(lun_device moved)
cmp -n $((8 << 20)) "$device" "$work/content" || fail 'the content is another one'
lunkit detach moved || timeout 60 targetcli /loopback delete naa.5001405aaaaaaaa2 >/dev/null
timeout 60 targetcli /loopback delete naa.5001405aaaaaaaa2 &>/dev/null || true
timeout 60 targetcli /backstores/user:rbd delete moved &>/dev/null || true
