#!/bin/bash
# limit: 180 seconds
# The SCSI commands as sg3_utils and the kernel send them; damaged ones too.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image disk 32M
fill "$image"
attach "$image"

# says REGEX COMMAND… : it succeeds, and its output has this.
says() {
    local pattern=$1 output
    shift
    output=$(timeout 60 "$@" 2>&1) || fail "failed: $*" "$output"
    [[ $output =~ $pattern ]] || fail "'$pattern' is not in what this says: $*" "$output"
}

step 'identity'
says 'Vendor identification: LUNKIT' sg_inq "$device"
says 'Product identification' sg_inq "$device"
for page in 0x00 0x80 0x83 0xb0 0xb1 0xb2; do
    says '' sg_vpd --page=$page "$device"
done
says 'Supported VPD pages' sg_vpd "$device"
says '0x6001405' sg_vpd --page=di "$device"
says 'Maximum unmap LBA count: ([1-9]|-1)' sg_vpd --page=bl "$device"
says 'LBPU\): 1' sg_vpd --page=lbpv "$device"
says 'Non-rotating' sg_vpd --page=bdc "$device"
expect_error 'Illegal|invalid' -- sg_raw -r 252 "$device" 12 01 c7 00 fc 00

step 'capacity, modes, sense, power'
says 'Device size: 33554432 bytes' sg_readcap "$device"
says 'lbpme=1' sg_readcap --long "$device"
says 'Caching|08 12' sg_modes "$device"
says 'Control|0a 0a' sg_modes --page=0xa "$device"
says '08 12 [01]4' sg_modes --page=8 "$device"
says '' sg_modes -6 "$device"
says '' sg_requests "$device"
says '' sg_turs --number=20 "$device"
says '' sg_start --start "$device"
says '' sg_start --stop "$device" || true
says '' sg_start --start "$device"
says '' sg_prevent --allow "$device"
says 'Write same\(16\)|WRITE SAME\(16\)' sg_opcodes "$device"
says 'supported' sg_opcodes --opcode=0x93 "$device"
says '' sg_luns "$device"
says 'target port' sg_rtpg "$device"
says '' sg_sync "$device"
says '' sg_sync --16 "$device"

step 'reading and writing'
says '' sg_dd if="$device" of="$work/read" bs=512 count=2048 bpt=64
cmp -n $((2048 * 512)) "$work/read" "$image"
head -c 64k /dev/urandom >"$work/data"
for size in 6 10 12 16; do
    sg_dd if="$work/data" of="$device" bs=512 count=128 bpt=64 cdbsz=$size oflag=sgio 2>"$work/err" || fail "WRITE($size): $(<"$work/err")"
    sg_dd if="$device" of="$work/back" bs=512 count=128 bpt=64 cdbsz=$size iflag=sgio 2>"$work/err" || fail "READ($size): $(<"$work/err")"
    cmp "$work/data" "$work/back"
done
sg_dd if="$work/data" of="$device" bs=512 count=128 seek=256 oflag=fua,sgio cdbsz=16 2>/dev/null
same_as "$device" "$image"
expect_error 'LBA out of range|address out of range' -- sg_raw -r 512 "$device" 28 00 00 ff ff ff 00 00 01 00

step 'VERIFY'
says '' sg_verify --lba=0 --count=128 "$device"
says '' sg_verify --lba=0 --count=128 --ndo=65536 --in="$work/data" "$device"
head -c 64k /dev/urandom >"$work/other"
expect_error 'miscompare' -- sg_verify --lba=0 --count=128 --ndo=65536 --in="$work/other" "$device"
expect_error 'out of range' -- sg_verify --16 --lba=0xffffffff --count=1 "$device"

step 'WRITE SAME, UNMAP, GET LBA STATUS'
head -c 512 /dev/urandom >"$work/block"
says '' sg_write_same --16 --lba=1000 --num=100 --in="$work/block" "$device"
for i in 1000 1050 1099; do
    cmp "$work/block" <(dd if="$image" bs=512 skip=$i count=1 status=none)
done
says '' sg_write_same --10 --lba=2048 --num=64 --in=/dev/zero "$device"
says '' sg_write_same --16 --unmap --lba=8192 --num=2048 --in=/dev/zero "$device"
says '' sg_write_same --16 --ndob --lba=4096 --num=64 "$device"
cmp -n 32768 <(dd if="$image" bs=512 skip=4096 count=64 status=none) /dev/zero
says '' sg_unmap --force --lba=16384 --num=8192 "$device"
says 'deallocated|unmapped' sg_get_lba_status --lba=16384 "$device"
says 'mapped' sg_get_lba_status --lba=0 "$device"
cmp -n 4194304 <(dd if="$image" bs=512 skip=16384 count=8192 status=none) /dev/zero
expect_error 'out of range' -- sg_unmap --force --lba=0x7fffffff --num=1 "$device"

step 'COMPARE AND WRITE'
dd if="$image" bs=512 skip=5000 count=1 of="$work/compare" status=none
says '' sg_compare_and_write --lba=5000 --num=1 --inc="$work/compare" --inw="$work/block" --xferlen=1024 "$device"
cmp "$work/block" <(dd if="$image" bs=512 skip=5000 count=1 status=none)
expect_error 'miscompare' -- sg_compare_and_write --lba=5000 --num=1 --inc="$work/compare" --inw="$work/block" --xferlen=1024 "$device"

step 'EXTENDED COPY within the LUN'
sg_xcopy if="$device" of="$device" bs=512 count=256 skip=128 seek=40000 --verbose >"$work/xcopy" 2>&1 || fail "sg_xcopy: $(<"$work/xcopy")"
cmp -n 131072 <(dd if="$image" bs=512 skip=128 count=256 status=none) <(dd if="$image" bs=512 skip=40000 count=256 status=none)
says '' sg_copy_results --params "$device"

step 'resets and aborted commands'
fio --name=reset --filename="$device" --direct=1 --ioengine=libaio --iodepth=8 --rw=randrw --bs=4k --size=8M --time_based --runtime=3 \
    --verify=crc32c --verify_fatal=1 --verify_backlog=64 --offset=8M --eta=never >"$work/fio.log" 2>&1 &
fio=$!
sleep 1
sg_reset --device "$device" || fail 'LUN reset failed'
sleep 0.3
sg_reset --target "$device" || fail 'target reset failed'
wait $fio || fail "fio: $(<"$work/fio.log")"
lun_state_is "$device" serving

step 'damaged commands: answered, and nothing breaks'
worker=$(lun_property "$device" worker-pid)
RANDOM=7
for ((i = 0; i < 60; i++)); do
    length=$((RANDOM % 3 == 0 ? 6 : RANDOM % 2 ? 10 : 16))
    cdb=()
    for ((j = 0; j < length; j++)); do
        cdb+=("$(printf %02x $((RANDOM & 255)))")
    done
    status=0
    timeout 20 sg_raw --timeout=15 -r 4096 "$device" "${cdb[@]}" >/dev/null 2>&1 || status=$?
    # sg_raw itself may crash when it looks for the name of such a command
    ((status != 124)) || fail "no answer to ${cdb[*]}"
done
for cdb in '28 00 ff ff ff ff 00 ff ff 00' '88 00 ff ff ff ff ff ff ff ff 00 00 00 01 00 00' '7f 00 00 00 00 00 00 18 00 09 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01' '42 00 00 00 00 00 00 ff ff 00' \
    '83 00 00 00 00 00 00 00 00 00 00 00 ff ff 00 00' '93 00 00 00 00 00 00 00 00 00 00 00 ff ff 00 00' 'ff ff ff ff ff ff' '9e 1f 00 00 00 00 00 00 00 00 00 00 00 20 00 00'; do
    status=0
    # shellcheck disable=SC2086 # bytes
    timeout 20 sg_raw --timeout=15 -s 24 -i "$work/data" "$device" $cdb >/dev/null 2>&1 || status=$?
    ((status && status < 124)) || fail "status $status for $cdb"
done
expect_equal 'the worker' "$worker" "$(lun_property "$device" worker-pid)"
lun_state_is "$device" serving
same_as "$device" "$image"
detach "$device"
