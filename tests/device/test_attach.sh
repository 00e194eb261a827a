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

step 'a device is removed while it is being enabled'
# make_device : by hand, as folder; it is not enabled.
folder=$configfs/core/user_99/slow
make_device() {
    mkdir -p "$folder"
    echo "dev_config=raw/$image,dev_size=$(stat -c %s "$image")" >"$folder/control"
}
# remove_while_enabling : begins to remove the device, which $enabling enables, and lets the processes go on that are stopped.
remove_while_enabling() {
    rmdir "$folder" &
    local removing=$!
    sleep 1
    kill -CONT "$@"
    wait_for 40 'the enabling ends' process_ended $enabling
    wait_for 40 'it is removed' process_ended $removing
    wait $removing
    rmdir "${folder%/*}"
    lunkitd_answers >/dev/null || fail 'lunkitd does not answer'
    expect_equal LUNs 0 "$(lun_count)"
}
step '  before lunkitd has looked at it'
make_device
kill -STOP "$(<"$daemon_pid_file")"
(echo 1 >"$folder/enable" || true) 2>/dev/null &
enabling=$!
sleep 0.5
remove_while_enabling "$(<"$daemon_pid_file")"
step '  while its worker starts'
make_device
(echo 1 >"$folder/enable" || true) 2>/dev/null &
enabling=$!
until worker=$(pgrep -x lunkit-worker); do :; done
kill -STOP "$worker"
remove_while_enabling "$worker"
step '  detach waits for no attach'
lunkit attach --name slow "$image" >"$work/slow" 2>&1 &
enabling=$!
until [[ -e $(echo "$configfs"/core/user_*/slow) ]]; do :; done
lunkit detach slow >"$work/detach" 2>&1 || expect_match 'why not' 'being attached|not attached' "$(<"$work/detach")"
wait $enabling || fail "$(<"$work/slow")"
lunkit detach slow || expect_match 'why not' 'not attached' "$(lunkit detach slow 2>&1)"

step 'persistent ones are attached again'
attach --persist --name kept "$image"
wwn=$(lunkit status --json kept | grep -om 1 'naa\.[0-9a-f]*')
detach --keep kept
expect_equal LUNs 0 "$(lun_count)"
# One that fails after it was recorded leaves the record as it was.
truncate -s 8M "$work/blocker"
lunkit attach --name blocker "$work/blocker" >/dev/null
taken=$configfs/loopback/$wwn
mkdir "$taken" "$taken/tpgt_1" "$taken/tpgt_1/lun/lun_0"
ln -s "$(echo "$configfs"/core/user_*/blocker)" "$taken/tpgt_1/lun/lun_0/blocker"
cp -r /var/lib/lunkit/luns "$work/luns"
expect_error 'another target' -- lunkit attach --persist --name kept --read-only "$image"
diff -r "$work/luns" /var/lib/lunkit/luns || fail 'the records have changed'
rm "$taken/tpgt_1/lun/lun_0/blocker"
rmdir "$taken/tpgt_1/lun/lun_0" "$taken/tpgt_1" "$taken"
detach blocker
expect_equal 'what restore prints' kept "$(lunkit restore)"
expect_equal persistent true "$(lun_property kept persistent)"
same_as "$device" "$image"
detach kept
expect_equal 'what restore prints' '' "$(lunkit restore)"
