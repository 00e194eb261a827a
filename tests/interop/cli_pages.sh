#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# cli_pages.sh LUNKIT SOURCES BUILD : what is written about the command line is what there is.
set -u
lunkit=$1 sources=$2 build=$3
here=$(dirname "${BASH_SOURCE[0]}")
type mandoc >/dev/null 2>&1 || exit 77
scratch=$(mktemp -d "${TMPDIR:-/tmp}/lunkit-pages-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
# shellcheck source=tests/interop/expect.sh
source "$here/expect.sh"
export LC_ALL=C.UTF-8
last='the manual pages'

for page in "$sources"/lib/*/*.[1-8] "$sources"/handlers/*/*.[1-8]; do
    run mandoc -T lint -W warning "$page"
    expect_status 0
done

# page_text PAGE : as a reader sees it, without overstriking
page_text() {
    mandoc -T ascii "$1" | sed 's/.\x08//g'
}
page=$(page_text "$sources/lib/cli/lunkit.1")
options_of() {
    grep -oE -- '--[a-z][a-z-]+' | sort -u
}
verbs=$("$lunkit" --help | awk '/^  [a-z]+ +[a-z]/ && $1 != "sudo" && $1 != "lunkit" { print $1 }')
expect "there are verbs" test "$(wc -w <<<"$verbs")" -ge 9
for verb in $verbs; do
    succeeds "$lunkit" "$verb" --help
    help=$(grep -E '^  --' <<<"$out" | awk '{ print $1 }' | sort -u | grep -vx -- '--help')
    # the synopsis of the verb: up to the next "lunkit VERB"
    synopsis=$(awk -v verb="$verb" '/^DESCRIPTION/ { exit } $1 == "lunkit" { here = $2 == verb } here' <<<"$page" | options_of)
    expect "lunkit.1 and lunkit $verb --help name the same options: $synopsis / $help" test "$synopsis" = "$help"
    for option in $help; do
        expect "lunkit.1 explains $option" grep -qE -- "^ +$option|[^[]$option" <<<"$page"
    done
done
while read -r verb; do
    expect "lunkit.1 names $verb, which is no verb" grep -qw -- "$verb" <<<"$verbs"
done < <(awk '/^DESCRIPTION/ { exit } $1 == "lunkit" && $2 ~ /^[a-z]/ { print $2 }' <<<"$page" | sort -u)

# the completion's table is the program's
table=$(sed -n "/^_lunkit_table='/,/'\$/p" "$sources/lib/cli/completion.bash" | sed "s/^_lunkit_table='//; s/'\$//")
expect "the table in completion.bash is what lunkit --complete prints" test "$table" = "$("$lunkit" --complete)"
complete_line() {
    bash -c 'PATH=$(dirname "$1"):$PATH; source "$2"; compopt() { :; }
        COMP_WORDS=("${@:3}"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _lunkit; printf "%s " "${COMPREPLY[@]}"' \
        sh "$lunkit" "$sources/lib/cli/completion.bash" "$@"
}
expect "completion of a verb" test "$(complete_line lunkit att)" = "attach "
expect "completion of an option" test "$(complete_line lunkit attach --ca)" = "--cache "
expect "completion of a value" test "$(complete_line lunkit attach --cache writeb)" = "writeback "
expect "completion of a value behind =" test "$(complete_line lunkit attach --fabric = v)" = "vhost "
expect "completion behind help" test "$(complete_line lunkit help snap)" = "snapshot "
expect "completion of a word" test "$(complete_line lunkit snapshot re)" = "revert "
expect "completion behind the word" test "$(cd "$sources" && complete_line lunkit snapshot list LICEN)" = "LICENSE "
expect "completion of a file" test "$(cd "$sources" && complete_line lunkit info LICEN)" = "LICENSE "

# every command line in the README and the pages parses
while read -r line; do
    [[ $line =~ lunkit\ +([a-z]+)\ *(.*) ]] || continue
    verb=${BASH_REMATCH[1]}
    grep -qw -- "$verb" <<<"$verbs" || continue
    known=$("$lunkit" "$verb" --help | options_of)
    for option in $(options_of <<<"${BASH_REMATCH[2]%%|*}"); do
        expect "'$line' uses $option" grep -qx -- "$option" <<<"$known"
    done
done < <({ cat "$sources/README.md"; for file in "$sources"/lib/*/*.[1-8] "$sources"/handlers/*/*.[1-8]; do page_text "$file"; done; } |
    grep -E '^ *[#$]? ?(sudo )?lunkit [a-z]')

# the example of lunkit-handler(7) is a handler
if type cc >/dev/null 2>&1; then
    # out of the tree, from what is installed and nothing else
    mkdir "$scratch/handlers"
    DESTDIR=$scratch/stage run cmake --install "$build" --component development
    expect_status 0
    header=$(find "$scratch/stage" -path '*/include/lunkit/handler.h')
    expect "the installation holds the header of handlers, and of our headers only that one" test "$(find "$scratch/stage" -name '*.h')" = "$header" -a -n "$header"
    sed -n '/^\.Bd -literal$/,/^\.Ed/p' "$sources/lib/image/lunkit-handler.7" | sed '1d;$d' >"$scratch/zero.c"
    succeeds cc -std=gnu17 -Wall -Wextra -Werror -I"$(dirname "$(dirname "$header")")" -shared -fPIC -o "$scratch/handlers/zero.so" "$scratch/zero.c"
    LUNKIT_HANDLERS=$scratch/handlers run "$lunkit" info 'zero:x;read-only=yes' --json
    expect_status 0
    expect_json '.kind == "zero" and ."virtual-size" == 1073741824'
fi
finish
