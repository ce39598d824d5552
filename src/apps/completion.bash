# Bash completion for dtrain and all programs whose names begin with dtrain-. Options come from the program's own
# --help, and keys from --print-config, so they match the installed version. Without an installation, source this file.

_dtrain_words() { # PROGRAM: prints its options, and --section.key= for each key if it takes a config
    local help
    help=$("$1" --help 2>/dev/null </dev/null) || return
    sed -nE 's/^  (-[a-z]( [A-Z]+)?, )?(--[a-z-]+)( .*)?$/\3/p' <<<"$help"
    [[ $help != *--section.key=* ]] || "${1%-bench}" /dev/null --print-config 2>/dev/null </dev/null |
        awk -F ' =' '/^\[/ { section = substr($0, 2, length($0) - 2); next } NF > 1 { print "--" section "." $1 "=" }'
}

_dtrain() {
    local word=$2 words
    COMPREPLY=()
    [[ $word == -* ]] || return 0 # file names, by `complete -o default`
    words=$(_dtrain_words "${1/#\~/$HOME}")
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace
}

complete -o default -F _dtrain dtrain dtrain-bench dtrain-eval dtrain-export dtrain-report
