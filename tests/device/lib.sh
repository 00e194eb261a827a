# What the tests on a real kernel target share. Sourced by tests/device/run, by each tests/device/test_*.sh and by tests/bench/device-guest; never run.
# shellcheck shell=bash
#
# Everything here works in the throw-away VM of scripts/vm, as root. A test is a bash script of its own that ends at the first command that fails. Its images lie
# in $work, on a filesystem where O_DIRECT works; it detaches what it attaches, and tests/device/run checks that nothing is left.

set -eEuo pipefail
trap 'echo "FAILED: ${BASH_SOURCE[0]##*/} line $LINENO: $BASH_COMMAND" >&2' ERR

tests_root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd -P)
: "${LUNKIT_BUILD:=$tests_root/build/release}" "${LUNKIT_LOGS:=/run/lunkit-test}"
export LUNKIT_BUILD LUNKIT_LOGS PATH=$LUNKIT_BUILD/bin:$PATH
daemon_log=$LUNKIT_LOGS/lunkitd.log
daemon_pid_file=/run/lunkit-test.pid
# shellcheck disable=SC2034 # others use it
configfs=/sys/kernel/config/target
mkdir -p "$LUNKIT_LOGS"

# ---- saying and checking

# step TEXT… : what comes next, with the time since the test began.
step() {
    printf '[%3ds] %s\n' "$SECONDS" "$*"
}

# fail TEXT… : ends the test.
fail() {
    printf 'FAILED: %s\n' "$@" >&2
    exit 1
}

# expect_equal WHAT WANTED GOT
expect_equal() {
    [[ $2 == "$3" ]] || fail "$1: expected '$2', got '$3'"
}

# expect_match WHAT REGEX TEXT
expect_match() {
    [[ $3 =~ $2 ]] || fail "$1: '$2' is not in:" "$3"
}

# expect_error REGEX… -- COMMAND… : the command fails by itself (no signal, no hang), and says all of these.
expect_error() {
    local patterns=() output status=0 pattern
    while [[ $1 != -- ]]; do
        patterns+=("$1")
        shift
    done
    shift
    output=$(timeout 60 "$@" 2>&1) || status=$?
    printf '  $ %s\n  | %s\n' "$*" "${output//$'\n'/$'\n'  | }"
    ((status)) || fail "this should have failed: $*"
    ((status < 124)) || fail "this ended with status $status: $*"
    for pattern in "${patterns[@]}"; do
        grep -qiE -- "$pattern" <<<"$output" || fail "the error does not say '$pattern': $*"
    done
}

# wait_for SECONDS WHAT COMMAND… : until it succeeds.
wait_for() {
    local seconds=$1 what=$2 end=$((SECONDS + $1 + 1))
    shift 2
    until "$@" &>/dev/null; do
        ((SECONDS < end)) || fail "after $seconds seconds still not: $what"
        sleep 0.1
    done
}

# skip WHY : ends the test as one that can't be done here.
skip() {
    echo "$*"
    exit 77
}

# ---- images

# test_begin : a directory of the test's own for images, gone when the test ends.
test_begin() {
    work=$(mktemp -d "/mnt/disk/${0##*/}.XXXXXX")
    trap 'test_end' EXIT
}

# shellcheck disable=SC2317 # the trap calls it
test_end() {
    local status=$?
    trap - ERR
    set +e
    # what a test that failed has left is for tests/device/run to see
    ((status && status != 77)) || rm -rf "$work"
    exit $status
}

# new_image NAME SIZE : a sparse file in $work; its path goes to $image.
new_image() {
    image=$work/$1
    truncate -s "$2" "$image"
}

# fill FILE : random bytes all over it.
fill() {
    local size
    size=$(stat -c %s "$1")
    head -c "$size" /dev/urandom >"$1"
}

# allocated FILE : bytes that it takes up.
allocated() {
    echo $(($(stat -c '%b * %B' "$1")))
}

# ---- lunkit

# attach IMAGE [OPTION…] : prints what lunkit says; sets $device and $link (for vhost $device is the WWPN).
attach() {
    local output
    output=$(lunkit attach "$@") || fail "could not attach $*"
    { read -r device && read -r link; } <<<"$output" || link=''
    echo "  $* is $device${link:+, $link}"
}

detach() {
    lunkit detach "$@" || fail "could not detach $*"
}

# lun_property LUN KEY : a string or a number that lunkitd says of it.
lun_property() {
    local text
    text=$(lunkit status --json "$1") || return
    [[ ${text#*\"luns\"} =~ \"$2\":\ *\"?([^\",}]*) ]] || return
    echo "${BASH_REMATCH[1]}"
}

lun_count() {
    local text
    text=$(lunkit list --json) || return
    grep -c '"worker-pid"' <<<"$text" || true
}

worker_pids() {
    pgrep -x lunkit-worker || true
}

# lun_state_is LUN STATE
lun_device() {
    local text
    text=$(lunkit status --json "$1") || return
    [[ $text =~ /dev/sd[a-z]+ ]] || return
    echo "${BASH_REMATCH[0]}"
}

lun_state_is() {
    [[ $(lun_property "$1" state) == "$2" ]]
}

# new_worker LUN PID : the LUN is served by another worker than PID.
new_worker() {
    local pid
    lun_state_is "$1" serving && pid=$(lun_property "$1" worker-pid) && [[ $pid != "$2" && -d /proc/$pid ]]
}

# ---- lunkitd

# prepare_system : what installing lunkit would put in place, in the guest's own overlay of the file tree. Once.
prepare_system() {
    local policies
    modprobe -a target_core_user tcm_loop sd_mod sg
    mkdir -p /etc/rtslib-fb-target/pr /etc/target /var/lib/lunkit /etc/dbus-1/system.d
    systemd-sysusers "$tests_root/lib/daemon/data/lunkit.sysusers.conf"
    mapfile -t policies < <(grep -lr --include='*.conf' '<busconfig>' "$tests_root/lib")
    ((${#policies[@]})) || fail "no D-Bus policy is in $tests_root/lib"
    cp "${policies[@]}" /etc/dbus-1/system.d/
    dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.ReloadConfig >/dev/null
    chmod 755 /mnt/disk
}

lunkitd_answers() {
    lunkit list --json && dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
        string:org.kernel.TCMUService1 | grep -q 'boolean true'
}

start_lunkitd() {
    setsid "$LUNKIT_BUILD/bin/lunkitd" >>"$daemon_log" 2>&1 </dev/null &
    echo $! >$daemon_pid_file
    disown $!
    wait_for 30 'lunkitd answers' lunkitd_answers
}

# kill_lunkitd SIGNAL : returns when it has ended.
kill_lunkitd() {
    local pid
    pid=$(<$daemon_pid_file)
    kill "-$1" "$pid"
    wait_for 30 "lunkitd has ended after SIG$1" process_ended "$pid"
}

process_ended() {
    [[ ! -d /proc/$1 || $(sed 's/.*) //' "/proc/$1/stat") == Z* ]]
}

# ---- targetcli

# target COMMAND… : one command. target_batch : several, from standard input (an error in one does not stop it).
target() {
    timeout 120 targetcli "$@" </dev/null
}

target_batch() {
    timeout 120 targetcli 2>&1
}

# ---- disks

# fio_job NAME OPTION… : fio on $device, with what all jobs have in common.
fio_job() {
    local name=$1
    shift
    fio --name="$name" --filename="$device" --direct=1 --group_reporting --output-format=terse --terse-version=3 --eta=never "$@" >"$LUNKIT_LOGS/fio.$name.log" 2>&1 || {
        cat "$LUNKIT_LOGS/fio.$name.log"
        fail "fio job $name failed"
    }
}

# sg_of DISK : the device that takes SCSI commands also when the disk is read-only.
sg_of() {
    echo "/dev/$(ls "/sys/class/block/${1##*/}/device/scsi_generic")"
}

# sectors DISK : its size in units of 512 bytes, as the kernel shows it now.
sectors() {
    cat "/sys/class/block/${1##*/}/size"
}

# same_as DISK FILE : their contents.
same_as() {
    blockdev --flushbufs "$1"
    cmp "$1" "$2" || fail "$1 and $2 differ"
}
