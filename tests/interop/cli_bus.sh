#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cli_bus.sh LUNKIT FAKE_LUNKITD : verbs that ask lunkitd, with a stand-in for it on a bus of their own.
set -u
lunkit=$1 fake=$2
here=$(dirname "${BASH_SOURCE[0]}")
type dbus-daemon >/dev/null 2>&1 || exit 77
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lunkit-bus-XXXXXX")
pids=()
clean_up() {
    ((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null
    wait
    rm -rf "$scratch"
}
trap clean_up EXIT
# shellcheck source=tests/interop/expect.sh
source "$here/expect.sh"
export LC_ALL=C.UTF-8 DBUS_SYSTEM_BUS_ADDRESS=unix:path=$scratch/bus
cd "$scratch" || exit 1
cat >bus.conf <<END
<busconfig>
  <type>system</type>
  <listen>$DBUS_SYSTEM_BUS_ADDRESS</listen>
  <policy context="default">
    <allow send_destination="*"/><allow own="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
END

wait_for() {
    for ((i = 0; i < 300; i++)); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    echo "never came true: $*" >&2
    exit 1
}

dbus-daemon --config-file=bus.conf --nofork --nopidfile 2>bus.log &
pids+=($!)
wait_for test -S bus
fails 1 "lunkitd does not run" "$lunkit" list
expect_err "  try: systemctl start lunkitd"
fails 1 "lunkitd does not run" "$lunkit" status

"$fake" >calls 2>&1 &
pids+=($!)
wait_for "$lunkit" status

# called LINE : the last call that the stand-in saw
called() {
    expect "expected the call '$1', not '$(tail -n 1 calls)'" test "$(tail -n 1 calls)" = "$1"
}

succeeds "$lunkit" list
expect "nothing on standard output" test -z "$out"
succeeds "$lunkit" list --json
expect_json '. == []'
truncate -s 1M one.raw two.raw locked.raw

# ---- attach
succeeds "$lunkit" attach one.raw --cache writeback --read-only --block-size 4096 --name n --persist
expect "the device, then its other name" test "$out" = $'/dev/sdx\n/dev/disk/by-id/wwn-0x6001'
expect_err "lunkit: warning: buffered"
called "Attach $scratch/one.raw read-only=yes cache=writeback block-size=4096 name=n persist=yes"
fails 1 "is attached already" "$lunkit" attach one.raw
succeeds "$lunkit" attach one.raw --print qemu
expect_out "file=/dev/disk/by-id/wwn-0x6001,"
succeeds "$lunkit" attach one.raw --print libvirt
expect_out "<source dev='/dev/disk/by-id/wwn-0x6001'/>"
run "$lunkit" attach one.raw --print qemu --fabric vhost
expect_status 1
expect_err "not with --fabric vhost"
succeeds "$lunkit" attach two.raw --fabric vhost
expect "the WWPN" test "$out" = naa.5002
called "Attach $scratch/two.raw fabric=vhost"
succeeds "$lunkit" attach two.raw --print qemu
expect "arguments of QEMU" test "$out" = "-device vhost-scsi-pci,id=lunkit-vhost-1,wwpn=naa.5002"
fails 1 "lunkit: cannot attach '$scratch/locked.raw': image '$scratch/locked.raw' is locked" "$lunkit" attach locked.raw
expect_err "  try: stop the VM"
fails 1 "does not exist" "$lunkit" attach missing.raw

# ---- list, status, info
succeeds "$lunkit" list
expect_out "loop-1"
expect_out "10 GiB"
expect_out "/dev/sdx"
expect_out "naa.5002"
expect "aligned" test "$(awk 'NR > 1 { print index($0, "GiB") }' <<<"$out" | sort -u | wc -l)" = 1
succeeds "$lunkit" list --json
expect_json 'length == 2 and .[0].name == "loop-1" and .[0].size == 10737418240 and .[0].devices == ["/dev/sdx"] and .[0]."worker-pid" == 4711'
expect_json '.[0].persistent == true and .[0]."device-links" == ["/dev/disk/by-id/wwn-0x6001"]'
succeeds "$lunkit" status
expect_out "its worker failed 5 times"
expect_out "2 (8 KiB)"
expect_out "vhost-1 is held"
succeeds "$lunkit" status --json
expect_json '.daemon.handlers == ["raw", "null"] and (.luns | length) == 2 and .luns[0].statistics.reads == 2 and (.luns[1] | has("statistics") | not)'
for name in loop-1 one.raw ./one.raw /dev/sdx; do
    succeeds "$lunkit" status "$name" --json
    [[ $name == /dev/sdx ]] || expect_json '.luns[0].name == "loop-1"'
done
fails 1 "'nothing': it is not attached" "$lunkit" status nothing
succeeds "$lunkit" info one.raw --json
expect_json '.attached == true and .lun == "loop-1" and .device == "/dev/sdx" and ."direct-io" == true'
succeeds "$lunkit" info one.raw
expect_out "direct io:"

# ---- resize
succeeds "$lunkit" resize one.raw +1G
expect_out "11 GiB"
called "Resize loop-1 11811160064 0"
succeeds "$lunkit" resize loop-1 1G --shrink
called "Resize loop-1 1073741824 1"
succeeds "$lunkit" resize loop-1 --adopt
called "Resize loop-1 0 0"
fails 1 "would cut off its end" "$lunkit" resize one.raw 1G

# ---- what is on an attached image is done by its LUN: jobs
run "$lunkit" check one.raw
expect_status 3
expect_out "2 leaked clusters"
expect_out "the first: cluster 7"
called "Check loop-1 0"
run "$lunkit" check loop-1 --repair all --json
expect_status 3
expect_json '.leaks == 2'
called "Check loop-1 3"
fails 1 "flatten is under way" "$lunkit" check vhost-1
expect_err "  try: wait"
succeeds "$lunkit" map one.raw
expect_out "512  data"
called "Map 0 0"
succeeds "$lunkit" map one.raw --json
expect_json '.[0].length == 512'
succeeds "$lunkit" snapshot list one.raw
expect_out "2026-01-02T03:04:05Z"
succeeds "$lunkit" snapshot create one.raw 'a name'
called "SnapshotCreate a name"
succeeds "$lunkit" snapshot revert one.raw n --json
called "SnapshotRevert n"
expect_json '.snapshot == "n" and .size == 10737418240'
fails 1 'there is no snapshot "gone"' "$lunkit" snapshot delete one.raw gone
expect_err "  try: look at the list"
succeeds "$lunkit" export 'one.raw;snapshot=s' out.qcow2 --compress --rate 1M --option cluster-size=4K
called "Export $scratch/out.qcow2 snapshot=s format=qcow2 options=cluster-size=4K rate=1048576 stream=no compress=yes"
expect "what the LUN wrote" test "$(<out.qcow2)" = disk
fails 1 "exists" "$lunkit" export one.raw out.qcow2
fails 1 "no space left" "$lunkit" export one.raw fail.raw
expect "nothing is left" test ! -e fail.raw -a ! -e fail.raw.partial
expect "standard output" test "$("$lunkit" export one.raw - | cat)" = disk
called "Export  snapshot= format=raw options= rate=0 stream=yes compress=no"
fails 1 "spoil every overlay" "$lunkit" clone one.raw clone.qcow2
succeeds "$lunkit" clone --full one.raw clone.raw
"$lunkit" flatten one.raw --rate 2M 2>err.log &
pid=$!
wait_for grep -q "Flatten 2097152" calls
kill -TERM $pid
last='lunkit flatten, interrupted'
wait $pid
status=$? out='' err=$(<err.log)
expect_status 1
expect_err interrupted
called "Cancel flatten"

# ---- restore, doctor
run "$lunkit" restore
expect_status 1
expect "the names" test "$out" = loop-1
expect_err "it is missing"
expect_err "  try: bring it back"
run "$lunkit" doctor --json
expect_json 'any(.[]; .check == "lunkitd" and .status == "ok") and any(.[]; .check == "held" and .status == "broken")'

# ---- detach: also when the file is gone, and by each of its names
rm one.raw
succeeds "$lunkit" detach one.raw --force --keep
called "Detach loop-1 forget=no force=yes"
fails 1 "is not attached" "$lunkit" detach one.raw
fails 1 "is not attached" "$lunkit" detach ./one.raw
fails 1 "is not attached" "$lunkit" detach nothing
succeeds "$lunkit" detach recorded
called "Detach recorded"
succeeds "$lunkit" detach vhost-1
called "Detach vhost-1"
finish
