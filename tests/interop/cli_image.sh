#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cli_image.sh LUNKIT : verbs on images that are not attached, beside qemu-img on the same files. No lunkitd, no D-Bus.
set -u
lunkit=$1
here=$(dirname "${BASH_SOURCE[0]}")
type qemu-img qemu-io jq >/dev/null 2>&1 || exit 77
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lunkit-image-XXXXXX")
background=''
clean_up() {
    [[ -z $background ]] || kill "$background" 2>/dev/null
    rm -rf "$scratch"
}
trap clean_up EXIT
# shellcheck source=tests/interop/expect.sh
source "$here/expect.sh"
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$scratch/no-bus LC_ALL=C.UTF-8 LUNKIT_CONFIG=$scratch/lunkit.conf
echo >"$LUNKIT_CONFIG"
mkdir "$scratch/images" "$scratch/other" && cd "$scratch/images" || exit 1
chmod 755 "$scratch"

same() {
    expect "$1 and $2 hold the same" qemu-img compare -q "$1" "$2"
}
sound() {
    expect "qemu-img finds nothing wrong in $1" qemu-img check -q "$1"
}
# write IMAGE PATTERN OFFSET LENGTH
write() {
    qemu-io -f qcow2 -c "write -P $2 $3 $4" "$1" >/dev/null || complain "qemu-io can't write $1"
}
# only FILE… : nothing else is here
only() {
    local left
    left=$(find . -mindepth 1 -printf '%P\n' | sort | tr '\n' ' ')
    expect "expected only these files: $*; there are: $left" test "$left" = "${*:+$* }"
}

# ---- the kind is what the extension says
succeeds "$lunkit" create a.qcow2 64M
run qemu-img info --output=json a.qcow2
expect_json '.format == "qcow2" and ."virtual-size" == 67108864'
succeeds "$lunkit" info a.qcow2 --json
expect_json '.kind == "qcow2"'
succeeds "$lunkit" create a.img 1M
succeeds "$lunkit" info a.img --json
expect_json '.kind == "raw"'
succeeds "$lunkit" info raw:a.qcow2 --json
expect_json '.kind == "raw"'
succeeds "$lunkit" create small.qcow2 1M --option cluster-size=4K --option compression-type=zstd --option lazy-refcounts=yes
run qemu-img info --output=json small.qcow2
expect_json '."cluster-size" == 4096 and ."format-specific".data."compression-type" == "zstd" and ."format-specific".data."lazy-refcounts"'
fails 2 "KEY=VALUE" "$lunkit" create b.qcow2 1M --option foo
fails 1 "URL" "$lunkit" info http://x/y
run "$lunkit" create null:x 1G
expect "the subject is said once" test "$err" = "${err/null:x*x: images/}"
rm -f small.qcow2 a.img

# ---- check, map
write a.qcow2 1 0 3M
write a.qcow2 2 40M 1M
succeeds "$lunkit" check a.qcow2
expect_out "no errors"
succeeds "$lunkit" check a.qcow2 --json
expect_json '.corruptions == 0 and .leaks == 0 and ."allocated-clusters" == 64 and ."total-clusters" == 1024'
succeeds "$lunkit" map a.qcow2 --json
expect_json 'map(select(.data)) == [{"offset":0,"length":3145728,"data":true,"zero":false,"allocated":true,"backing":false},
    {"offset":41943040,"length":1048576,"data":true,"zero":false,"allocated":true,"backing":false}]'
expect_json '[.[].length] | add == 67108864'
succeeds "$lunkit" map a.qcow2
expect_out "             3145728  data"
cp a.qcow2 leak.qcow2
# a refcount for a cluster that nothing uses
refblock=$(qemu-io -f raw -r -c 'read -v 65536 8' leak.qcow2 | awk 'NR == 1 { for (i = 2; i <= 9; i++) printf $i }')
printf '\0\1' | dd of=leak.qcow2 bs=1 seek=$((16#$refblock + 2000)) conv=notrunc status=none
truncate -s 70M leak.qcow2
run "$lunkit" check leak.qcow2
expect_status 3
expect_out "1 leaked cluster"
run "$lunkit" check leak.qcow2 --repair leaks
expect_status 0
expect_out "1 leaked cluster was given back"
sound leak.qcow2
cp a.qcow2 broken.qcow2
# two clusters of the disk in one of the file
l1=$(qemu-io -f raw -r -c 'read -v 40 8' broken.qcow2 | awk 'NR == 1 { for (i = 2; i <= 9; i++) printf $i }')
l2=$(qemu-io -f raw -r -c "read -v $((16#$l1)) 8" broken.qcow2 | awk 'NR == 1 { for (i = 2; i <= 9; i++) printf $i }')
l2=$((16#$l2 & 0xffffffffffff))
dd if=broken.qcow2 of=entry bs=1 skip=$l2 count=8 status=none
dd if=entry of=broken.qcow2 bs=1 seek=$((l2 + 8)) conv=notrunc status=none
rm entry
run "$lunkit" check broken.qcow2
expect_status 2
expect_out "error"
echo nonsense >no.qcow2
run "$lunkit" check no.qcow2
expect_status 1
run "$lunkit" check missing.qcow2
expect_status 1
run "$lunkit" check --nonsense a.qcow2
expect_status 1
truncate -s 1M plain.raw
run "$lunkit" check plain.raw
expect_status 63
rm -f leak.qcow2 broken.qcow2 no.qcow2 plain.raw

# ---- snapshots
succeeds "$lunkit" snapshot list a.qcow2 --json
expect_json '. == []'
qemu-img convert -O raw a.qcow2 first.raw
succeeds "$lunkit" snapshot create a.qcow2 first
fails 1 "first" "$lunkit" snapshot create a.qcow2 first
expect_err "  try: Choose another name"
succeeds "$lunkit" info a.qcow2 --json
expect_json '.snapshots == 1 and ."refcount-bits" == 16'
write a.qcow2 9 1M 30M
succeeds "$lunkit" snapshot create a.qcow2 'second one'
sound a.qcow2
succeeds "$lunkit" snapshot list a.qcow2 --json
expect_json '[.[].name] == ["first", "second one"] and .[0].size == 67108864 and (.[0].time | startswith("20"))'
run qemu-img snapshot -l a.qcow2
expect_out "second one"
succeeds "$lunkit" export 'a.qcow2;snapshot=first' out.raw
same out.raw first.raw
rm out.raw
succeeds "$lunkit" snapshot revert a.qcow2 first
same a.qcow2 first.raw
succeeds "$lunkit" snapshot delete a.qcow2 'second one'
fails 1 "second one" "$lunkit" snapshot revert a.qcow2 'second one'
expect_err "lunkit snapshot list"
sound a.qcow2
# an image made elsewhere has any bytes for a name
sed 's/first/f\xff"\n\x1b/' a.qcow2 >bytes.qcow2
succeeds "$lunkit" snapshot list bytes.qcow2 --json
expect_json '.[0].name == "f?\"\n\u001b"'
expect "UTF-8 only" iconv -f UTF-8 -t UTF-8 -o /dev/null <<<"$out"
succeeds "$lunkit" snapshot list bytes.qcow2
expect_out 'f?"??'
rm bytes.qcow2
succeeds "$lunkit" snapshot delete a.qcow2 first
succeeds "$lunkit" snapshot list a.qcow2
expect_err "there are no snapshots"
fails 2 "can't 'make'" "$lunkit" snapshot make a.qcow2 x
fails 2 "needs the snapshot's name" "$lunkit" snapshot create a.qcow2
fails 1 "have no snapshots" "$lunkit" snapshot create first.raw x
sound a.qcow2
only a.qcow2 first.raw

# ---- clone, flatten
fails 1 "does not say which kind" "$lunkit" clone a.qcow2 over
expect_err "  try: name it over.qcow2"
fails 1 "does not say which kind" "$lunkit" clone --full a.qcow2 over
succeeds "$lunkit" clone a.qcow2 qcow2:over
run qemu-img info --output=json over
expect_json '.format == "qcow2" and ."backing-filename-format" == "qcow2" and (."backing-filename" | startswith("/"))'
same over a.qcow2
write over 7 10M 64K
succeeds "$lunkit" map qcow2:over --json
expect_json 'any(.[]; .backing or .offset == 0)'
succeeds "$lunkit" flatten qcow2:over
run qemu-img info --output=json over
expect_json 'has("backing-filename") | not'
sound over
succeeds "$lunkit" clone first.raw over2.qcow2 --option cluster-size=128K
run qemu-img info --output=json over2.qcow2
expect_json '."backing-filename-format" == "raw" and ."cluster-size" == 131072'
fails 1 "exists" "$lunkit" clone a.qcow2 over2.qcow2
# what an image lies on is in use by it
cp first.raw kept.raw
fails 1 "in use" "$lunkit" export --force over2.qcow2 first.raw
expect "the backing file is as it was" cmp first.raw kept.raw
rm kept.raw
fails 1 "no backing file" "$lunkit" clone a.qcow2 over.raw
succeeds "$lunkit" clone --full a.qcow2 full.raw
same full.raw a.qcow2
succeeds "$lunkit" clone a.qcow2 ../other/far.qcow2
fails 1 "not a file of this image" "$lunkit" check ../other/far.qcow2
echo "backing = $PWD" >"$LUNKIT_CONFIG"
succeeds "$lunkit" check ../other/far.qcow2
same ../other/far.qcow2 a.qcow2
rm -f over over2.qcow2 full.raw

# ---- formats of other programs
truncate -s 1M foreign.vmdk
fails 1 "another format (.vmdk)" "$lunkit" info foreign.vmdk
expect_err "raw:PATH"
fails 1 "another format (.vhdx)" "$lunkit" create new.VHDX 1M
fails 1 "another format (.vmdk)" "$lunkit" export a.qcow2 out.vmdk
succeeds "$lunkit" info raw:foreign.vmdk
expect_out "1 MiB"
succeeds "$lunkit" import --format raw foreign.vmdk new.qcow2
succeeds "$lunkit" export --format raw a.qcow2 out.vmdk
same out.vmdk a.qcow2
fails 1 "exists" "$lunkit" import --format raw foreign.vmdk new.qcow2
expect_err "  try: choose another name, or remove"
fails 1 "exists" "$lunkit" export --format raw a.qcow2 out.vmdk
expect_err "with --force"
rm -f foreign.vmdk new.qcow2 out.vmdk

# ---- in use by somebody else
mkfifo "$scratch/hold"
qemu-io -f qcow2 a.qcow2 <"$scratch/hold" >"$scratch/qemu-io" 2>&1 &
background=$!
exec 9>"$scratch/hold"
echo 'read 0 512' >&9
for ((i = 0; i < 300; i++)); do
    grep -q 'read 512' "$scratch/qemu-io" && break
    sleep 0.1
done
cp first.raw other.raw
run "$lunkit" export --force other.raw a.qcow2
expect_status 1
expect_err "in use"
rm other.raw
for verb in "check a.qcow2" "snapshot create a.qcow2 x" "clone a.qcow2 x.qcow2" "export a.qcow2 x.raw" "flatten a.qcow2" "map a.qcow2"; do
    # shellcheck disable=SC2086 # words
    run "$lunkit" $verb
    expect_status 1
    expect_err "in use"
done
echo quit >&9
exec 9>&-
wait "$background"
background=''
only a.qcow2 first.raw

# ---- export, import
succeeds "$lunkit" export a.qcow2 out.raw
same out.raw a.qcow2
expect "it is sparse" test "$(stat -c %b out.raw)" -lt 16384
fails 1 "exists" "$lunkit" export a.qcow2 out.raw
# what is said of the progress must not go into the image, whatever descriptors there are
expect "an export without a standard error" bash -c "'$lunkit' export --rate 8M a.qcow2 quiet.qcow2 2>&- && cmp -n 4 a.qcow2 quiet.qcow2"
rm quiet.qcow2
fails 1 "a copy of itself" "$lunkit" export --force a.qcow2 ./a.qcow2
ln a.qcow2 other-name.qcow2
fails 1 "a copy of itself" "$lunkit" export --force other-name.qcow2 a.qcow2
rm other-name.qcow2
for size in 0 3 1M; do # also what is no disk
    truncate -s "$size" out.raw
    succeeds "$lunkit" export --force a.qcow2 out.raw --json
done
expect_json '."bytes-read" > 0'
same out.raw a.qcow2
succeeds "$lunkit" export --compress a.qcow2 out.qcow2
same out.qcow2 a.qcow2
sound out.qcow2
expect "it is compressed" test "$(stat -c %s out.qcow2)" -lt 1048576
fails 1 "can't be compressed" "$lunkit" export --compress a.qcow2 x.raw
fails 1 "does not exist" "$lunkit" export a.qcow2 nowhere/x.raw
last='lunkit export a.qcow2 - | cmp'
"$lunkit" export a.qcow2 - 2>"$scratch/.err" | cmp - first.raw || complain "standard output differs"
"$lunkit" export a.qcow2 - >out2.raw || complain "standard output, a file"
same out2.raw a.qcow2
run bash -c '"$0" export a.qcow2 - | head -c 1000 >/dev/null; exit "${PIPESTATUS[0]}"' "$lunkit"
expect_status 1
succeeds "$lunkit" import first.raw in.qcow2 --option cluster-size=4K
same in.qcow2 first.raw
sound in.qcow2
fails 1 "exists" "$lunkit" import first.raw in.qcow2
cp a.qcow2 unnamed
fails 1 "never guesses" "$lunkit" import unnamed in2.raw
succeeds "$lunkit" import --format qcow2 unnamed in2.raw
same in2.raw a.qcow2
last='cat | lunkit import'
"$lunkit" import - in3.qcow2 --size 64M < <(cat first.raw) >/dev/null || complain "a pipe can't be imported"
same in3.qcow2 first.raw
sound in3.qcow2
run bash -c 'cat first.raw | "$0" import - in4.qcow2 --size 1M' "$lunkit"
expect_status 1
run bash -c 'cat first.raw | "$0" import - in4.qcow2 --option preallocation=metadata' "$lunkit"
expect_status 1
expect_err "--size"
# a pipe of an unknown length: the image is as large as what came, in whole blocks
last='cat | lunkit import, without a size'
for target in in6.qcow2 in6.raw; do
    "$lunkit" import - "$target" < <(cat first.raw) >/dev/null || complain "a pipe of an unknown length can't be imported"
    same "$target" first.raw
done
sound in6.qcow2
truncate -s 100M "$scratch/long"
printf 'end' | dd of="$scratch/long" bs=1 seek=$((100 * 1048576)) conv=notrunc status=none
"$lunkit" import - in7.qcow2 --compress < <(cat "$scratch/long") >/dev/null || complain "a long pipe can't be imported"
"$lunkit" import - in7.raw < <(cat "$scratch/long") >/dev/null || complain "a long pipe can't be imported"
truncate -s $((100 * 1048576 + 512)) "$scratch/long"
expect "it is as large as what came" cmp in7.raw "$scratch/long"
same in7.qcow2 in7.raw
sound in7.qcow2
rm "$scratch/long" in6.* in7.*
run bash -c 'true | "$0" import - in4.raw' "$lunkit"
expect_status 1
expect_err "nothing came"
"$lunkit" import - in5.raw <first.raw >/dev/null || complain "a file on standard input can't be imported"
same in5.raw first.raw
only a.qcow2 first.raw in.qcow2 in2.raw in3.qcow2 in5.raw out.qcow2 out.raw out2.raw unnamed
rm -f in* out* unnamed

# ---- what is not safe
succeeds "$lunkit" check --safety a.qcow2 --json
expect_json '.safe and all(.properties[]; .verdict == "ok" or .verdict == "note")'
qemu-img create -q -f qcow2 -b /etc/passwd -F raw evil.qcow2 1M
run "$lunkit" check --safety evil.qcow2
expect_status 4
if ((EUID == 0)) && chown nobody evil.qcow2; then
    succeeds "$lunkit" info evil.qcow2 --json
    expect_json '.unsafe == ["backing-file"]'
fi
expect_out "/etc/passwd"
fails 1 "not safe: backing-file (/etc/passwd)" "$lunkit" import evil.qcow2 in.raw
qemu-img create -q -f qcow2 -o data_file=data.raw,data_file_raw=on ext.qcow2 1M
fails 1 "not safe: data-file" "$lunkit" import ext.qcow2 in.raw
qemu-img create -q -f qcow2 huge.qcow2 50T
fails 1 "not safe: virtual-size" "$lunkit" import huge.qcow2 in.qcow2
cp a.qcow2 future.qcow2
printf '\x80' | dd of=future.qcow2 bs=1 seek=72 conv=notrunc status=none
fails 1 "not safe: features" "$lunkit" import future.qcow2 in.raw
cp a.qcow2 table.qcow2
printf '\x7f' | dd of=table.qcow2 bs=1 seek=40 conv=notrunc status=none
fails 1 "not safe: l1-table" "$lunkit" import table.qcow2 in.raw
cp a.qcow2 key.qcow2
printf '\2' | dd of=key.qcow2 bs=1 seek=35 conv=notrunc status=none
fails 1 "not safe: encryption" "$lunkit" import key.qcow2 in.raw
head -c 100 a.qcow2 >short.qcow2
run "$lunkit" check --safety short.qcow2
expect_status 4
succeeds "$lunkit" check --safety raw:a.qcow2
expect_out "qcow2"
echo "backing = $PWD" >"$LUNKIT_CONFIG"
succeeds "$lunkit" clone a.qcow2 child.qcow2
fails 1 "not safe" "$lunkit" import child.qcow2 in.raw
succeeds "$lunkit" import --trust child.qcow2 in.raw
same in.raw a.qcow2
rm -f evil.qcow2 ext.qcow2 data.raw huge.qcow2 future.qcow2 table.qcow2 key.qcow2 short.qcow2 child.qcow2 in.raw

# ---- interrupted: nothing half done
truncate -s 256M slow.raw
dd if=/dev/urandom of=slow.raw bs=1M count=64 conv=notrunc status=none
# stop_it SIGNAL COMMAND… : runs it until it shows progress, then ends it
stop_it() {
    last="${*:2}, then $1"
    : >"$scratch/.err"
    "${@:2}" 2>"$scratch/.err" >/dev/null &
    local pid=$!
    for ((i = 0; i < 200; i++)); do
        grep -q '%' "$scratch/.err" && break
        sleep 0.1
    done
    expect "progress, in plain lines" grep -qE '[0-9]+%  .* of 256 MiB, .*/s' "$scratch/.err"
    kill "-$1" "$pid"
    wait "$pid"
    status=$? err=$(<"$scratch/.err") out=''
}
for signal in TERM HUP; do
    stop_it $signal "$lunkit" export slow.raw out.qcow2 --rate 2M
    expect_status 1
    expect_err interrupted
    only a.qcow2 first.raw slow.raw
done
stop_it TERM "$lunkit" import slow.raw in.qcow2 --rate 2M
expect_status 1
rm -f out.qcow2
succeeds "$lunkit" clone slow.raw over.qcow2
stop_it TERM "$lunkit" flatten over.qcow2 --rate 2M
expect_status 1
sound over.qcow2
same over.qcow2 slow.raw
succeeds "$lunkit" flatten over.qcow2
sound over.qcow2
same over.qcow2 slow.raw
rm -f over.qcow2
only a.qcow2 first.raw slow.raw
fails 2 "not a size" "$lunkit" export a.qcow2 x.raw --rate fast

# ---- shrink
succeeds "$lunkit" resize --shrink a.qcow2 32M
run qemu-img info --output=json a.qcow2
expect_json '."virtual-size" == 33554432'
sound a.qcow2
finish
