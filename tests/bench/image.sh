#!/bin/bash
# The image engine alone, in one process, beside QEMU's (qemu-img bench) on the same images.
set -u
# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/../../scripts/lib/common.sh"

usage() {
    cat <<'END'
usage: scripts/bench image [--runs N] [--depths "D…"] [--places "shm disk"] [--scale PERCENT] [PATTERN…]

4 KiB requests through lunkit's engine in one process and through `qemu-img bench -i io_uring -t none`: the same image, offsets, number in flight
and order, in runs that alternate; shown is each side's run with the median time of N (default 5). An image that is written new is made new
for each run. PATTERN picks cases by shell pattern, as 'qcow2.*.d32'; cases on the disk begin with "disk.".

  raw            a raw file that is written in full        .read .write: one after another; .randread .randwrite: in strides over all
  qcow2          a qcow2 file that is written in full
  overlay        reads through an empty overlay of a full qcow2 file
  fresh          writes into an empty qcow2 file
  cluster        the same, each in a cluster of its own
  lazy           the same with lazy refcounts
  cow            writes into an overlay, each in a cluster of its own: the rest is copied
  lun.fresh .cluster .cow   the same as a LUN does it: a write is answered only when its mapping is in the file, so that it outlives the worker
  flush          writes to the full qcow2 file, a flush every 64 (128 with 128 in flight)
  clusterflush   one new cluster a write, a flush as often
  convert        whole images, beside `qemu-img convert -W -m 16 -t none -T none`: .qcow2-raw .raw-qcow2 .sparse (a tenth is there) .overlay (on that)
                 .compressed (256 MiB of this system's own files, zlib) .zstd .unpacked (that, back to raw); MiB/s and the whole time of each program
  snapshot       .create .revert .delete: a qcow2 file of 64 GiB with every fourth cluster allocated, in order; the snapshot that is reverted
                 to or deleted is older than 256 writes. First, in ms: the whole program beside `qemu-img snapshot -c/-a/-d`, opening
                 included, and "alone" our operation without; a ratio above 1 says that ours takes less time. Then 4 KiB reads and writes in
                 turn, 1 and 32 in flight: the mean and the longest gap between completions before the operation, the longest during it
                 (median and worst run), the slowest request. "hold CASE MS": the longest gap beyond the mean one

user, sys: processor time in µs a request. fio's io_uring engine on the raw file stands beside raw.randread and raw.randwrite.
END
}

runs=5 depths='1 32 128' places='shm disk' scale=100 patterns=()
while (($#)); do
    case $1 in
        --runs | --depths | --places | --scale)
            (($# > 1)) || die 2 "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) die 2 "unknown option $1" "scripts/bench image --help lists the options." ;;
        *) patterns+=("$1") ;;
    esac
    shift
done
is_number "$runs" || die 2 "--runs is a whole number, not '$runs'"
is_number "$scale" || die 2 "--scale is a whole number, not '$scale'"
for depth in $depths; do
    is_number "$depth" || die 2 "a depth is a whole number, not '$depth'"
done
for tool in fio python3 qemu-img; do
    command -v "$tool" >/dev/null || die 1 "$tool is not installed" "scripts/setup installs it."
done

release=${LUNKIT_BENCH_BUILD:-$lunkit_root/build/release}
export LUNKIT_HANDLERS=$release/handlers
ours=$(find "$release" -name bench_image -type f -perm -u+x | head -n 1)
[[ $ours ]] || die 1 "$release has no bench_image" "Run this through scripts/bench."
kinds=raw
[[ ! -e $release/handlers/qcow2.so ]] || kinds+=' qcow2'

trap drop_scratch EXIT
trap 'exit 130' INT TERM
size_mib=1024
clusters=$((size_mib * 16)) # of 64 KiB

# make_full FOLDER : full.raw, full.qcow2
make_full() {
    dd if=/dev/urandom of="$1/full.raw" bs=1M count=$size_mib conv=fsync status=none || die 1 "cannot write $size_mib MiB to $1" "Free some space there."
    [[ $kinds == raw ]] || qemu-img convert -f raw -O qcow2 "$1/full.raw" "$1/full.qcow2" || die 1 "qemu-img convert failed"
}

# fresh FOLDER IMAGE-CASE : makes the file that the case writes to; prints its path
fresh() {
    local file=$1/new.qcow2
    rm -f "$file"
    case $2 in
        raw) file=$1/full.raw ;;
        qcow2 | flush) file=$1/full.qcow2 ;;
        fresh | cluster | clusterflush) qemu-img create -q -f qcow2 "$file" ${size_mib}M ;;
        lazy) qemu-img create -q -f qcow2 -o lazy_refcounts=on "$file" ${size_mib}M ;;
        overlay | cow) qemu-img create -q -f qcow2 -b "$1/full.qcow2" -F qcow2 "$file" ;;
    esac || die 1 "qemu-img create failed"
    echo "$file"
}

# run_ours KIND FILE OP COUNT DEPTH STEP FLUSH MODE : seconds, user, system
run_ours() {
    "$ours" "$1" "$2" "$3" "$4" "$5" 4096 "$6" "$7" "$8" || die 1 "lunkit's engine failed"
}

run_qemu() {
    local write=() flush=() output times user system seconds
    [[ $3 == read ]] || write=(-w)
    [[ $7 == 0 ]] || flush=("--flush-interval=$7")
    times=$({
        TIMEFORMAT='%U %S'
        time output=$(qemu-img bench -f "$1" -i io_uring -t none -c "$4" -d "$5" -s 4096 -S "$6" "${write[@]}" "${flush[@]}" "$2" 2>&1)
    } 2>&1 && sed -n 's/^Run completed in \([0-9.]*\) seconds.*/\1/p' <<<"$output")
    # user and system come first, then the program's own seconds
    read -r user system seconds <<<"${times//$'\n'/ }"
    [[ ${seconds-} ]] || die 1 "qemu-img bench failed"
    echo "$seconds $user $system"
}

# run_fio FILE OP DEPTH : requests/s
run_fio() {
    local direct=1
    dd if="$1" of=/dev/null bs=4096 count=1 iflag=direct status=none 2>/dev/null || direct=0
    fio --name=image --filename="$1" --ioengine=io_uring --rw="rand$2" --bs=4k --iodepth="$3" --direct=$direct --norandommap \
        --size=${size_mib}M --ramp_time=0.2 --time_based --runtime=1.5 --output-format=json 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0][sys.argv[1]]["iops"])' "$2"
}

# shellcheck source=tests/bench/choosing
. "$lunkit_root/tests/bench/choosing"

copier=$(find "$release" -name imgcopy -type f -perm -u+x | head -n 1)
[[ $copier ]] || die 1 "$release has no imgcopy" "Run this through scripts/bench."

# timed COMMAND… : seconds, user, system
timed() {
    {
        TIMEFORMAT='%R %U %S'
        time "$@" >/dev/null 2>"$folder/error"
    } 2>&1
}

# measure_convert PLACE FOLDER NAME FROM-KIND FROM TO-KIND MIB OUR-WORDS QEMU-OPTIONS
measure_convert() {
    local case=convert.$3 run line our_lines='' qemu_lines='' words options
    [[ $1 == shm ]] || case=$1.$case
    wanted "$case" || return 0
    [[ $kinds != raw ]] || return 0
    read -ra words <<<"$8"
    read -ra options <<<"$9"
    for ((run = 0; run < runs; run++)); do
        rm -f "$2/converted"
        line=$(timed "$copier" copy "$4" "$5" "$6" "$2/converted" direct "${words[@]}") || die 1 "lunkit's engine failed" "$(<"$2/error")"
        our_lines+=$line$'\n'
        ((run)) || qemu-img compare -q -f "$4" -F "$6" "$5" "$2/converted" || die 1 "$case: the copy differs"
        rm -f "$2/converted"
        line=$(timed qemu-img convert -W -m 16 -t none -T none -f "$4" -O "$6" "${options[@]}" "$5" "$2/converted") ||
            die 1 "qemu-img convert failed" "$(<"$2/error")"
        qemu_lines+=$line$'\n'
    done
    {
        median <<<"${our_lines%$'\n'}"
        median <<<"${qemu_lines%$'\n'}"
    } | awk -v name="$case" -v n="$7" '
        { rate[NR] = n / $1; user[NR] = $2; system_[NR] = $3 }
        END {
            printf "%-30s %10.0f %7.2f %7.2f   %10.0f %7.2f %7.2f   %7.2f\n", name, rate[1], user[1], system_[1], rate[2], user[2],
                system_[2], rate[1] / rate[2]
            printf "ratio %s/qemu %.2f\n", name, rate[1] / rate[2]
        }' >"$2/result" || exit 1
    grep -v '^ratio' "$2/result"
    mapfile -t -O "${#ratios[@]}" ratios < <(grep '^ratio' "$2/result")
    rm -f "$2/result" "$2/converted"
}

# What can be compressed: files of this system.
make_packable() {
    [[ ! -e $1/packable.raw ]] || return 0
    find /usr/lib /usr/bin /usr/share -xdev -type f -size +8k -size -8M 2>/dev/null | sort | xargs -d '\n' cat 2>/dev/null |
        head -c 256M >"$1/packable.raw"
    truncate -s 256M "$1/packable.raw"
    qemu-img convert -c -W -f raw -O qcow2 "$1/packable.raw" "$1/packed.qcow2" || die 1 "qemu-img convert failed"
    sync "$1/packable.raw" "$1/packed.qcow2"
}

# A tenth of the clusters, here and there.
make_sparse() {
    [[ ! -e $1/sparse.qcow2 ]] || return 0
    local words=() cluster
    for ((cluster = 0; cluster < clusters; cluster += 10)); do
        words+=(-c "write -q -P $((cluster % 255 + 1)) $((cluster * 64))k 64k")
    done
    qemu-img create -q -f qcow2 "$1/sparse.qcow2" ${size_mib}M || die 1 "qemu-img create failed"
    qemu-io -f qcow2 "${words[@]}" "$1/sparse.qcow2" || die 1 "qemu-io failed"
}

convert_all() {
    local name
    for name in qcow2-raw raw-qcow2 sparse overlay compressed zstd unpacked; do
        if [[ $1 == shm ]]; then wanted "convert.$name"; else wanted "$1.convert.$name"; fi || continue
        case $name in
            qcow2-raw) measure_convert "$1" "$2" $name qcow2 "$2/full.qcow2" raw $size_mib create '' ;;
            raw-qcow2) measure_convert "$1" "$2" $name raw "$2/full.raw" qcow2 $size_mib create '' ;;
            sparse)
                make_sparse "$2"
                measure_convert "$1" "$2" $name qcow2 "$2/sparse.qcow2" raw $size_mib create ''
                ;;
            overlay)
                make_sparse "$2"
                qemu-img create -q -f qcow2 -F qcow2 -b "$2/sparse.qcow2" "$2/on-sparse.qcow2" || die 1 "qemu-img create failed"
                measure_convert "$1" "$2" $name qcow2 "$2/on-sparse.qcow2" raw $size_mib create ''
                ;;
            compressed)
                make_packable "$2"
                measure_convert "$1" "$2" $name raw "$2/packable.raw" qcow2 256 'create compress' '-c'
                ;;
            zstd)
                make_packable "$2"
                measure_convert "$1" "$2" $name raw "$2/packable.raw" qcow2 256 'create=compression-type=zstd compress' \
                    '-c -o compression_type=zstd'
                ;;
            unpacked)
                make_packable "$2"
                measure_convert "$1" "$2" $name qcow2 "$2/packed.qcow2" raw 256 create ''
                ;;
        esac
    done
}

# shellcheck source=tests/bench/image-snapshot
. "$lunkit_root/tests/bench/image-snapshot"

ratios=()
# measure PLACE FOLDER IMAGE NAME OP COUNT DEPTH STEP FLUSH
measure() {
    local case=$3.$4.4k.d$7 kind=qcow2 image=${3#lun.} mode=none count=$(($6 * scale / 100)) run file our_lines='' qemu_lines=''
    [[ $image == "$3" ]] || mode=survive
    [[ $1 == shm ]] || case=$1.$case
    wanted "$case" || return 0
    [[ $3 != raw ]] || kind=raw
    [[ " $kinds " == *" $kind "* ]] || return 0
    for ((run = 0; run < runs; run++)); do
        file=$(fresh "$2" "$image") || exit 1
        our_lines+=$(run_ours "$kind" "$file" "$5" "$count" "$7" "$8" "$9" $mode)$'\n' || exit 1
        file=$(fresh "$2" "$image") || exit 1
        qemu_lines+=$(run_qemu "$kind" "$file" "$5" "$count" "$7" "$8" "$9")$'\n' || exit 1
    done
    local fio=''
    [[ $4 != rand* || $3 != raw ]] || fio=$(run_fio "$file" "$5" "$7")
    {
        median <<<"${our_lines%$'\n'}"
        median <<<"${qemu_lines%$'\n'}"
    } | awk -v name="$case" -v n="$count" -v fio="$fio" '
        { rate[NR] = n / $1; user[NR] = $2 / n * 1e6; system_[NR] = $3 / n * 1e6 }
        END {
            printf "%-30s %10.0f %7.2f %7.2f   %10.0f %7.2f %7.2f   %7.2f\n", name, rate[1], user[1], system_[1], rate[2], user[2],
                system_[2], rate[1] / rate[2]
            printf "ratio %s/qemu %.2f\n", name, rate[1] / rate[2]
            if (fio) printf "ratio %s/fio %.2f\n", name, rate[1] / fio
        }' >"$2/result" || exit 1
    grep -v '^ratio' "$2/result"
    mapfile -t -O "${#ratios[@]}" ratios < <(grep '^ratio' "$2/result")
    rm -f "$2/result" "$2/new.qcow2"
}

stride=$((4096 * 100003))
printf '%-30s %10s %7s %7s   %10s %7s %7s   %7s\n' case 'lunkit/s' user sys 'qemu/s' user sys ratio
for place in $places; do
    case $place in
        shm) folder=$(mktemp -d /dev/shm/lunkit-bench-XXXXXX) ;;
        disk) folder=$(mktemp -d "$lunkit_root/build/bench-XXXXXX") ;;
        *) die 2 "a place is shm or disk, not '$place'" ;;
    esac || die 1 "cannot make a directory for $place"
    scratch+=("$folder")
    make_full "$folder"
    for depth in $depths; do
        # Few requests where each is waited for.
        many=$((depth == 1 ? 40000 : 200000))
        [[ $place == shm ]] || many=$((many / 10))
        # qemu-img bench can't flush with fewer requests in between than it has in flight.
        interval=$((depth > 64 ? depth : 64))
        for image in raw qcow2; do
            measure "$place" "$folder" $image read read $many "$depth" 4096 0
            measure "$place" "$folder" $image randread read $many "$depth" $stride 0
            measure "$place" "$folder" $image write write $many "$depth" 4096 0
            measure "$place" "$folder" $image randwrite write $many "$depth" $stride 0
        done
        measure "$place" "$folder" overlay read read $many "$depth" 4096 0
        measure "$place" "$folder" overlay randread read $many "$depth" $stride 0
        measure "$place" "$folder" fresh write write $((many / 2)) "$depth" 4096 0
        measure "$place" "$folder" cluster write write $((clusters / 2)) "$depth" 65536 0
        measure "$place" "$folder" lazy write write $((clusters / 2)) "$depth" 65536 0
        measure "$place" "$folder" cow write write 3000 "$depth" 65536 0
        for image in fresh cluster cow; do
            step=65536
            [[ $image != fresh ]] || step=4096
            measure "$place" "$folder" lun.$image write write 3000 "$depth" $step 0
        done
        measure "$place" "$folder" flush write write $((many / 4)) "$depth" 4096 "$interval"
        measure "$place" "$folder" clusterflush write write 3000 "$depth" 65536 "$interval"
    done
    make_full "$folder" # once more: the cases above have written zeros
    convert_all "$place" "$folder"
    snapshot_all "$place" "$folder"
    rm -rf "$folder"
done
((!${#ratios[@]})) || printf '%s\n' "${ratios[@]}"
