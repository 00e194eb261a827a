#!/bin/bash
# Data comes back as it was written: fio with checksums, at depth 1 and 32, in every cache mode; trim in jobs of its own, since fio can't do both in one.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin

verify() {
    local name=$1
    shift
    fio_job "$name" --rw=randrw --verify=crc32c --verify_fatal=1 --verify_backlog=256 --norandommap=0 "$@"
}

new_image disk 96M
for cache in none writeback writethrough; do
    step "cache=$cache"
    attach --cache "$cache" "$image"
    size=16M
    [[ $cache == none ]] || size=8M
    verify "$cache-depth1" --ioengine=io_uring --iodepth=1 --bs=4k --size=$((${size%M} / 8))M
    verify "$cache-depth32" --ioengine=libaio --iodepth=32 --bs=4k --size=$size
    if [[ $cache == none ]]; then
        step 'sizes of all kinds, not aligned to 4 KiB'
        verify "$cache-mixed" --ioengine=libaio --iodepth=16 --bsrange=512-128k --bs_unaligned=0 --blockalign=512 --size=16M
        verify "$cache-large" --ioengine=io_uring --iodepth=8 --bs=1M --size=48M

        step 'trim, beside writes and alone'
        fio_job "$cache-trim" --ioengine=libaio --iodepth=32 --rw=randtrim --bs=64k --size=16M
        fio_job "$cache-trimwrite" --ioengine=libaio --iodepth=8 --rw=trimwrite --bs=64k --size=16M
        step 'two jobs at once, flushing'
        fio_job "$cache-fsync" --ioengine=libaio --iodepth=8 --rw=randwrite --bs=4k --size=4M --numjobs=2 --fsync=16 --offset_increment=32M \
            --verify=crc32c
    fi
    same_as "$device" "$image"
    expect_equal "errors that $device counts" 0 "$(lunkit status "$device" | sed -n 's/.* \([0-9]*\) errors.*/\1/p')"
    detach "$device"
done

step 'blocks of 4096 bytes'
attach --block-size 4096 "$image"
expect_equal 'logical block size' 4096 "$(blockdev --getss "$device")"
verify blocks4k --ioengine=libaio --iodepth=16 --bs=4k --size=8M
detach "$device"
