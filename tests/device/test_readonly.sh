#!/bin/bash
# Read-only: nothing changes the image, and it can be shared.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image disk 16M
fill "$image"
sum=$(sha256sum <"$image")
chmod 444 "$image"

step 'attached read-only'
attach --read-only "$image"
expect_equal 'ro flag' 1 "$(blockdev --getro "$device")"
expect_match list 'read-only' "$(lunkit list)"
same_as "$device" "$image"

step 'every way to write is refused with the right sense'
sg=$(sg_of "$device")
head -c 512 /dev/zero >"$work/zero"
expect_error 'protect' -- sg_raw -s 512 -i "$work/zero" "$sg" 2a 00 00 00 00 00 00 00 01 00
expect_error 'protect' -- sg_raw -s 512 -i "$work/zero" "$sg" 8e 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00
expect_error 'protect' -- sg_write_same --16 --lba=0 --num=1 --in=/dev/zero "$sg"
expect_error 'protect' -- sg_unmap --force --lba=0 --num=8 "$sg"
expect_error '' -- dd if=/dev/zero of="$device" bs=4096 count=1 oflag=direct
expect_match 'MODE SENSE' 'WP=1' "$(sg_modes "$sg")"
expect_equal checksum "$sum" "$(sha256sum <"$image")"

step 'readers share it, writers do not'
qemu-img info "$image" >/dev/null
expect_error 'attached already' -- lunkit attach --name other "$image"
expect_error 'lock' -- qemu-io -c 'write 0 4k' -f raw "$image"
qemu-io -r -c 'read 0 4k' -f raw "$image" >/dev/null
detach "$device"
