#!/bin/bash
# Encrypted images: the cipher beside `openssl speed`, the engine beside QEMU's on the same LUKS images.
set -u
# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/../../scripts/lib/common.sh"

usage() {
    cat <<'END'
usage: scripts/bench crypt [--runs N] [--depths "D…"] [--folder DIRECTORY] [--scale PERCENT] [PATTERN…]

First AES-256-XTS alone, on one thread, in MB/s: ours as images use it (64 KiB at once, in sectors of 512 and 4096 bytes) and `openssl speed` with blocks of that
size. Then requests of 4 and 64 KiB on images of 256 MiB, written in full, in DIRECTORY (default /dev/shm), the median of N runs (default 5) that alternate.
PATTERN picks cases by shell pattern, as 'luks.*.d32'.

  cipher     .encrypt .decrypt
  luks       LUKS1 in a raw file, which both open        .read .write: one after another; .randread .randwrite: in strides over all
  qcow2      encrypted qcow2, which both open
  luks2      ours on LUKS2 with sectors of 4096 bytes, beside QEMU on LUKS1: what each makes by default

`qemu-img bench` of QEMU 7.2 takes no key. So QEMU's time for a request is that of `qemu-img bench -i io_uring -t none` on the same image without encryption, and the
processor time that encryption adds to a request of qemu-io's (aio_read, aio_write) on the encrypted image over that on the plain one. "cost" is what encryption adds
to a request, in µs of processor time, ours and QEMU's; the second ratio compares these.

END
}

runs=5 depths='1 32' parent=/dev/shm scale=100 patterns=()
while (($#)); do
    case $1 in
        --runs | --depths | --scale | --folder)
            (($# > 1)) || die 2 "$1 needs a value"
            option=${1#--}
            [[ $option != folder ]] || option=parent
            declare "$option=$2"
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) die 2 "unknown option $1" "scripts/bench crypt --help lists the options." ;;
        *) patterns+=("$1") ;;
    esac
    shift
done
is_number "$runs" || die 2 "--runs is a whole number, not '$runs'"
is_number "$scale" || die 2 "--scale is a whole number, not '$scale'"
for depth in $depths; do
    is_number "$depth" || die 2 "a depth is a whole number, not '$depth'"
done
for tool in qemu-img openssl; do
    command -v "$tool" >/dev/null || die 1 "$tool is not installed" "scripts/setup installs it."
done

release=${LUNKIT_BENCH_BUILD:-$lunkit_root/build/release}
export LUNKIT_HANDLERS=$release/handlers DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nowhere
ours=$(find "$release" -name bench_image -type f -perm -u+x | head -n 1)
cipher=$(find "$release" -name bench_cipher -type f -perm -u+x | head -n 1)
[[ $ours && $cipher ]] || die 1 "$release has no bench_image and bench_cipher" "Run this through scripts/bench."

trap drop_scratch EXIT
trap 'exit 130' INT TERM
folder=$(mktemp -d "$parent/lunkit-crypt-XXXXXX") || die 1 "cannot make a directory in $parent"
scratch+=("$folder")
size_mib=256
ratios=()

# shellcheck source=tests/bench/choosing
. "$lunkit_root/tests/bench/choosing"

# ---- the cipher

measure_cipher() {
    local case=cipher.$1.$2 run our_lines='' openssl_lines='' decrypt=()
    wanted "$case" || return 0
    [[ $1 == encrypt ]] || decrypt=(-decrypt)
    for ((run = 0; run < runs; run++)); do
        our_lines+=$("$cipher" "$2" "$1")$'\n' || die 1 "lunkit's cipher failed"
        openssl_lines+=$(openssl speed -mr -seconds 1 -bytes "$2" "${decrypt[@]}" -evp aes-256-xts 2>/dev/null | sed -n 's/^+F:[^:]*:[^:]*:\([0-9.]*\).*/\1/p')$'\n'
    done
    {
        median <<<"${our_lines%$'\n'}"
        median <<<"${openssl_lines%$'\n'}"
    } | awk -v name="$case" '
        { rate[NR] = $1 }
        END {
            printf "%-30s %10.0f MB/s %16s %10.0f MB/s\n", name, rate[1] / 1e6, "openssl speed", rate[2] / 1e6
            if (rate[2]) printf "ratio %s/openssl %.2f\n", name, rate[1] / rate[2]
        }' >"$folder/result"
    grep -v '^ratio' "$folder/result"
    mapfile -t -O "${#ratios[@]}" ratios < <(grep '^ratio' "$folder/result")
}

for direction in encrypt decrypt; do
    for sector in 512 4096; do
        measure_cipher $direction $sector
    done
done

# ---- images

printf 'not much of a secret' >"$folder/key"
lunkit=$release/bin/lunkit
make_images() {
    dd if=/dev/urandom of="$folder/plain.raw" bs=1M count=$size_mib status=none || die 1 "cannot write $size_mib MiB to $folder" "Free some space there."
    local image
    for image in "luks:$folder/luks.raw;version=1" "luks:$folder/luks2.raw" "$folder/qcow2.qcow2;encrypt=luks"; do
        "$lunkit" import "$folder/plain.raw" "$image" --new-key-file "$folder/key" >/dev/null 2>"$folder/error" ||
            die 1 "cannot make the images" "$(<"$folder/error")"
    done
    qemu-img convert -f raw -O qcow2 "$folder/plain.raw" "$folder/plain.qcow2" || die 1 "qemu-img convert failed"
}

# file_of CASE encrypted|plain
file_of() {
    case $1.$2 in
        luks.encrypted) echo "$folder/luks.raw" ;;
        luks2.encrypted) echo "$folder/luks2.raw" ;;
        qcow2.encrypted) echo "$folder/qcow2.qcow2" ;;
        qcow2.plain) echo "$folder/plain.qcow2" ;;
        *.plain) echo "$folder/plain.raw" ;;
    esac
}

# run_ours CASE encrypted|plain OP COUNT DEPTH SIZE STEP : seconds, seconds of processor
run_ours() {
    local kind=luks key=("" "$folder/key")
    [[ $1 != qcow2 ]] || kind=qcow2
    [[ $2 == encrypted ]] || { key=() && [[ $1 == qcow2 ]] || kind=raw; }
    "$ours" "$kind" "$(file_of "$1" "$2")" "$3" "$4" "$5" "$6" "$7" 0 none "${key[@]}" | awk '{ print $1, $2 + $3 }'
}

# bench_qemu CASE OP COUNT DEPTH SIZE STEP : seconds for the image without encryption
bench_qemu() {
    local write=() format=raw
    [[ $2 == read ]] || write=(-w)
    [[ $1 != qcow2 ]] || format=qcow2
    qemu-img bench -f $format -i io_uring -t none -c "$3" -d "$4" -s "$5" -S "$6" "${write[@]}" "$(file_of "$1" plain)" | sed -n 's/^Run completed in \([0-9.]*\) seconds.*/\1/p'
}

# qemu_io CASE encrypted|plain SCRIPT : seconds of processor
qemu_io() {
    local file options
    # LUKS2 is nothing that QEMU opens
    file=$(file_of "${1/luks2/luks}" "$2")
    options=driver=raw,file.driver=file,file.aio=io_uring,cache.direct=on,file.filename=$file
    [[ $2 == plain ]] || options=driver=luks,key-secret=s,file.driver=file,file.aio=io_uring,cache.direct=on,file.filename=$file
    [[ $1 != qcow2 ]] || options=${options/#driver=+(raw|luks,key-secret=s)/driver=qcow2}
    [[ $1.$2 != qcow2.encrypted ]] || options+=,encrypt.key-secret=s
    {
        TIMEFORMAT='%U %S'
        time qemu-io --object "secret,id=s,file=$folder/key" --image-opts "$options" <"$3" >/dev/null 2>"$folder/error"
    } 2>&1 | awk '{ print $1 + $2 }'
}

# script OP COUNT DEPTH SIZE STEP : commands for qemu-io
script() {
    awk -v op="$1" -v n="$2" -v depth="$3" -v size="$4" -v step="$5" -v all=$((size_mib << 20)) 'BEGIN {
        for (i = 0; i < n; i++) {
            printf "aio_%s -q %d %d\n", op, (i * step) % all, size
            if (i % depth == depth - 1) print "aio_flush"
        }
        print "aio_flush"
    }'
}

# measure IMAGE NAME OP COUNT DEPTH SIZE STEP
measure() {
    local case=$1.$2.$(($6 / 1024))k.d$5 count=$(($4 * scale / 100)) run column values=('' '' '' '' '' '')
    wanted "$case" || return 0
    [[ -e $folder/luks.raw ]] || make_images
    ((count >= $5)) || count=$5
    script "$3" "$count" "$5" "$6" "$7" >"$folder/script"
    echo quit >"$folder/nothing"
    for ((run = 0; run < runs; run++)); do
        column=0
        for value in "$(run_ours "$1" encrypted "$3" "$count" "$5" "$6" "$7")" "$(run_ours "$1" plain "$3" "$count" "$5" "$6" "$7")" \
            "$(bench_qemu "$1" "$3" "$count" "$5" "$6" "$7")" "$(qemu_io "$1" encrypted "$folder/script")" "$(qemu_io "$1" plain "$folder/script")" \
            "$(qemu_io "$1" encrypted "$folder/nothing")"; do
            [[ $value ]] || die 1 "$case could not be measured" "$(<"$folder/error")"
            values[column]+=$value$'\n'
            column=$((column + 1))
        done
    done
    for column in 0 1 2 3 4 5; do median <<<"${values[column]%$'\n'}"; done | awk -v name="$case" -v n="$count" '
        { seconds[NR] = $1; cpu[NR] = $2 }
        END {
            # the last is opening alone, where a key is derived
            ours_cost = (cpu[1] - cpu[2]) / n * 1e6; qemu_cost = (seconds[4] - seconds[6] - seconds[5]) / n * 1e6
            if (ours_cost < 0.01) ours_cost = 0.01
            if (qemu_cost < 0.01) qemu_cost = 0.01
            ours = n / seconds[1]; qemu = n / (seconds[3] + qemu_cost * n / 1e6)
            printf "%-30s %10.0f %8.2f   %10.0f %8.2f   %7.2f\n", name, ours, ours_cost, qemu, qemu_cost, ours / qemu
            printf "ratio %s/qemu %.2f\n", name, ours / qemu
            printf "ratio %s.cost/qemu %.2f\n", name, qemu_cost / ours_cost
        }' >"$folder/result" || exit 1
    grep -v '^ratio' "$folder/result"
    mapfile -t -O "${#ratios[@]}" ratios < <(grep '^ratio' "$folder/result")
}

shopt -s extglob
printf '%-30s %10s %8s   %10s %8s   %7s\n' case 'lunkit/s' cost 'qemu/s' cost ratio
for depth in $depths; do
    many=$((depth == 1 ? 10000 : 40000))
    for image in luks luks2 qcow2; do
        measure $image read read $many "$depth" 4096 4096
        measure $image randread read $many "$depth" 4096 $((4096 * 10007))
        measure $image write write $many "$depth" 4096 4096
        measure $image randwrite write $many "$depth" 4096 $((4096 * 10007))
        measure $image read read $((many / 8)) "$depth" 65536 65536
        measure $image write write $((many / 8)) "$depth" 65536 65536
    done
done
((!${#ratios[@]})) || printf '%s\n' "${ratios[@]}"
