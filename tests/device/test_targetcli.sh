#!/bin/bash
# limit: 240 seconds
# What administrators know: backstores made, exported, saved, cleared and restored with targetcli, together with lunkit's own.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
# our output is read by patterns, and a configuration is saved only where a test says so
target set global color_mode=false auto_save_on_exit=false logfile=/dev/null >"$work/set"

# batch NAME : runs the commands from standard input; prints and keeps the output.
batch() {
    output=$(timeout 150 targetcli 2>&1) || fail "targetcli: $output"
    printf '%s\n' "$output" | grep -v '^$' | sed 's/^/  | /'
}

disk_count_is() {
    [[ $(lunkit list | grep -c /dev/sd) == "$1" ]]
}

new_image disk 32M
fill "$image"
new_image second 16M
first=$work/disk second=$work/second

step 'create, list, export'
batch <<END
/backstores/user:raw create t1 32M $first
/backstores/user:raw create name=t2 size=16M cfgstring=$second;cache=writeback wwn=0b83b8a3-1f2c-4d0c-9d52-3e6b7ab7c5aa
/loopback create naa.5001405aaaaaaaa1
/loopback/naa.5001405aaaaaaaa1/luns create /backstores/user:raw/t1
/loopback/naa.5001405aaaaaaaa1/luns create /backstores/user:raw/t2
ls /backstores
END
expect_match 'ls' 't1 .*32.0MiB' "$output"
expect_match 'ls' 't2 .*16.0MiB' "$output"
wait_for 10 'both have a disk' disk_count_is 2
expect_match 'lunkit list' "t1 .*$first.*32 MiB.*loop.*/dev/sd.*serving" "$(lunkit list)"
expect_equal 'wwn= is the serial' 0b83b8a3-1f2c-4d0c-9d52-3e6b7ab7c5aa "$(lun_property t2 serial)"
expect_equal cache writeback "$(lun_property t2 cache)"
t1=$(lun_device t1)
same_as "$t1" "$first"

step 'errors reach the user, each with its reason'
{
    echo "/backstores/user:raw create e1 32M $work/none"
    echo "/backstores/user:raw create e2 32M $work"
    echo "/backstores/user:raw create e3 32M $second;frob=1"
    echo "/backstores/user:raw create e4 32M $first"
    echo "/backstores/user:raw create e5 32M $second;cache=maybe"
} >"$work/errors"
batch <"$work/errors"
expect_match 'missing file' '[Nn]o such file|not exist' "$output"
expect_match 'directory' 'directory' "$output"
expect_match 'unknown option' 'frob' "$output"
expect_match 'image in use' 't1' "$output"
expect_match 'bad cache mode' 'maybe' "$output"
expect_equal LUNs 2 "$(lun_count)"
expect_equal 'backstores in configfs' 2 "$(find "$configfs/core" -mindepth 2 -maxdepth 2 -path '*user_*' ! -name alua ! -name hba_info -type d | wc -l)"

step 'a wrong size is put right or refused, never taken'
truncate -s 24M "$work/third"
batch <<END
/backstores/user:raw create t3 99M $work/third
END
if [[ $output == *'Created user-backed'* ]]; then
    expect_equal 'size of t3' $((24 << 20)) "$(lun_property t3 size)"
    echo /backstores/user:raw delete t3 | target_batch >/dev/null
else
    expect_match 'reason' '24|25165824' "$output"
fi
expect_equal LUNs 2 "$(lun_count)"

step "lunkit's own LUN is one of them; all are saved, cleared and restored"
truncate -s 8M "$work/own"
attach --name own "$work/own"
own_serial=$(lun_property own serial)
batch <<END
/backstores/user:raw ls
saveconfig $work/saved.json
clearconfig confirm=True
ls /backstores
END
expect_match "targetcli's list" 'own .*8.0MiB' "$output"
expect_equal LUNs 0 "$(lun_count)"
expect_equal workers '' "$(worker_pids)"
targetctl restore "$work/saved.json" || fail 'targetctl restore failed'
wait_for 10 'all three have a disk' disk_count_is 3
expect_equal LUNs 3 "$(lun_count)"
expect_equal 'serial' "$own_serial" "$(lun_property own serial)"
expect_equal 'serial' 0b83b8a3-1f2c-4d0c-9d52-3e6b7ab7c5aa "$(lun_property t2 serial)"
t1=$(lun_device t1)
same_as "$t1" "$first"

step 'targetctl save and restore again, over what is there'
targetctl save "$work/again.json" || fail 'targetctl save failed'
cmp <(grep -v generate_node "$work/saved.json") <(grep -v generate_node "$work/again.json") || echo '  the saved files differ'
batch <<END
restoreconfig $work/again.json clear_existing=True
END
wait_for 10 'all three have a disk' disk_count_is 3

step 'lunkit detaches what targetcli made, targetcli deletes what lunkit made'
detach t1
detach t2
batch <<END
/backstores/user:raw delete own
clearconfig confirm=True
END
expect_equal LUNs 0 "$(lun_count)"
expect_equal workers '' "$(worker_pids)"
