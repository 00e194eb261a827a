#!/bin/bash
# The first thing a user does: attach, look, use, detach. Names and serials that stay.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin

step 'an image becomes a disk'
new_image disk.raw 24M
fill "$image"
attach "$image"
[[ -b $device ]] || fail "$device is no block device"
[[ $link == /dev/disk/by-id/* ]] || fail "$link is no name under /dev/disk/by-id"
expect_equal 'where the link leads' "$device" "$(readlink -f "$link")"
expect_equal size $((24 << 11)) "$(sectors "$device")"
expect_equal vendor LUNKIT "$(tr -d ' ' <"/sys/class/block/${device##*/}/device/vendor")"
same_as "$device" "$image"
first_device=$device first_link=$link

step 'list, status and info know it'
expect_match list "$image.*24 MiB.*loop.*$device.*serving" "$(lunkit list)"
lunkit list --json | grep -q "\"$device\"" || fail 'list --json lacks the device'
name=$(lun_property "$image" name)
for who in "$name" "$device" "$link" "$image"; do
    expect_match "status $who" "$name: serving" "$(lunkit status "$who")"
done
expect_match info '24 MiB' "$(lunkit info "$image")"
lunkit info --json "$image" >/dev/null
serial=$(lun_property "$name" serial)
expect_equal 'serial in VPD 80' "${serial//-/}" "$(sg_inq --page=0x80 --raw "$device" | tail -c +5 | tr -d '\0 -')"

step 'the same image again is refused, under every name it has'
ln -s "$image" "$work/link"
ln "$image" "$work/hard"
expect_error "$name" -- lunkit attach "$image"
expect_error "$name|lock|in use" -- lunkit attach "$work/link"
expect_error "lock|in use" -- lunkit attach "$work/hard"
expect_error "$name" -- lunkit attach --name "$name" "$image"
expect_equal LUNs 1 "$(lun_count)"

step 'the disk of a LUN is no image'
expect_error "the disk of LUN" 'use /dev/sd' -- lunkit attach "raw:$device"

step 'a name that is taken is refused'
truncate -s 8M "$work/second.raw"
expect_error "$name" 'exist|taken|already|in use' -- lunkit attach --name "$name" "$work/second.raw"
expect_equal LUNs 1 "$(lun_count)"
lunkit attach --name second --json "$work/second.raw" >"$work/json"
grep -q '"name": *"second"' "$work/json"
expect_match 'list' 'second ' "$(lunkit list)"
detach second

step 'writes reach the image'
dd if=/dev/urandom of="$device" bs=1M seek=10 count=4 oflag=direct status=none
same_as "$device" "$image"

step 'a disk that is in use stays'
exec {hold}<"$device"
lunkit detach "$device" || fail 'a disk that is only held open for reading can be detached'
exec {hold}<&-

step 'detached: the image is free; attached again: the same names'
expect_equal LUNs 0 "$(lun_count)"
expect_equal workers '' "$(worker_pids)"
wait_for 5 "$first_device is gone" test ! -e "$first_device"
qemu-img info "$image" >/dev/null
attach "$image"
expect_equal link "$first_link" "$link"
expect_equal serial "$serial" "$(lun_property "$image" serial)"

step 'a new lunkitd takes over'
kill_lunkitd TERM
start_lunkitd
wait_for 10 'serving again' lun_state_is "$image" serving
expect_equal serial "$serial" "$(lun_property "$image" serial)"
expect_equal 'where the link leads' "$device" "$(readlink -f "$link")"
same_as "$device" "$image"
detach "$device"

step 'persistent ones are attached again'
attach --persist --name kept "$image"
detach --keep kept
expect_equal LUNs 0 "$(lun_count)"
expect_equal 'what restore prints' kept "$(lunkit restore)"
expect_equal persistent true "$(lun_property kept persistent)"
same_as "$device" "$image"
detach kept
expect_equal 'what restore prints' '' "$(lunkit restore)"
