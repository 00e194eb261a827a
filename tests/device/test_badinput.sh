#!/bin/bash
# What users get wrong: each a clear error that says what, which image and why, and nothing half attached afterwards.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin

nothing_is_left() {
    local path
    expect_equal LUNs 0 "$(lun_count)"
    expect_equal workers '' "$(worker_pids)"
    for path in "$configfs"/core/user_* "$configfs"/loopback/naa.* "$configfs"/vhost/naa.*; do
        [[ ! -e $path ]] || fail "$path is left"
    done
}

step 'files'
expect_error "$work/none" 'no such file|not exist' -- lunkit attach "$work/none"
expect_error "$work" 'directory' -- lunkit attach "$work"
mkfifo "$work/fifo"
expect_error "$work/fifo" 'regular file' -- lunkit attach "$work/fifo"
expect_error /dev/null 'regular file|block device' -- lunkit attach /dev/null
new_image empty 0
expect_error "$image" 'empty|size|0' -- lunkit attach "$image"
new_image odd 1000000
expect_error "$image" 'multiple' '512' -- lunkit attach "$image"
new_image odd4k 1049088
expect_error "$image" 'multiple' '4096' -- lunkit attach --block-size 4096 "$image"
ln -s loop1 "$work/loop2" && ln -s loop2 "$work/loop1"
expect_error "$work/loop1" 'symbolic links' -- lunkit attach "$work/loop1"
expect_error 'long|no such file' -- lunkit attach "/$(printf 'x%.0s' {1..300})"
expect_error 'long' -- lunkit attach "/$(printf 'abcdefgh/%.0s' {1..600})"
expect_error '' -- lunkit attach ''
nothing_is_left

step 'words'
new_image disk 8M
expect_error 'nosuch' 'kind|handler' -- lunkit attach nosuch:thing
expect_error 'frob' -- lunkit attach "$image;frob=1"
expect_error 'frob' -- lunkit attach --option frob=1 "$image"
expect_error 'cache' 'maybe' -- lunkit attach "$image;cache=maybe"
expect_error 'cache' 'maybe' 'none' -- lunkit attach --cache maybe "$image"
expect_error 'fabric' 'pigeon' 'loop' -- lunkit attach --fabric pigeon "$image"
expect_error 'block-size' '1000' -- lunkit attach --block-size 1000 "$image"
expect_error 'block-size' -- lunkit attach "$image;block-size=1000"
expect_error 'name' -- lunkit attach --name '../../etc' "$image"
expect_error 'name' -- lunkit attach --name 'a b' "$image"
expect_error 'name' -- lunkit attach --name "$(printf 'n%.0s' {1..100})" "$image"
expect_error 'frob' 'help' -- lunkit frob
expect_error '' -- lunkit attach
expect_error 'nothing-here' -- lunkit detach nothing-here
expect_error 'nothing-here' -- lunkit status nothing-here
nothing_is_left

step 'names that have to be encoded work'
odd=$work/$'a b,c;d%e:f\tg'
mv "$image" "$odd"
escaped=$work/a%20b%2cc%3bd%25e%3af%09g
attach "raw:$escaped"
expect_equal LUNs 1 "$(lun_count)"
kill_lunkitd TERM
start_lunkitd
wait_for 10 'serving again' lun_state_is "$device" serving
detach "$device"
mv "$odd" "$image"
nothing_is_left

step 'files that somebody else uses'
qemu-io -c 'sleep 20000' -f raw "$image" &
qemu=$!
sleep 1.5
expect_error "$image" 'lock|in use|another' -- lunkit attach "$image"
nothing_is_left
kill $qemu
wait $qemu || true
attach "$image"
! qemu-io -c 'write 0 4k' -f raw "$image" 2>"$work/err" || fail 'qemu-io wrote to an attached image'
grep -qi lock "$work/err"
! qemu-img resize -f raw "$image" 16M 2>"$work/err" || fail 'qemu-img resized an attached image'
detach "$image"

step 'sizes'
expect_error '0 bytes' -- lunkit create "$work/new" 0
expect_error 'size' -- lunkit create "$work/new" -- -5
expect_error 'size' -- lunkit create "$work/new" 10X
expect_error 'size' -- lunkit create "$work/new" 99999999999999999999
expect_error 'size' '9E' -- lunkit create "$work/new" 9E
expect_error 'multiple' -- lunkit create "$work/new" 1000
[[ ! -e $work/new ]] || fail 'a failed create left a file'
expect_error "$image" 'exists' -- lunkit create "$image" 8M
expect_error 'directory|no such file' -- lunkit create "$work/no/such/new" 8M
expect_error 'shrink' -- lunkit resize "$image" 4M
expect_equal 'size after refused resizes' $((8 << 20)) "$(stat -c %s "$image")"
nothing_is_left
