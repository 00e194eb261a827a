# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
# For tests of a program's output. Set scratch to a directory, source this, call run and the checks, end with finish.
# shellcheck disable=SC2154 # scratch is the sourcing script's

failures=0
checks=0
out='' err='' status=0

# run COMMAND… : fills out, err, status
run() {
    last="$*"
    "$@" >"$scratch/.out" 2>"$scratch/.err" </dev/null
    status=$?
    out=$(<"$scratch/.out")
    err=$(<"$scratch/.err")
}

complain() {
    failures=$((failures + 1))
    printf 'FAILED: %s\n  %s\n  status: %s\n  out: %s\n  err: %s\n' "$last" "$1" "$status" "$out" "$err" >&2
}

expect_status() {
    checks=$((checks + 1))
    [[ $status == "$1" ]] || complain "expected status $1"
}

# expect_out TEXT, expect_err TEXT : is a part of it
expect_out() {
    checks=$((checks + 1))
    [[ $out == *"$1"* ]] || complain "expected on standard output: $1"
}
expect_err() {
    checks=$((checks + 1))
    [[ $err == *"$1"* ]] || complain "expected on standard error: $1"
}

# expect_json FILTER : jq says true
expect_json() {
    checks=$((checks + 1))
    jq -e "$1" <<<"$out" >/dev/null 2>&1 || complain "expected of the JSON: $1"
}

# expect TEXT COMMAND… : the command succeeds
expect() {
    checks=$((checks + 1))
    "${@:2}" || complain "$1"
}

# succeeds COMMAND…; fails STATUS TEXT COMMAND… : nothing on standard output, the text in a message of the right form
succeeds() {
    run "$@"
    expect_status 0
}
fails() {
    run "${@:3}"
    expect_status "$1"
    expect_err "$2"
    checks=$((checks + 1))
    [[ -z $out && $err == lunkit:\ * ]] || complain "expected only a message that begins with the program's name"
}

finish() {
    if ((failures)); then
        echo "$failures of $checks checks failed"
        exit 1
    fi
    echo "$checks checks passed"
}
