#!/bin/bash
# A worker on a ring that a program in user space feeds, beside fio on the same file.
set -u
# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/../../scripts/lib/common.sh"

usage() {
    cat <<'END'
usage: scripts/bench ring [--seconds S] [--runs N] [--depths "D…"] [PATTERN…]

4 KiB random reads and writes by a real lunkit-worker: the null handler, a raw file on /dev/shm, a raw file on this disk. A program
stands for the kernel's side of the ring (shared memory, copies, doorbell). fio's io_uring engine does the same to the same files, in runs that
alternate with lunkit's. O_DIRECT for both where the filesystem has it. Of N runs (default 3, S seconds each, default 1.5) the one with
the median rate is shown. PATTERN picks cases by shell pattern, as 'raw-shm.*.d32'.

user, sys: processor time in µs a request: of the worker with all its threads; of fio, which counts its own thread and not those that
io_uring starts where a file can't be read without blocking (tmpfs). peer: of the program that feeds the ring. a doorbell: completions
that were published together.
END
}

seconds=1.5 runs=3 depths='1 4 32 128' patterns=()
while (($#)); do
    case $1 in
        --seconds | --runs | --depths)
            (($# > 1)) || die 2 "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) die 2 "unknown option $1" "scripts/bench ring --help lists the options." ;;
        *) patterns+=("$1") ;;
    esac
    shift
done
is_number "$runs" || die 2 "--runs is a whole number, not '$runs'"
[[ $seconds =~ ^[0-9]+(\.[0-9]+)?$ ]] || die 2 "--seconds is a number, not '$seconds'"
for depth in $depths; do
    if ! is_number "$depth" || ((depth > 1024)); then
        die 2 "a depth is a whole number up to 1024, not '$depth'"
    fi
done
for tool in fio python3; do
    command -v "$tool" >/dev/null || die 1 "$tool is not installed" "scripts/setup installs it."
done

release=$lunkit_root/build/release
export LUNKIT_HANDLERS=$release/handlers
LUNKIT_WORKER=$(find "$release" -name lunkit-worker -type f -perm -u+x | head -n 1)
export LUNKIT_WORKER
ring=$(find "$release" -name bench_ring -type f -perm -u+x | head -n 1)
[[ $ring && $LUNKIT_WORKER ]] || die 1 "build/release has no worker or no bench_ring" "Run this through scripts/bench."

trap drop_scratch EXIT
trap 'exit 130' INT TERM
folder_shm=$(mktemp -d /dev/shm/lunkit-bench-XXXXXX) || die 1 "cannot make a directory on /dev/shm"
scratch+=("$folder_shm")
folder_disk=$(mktemp -d "$lunkit_root/build/bench-XXXXXX") || die 1 "cannot make a directory in build/"
scratch+=("$folder_disk")
size_mib=512

# prepare FILE : written in full, so that neither holes nor unwritten extents are measured.
prepare() {
    dd if=/dev/urandom of="$1" bs=1M count=$size_mib conv=fsync status=none ||
        die 1 "cannot write $size_mib MiB to $1" "Free some space there."
}

# shellcheck source=tests/bench/choosing
. "$lunkit_root/tests/bench/choosing"

# run_fio FILE read|write DEPTH : requests/s, user µs, system µs.
run_fio() {
    local direct=1
    dd if="$1" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null || direct=0
    fio --name=ring --filename="$1" --ioengine=io_uring --rw="rand$2" --bs=4k --iodepth="$3" --direct=$direct --norandommap \
        --size=${size_mib}M --ramp_time=0.2 --time_based --runtime="$seconds" --output-format=json 2>/dev/null |
        python3 -c '
import json, sys
job = json.load(sys.stdin)["jobs"][0]
done = job[sys.argv[1]]
microseconds = done["runtime"] * 1000 / max(done["total_ios"], 1)
print(done["iops"], job["usr_cpu"] / 100 * microseconds, job["sys_cpu"] / 100 * microseconds)' "$2"
}

ratios=()
printf '%-28s %10s %7s %7s %7s %10s   %10s %7s %7s   %6s\n' case 'lunkit/s' user sys peer 'a doorbell' 'fio/s' user sys ratio
for image in null raw-shm raw-disk; do
    kind=${image%-*} file=
    case $image in
        null) name=null ;;
        raw-shm) name=$folder_shm/disk.raw file=$name ;;
        raw-disk) name=$folder_disk/disk.raw file=$name ;;
    esac
    prepared=
    for op in read write; do
        for depth in $depths; do
            case=$image.rand$op.4k.d$depth
            wanted "$case" || continue
            if [[ $file && ! $prepared ]]; then
                prepare "$file"
                prepared=1
            fi
            ours='' theirs=''
            for ((run = 0; run < runs; run++)); do
                line=$("$ring" "$kind" "$name" "$op" "$depth" "$seconds") || die 1 "$case failed"
                ours+=$line$'\n'
                [[ ! $file ]] || theirs+=$(run_fio "$file" "$op" "$depth")$'\n'
            done
            read -r rate user system peer batch < <(printf '%s' "$ours" | median)
            if [[ $file ]]; then
                read -r fio_rate fio_user fio_system < <(printf '%s' "$theirs" | median)
                ratio=$(awk -v a="$rate" -v b="$fio_rate" 'BEGIN { printf "%.2f", (b > 0 ? a / b : 0) }')
                ratios+=("ratio ring.$case/fio $ratio")
                printf '%-28s %10.0f %7.2f %7.2f %7.2f %10.1f   %10.0f %7.2f %7.2f   %6s\n' "$case" "$rate" "$user" "$system" "$peer" \
                    "$batch" "$fio_rate" "$fio_user" "$fio_system" "$ratio"
            else
                printf '%-28s %10.0f %7.2f %7.2f %7.2f %10.1f\n' "$case" "$rate" "$user" "$system" "$peer" "$batch"
            fi
        done
    done
    [[ ! $file ]] || rm -f "$file"
done
((!${#ratios[@]})) || printf '%s\n' "${ratios[@]}"
