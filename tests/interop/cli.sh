#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cli.sh LUNKIT SOURCES : verbs on images that are not attached. No lunkitd, no D-Bus.
set -u
lunkit=$1
here=$(dirname "${BASH_SOURCE[0]}")
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lunkit-cli-XXXXXX")
background=''
clean_up() {
    [[ -z $background ]] || kill "$background" 2>/dev/null
    mountpoint -q "$scratch/small" && umount "$scratch/small"
    rm -rf "$scratch"
}
trap clean_up EXIT
# shellcheck source=tests/interop/expect.sh
source "$here/expect.sh"
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$scratch/no-bus LC_ALL=C.UTF-8
cd "$scratch" || exit 1
chmod 755 .
mkdir images && cd images || exit 1

# nothing_left NAME… : only these files are here
nothing_left() {
    local left
    left=$(find . -mindepth 1 -printf '%P\n' | sort | tr '\n' ' ')
    expect "expected only these files: $*; there are: $left" test "$left" = "${*:+$* }"
}

# ---- create, info, resize
succeeds "$lunkit" create disk.raw 10G
expect_out "created $PWD/disk.raw: 10 GiB (10737418240 bytes)"
expect "a new file is sparse" test "$(stat -c %b disk.raw)" -lt 100
expect "others can't read it" test "$(stat -c %a disk.raw)" = 600
if type qemu-img >/dev/null 2>&1; then
    run qemu-img info -f raw --output=json disk.raw
    expect_json '."virtual-size" == 10737418240 and .format == "raw"'
fi
succeeds "$lunkit" info disk.raw --json
expect_json '.kind == "raw" and ."virtual-size" == 10737418240 and ."block-size" == 512 and .attached == false'
expect "no warning" test -z "$err"
succeeds "$lunkit" info disk.raw
expect_out "10 GiB (10737418240 bytes)"
succeeds "$lunkit" resize disk.raw +1G
expect_out "11 GiB"
expect "the file grew" test "$(stat -c %s disk.raw)" = 11811160064
succeeds "$lunkit" resize --json disk.raw 12G
expect_json '."size-before" == 11811160064 and .size == 12884901888'
fails 1 "would cut off its end" "$lunkit" resize disk.raw 1M
expect_err "  try: shrink the filesystem"
expect "it was left alone" test "$(stat -c %s disk.raw)" = 12884901888
succeeds "$lunkit" resize --shrink disk.raw 1M
expect "it shrank" test "$(stat -c %s disk.raw)" = 1048576
truncate -s 2M disk.raw
succeeds "$lunkit" resize --adopt disk.raw
expect_out "2 MiB"
fails 1 "more than an image can have" "$lunkit" resize disk.raw +9223372036854775807
rm disk.raw
fails 1 "not an option" "$lunkit" create 'a b;c.raw' 1M
succeeds "$lunkit" create 'a b%3Bc%25.raw' 1M
expect "special characters" test -f 'a b;c%.raw'
succeeds "$lunkit" info './a b%3Bc%25.raw'
rm -f ./*
succeeds "$lunkit" create raw:full.raw --size=1M --option preallocation=full
expect "its storage is taken" test "$(stat -c %b full.raw)" -ge 2048
ln -s full.raw link.raw
succeeds "$lunkit" info link.raw --json
expect_json ".name == \"$PWD/full.raw\""
fails 1 "File exists" "$lunkit" create link.raw 1M
fails 1 "File exists" "$lunkit" create full.raw 2M
expect_err "  try: "
expect "the one that existed is as it was" test "$(stat -c %s full.raw)" = 1048576
rm -f ./*

# ---- what is wrong: a message, and nothing left behind
fails 1 "does not exist" "$lunkit" info missing.raw
fails 1 "does not exist" "$lunkit" resize missing.raw 1G
fails 1 "the directory 'nowhere' does not exist" "$lunkit" create nowhere/disk.raw 1G
fails 1 "directory" "$lunkit" info .
fails 1 "exists" "$lunkit" create ./ 1G
fails 1 "names a directory" "$lunkit" create new/ 1G
fails 1 "character device" "$lunkit" info /dev/null
mkfifo pipe
fails 1 "pipe" "$lunkit" info pipe
rm pipe
nothing_left
fails 1 "not a multiple of the block size" "$lunkit" create odd.raw 1000
fails 1 "not a multiple of the block size" "$lunkit" create odd.raw 1536 --option block-size=4096
fails 1 "given twice" "$lunkit" create odd.raw 1M --option block-size=4096 --option block-size=512
fails 2 "is not a size" "$lunkit" create odd.raw 1.5G
fails 2 "is not a size" "$lunkit" create odd.raw -- -1
fails 2 "more than an image can have" "$lunkit" create odd.raw 99999999999999999999
fails 2 "more than an image can have" "$lunkit" create odd.raw 9E
fails 2 "0 bytes is no disk" "$lunkit" create odd.raw 0
fails 2 "needs a size" "$lunkit" create odd.raw
fails 2 "given twice" "$lunkit" create odd.raw 1G --size 1G
fails 1 "large" "$lunkit" create odd.raw 7E
# The limit on files' sizes is an error like another, not the worker's death.
# shellcheck disable=SC2016 # for that shell to expand
fails 1 "File too large" bash -c 'ulimit -f 1000 && exec "$0" create odd.raw 10M --option preallocation=full' "$lunkit"
fails 1 'no handler for images of the kind "nope"' "$lunkit" create nope:odd 1G
fails 1 "cannot be created" "$lunkit" create null:odd 1G
fails 1 '"colour"' "$lunkit" create odd.raw 1G --option colour=red
fails 1 "preallocation" "$lunkit" create odd.raw 1G --option preallocation=maybe
fails 1 "cache" "$lunkit" create 'odd.raw;cache=fast' 1G
fails 2 "no option" "$lunkit" create odd.raw 1G --colour red
fails 2 "not a verb" "$lunkit" frobnicate
fails 2 "a verb is missing" "$lunkit"
nothing_left
: >empty.raw
fails 1 "empty" "$lunkit" resize empty.raw 1M
printf 'x%.0s' {1..700} >odd.raw
fails 1 "multiple of the block size" "$lunkit" resize odd.raw 1M
rm -f ./*
run "$lunkit" info $'bad\033[31mname\n'
expect "a file's name can't steer the terminal" test "$(wc -l <"$scratch/.err")" = 1 -a "$err" = "${err//[$'\033']/}"

# ---- without the rights for it
if ((EUID == 0)) && type setpriv >/dev/null 2>&1 && setpriv --reuid 65534 --regid 65534 --clear-groups test -x "$lunkit"; then
    nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    succeeds "$lunkit" create root.raw 1M
    fails 1 "Permission denied" "${nobody[@]}" "$lunkit" info root.raw
    fails 1 "Permission denied" "${nobody[@]}" "$lunkit" create denied.raw 1M
    fails 1 "Permission denied" "${nobody[@]}" "$lunkit" resize root.raw 2M
    chmod 644 root.raw
    succeeds "${nobody[@]}" "$lunkit" info root.raw
    fails 1 "Permission denied" "${nobody[@]}" "$lunkit" resize root.raw 2M
    nothing_left root.raw
    chmod 777 .
    succeeds "${nobody[@]}" "$lunkit" create own.raw 1M
    succeeds "${nobody[@]}" "$lunkit" resize own.raw 2M
    chmod 755 .
    rm -f ./*
fi

# ---- in use by somebody else
if type qemu-io >/dev/null 2>&1; then
    succeeds "$lunkit" create locked.raw 1M
    mkfifo "$scratch/hold"
    qemu-io -f raw locked.raw <"$scratch/hold" >"$scratch/qemu-io" 2>&1 &
    background=$!
    exec 9>"$scratch/hold"
    echo 'read 0 512' >&9
    for ((i = 0; i < 300; i++)); do
        grep -q 'read 512' "$scratch/qemu-io" && break
        sleep 0.1
    done
    fails 1 "in use" "$lunkit" resize locked.raw 2M
    expect_err "  try: "
    succeeds "$lunkit" info locked.raw
    expect "it was left alone" test "$(stat -c %s locked.raw)" = 1048576
    echo quit >&9
    exec 9>&-
    wait "$background"
    background=''
    succeeds "$lunkit" resize locked.raw 2M
    rm -f ./*
fi

# ---- no room
mkdir ../small
if ((EUID == 0)) && mount -t tmpfs -o size=1M tmpfs ../small 2>/dev/null; then
    cd ../small || exit 1
    fails 1 "No space left" "$lunkit" create big.raw 8M --option preallocation=full
    fails 1 "No space left" "$lunkit" create big.raw 8M --option preallocation=falloc
    nothing_left
    cd ../images || exit 1
fi
run bash -c 'ulimit -f 1024; exec "$1" create limited.raw 64M --option preallocation=full' sh "$lunkit"
expect_status 1
expect_err "limited.raw"
nothing_left

# ---- interrupted: what was made is taken away
"$lunkit" create interrupted.raw 64G --option preallocation=full 2>"$scratch/.err" &
pid=$!
for ((i = 0; i < 300; i++)); do
    [[ -e interrupted.raw ]] && break
    sleep 0.01
done
kill -TERM "$pid"
last='lunkit create, interrupted'
wait "$pid"
status=$?
err=$(<"$scratch/.err")
expect_status 1
expect_err "interrupted"
nothing_left

# ---- the rest
succeeds "$lunkit" --version
succeeds "$lunkit" --help
expect_out "usage: lunkit VERB"
fails 1 "D-Bus" "$lunkit" list
fails 1 "D-Bus" "$lunkit" status
fails 1 "D-Bus" "$lunkit" detach nothing
succeeds "$lunkit" create disk.raw 1M
fails 1 "D-Bus" "$lunkit" attach disk.raw
fails 2 "exclude each other" "$lunkit" attach disk.raw --print qemu --json
run "$lunkit" doctor --json
expect_json 'type == "array" and all(.[]; has("check") and has("message") and (.status | IN("ok", "note", "broken")))'
expect_json 'any(.[]; .check == "handler" and .status == "ok" and (.message | contains("raw")))'
expect_json 'any(.[]; .check == "lunkitd" and .status == "broken" and has("fix"))'
expect_status 1
mkdir state state/luns
echo '{"version":1,"image":"/gone/disk.raw","fabric":"loop","serial":"","block-size":0}' >state/luns/one.json
echo 'nonsense' >state/luns/two.json
LUNKIT_STATE_DIR=$PWD/state run "$lunkit" doctor
expect_out "'/gone/disk.raw' is missing"
expect_out "two.json is damaged"
if [[ -e /dev/full ]]; then
    last='lunkit --help >/dev/full'
    "$lunkit" --help >/dev/full 2>"$scratch/.err"
    status=$?
    expect_status 1
fi
finish
