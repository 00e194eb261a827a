#!/bin/bash
# Filesystems on the disk, and space that goes back to the image's storage.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
mount_point=$work/mnt
mkdir "$mount_point"
find /usr/share/doc -mindepth 1 -maxdepth 1 -name '[a-d]*' | sort | head -n 60 | tar -C / -cf "$work/files.tar" -T - 2>/dev/null

for type in ext4 xfs; do
    step "$type: make, mount, copy"
    new_image disk 320M
    attach "$image"
    case $type in
        ext4) mkfs.ext4 -q "$device" ;;
        xfs) mkfs.xfs -q "$device" ;;
    esac
    mount -o discard "$device" "$mount_point"
    mkdir "$mount_point/doc"
    tar -C "$mount_point/doc" -xf "$work/files.tar"
    head -c 24M /dev/urandom >"$mount_point/big"
    sync -f "$mount_point"
    sum=$(cd "$mount_point" && find . -type f ! -path './lost*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)
    expect_error 'mounted|in use|busy' -- lunkit detach "$device"
    umount "$mount_point"

    step "$type: check; the same after attaching anew, read-only"
    case $type in
        ext4) e2fsck -fn "$device" ;;
        xfs) xfs_repair -n "$device" ;;
    esac >"$work/fsck" 2>&1 || fail "fsck: $(<"$work/fsck")"
    detach "$device"
    attach --read-only "$image"
    mount -o ro "$device" "$mount_point"
    expect_equal 'checksum of all files' "$sum" "$(cd "$mount_point" && find . -type f ! -path './lost*' -print0 | sort -z | xargs -0 sha256sum | sha256sum)"
    umount "$mount_point"
    detach "$device"

    step "$type: fstrim and blkdiscard give space back"
    attach "$image"
    mount "$device" "$mount_point"
    rm "$mount_point/big"
    before=$(allocated "$image")
    sync -f "$mount_point"
    fstrim "$mount_point"
    after=$(allocated "$image")
    echo "  fstrim: $before to $after bytes"
    ((before - after >= 23 << 20)) || fail "fstrim gave back only $((before - after)) bytes"
    umount "$mount_point"
    blkdiscard "$device"
    echo "  blkdiscard: to $(allocated "$image") bytes"
    (($(allocated "$image") <= 1 << 20)) || fail "blkdiscard left $(allocated "$image") bytes"
    blockdev --flushbufs "$device"
    cmp -n $((320 << 20)) "$device" /dev/zero || fail 'a discarded disk does not read as zeros'
    dd if=/dev/urandom of="$device" bs=1M count=4 oflag=direct status=none
    blkdiscard --zeroout --length 4M "$device"
    blockdev --flushbufs "$device"
    cmp -n $((4 << 20)) "$device" /dev/zero || fail 'a zeroed range does not read as zeros'
    detach "$device"
    rm "$image"
done
