# What all scripts of this folder share; they source it. $program is the name that messages begin with.

say() { printf '%s: %s\n' "${program:-slurm}" "$*" >&2; }

die() { # CODE MESSAGE...
    say "${*:2}" || true # which may find a full disk
    exit "$1"
}

put() { # what standard input says, on standard output; where its reader has left, SIGPIPE ends the script
    local text
    text=$(cat && echo .) # which keeps empty lines at the end
    printf '%s' "${text%.}" 2>/dev/null || die 6 "cannot write to standard output"
}

scaling_files() { # CONFIG: settles $output, unless it is given, and $folder, where the runs' own files go
    [[ $output ]] || output=runs/scaling-$(basename "$1" .ini).h5
    [[ $output == *.h5 ]] || die 2 "--output $output: expected a name that ends in .h5"
    folder=${output%.h5}.runs
}

scaling_modes() { # MODE: settles $modes
    case $1 in
    strong | weak) modes=("$1") ;;
    both) modes=(strong weak) ;;
    *) die 2 "--mode $1: expected strong, weak or both" ;;
    esac
}

run_name() { # MODE RANKS REPEAT: the stem of a run's files, which scaling.py understands
    printf '%s-ranks%04d-repeat%d' "$@"
}

training_samples() { # DTRAIN CONFIG OVERRIDE...: their number, or what is wrong with the data
    "$@" --check | sed -nE 's/^data set .*: ([0-9]+) training.*/\1/p'
}

require_samples() { # BATCH SAMPLES RANKS...: said before anything is run, and not by the run that is too large
    local n most=0
    for n in "${@:3}"; do ((n <= most)) || most=$n; done
    ((most * $1 <= $2)) || die 2 "weak scaling to $most ranks wants $((most * $1)) training samples," \
        "and there are $2; --data.source=synthetic --data.train_samples=$((most * $1)) makes as many"
}

setting() { # SECTION.KEY: its value in $resolved, which dtrain --print-config printed
    awk -F ' = ' -v key="$1" '/^\[/ { section = substr($0, 2, length($0) - 2) }
        section "." $1 == key { print $2 }' <<<"$resolved"
}
