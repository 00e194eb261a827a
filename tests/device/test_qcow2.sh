#!/bin/bash
# limit: 300 seconds
# Disks on qcow2 images: filesystems, snapshots and reverts while attached, growth, exports and flattening under I/O, a worker that is killed.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
command -v qemu-img >/dev/null || skip 'qemu-img is not here'
test_begin
mkdir "$work/mnt"

sound() {
    qemu-img check -q "$1" || fail "qemu-img finds faults in $1: $(qemu-img check "$1" 2>&1 | tail -n 3)"
}
# A crash may leave leaks, which a repair gives back, and nothing else.
sound_but_for_leaks() {
    local status=0
    lunkit check "$1" >"$work/check" || status=$?
    ((status == 0 || status == 3)) || fail "errors after a crash: $(<"$work/check")"
    lunkit check --repair leaks "$1"
    sound "$1"
}
sums() {
    (cd "$work/mnt" && find . -type f ! -path './lost*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
}

for type in ext4 xfs; do
    image=$work/$type.qcow2
    step "$type: fio with verification on a filesystem"
    lunkit create "$image" 384M
    attach "$image"
    "mkfs.$type" -q "$device"
    mount "$device" "$work/mnt"
    fio --name=verify --directory="$work/mnt" --size=24M --rw=randwrite --bs=8k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c \
        --output-format=terse >/dev/null || fail 'fio found other data than it wrote'
    echo old >"$work/mnt/state"
    sync -f "$work/mnt"
    old=$(sums)

    step "$type: a snapshot while it is mounted, then other data"
    lunkit snapshot create "$image" before
    expect_error already -- lunkit snapshot create "$image" before
    expect_match 'the list' before "$(lunkit snapshot list "$image")"
    echo new >"$work/mnt/state"
    fio --name=verify --directory="$work/mnt" --size=24M --rw=randwrite --bs=16k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c \
        --randseed=7 --output-format=terse >/dev/null || fail 'fio found other data than it wrote'
    sync -f "$work/mnt"
    [[ $(sums) != "$old" ]] || fail 'nothing was written'
    expect_error 'mounted or otherwise in use' -- lunkit snapshot revert "$image" before
    umount "$work/mnt"

    step "$type: back to it"
    lunkit snapshot revert "$image" before
    mount "$device" "$work/mnt"
    expect_equal 'a file' old "$(<"$work/mnt/state")"
    expect_equal 'checksum of all files' "$old" "$(sums)"

    step "$type: larger, seen at once"
    lunkit resize "$image" +128M
    expect_equal 'size of the disk' $((512 << 11)) "$(sectors "$device")"
    expect_match lsblk '512M' "$(lsblk -dno SIZE "$device")"
    case $type in
        ext4) resize2fs "$device" >/dev/null 2>&1 ;;
        xfs) xfs_growfs "$work/mnt" >/dev/null ;;
    esac
    (($(df -B1 --output=size "$work/mnt" | tail -n 1) > 440 << 20)) || fail 'the filesystem has not grown'
    expect_equal 'checksum of all files' "$old" "$(sums)"
    umount "$work/mnt"

    step "$type: a revert to another size reaches the disk"
    lunkit snapshot revert "$image" before
    expect_equal 'size of the disk' $((384 << 11)) "$(sectors "$device")"
    mount "$device" "$work/mnt"
    expect_equal 'checksum of all files' "$old" "$(sums)"
    umount "$work/mnt"
    lunkit snapshot delete "$image" before
    detach "$device"
    sound "$image"
done

step 'export while it is written'
image=$work/ext4.qcow2
attach "$image"
name=$(lun_property "$image" name)
expect_equal 'errors that a check finds' 0 "$(lunkit check "$image" >/dev/null && echo $?)"
fio_job export --ioengine=libaio --rw=randwrite --bs=4k --iodepth=8 --time_based --runtime=6 &
fio=$!
sleep 1
lunkit export --compress "$image" "$work/out.qcow2"
lunkit export "$image" "$work/out.raw"
lunkit export "$image" - >"$work/stream.raw"
wait $fio
sound "$work/out.qcow2"
expect_equal 'size of the export' $((384 << 20)) "$(stat -c %s "$work/out.raw")"
expect_equal 'size of the stream' $((384 << 20)) "$(stat -c %s "$work/stream.raw")"
expect_match 'no snapshot is left' '^\[\]$' "$(lunkit snapshot list --json "$image")"
lunkit export --force "$image" "$work/out.raw"
same_as "$device" "$work/out.raw"
expect_error exists -- lunkit export "$image" "$work/out.raw"
expect_error attached -- lunkit clone "$image" "$work/x.qcow2"

step 'an export whose asker is gone is cancelled, another one works then'
lunkit export --rate 4M "$image" "$work/gone.raw" 2>/dev/null &
export=$!
wait_for 10 'it is under way' bash -c "lunkit status $name | grep -q 'job  *export'"
expect_error 'under way|another job' -- lunkit snapshot create "$image" x
kill -KILL $export
wait $export || true
wait_for 10 'it is cancelled' bash -c "! lunkit status $name | grep -q 'job  *export'"
[[ ! -e $work/gone.raw ]] || fail 'a file that is not whole has its name'
wait_for 10 'no snapshot is left' bash -c "[[ \$(lunkit snapshot list --json '$image') == '[]' ]]"

step 'a worker that is killed in an export'
lunkit export --rate 4M "$image" "$work/gone.raw" 2>"$work/error" &
export=$!
wait_for 10 'it is under way' bash -c "lunkit status $name | grep -q 'job  *export'"
worker=$(lun_property "$name" worker-pid)
kill -KILL "$worker"
! wait $export || fail 'an export without its worker succeeded'
wait_for 15 'a new worker serves' new_worker "$name" "$worker"
lunkit export "$image" "$work/again.raw"
expect_match 'no snapshot is left' '^\[\]$' "$(lunkit snapshot list --json "$image")"
same_as "$device" "$work/again.raw"
detach "$device"
sound_but_for_leaks "$image"
rm "$work"/*.raw "$work"/out.qcow2

step 'kill -9 of the worker under writes, again and again'
attach "$image"
name=$(lun_property "$image" name)
head -c 32M /dev/urandom >"$work/flushed"
dd if="$work/flushed" of="$device" bs=1M oflag=direct conv=fdatasync status=none
# what was acknowledged is there, flushed or not
fio_job killed --ioengine=libaio --rw=randwrite --bs=4k --iodepth=16 --offset=32M --size=256M --time_based --runtime=8 --verify=crc32c --verify_fatal=1 \
    --verify_backlog=256 &
fio=$!
for _ in 1 2 3; do
    sleep 2
    worker=$(lun_property "$name" worker-pid)
    kill -KILL "$worker"
    wait_for 20 'a new worker serves' new_worker "$name" "$worker"
done
wait $fio || fail 'fio saw an error, or other data than it wrote'
blockdev --flushbufs "$device"
cmp -n $((32 << 20)) "$device" "$work/flushed" || fail 'something that was flushed is gone'
lunkit snapshot create "$image" kept
detach "$device"
sound_but_for_leaks "$image"

step 'an overlay of a template, flattened under I/O'
lunkit clone "$work/xfs.qcow2" "$work/over.qcow2"
attach "$work/over.qcow2"
name=$(lun_property "$work/over.qcow2" name)
mount -o nouuid "$device" "$work/mnt"
expect_equal 'checksum of all files' "$old" "$(sums)"
fio --name=flatten --directory="$work/mnt" --size=16M --rw=randrw --bs=8k --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --loops=2 \
    --output-format=terse >/dev/null &
fio=$!
lunkit flatten "$work/over.qcow2"
wait $fio || fail 'fio saw an error, or other data than it wrote'
rm "$work/mnt/flatten"*
expect_equal 'checksum of all files' "$old" "$(sums)"
umount "$work/mnt"
detach "$device"
sound "$work/over.qcow2"
! qemu-img info "$work/over.qcow2" | grep -q 'backing file' || fail 'it still has a backing file'
rm "$work/xfs.qcow2"
attach "$work/over.qcow2"
mount "$device" "$work/mnt"
expect_equal 'checksum of all files' "$old" "$(sums)"
umount "$work/mnt"
detach "$device"
