#!/bin/bash
# The shell completes verbs, options, their values, and the names of what is attached.
# shellcheck source=tests/device/lib.sh
. "${BASH_SOURCE[0]%/*}/lib.sh"
test_begin
# shellcheck source=lib/cli/completion.bash
. "$tests_root/lib/cli/completion.bash"
compopt() { :; }

# complete_words WORD… : what is offered for the last one.
offered() {
    COMP_WORDS=(lunkit "$@") COMP_CWORD=$# COMPREPLY=()
    _lunkit || true
    echo "${COMPREPLY[*]}"
}

new_image disk 8M
attach --name a-lun "$image"
expect_equal 'verbs' 'attach' "$(offered at)"
expect_equal 'values' 'writeback writethrough' "$(offered attach --cache write)"
expect_match 'options' '--read-only' "$(offered attach --re)"
expect_equal 'LUNs' 'a-lun' "$(offered detach a-)"
expect_match 'files' 'disk' "$(offered attach "$work/di")"
detach a-lun
