#!/bin/bash
# A real kernel target in the VM: lunkit beside tcmu-runner and the kernel's own fileio and iblock.
set -u
# shellcheck source=scripts/lib/common.sh
. "${BASH_SOURCE[0]%/*}/../../scripts/lib/common.sh"

if [[ ${1-} == --help || ${1-} == -h ]]; then
    cat <<'END'
usage: scripts/bench device [--rounds N] [--seconds N] [--kernel KERNEL] [PATTERN…]

In one VM, with images on ext4 on a RAM disk (block devices: RAM disks): 4 KiB random reads and writes at depth 1 and 32, 128 KiB sequential ones at
depth 8, on lunkit's null (the ceiling of TCM-User) and raw, the kernel's own fileio and iblock, and stock tcmu-runner (its qcow handler,
which opens raw files too). Prints medians of 3 rounds, 2 seconds a measurement: requests or bytes a second, the serving program's processor
time a request, and raw's rate over the others'. PATTERN picks cases by shell pattern, as '*.d1'.

The VM emulates the processor where there is no KVM: ratios hold there, absolute figures do not.
END
    exit 0
fi

rounds=3 seconds=2 kernel=stock patterns=()
while (($#)); do
    case $1 in
        --rounds | --seconds)
            is_number "${2-}" || die 2 "$1 needs a whole number"
            [[ $1 == --rounds ]] && rounds=$2 || seconds=$2
            shift
            ;;
        --kernel)
            kernel=${2:?}
            shift
            ;;
        -*) die 2 "unknown option $1" "scripts/bench device --help lists the options." ;;
        *) patterns+=("$1") ;;
    esac
    shift
done

exec "$lunkit_root/scripts/vm" --kernel "$kernel" --disk 1280 --memory 4096 --timeout $((120 + rounds * 30 * (seconds + 4))) \
    --env "LUNKIT_BUILD=${LUNKIT_BUILD:-$lunkit_root/build/release}" -- "$lunkit_root/tests/bench/device-guest" "$rounds" "$seconds" "${patterns[@]}"
