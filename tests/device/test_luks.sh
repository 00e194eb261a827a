#!/bin/bash
# limit: 900 seconds
# Encrypted disks: attached with a key from a file, a descriptor and targetcli; workers and lunkitd that are killed; keys that are wrong, missing and leaking.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
command -v cryptsetup >/dev/null || skip 'cryptsetup is not here'
test_begin
umask 077
key=$work/key
printf 'a key that stands nowhere %s' "$RANDOM$RANDOM" >"$key"
printf 'another' >"$work/other"

# hidden : the key is not where others could read it
hidden() {
    if grep -rqsF "$(<"$key")" "$LUNKIT_LOGS" "$configfs" /run/lunkit /var/lib/lunkit; then
        fail "the key stands in a log, configfs or a record: $(grep -rlsF "$(<"$key")" "$LUNKIT_LOGS" "$configfs" /run/lunkit /var/lib/lunkit)"
    fi
    for pid in $(pgrep lunkit); do
        ! grep -qzF "$(<"$key")" "/proc/$pid/cmdline" "/proc/$pid/environ" || fail "the key is in the arguments or environment of $pid"
    done
}

for image in "luks:$work/disk.raw" "$work/disk.qcow2"; do
    step "$image: fio with verification"
    # keys that cost little: the VM's processor is slow
    case $image in
        luks:*)
            truncate -s 80M "$work/disk.raw"
            cryptsetup luksFormat -q --type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file "$key" "$work/disk.raw"
            ;;
        *) lunkit create --encrypt luks "$image" 64M --key-file "$key" ;;
    esac
    expect_error 'no key was given' -- lunkit attach "$image"
    expect_error 'does not fit' -- lunkit attach "$image" --key-file "$work/other"
    attach "$image" --key-file "$key"
    fio --name=verify --filename="$device" --size=16M --rw=randwrite --bs=8k --ioengine=libaio --iodepth=16 --direct=1 --verify=crc32c \
        --output-format=terse >/dev/null || fail 'fio found other data than it wrote'
    printf 'plain text on the disk' | dd of="$device" bs=4096 seek=4000 conv=sync,fsync oflag=direct status=none
    ! grep -q 'plain text on the disk' "${image#luks:}" || fail 'the image is not encrypted'
    hidden

    step "$image: its worker is killed, the key is still there"
    pid=$(lunkit list --json | jq -r '.[0]["worker-pid"]')
    kill -9 "$pid"
    expect_equal 'what was written' 'plain text on the disk' "$(dd if="$device" bs=4096 skip=4000 count=1 iflag=direct status=none | tr -d '\0')"

    step "$image: grown, and keys that stay as they are meanwhile"
    lunkit resize "$image" +64M
    expect_equal 'size of the disk' $((128 << 11)) "$(sectors "$device")"
    expect_error attached -- lunkit key add "$image" --key-file "$key" --new-key-file "$work/other"
    lunkit info "$image" | grep -q aes-xts-plain64 || fail 'info says nothing of the encryption'
    lunkit detach "$image"
done

step 'a key from a pipe'
image=luks:$work/disk.raw
printf %s "$(<"$key")" | lunkit attach "$image" --key-file - >/dev/null
# shellcheck disable=SC2016 # the inner shell expands it
expect_error 'is nothing that is there at boot' -- bash -c 'lunkit attach "$1" --key-file - --persist <"$2"' - "$image" "$key"
lunkit detach "$image"
lunkit key add "$image" --key-file "$key" --new-key-file "$work/other"
cryptsetup open --test-passphrase --key-file "$work/other" "$work/disk.raw" || fail 'cryptsetup can not open what lunkit made'

step 'a key that targetcli names by its file'
expect_error 'option' -- targetcli /backstores/user:luks create leak 64M "$work/disk.raw;passphrase=hunter2"
targetcli /backstores/user:luks create named 64M "$work/disk.raw;key-file=$key" || fail 'targetcli could not make it'
wait_for 20 'it is served' bash -c 'lunkit list | grep -q named'
targetcli /backstores/user:luks delete named
hidden

step 'what --persist leaves'
attach "luks:$work/disk.raw" --key-file "$key" --persist
hidden
grep -rq "key-file=$key" /var/lib/lunkit/luns || fail 'the record does not say where the key is'
lunkit detach "luks:$work/disk.raw"
