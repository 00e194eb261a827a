#!/bin/bash
# The rbd handler in one process, beside fio's rbd engine and rbd bench on the same throw-away cluster.
set -u
# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/../../scripts/lib/common.sh"

usage() {
    cat <<'END'
usage: scripts/bench rbd [--seconds S] [--runs N] [--depths "D…"] [--store memstore|bluestore] [PATTERN…]

Random reads and writes of 4 and 64 KiB to an image of 256 MiB that is written in full, on a cluster of one OSD (scripts/ceph) in a network namespace: lunkit's
engine with the rbd handler in one process, fio's rbd engine, and rbd bench (writes only: its reads fetch other amounts), without librbd's cache. The three alternate; of N runs (default 3, of about
S seconds each, default 2) each one's median rate counts. PATTERN picks cases by shell pattern, as 'randread.*.d32'. It needs root, for the namespace.

user, sys: processor time in µs a request, with all of librbd's threads. All share this machine's processors with the OSD.
END
}

arguments=("$@")
seconds=2 runs=3 depths='1 32' store=memstore patterns=()
while (($#)); do
    case $1 in
        --seconds | --runs | --depths | --store)
            (($# > 1)) || die 2 "$1 needs a value"
            declare "${1#--}=$2"
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) die 2 "unknown option $1" "scripts/bench rbd --help lists the options." ;;
        *) patterns+=("$1") ;;
    esac
    shift
done
is_number "$runs" || die 2 "--runs is a whole number, not '$runs'"
is_number "$seconds" || die 2 "--seconds is a whole number, not '$seconds'"
for depth in $depths; do
    is_number "$depth" || die 2 "a depth is a whole number, not '$depth'"
done
[[ $store == memstore || $store == bluestore ]] || die 2 "--store is memstore or bluestore, not '$store'"
for tool in fio python3 rbd ceph-osd unshare ip; do
    command -v "$tool" >/dev/null || die 1 "$tool is not installed" "scripts/setup installs it."
done
fio --enghelp 2>/dev/null | grep -qw rbd || die 1 "this fio has no rbd engine"
if [[ ! ${LUNKIT_BENCH_NAMESPACE-} ]]; then
    ((EUID == 0)) || die 1 "only root can make a network namespace for the cluster"
    LUNKIT_BENCH_NAMESPACE=1 exec unshare --net -- bash "${BASH_SOURCE[0]}" "${arguments[@]}"
fi
ip link set lo up

release=${LUNKIT_BENCH_BUILD:-$lunkit_root/build/release}
export LUNKIT_HANDLERS=$release/handlers
ours=$(find "$release" -name bench_image -type f -perm -u+x | head -n 1)
[[ $ours && -e $release/handlers/rbd.so ]] || die 1 "$release has no bench_image or no rbd handler" "Run this through scripts/bench."

work=$(mktemp -d /tmp/lunkit-bench-XXXXXX) || die 1 "cannot make a directory in /tmp"
scratch+=("$work")
# shellcheck disable=SC2317 # the trap calls it
clean_up() {
    "$lunkit_root/scripts/ceph" stop "$work/ceph" >/dev/null 2>&1
    drop_scratch
}
trap clean_up EXIT
trap 'exit 130' INT TERM
say "starting a cluster ($store)"
cluster_options=(--memory 2048)
[[ $store == memstore ]] || cluster_options=(--bluestore 8192)
"$lunkit_root/scripts/ceph" start "$work/ceph" "${cluster_options[@]}" >/dev/null || die 1 "the cluster does not start"
sed -i '/^\[client\]/a\    rbd cache = false' "$work/ceph/ceph.conf"
export CEPH_CONF=$work/ceph/ceph.conf
size_mib=256
head -c ${size_mib}M /dev/urandom | rbd import --no-progress - rbd/full || die 1 "the image could not be made"

# shellcheck source=tests/bench/choosing
. "$lunkit_root/tests/bench/choosing"

# run_ours read|write BYTES DEPTH COUNT : requests/s, user µs, system µs. The stride visits every block once, far from the one before.
run_ours() {
    local blocks=$(((size_mib << 20) / $2)) stride
    stride=$((blocks * 5 / 13 | 1))
    "$ours" rbd rbd/full "$1" "$4" "$3" "$2" $((stride * $2)) 0 none "conf=$CEPH_CONF" |
        awk -v count="$4" '{ print count / $1, $2 * 1e6 / count, $3 * 1e6 / count }'
}

run_fio() {
    fio --name=rbd --ioengine=rbd --clientname=admin --pool=rbd --rbdname=full --rw="rand$1" --bs="$2" --iodepth="$3" --direct=1 --norandommap \
        --time_based --runtime="$seconds" --output-format=json 2>/dev/null |
        python3 -c '
import json, sys
text = sys.stdin.read()
job = json.loads(text[text.index("{"):])["jobs"][0]
done = job[sys.argv[1]]
microseconds = done["runtime"] * 1000 / max(done["total_ios"], 1)
print(done["iops"], job["usr_cpu"] / 100 * microseconds, job["sys_cpu"] / 100 * microseconds)' "$1"
}

# run_tool BYTES DEPTH COUNT : requests/s, its start included, which is some hundredths of a second
run_tool() {
    local begin=$EPOCHREALTIME end
    rbd bench --io-type write --io-size "$1" --io-threads "$2" --io-total $(($1 * $3)) --io-pattern rand rbd/full >/dev/null 2>&1
    end=$EPOCHREALTIME
    awk -v count="$3" -v begin="$begin" -v end="$end" 'BEGIN { print count / (end - begin), 0, 0 }'
}

ratio_of() {
    awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", (b > 0 ? a / b : 0) }'
}

ratios=()
printf '%-22s %9s %7s %7s   %9s %7s %7s   %9s\n' case 'lunkit/s' user sys 'fio/s' user sys 'rbd bench'
for size in 4 64; do
    for op in read write; do
        for depth in $depths; do
            case=rand$op.${size}k.d$depth
            wanted "$case" || continue
            bytes=$((size << 10)) mine='' fio='' tool=''
            # a short run says how many requests take the time; at first it also warms everything up
            read -r rate _ < <(run_ours "$op" "$bytes" "$depth" $((200 * (depth > 4 ? 8 : 1))))
            count=$(awk -v rate="$rate" -v seconds="$seconds" 'BEGIN { print int(rate * seconds) + 1 }')
            for ((run = 0; run < runs; run++)); do
                line=$(run_ours "$op" "$bytes" "$depth" "$count")
                [[ $line ]] || die 1 "$case failed"
                mine+=$line$'\n'
                fio+=$(run_fio "$op" "$bytes" "$depth")$'\n'
                [[ $op == read ]] || tool+=$(run_tool "$bytes" "$depth" "$count")$'\n'
            done
            read -r rate user system < <(printf '%s' "$mine" | median)
            read -r fio_rate fio_user fio_system < <(printf '%s' "$fio" | median)
            ratios+=("ratio rbd.$case/fio $(ratio_of "$rate" "$fio_rate")")
            tool_rate=-
            if [[ $op == write ]]; then
                read -r tool_rate _ < <(printf '%s' "$tool" | median)
                ratios+=("ratio rbd.$case/rbd-bench $(ratio_of "$rate" "$tool_rate")")
                tool_rate=${tool_rate%.*}
            fi
            printf '%-22s %9.0f %7.1f %7.1f   %9.0f %7.1f %7.1f   %9s\n' "$case" "$rate" "$user" "$system" "$fio_rate" "$fio_user" \
                "$fio_system" "$tool_rate"
        done
    done
done
((!${#ratios[@]})) || printf '%s\n' "${ratios[@]}"
