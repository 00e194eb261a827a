#!/bin/bash
# Block devices as images: data, discard, block sizes, identity, growth.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image backing 64M
loop=$(losetup --find --show --direct-io=on "$image")

step 'a device that is mounted is refused'
mkdir "$work/mnt"
mkfs.ext4 -q "$loop"
mount "$loop" "$work/mnt"
expect_error "$loop" 'mounted|in use|busy' -- lunkit attach "$loop"
umount "$work/mnt"

step "$loop"
attach "$loop"
expect_equal size $((64 << 11)) "$(sectors "$device")"
fio_job blockdev --ioengine=libaio --iodepth=16 --rw=randrw --bs=4k --size=8M --verify=crc32c
same_as "$device" "$loop"
expect_error "$loop" 'in use|lock|busy|attached' -- lunkit attach --name again "$loop"

step 'discard goes through'
blkdiscard "$device"
(($(allocated "$image") <= 1 << 20)) || fail "$(allocated "$image") bytes are still allocated"
blockdev --flushbufs "$device"
cmp -n $((64 << 20)) "$device" /dev/zero

step 'the device grows'
truncate -s 96M "$image"
losetup -c "$loop"
lunkit resize --adopt "$device"
expect_equal size $((96 << 11)) "$(sectors "$device")"
expect_error '' -- lunkit resize "$device" 128M
detach "$device"

step 'raw: in front, and read-only'
attach --read-only "raw:$loop"
expect_equal 'ro flag' 1 "$(blockdev --getro "$device")"
detach "$device"
losetup -d "$loop"

step 'blocks of 4096 bytes'
loop=$(losetup --find --show --direct-io=on --sector-size 4096 "$image")
attach "$loop"
expect_equal 'logical block size' 4096 "$(blockdev --getss "$device")"
fio_job blockdev4k --ioengine=libaio --iodepth=8 --rw=randrw --bs=4k --size=4M --verify=crc32c
detach "$device"
losetup -d "$loop"
