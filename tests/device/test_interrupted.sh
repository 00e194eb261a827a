#!/bin/bash
# limit: 240 seconds
# lunkitd dies in the middle of an attach or a detach: the next attach gives a disk, the next detach leaves nothing.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image disk 16M
fill "$image"

nothing_is_left() {
    local left
    left=$(ls -d $configfs/loopback/naa.* $configfs/core/user_*/cut 2>/dev/null || true)
    [[ ! $left ]] || fail "this is left in the kernel target: $left"
}

# interrupted MILLISECONDS COMMAND… : lunkitd is killed that long after the command began, and started again.
interrupted() {
    local client milliseconds=$1
    shift
    "$@" >"$work/client" 2>&1 &
    client=$!
    sleep "$(printf '%d.%03d' $((milliseconds / 1000)) $((milliseconds % 1000)))"
    kill_lunkitd KILL
    wait $client || true
    echo "  after $milliseconds ms: $(head -n 1 "$work/client")"
    start_lunkitd
}

# Makes sure that the image is attached, and sets $device.
finish_attach() {
    if lunkit attach --name cut "$image" >"$work/again" 2>&1; then
        device=$(head -n 1 "$work/again")
    else
        # The interrupted one had got through.
        grep -q 'attached already' "$work/again" || fail "$(<"$work/again")"
        wait_for 10 'the LUN has a disk' lun_device cut
        device=$(lun_device cut)
    fi
}

for milliseconds in 60 120 180 240 300 360 450 600; do
    step "an attach, killed"
    interrupted $milliseconds lunkit attach --name cut "$image"
    finish_attach
    same_as "$device" "$image"
    step "a detach, killed"
    interrupted $((milliseconds / 2)) lunkit detach cut
    if ! lunkit detach cut >"$work/again" 2>&1; then
        grep -q 'not attached' "$work/again" || fail "$(<"$work/again")"
        lunkit attach --name cut "$image" >/dev/null
        lunkit detach cut
    fi
    nothing_is_left
done
