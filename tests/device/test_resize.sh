#!/bin/bash
# Online growth, by lunkit and by others; the disk shows it when the command returns.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image disk 64M
attach "$image"
mkdir "$work/mnt"
mkfs.ext4 -q "$device"
mount "$device" "$work/mnt"
echo content >"$work/mnt/file"

step 'lunkit resize, with a mounted filesystem'
lunkit resize "$image" 96M
expect_equal 'size of the file' $((96 << 20)) "$(stat -c %s "$image")"
expect_equal 'size of the disk' $((96 << 11)) "$(sectors "$device")"
expect_match lsblk '96M' "$(lsblk -dno SIZE "$device")"
lunkit resize "$device" +32M
expect_equal 'size of the disk' $((128 << 11)) "$(sectors "$device")"
resize2fs "$device" >/dev/null 2>&1
(($(df -B1 --output=size "$work/mnt" | tail -n 1) > 110 << 20)) || fail 'the filesystem has not grown'
expect_match 'READ CAPACITY' $((128 << 20)) "$(sg_readcap --long "$device")"

step 'the file grown by somebody else'
truncate -s 160M "$image"
expect_equal 'size of the disk, not told yet' $((128 << 11)) "$(sectors "$device")"
lunkit resize --adopt "$image"
expect_equal 'size of the disk' $((160 << 11)) "$(sectors "$device")"
expect_match list '160 MiB' "$(lunkit list)"
dd if=/dev/urandom of="$device" bs=1M seek=159 count=1 oflag=direct status=none

step 'refused: smaller without --shrink, absurd, not a multiple'
expect_error shrink -- lunkit resize "$image" 32M
expect_error size -- lunkit resize "$image" 9999999P
expect_error multiple -- lunkit resize "$image" 200000001
expect_equal 'size of the file' $((160 << 20)) "$(stat -c %s "$image")"
lun_state_is "$image" serving

step 'the filesystem is whole'
expect_equal content content "$(<"$work/mnt/file")"
umount "$work/mnt"
e2fsck -fn "$device" >/dev/null 2>&1 || fail 'e2fsck finds faults'

step 'shrunk on purpose'
lunkit resize --shrink "$image" 32M
expect_equal 'size of the disk' $((32 << 11)) "$(sectors "$device")"
expect_equal 'size of the file' $((32 << 20)) "$(stat -c %s "$image")"

step 'the new size stays, over a new lunkitd and a new attachment'
kill_lunkitd TERM
start_lunkitd
wait_for 10 'serving again' lun_state_is "$image" serving
expect_equal 'size of the disk' $((32 << 11)) "$(sectors "$device")"
detach "$image"
lunkit resize "$image" 48M
attach "$image"
expect_equal 'size of the disk' $((48 << 11)) "$(sectors "$device")"
detach "$image"
