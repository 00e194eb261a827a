#!/bin/bash
# limit: 180 seconds
# Storage that fails under a LUN: the right sense, no hang, nothing but the failing part is hurt, and all is well when the cause is gone.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin

# write_blocks LBA-IN-HEX(8 digits) COUNT-IN-HEX(4 digits) : WRITE(10); prints the sense.
write_blocks() {
    head -c $((16#$2 * 512)) /dev/urandom >"$work/payload"
    sg_raw --timeout=60 -s $((16#$2 * 512)) -i "$work/payload" "$device" 2a 00 "${1:0:2}" "${1:2:2}" "${1:4:2}" "${1:6:2}" 00 "${2:0:2}" "${2:2:2}" 00 2>&1
}

step 'a full filesystem under a sparse image'
truncate -s 24M "$work/small.fs"
mkfs.ext4 -q -F -m 0 -O ^has_journal "$work/small.fs"
mkdir "$work/small"
loop=$(losetup --find --show --direct-io=off "$work/small.fs")
mount "$loop" "$work/small"
chmod 755 "$work/small"
truncate -s 64M "$work/small/image"
attach --name full "$work/small/image"
dd if=/dev/urandom of="$device" bs=64k count=64 oflag=direct status=none
sum=$(dd if="$device" bs=64k count=64 iflag=direct status=none | sha256sum)
dd if=/dev/zero of="$work/small/ballast" bs=64k 2>/dev/null || true
expect_error 'No space left' -- dd if=/dev/urandom of="$device" bs=64k seek=64 count=512 oflag=direct
output=$(write_blocks 0001c000 0080) && fail 'a write on a full disk was answered GOOD'
expect_match 'sense on a full disk' '[Dd]ata.?[Pp]rotect' "$output"
expect_match 'sense on a full disk' 'Space allocation failed' "$output"
expect_equal 'what was written before' "$sum" "$(dd if="$device" bs=64k count=64 iflag=direct status=none | sha256sum)"
dd if=/dev/urandom of="$device" bs=64k count=8 oflag=direct status=none || fail 'blocks that have their space could not be written'

step 'room again: writes work again'
rm "$work/small/ballast"
write_blocks 0001c000 0080 || fail 'writing still fails'
dd if=/dev/urandom of="$device" bs=64k seek=64 count=64 oflag=direct status=none
lun_state_is full serving
same_as "$device" "$work/small/image"
detach full
umount "$work/small"
losetup -d "$loop"

step 'a file that was truncated underneath'
new_image cut 16M
fill "$image"
attach --name cut "$image"
truncate -s 8M "$image"
cmp -n $((8 << 20)) "$device" "$image"
expect_error 'error' -- dd if="$device" of=/dev/null bs=64k skip=192 count=16 iflag=direct
output=$(sg_raw --timeout=60 -r 512 "$device" 28 00 00 00 70 00 00 00 01 00 2>&1) && fail 'a read behind the end was answered GOOD'
expect_match 'sense behind the end' 'Medium Error|Hardware Error' "$output"
dd if="$device" of=/dev/null bs=64k count=16 iflag=direct status=none || fail 'the part that is there can not be read'
truncate -s 16M "$image"
dd if="$device" of=/dev/null bs=64k skip=192 count=16 iflag=direct status=none || fail 'what is there again can not be read'
detach cut

step 'a device that goes away'
modprobe scsi_debug dev_size_mb=16 num_tgts=1 max_luns=1
udevadm settle
backing=$(grep -l scsi_debug /sys/block/sd*/device/model | head -n 1)
backing=${backing#/sys/block/}
backing=${backing%%/*}
attach --name gone "/dev/$backing"
dd if=/dev/urandom of="$device" bs=1M count=4 oflag=direct status=none
(sleep 0.5 && echo 1 >"/sys/block/$backing/device/delete") &
dd if=/dev/urandom of="$device" bs=4k count=4000 oflag=direct 2>/dev/null || true
wait
expect_error 'error' -- dd if="$device" of=/dev/null bs=64k count=16 iflag=direct
output=$(sg_raw --timeout=60 -r 512 "$device" 28 00 00 00 00 00 00 00 01 00 2>&1) && fail 'a read of a device that is gone was answered GOOD'
expect_match 'sense' 'Medium Error|Hardware Error|Not Ready' "$output"
lunkit list | grep -q '^gone '
expect_error "can't be brought to the image" 'force' -- lunkit detach gone
detach --force gone
modprobe -r scsi_debug

step 'the disk is detached under its user, by force'
new_image forced 32M
attach --name forced "$image"
mkdir "$work/mnt"
mkfs.ext4 -q "$device"
mount "$device" "$work/mnt"
expect_error 'mounted|in use|busy' "$device|forced" -- lunkit detach forced
detach --force forced
umount -l "$work/mnt" 2>/dev/null || true
expect_equal LUNs 0 "$(lun_count)"

step 'two images at once do not mix'
new_image one 16M
attach --name one "$image"
one=$device
new_image two 16M
attach --name two "$image"
dd if=/dev/urandom of="$work/a" bs=1M count=16 status=none
dd if=/dev/urandom of="$work/b" bs=1M count=16 status=none
dd if="$work/a" of="$one" bs=64k oflag=direct status=none &
dd if="$work/b" of="$device" bs=64k oflag=direct status=none
wait
cmp "$work/a" "$work/one"
cmp "$work/b" "$work/two"
detach one
detach two
