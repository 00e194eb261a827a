#!/bin/bash
# Who may do what, and what a worker may do.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
new_image disk 16M
attach "$image"

status_of() {
    sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status"
}

step 'the worker has given up all rights'
worker=$(lun_property "$device" worker-pid)
lunkit_uid=$(id -u lunkit) lunkit_gid=$(id -g lunkit)
expect_equal 'user ids' "$lunkit_uid	$lunkit_uid	$lunkit_uid	$lunkit_uid" "$(status_of "$worker" Uid)"
expect_equal 'group ids' "$lunkit_gid	$lunkit_gid	$lunkit_gid	$lunkit_gid" "$(status_of "$worker" Gid)"
expect_match 'further groups' "^($lunkit_gid)? *$" "$(status_of "$worker" Groups)"
for set in CapInh CapPrm CapEff CapBnd CapAmb; do
    [[ $set == CapBnd ]] || expect_equal "$set" 0000000000000000 "$(status_of "$worker" $set)"
done
expect_equal NoNewPrivs 1 "$(status_of "$worker" NoNewPrivs)"
expect_equal 'Seccomp mode' 2 "$(status_of "$worker" Seccomp)"
# The kernel's own threads, which io_uring starts for what would block, run none of the worker's code.
expect_equal threads 1 "$(grep -Lx 'iou-.*' /proc/"$worker"/task/*/comm | wc -l)"
echo "  memory of the worker: $(status_of "$worker" VmRSS), $(find "/proc/$worker/fd" -type l | wc -l) fds"

step 'others may not ask lunkitd'
outsider() {
    setpriv --reuid nobody --regid nogroup --clear-groups "$@"
}
export -f outsider
chmod 711 "$work"
for verb in "attach $image" "detach $device" list status; do
    # shellcheck disable=SC2086 # words
    expect_error 'root' 'group lunkit' -- setpriv --reuid nobody --regid nogroup --clear-groups lunkit $verb
done
lun_state_is "$device" serving || fail 'the LUN is not served any more'

step 'members of the group may'
setpriv --reuid nobody --regid nogroup --groups "$lunkit_gid" lunkit list | grep -q "$device"

step 'image verbs run in the rights of whoever calls them'
chmod 1777 "$work"
outsider lunkit create "$work/mine" 1M
expect_equal 'owner of what nobody created' nobody "$(stat -c %U "$work/mine")"
outsider lunkit info "$work/mine" >/dev/null
touch "$work/secret" && chmod 600 "$work/secret" && truncate -s 1M "$work/secret"
expect_error "$work/secret" 'permission' -- setpriv --reuid nobody --regid nogroup --clear-groups lunkit info "$work/secret"
expect_error "$work/secret" 'permission' -- setpriv --reuid nobody --regid nogroup --clear-groups lunkit resize "$work/secret" 2M

detach "$device"
