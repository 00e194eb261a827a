# SPDX-License-Identifier: LGPL-2.1-or-later
# bash completion for lunkit(1). The table is what `lunkit --complete` prints; a test compares them.
# shellcheck shell=bash

_lunkit_table='attach IMAGE --fabric=loop|vhost --read-only --cache=none|writeback|writethrough --block-size=512|4096 --name=NAME --persist --print=qemu|libvirt --option=KEY=VALUE --key-file=SOURCE --json --help
detach LUN --force --keep --help
list - --json --help
status LUN --json --help
info IMAGE --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --json --help
create IMAGE --size=SIZE --option=KEY=VALUE --encrypt=luks --key-file=SOURCE --parent-key-file=SOURCE --json --help
resize IMAGE --adopt --shrink --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --json --help
check IMAGE --repair=leaks|all --safety --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --json --help
map IMAGE --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --json --help
snapshot create|list|delete|revert|protect|unprotect,IMAGE --force --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --json --help
clone IMAGE --full --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --new-key-file=SOURCE --json --help
flatten IMAGE --rate=SIZE --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --json --help
export IMAGE --format=raw|qcow2 --compress --rate=SIZE --force --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --new-key-file=SOURCE --json --help
import IMAGE --format=raw|qcow2 --size=SIZE --compress --rate=SIZE --trust --option=KEY=VALUE --key-file=SOURCE --parent-key-file=SOURCE --new-key-file=SOURCE --json --help
key list|add|change|remove|backup|restore,IMAGE --key-file=SOURCE --new-key-file=SOURCE --force --option=KEY=VALUE --json --help
restore - --help
doctor - --json --help'

# The LUNs' names, when lunkitd answers at once.
_lunkit_luns() {
    timeout 1 lunkit list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_lunkit() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} verb=${COMP_WORDS[1]} line word values
    local -a words
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$(awk 'NF { print $1 }' <<<"$_lunkit_table") help --help --version" -- "$cur")
        return
    fi
    if [[ $verb == help ]]; then
        ((COMP_CWORD > 2)) || mapfile -t COMPREPLY < <(compgen -W "$(awk 'NF { print $1 }' <<<"$_lunkit_table")" -- "$cur")
        return
    fi
    line=$(awk -v verb="$verb" '$1 == verb' <<<"$_lunkit_table")
    [[ $line ]] || return
    read -ra words <<<"$line"
    # an option's value: "--cache w", and "--cache=w", which bash hands over in three words
    if [[ $cur == '=' ]]; then
        cur=''
    elif [[ $prev == '=' ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for word in "${words[@]:2}"; do
        [[ $word == "$prev="* ]] || continue
        values=${word#*=}
        [[ $values == *'|'* ]] && mapfile -t COMPREPLY < <(compgen -W "${values//|/ }" -- "$cur")
        return
    done
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$(printf '%s\n' "${words[@]:2}" | sed 's/=.*//')" -- "$cur")
        return
    fi
    # WORD|WORD,OPERAND: a word first
    if [[ ${words[1]} == *,* && $COMP_CWORD == 2 ]]; then
        values=${words[1]%,*}
        mapfile -t COMPREPLY < <(compgen -W "${values//|/ }" -- "$cur")
        return
    fi
    case ${words[1]##*,} in
        IMAGE) compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        LUN)
            mapfile -t COMPREPLY < <(compgen -W "$(_lunkit_luns)" -- "$cur")
            ((${#COMPREPLY[@]})) || { compopt -o filenames && mapfile -t COMPREPLY < <(compgen -f -- "$cur"); }
            ;;
    esac
}
complete -F _lunkit lunkit
