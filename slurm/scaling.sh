#!/usr/bin/env bash
# Strong and weak scaling of one config: measures with dtrain-bench, collects into one HDF5 file, prints the table.
set -euo pipefail

usage() {
    put <<'END'
usage: slurm/scaling.sh CONFIG [option ...] [--section.key=value ...]

  --mode strong|weak|both  the batch of all ranks stays the same, or that of each rank (both)
  --ranks "1 2 4"          numbers of ranks; without Slurm: powers of two up to the number of cores
  --nodes "1 2 4"          with Slurm, instead of --ranks: numbers of whole nodes, with
  --ranks-per-node N       so many ranks each
  --repeats N              runs of each kind (3)
  --steps N                descent steps per block of dtrain-bench
  --output FILE.h5         (runs/scaling-CONFIG.h5); the runs' own files are kept in the folder FILE.runs
  --local                  runs here, one after the other, also where there is Slurm

Where sbatch is found, each run is a job of slurm/scaling.sbatch, for which SBATCH_PARTITION and SBATCH_ACCOUNT may be
set, and this script waits for all. The same command again goes on where an interrupted one ended. All runs have the
same number of logical shards, enough for the most ranks. Weak scaling takes the batch_size of the config for each rank.
END
}

program=scaling.sh
here=$(realpath -- "$(dirname -- "${BASH_SOURCE[0]}")")
bin=${DTRAIN_BIN:-$here/../build/release/bin}
source "$here/common.sh"

parse() {
    config='' mode=both ranks='' nodes='' ranks_per_node='' repeats=3 output=''
    place=slurm overrides=() steps=()
    command -v sbatch >/dev/null || place=local
    while (($# > 0)); do
        case $1 in
        --mode | --ranks | --nodes | --ranks-per-node | --repeats | --output | --steps)
            (($# > 1)) || die 2 "$1 needs a value"
            case $1 in
            --mode) mode=$2 ;;
            --ranks) ranks=$2 ;;
            --nodes) nodes=$2 ;;
            --ranks-per-node) ranks_per_node=$2 ;;
            --repeats) repeats=$2 ;;
            --output) output=$2 ;;
            --steps) steps=(--steps "$2") ;;
            esac
            shift
            ;;
        --local) place=local ;;
        --help | -h) usage && exit ;;
        --*.*=*) overrides+=("$1") ;;
        -*) die 2 "unknown option $1; slurm/scaling.sh --help lists them" ;;
        *)
            [[ ! $config ]] || die 2 "two configs: $config and $1"
            config=$1
            ;;
        esac
        shift
    done
    [[ $config ]] || { usage >&2 && exit 2; }
    scaling_modes "$mode"
    [[ "$ranks $nodes $ranks_per_node $repeats" =~ ^[0-9\ ]+$ ]] && ((repeats > 0)) ||
        die 2 "--ranks, --nodes, --ranks-per-node and --repeats want whole numbers from 1"
    if [[ $nodes ]]; then
        [[ $place == slurm && $ranks_per_node && ! $ranks ]] ||
            die 2 "--nodes wants Slurm and --ranks-per-node, and no --ranks"
        for n in $nodes; do ranks+="$((n * ranks_per_node)) "; done
    elif [[ $ranks_per_node ]]; then
        die 2 "--ranks-per-node wants --nodes"
    elif [[ ! $ranks ]]; then
        [[ $place == local ]] || die 2 "with Slurm say --ranks, or --nodes and --ranks-per-node"
        for ((n = 1; n <= $(nproc); n *= 2)); do ranks+="$n "; done
    fi
    scaling_files "$config"
}

# The config with enough logical shards for all runs, kept beside them: runs of another one must not get among them.
prepare() {
    local n shards samples
    resolved=$("$bin/dtrain" "$config" ${overrides[@]+"${overrides[@]}"} --print-config) || exit
    shards=$(setting parallel.logical_shards)
    for n in $ranks; do ((n <= shards)) || shards=$n; done
    overrides+=("--parallel.logical_shards=$shards")
    resolved=$("$bin/dtrain" "$config" "${overrides[@]}" --print-config) || exit
    batch=$(setting training.batch_size)
    [[ $mode == strong || $batch =~ ^[0-9]+$ ]] || die 2 "weak scaling wants a number as batch_size, not $batch"
    samples=$(training_samples "$bin/dtrain" "$config" "${overrides[@]}")
    # shellcheck disable=SC2086 # words
    [[ $mode == strong ]] || require_samples "$batch" "$samples" $ranks
    resolved="# dtrain-bench${steps[*]+ ${steps[*]}}"$'\n'$resolved
    mkdir -p -- "$folder"
    [[ ! -e $folder/config.ini ]] || [[ $(<"$folder/config.ini") == "$resolved" ]] ||
        die 2 "$folder holds runs of another config, or with other logical shards or --steps:" \
            "remove it, or name another --output"
    printf '%s\n' "$resolved" >"$folder/config.ini"
}

# Runs, or submits, what is not there yet. Repeats are outermost, so that what changes on the machine meanwhile shows as
# spread instead of as scaling.
run_all() {
    local repeat n mode json words
    wanted=() jobs=()
    for ((repeat = 1; repeat <= repeats; ++repeat)); do
        for mode in "${modes[@]}"; do
            for n in $ranks; do
                json=$folder/$(run_name "$mode" "$n" "$repeat").json
                wanted+=("$json")
                [[ ! -e $json ]] || continue
                words=("$config" "${overrides[@]}" ${steps[@]+"${steps[@]}"})
                [[ $mode == strong ]] || words+=("--training.batch_size=$((batch * n))")
                "run_$place" "$json" "$n" "${words[@]}"
            done
        done
    done
}

run_local() { # JSON RANKS WORD...
    local more=''
    (($2 <= $(nproc))) || more=", $2 ranks on $(nproc) cores: of little meaning"
    say "${1##*/}$more"
    OPENBLAS_NUM_THREADS=1 mpirun --oversubscribe -np "$2" "$bin/dtrain-bench" "${@:3}" --json "$1" \
        </dev/null >"${1%.json}.out" 2>&1 || true
}

run_slurm() { # JSON RANKS WORD...
    local job='' size=(--ntasks="$2") record=${1%.json}.job
    # One that an earlier call of this script left in the queue.
    if [[ -e $record ]] && job=$(<"$record") && [[ $(squeue --noheader --jobs="$job" 2>/dev/null) ]]; then
        say "${1##*/} is job $job already"
    else
        [[ ! $nodes ]] || size=(--nodes=$(($2 / ranks_per_node)) --ntasks-per-node="$ranks_per_node")
        job=$(DTRAIN_BIN=$(realpath -- "$bin") DTRAIN_ROOT=$(realpath -- "$here/..") sbatch --parsable "${size[@]}" \
            --output="${1%.json}.out" "$here/scaling.sbatch" "$(realpath -m -- "$1")" "$(realpath -- "$3")" "${@:4}")
        job=${job%%;*}
        printf '%s\n' "$job" >"$record"
        say "${1##*/} is job $job"
    fi
    jobs+=("$job")
}

wait_for_jobs() {
    local list states
    list=$(IFS=, && printf '%s' "${jobs[*]}")
    # A controller that does not answer has not ended the jobs; one that has forgotten them has.
    while :; do
        if states=$(squeue --noheader --states=all --format=%T --jobs="$list" 2>&1); then
            grep -qE 'PENDING|RUNNING|CONFIGURING|COMPLETING|SUSPENDED|REQUEUED|RESIZING|STOPPED' <<<"$states" || break
        elif [[ $states == *"Invalid job id"* ]]; then
            break
        fi
        sleep 2
    done
}

# What a failed run said of it: dtrain-bench itself, or else mpirun between its dashes.
reason() { # FILE
    grep -m 1 '^dtrain-bench: ' "$1" || grep -m 1 '^[^-]' "$1" || printf 'it said nothing\n'
}

report() {
    local json done=() failed=()
    for json in "${wanted[@]}"; do
        if [[ -e $json ]]; then
            done+=("$json")
        else
            failed+=("$json")
            say "failed: $(basename "$json" .json): $(reason "${json%.json}.out" 2>/dev/null)"
        fi
    done
    if ((${#done[@]} > 0)); then
        "$here/scaling.py" collect --output "$output" --config "$folder/config.ini" --platform "$platform" \
            "$folder"/*.json
        "$here/scaling.py" table "$output"
        say "the figures are in $output, of which dtrain-report makes charts"
    fi
    ((${#failed[@]} == 0)) || die 1 "${#failed[@]} of ${#wanted[@]} runs failed; the same command tries them again"
}

trap 'exit 130' INT # also where mpirun, after Ctrl-C, returns as if it had failed
parse "$@"
prepare
run_all
platform=$(hostname)
if ((${#jobs[@]} > 0)); then
    wait_for_jobs
fi
if [[ $place == slurm ]]; then
    platform=${SBATCH_PARTITION:-$(sinfo --noheader --format=%P | sed -n 's/\*$//p')}
fi
report
