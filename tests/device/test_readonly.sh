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
blockdev --setrw "$device" 2>/dev/null || true
head -c 512 /dev/zero >"$work/zero"
expect_error 'protect' -- sg_raw -s 512 -i "$work/zero" "$device" 2a 00 00 00 00 00 00 00 01 00
expect_error 'protect' -- sg_write_same --16 --lba=0 --num=1 --in=/dev/zero "$device"
expect_error 'protect' -- sg_unmap --force --lba=0 --num=8 "$device"
expect_error 'protect' -- sg_raw "$device" 8e 00 00 00 00 00 00 00 00 00 00 00 00 01 00 00 -s 512 -i "$work/zero"
expect_error '' -- dd if=/dev/zero of="$device" bs=4096 count=1 oflag=direct
expect_match 'MODE SENSE' 'WP=1' "$(sg_modes "$device")"
expect_equal checksum "$sum" "$(sha256sum <"$image")"

step 'readers share it, writers do not'
qemu-img info "$image" >/dev/null
expect_error 'lock|in use|another' -- lunkit attach --name other "$image"
detach "$device"
