# What every script shares: where the tree is, and how to talk to the user. Sourced by bash, never run.
# shellcheck shell=bash

lunkit_root=$(cd "${BASH_SOURCE[0]%/*}/../.." && pwd -P)
# shellcheck disable=SC2034 # used by the scripts that source this file
vm_cache=$lunkit_root/build/vm

# say TEXT… : one plain progress line, on stderr, since a script's stdout belongs to what it runs.
say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# die STATUS WHAT-AND-WHY [WHAT-TO-DO] : ends the script.
die() {
    local status=$1
    shift
    printf '%s: error: %s\n' "${0##*/}" "$1" >&2
    (($# < 2)) || printf '    %s\n' "${@:2}" >&2
    exit "$status"
}

# Directories that are being filled: whoever sources this calls drop_scratch from its EXIT trap.
scratch=()
drop_scratch() {
    ((!${#scratch[@]})) || rm -rf "${scratch[@]}"
}

# is_number TEXT : true for a whole number above 0.
is_number() {
    [[ $1 =~ ^[1-9][0-9]{0,8}$ ]]
}
