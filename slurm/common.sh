# Functions for all scripts of this folder, which source this file. $program is the name at the start of messages. Sets
# $here to this folder, $bin to the folder of the programs, and $python.
#
#   DTRAIN_BIN     folder of the programs (default: build/release/bin of this repository, or bin of this installation)
#   DTRAIN_PYTHON  Python with h5py (default: the Python of dtrain-report, or /usr/bin/python3)
#   DTRAIN_MPIRUN  mpirun, perhaps with options (default: mpirun)

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
if [[ ${DTRAIN_BIN:-} ]]; then
    bin=$DTRAIN_BIN
elif [[ -e ${here%/*}/CMakeLists.txt ]]; then
    bin=${here%/*}/build/release/bin
else
    bin=${here%/share/dtrain/slurm}/bin
fi
python=${DTRAIN_PYTHON:-$(sed -nE '1s/^#!(.*) -E$/\1/p' "$bin/dtrain-report" 2>/dev/null || true)}
python=${python:-/usr/bin/python3}
read -ra mpirun <<<"${DTRAIN_MPIRUN:-mpirun}"

say() { printf '%s: %s\n' "${program:-slurm}" "$*" >&2; }

die() { # CODE MESSAGE...
    say "${*:2}" || true # standard error may be a file on a full disk
    exit "$1"
}

put() { # prints standard input; SIGPIPE ends the script if nothing reads standard output any more
    local text
    text=$(cat && echo .) # the dot keeps empty lines at the end
    printf '%s' "${text%.}" 2>/dev/null || die 6 "cannot write to standard output"
}

mpi_name() { # prints the MPI library of mpirun: openmpi, mpich (also its relatives), or unknown
    case $("${mpirun[0]}" --version 2>&1) in
    *'Open MPI'*) printf 'openmpi\n' ;;
    *HYDRA*) printf 'mpich\n' ;;
    *) printf 'unknown\n' ;;
    esac
}

local_ranks() { # RANKS PROGRAM ARGUMENT...: starts ranks on this machine, also more than there are cores
    # The variables allow this in Open MPI 4 and 5. MPICH always allows it.
    OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe \
        "${mpirun[@]}" -np "$@"
}

scaling_files() { # CONFIG: sets $output, unless it is set, and $folder for the files of each run
    [[ $output ]] || output=runs/scaling-$(basename "$1" .ini).h5
    [[ $output == *.h5 ]] || die 2 "--output $output: expected a name that ends in .h5"
    folder=${output%.h5}.runs
}

scaling_modes() { # MODE: sets $modes
    case $1 in
    strong | weak) modes=("$1") ;;
    both) modes=(strong weak) ;;
    *) die 2 "--mode $1: expected strong, weak or both" ;;
    esac
}

run_name() { # MODE RANKS REPEAT: prints the stem of a run's files, which scaling.py parses
    printf '%s-ranks%04d-repeat%d' "$@"
}

training_samples() { # DTRAIN CONFIG OVERRIDE...: prints their number; dtrain reports errors in the data
    "$@" --check | sed -nE 's/^data set .*: ([0-9]+) training.*/\1/p'
}

require_samples() { # BATCH SAMPLES RANKS...: ends the script before any run if the largest run needs more samples
    local n max_ranks=0
    for n in "${@:3}"; do ((n <= max_ranks)) || max_ranks=$n; done
    ((max_ranks * $1 <= $2)) || die 2 "weak scaling needs $((max_ranks * $1)) training samples ($1 for each of" \
        "$max_ranks ranks): there are $2. Use fewer ranks, a smaller batch, or" \
        "--data.source=synthetic --data.train_samples=$((max_ranks * $1))"
}

setting() { # SECTION.KEY: prints its value in $resolved, the output of dtrain --print-config
    awk -F ' = ' -v key="$1" '/^\[/ { section = substr($0, 2, length($0) - 2) }
        section "." $1 == key { print $2 }' <<<"$resolved"
}

announce_results() { # FILE FOLDER_OF_PROGRAMS: names the result and the command for its charts, as one can type it
    local report
    report=$(realpath -s --relative-base="$(pwd -P)" -- "$2/dtrain-report")
    say "results: $1. For charts, run: $report $1"
}

require_python() { # SCALING_PY: ends the script unless Python can run it; scaling.py itself names a missing package
    command -v -- "$python" >/dev/null || die 2 "there is no $python: set DTRAIN_PYTHON to a Python with" \
        "h5py (Debian: apt-get install python3-h5py, for /usr/bin/python3)"
    "$python" -E "$1" --help >/dev/null || exit 2
}
