#!/usr/bin/env bash
# Measures strong and weak scaling of one config with dtrain-bench; see usage().
set -euo pipefail

usage() {
    put <<'END'
usage: slurm/scaling.sh CONFIG [option ...] [--section.key=value ...]

Measures strong and weak scaling of CONFIG with dtrain-bench, collects all runs in one HDF5 file, and prints a table.

  strong scaling  all runs have the same global batch: the config's batch_size
  weak scaling    all ranks have the same batch: the config's batch_size, or --weak-batch, for each rank

A rank needs about 64 samples per step to scale well. Example for up to 128 ranks:
  slurm/scaling.sh configs/mnist-800.ini --ranks "32 64 128" --training.batch_size=8192 --weak-batch 64

  --mode MODE          strong, weak or both (default: both)
  --weak-batch N       batch of each rank in weak scaling (default: the config's batch_size)
  --ranks "1 2 4"      numbers of ranks (default without Slurm: powers of two up to the number of cores)
  --nodes "1 2 4"      with Slurm, instead of --ranks: numbers of whole nodes
  --ranks-per-node N   with --nodes: ranks on each node
  --repeats N          runs of each kind (default: 3)
  --steps N            training steps per block of dtrain-bench (default: chosen by dtrain-bench)
  --output FILE.h5     result (default: runs/scaling-CONFIG.h5); the folder FILE.runs keeps the output of each run
  --local              run on this machine, one run after the other, even if Slurm is available

If sbatch is available, each run is a job of slurm/scaling.sbatch, and this script waits for all jobs. Set
SBATCH_PARTITION and SBATCH_ACCOUNT if your site needs them. After an interruption, repeat the command: existing runs
are kept, and jobs that are still in the queue are not submitted again. All runs use the same number of logical shards,
enough for the largest number of ranks. If the first run on this machine fails, the script stops.

  DTRAIN_BIN      folder of the programs (default: build/release/bin of this repository, or bin of this installation)
  DTRAIN_PYTHON   Python with h5py (default: the Python of dtrain-report, or /usr/bin/python3)
END
}

program=scaling.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

parse() {
    config='' mode=both weak_batch='' ranks='' nodes='' ranks_per_node='' repeats=3 output=''
    place=slurm overrides=() steps=()
    command -v sbatch >/dev/null || place=local
    while (($# > 0)); do
        case $1 in
        --mode | --weak-batch | --ranks | --nodes | --ranks-per-node | --repeats | --output | --steps)
            (($# > 1)) || die 2 "$1 needs a value"
            case $1 in
            --mode) mode=$2 ;;
            --weak-batch) weak_batch=$2 ;;
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
        -*) die 2 "unknown option $1: see slurm/scaling.sh --help" ;;
        *)
            [[ ! $config ]] || die 2 "expected one config, got two: $config and $1"
            config=$1
            ;;
        esac
        shift
    done
    [[ $config ]] || { usage >&2 && exit 2; }
    scaling_modes "$mode"
    [[ "$ranks $nodes $ranks_per_node $repeats" =~ ^[0-9\ ]+$ ]] && ((repeats > 0)) ||
        die 2 "--ranks, --nodes, --ranks-per-node and --repeats need whole numbers, at least 1"
    [[ ! $weak_batch || $weak_batch =~ ^[1-9][0-9]*$ ]] ||
        die 2 "--weak-batch $weak_batch: expected a whole number, at least 1"
    if [[ $nodes ]]; then
        [[ $place == slurm && $ranks_per_node && ! $ranks ]] ||
            die 2 "--nodes needs Slurm and --ranks-per-node, and does not go with --ranks or --local"
        for n in $nodes; do ranks+="$((n * ranks_per_node)) "; done
    elif [[ $ranks_per_node ]]; then
        die 2 "--ranks-per-node needs --nodes"
    elif [[ ! $ranks ]]; then
        [[ $place == local ]] || die 2 "with Slurm, give --ranks, or --nodes and --ranks-per-node, or --local"
        for ((n = 1; n <= $(nproc); n *= 2)); do ranks+="$n "; done
    fi
    scaling_files "$config"
}

# Sets enough logical shards for all runs, checks the config, and keeps it next to the runs: runs of different configs
# must not mix. Sets $weak_batch.
prepare() {
    local n shards batch samples max_ranks=0
    resolved=$("$bin/dtrain" "$config" ${overrides[@]+"${overrides[@]}"} --print-config) || exit
    shards=$(setting parallel.logical_shards)
    for n in $ranks; do
        ((n <= shards)) || shards=$n
        ((n <= max_ranks)) || max_ranks=$n
    done
    overrides+=("--parallel.logical_shards=$shards")
    resolved=$("$bin/dtrain" "$config" "${overrides[@]}" --print-config) || exit
    batch=$(setting training.batch_size)
    [[ $mode == strong || $weak_batch || $batch =~ ^[0-9]+$ ]] ||
        die 2 "training.batch_size = $batch: weak scaling needs a number. Give --weak-batch N"
    weak_batch=${weak_batch:-$batch}
    [[ $mode == weak || ! $batch =~ ^[0-9]+$ ]] || ((batch >= 8 * max_ranks)) ||
        say "warning: strong scaling to $max_ranks ranks with training.batch_size = $batch: fewer than 8 samples per" \
            "rank. Exchanging gradients will dominate; a larger --training.batch_size scales further"
    samples=$(training_samples "$bin/dtrain" "$config" "${overrides[@]}")
    # shellcheck disable=SC2086 # words
    [[ $mode == strong ]] || require_samples "$weak_batch" "$samples" $ranks
    resolved="# dtrain-bench${steps[*]+ ${steps[*]}}$(
        [[ $weak_batch == "$batch" ]] || printf '; weak scaling with batches of %s per rank' "$weak_batch"
    )"$'\n'$resolved
    mkdir -p -- "$folder"
    [[ ! -e $folder/config.ini ]] || [[ $(<"$folder/config.ini") == "$resolved" ]] ||
        die 2 "$folder contains runs of another config, or with other logical shards, --steps or --weak-batch:" \
            "remove it, or choose another --output"
    printf '%s\n' "$resolved" >"$folder/config.ini"
}

# Starts or submits all missing runs. Repeats are the outermost loop, so that slow changes of the machine appear as
# spread between repeats and not as scaling.
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
                [[ $mode == strong ]] || words+=("--training.batch_size=$((weak_batch * n))")
                "run_$place" "$json" "$n" "${words[@]}"
                # If the first run fails, the others would most likely fail for the same reason.
                [[ $place == slurm || -e $json || ${#wanted[@]} -gt 1 ]] ||
                    die 1 "${json##*/}: failed: $(reason "${json%.json}.out") (see ${json%.json}.out)." \
                        "The other runs were not started"
            done
        done
    done
}

run_local() { # JSON RANKS WORD...
    local more=''
    (($2 <= $(nproc))) || more=": warning: $2 ranks share $(nproc) cores, so this run is not meaningful"
    say "${1##*/}$more"
    local_ranks "$2" "$bin/dtrain-bench" "${@:3}" --json "$1" \
        </dev/null >"${1%.json}.out" 2>&1 || true
}

run_slurm() { # JSON RANKS WORD...
    local job='' size=(--ntasks="$2") record=${1%.json}.job
    # An earlier call of this script may have left the job in the queue.
    if [[ -e $record ]] && job=$(<"$record") && [[ $(squeue --noheader --jobs="$job" 2>/dev/null) ]]; then
        say "${1##*/} is already job $job"
    else
        [[ ! $nodes ]] || size=(--nodes=$(($2 / ranks_per_node)) --ntasks-per-node="$ranks_per_node")
        job=$(DTRAIN_BIN=$(realpath -- "$bin") sbatch --parsable "${size[@]}" \
            --output="${1%.json}.out" "$here/scaling.sbatch" "$(realpath -m -- "$1")" "$(realpath -- "$3")" "${@:4}") ||
            die 1 "sbatch cannot submit ${1##*/}.${jobs[*]:+ The jobs submitted before stay in the queue.} To run on" \
                "this machine without Slurm, add --local"
        job=${job%%;*}
        printf '%s\n' "$job" >"$record"
        say "${1##*/} is job $job"
    fi
    jobs+=("$job")
}

wait_for_jobs() {
    local list states
    list=$(IFS=, && printf '%s' "${jobs[*]}")
    # If the controller does not answer, the jobs may still run. If it does not know the jobs any more, they have ended.
    while :; do
        if states=$(squeue --noheader --states=all --format=%T --jobs="$list" 2>&1); then
            grep -qE 'PENDING|RUNNING|CONFIGURING|COMPLETING|SUSPENDED|REQUEUED|RESIZING|STOPPED' <<<"$states" || break
        elif [[ $states == *"Invalid job id"* ]]; then
            break
        fi
        sleep 2
    done
}

# Prints why a run failed: the message of dtrain-bench, or else that of mpirun, which is between lines of dashes.
reason() { # FILE
    grep -m 1 '^dtrain-bench: ' "$1" 2>/dev/null || grep -m 1 '^[^-]' "$1" 2>/dev/null || printf 'no message\n'
}

report() {
    local json why done=() failed=()
    local -A more=() # for each reason already printed: the number of further runs that failed for it
    for json in "${wanted[@]}"; do
        if [[ -e $json ]]; then
            done+=("$json")
            continue
        fi
        failed+=("$json")
        why=$(reason "${json%.json}.out")
        if [[ ${more[$why]:-} ]]; then
            more[$why]=$((${more[$why]} + 1))
        else
            more[$why]=0
            say "failed: $(basename "$json" .json): $why (see ${json%.json}.out)"
        fi
    done
    for why in "${!more[@]}"; do
        [[ ${more[$why]} == 0 ]] || say "${more[$why]} more failed with: $why"
    done
    if ((${#done[@]} > 0)); then
        "$python" -E "$here/scaling.py" collect --output "$output" --config "$folder/config.ini" \
            --platform "$platform" "$folder"/*.json
        "$python" -E "$here/scaling.py" table "$output"
        announce_results "$output" "$bin"
    fi
    ((${#failed[@]} == 0)) || die 1 "${#failed[@]} of ${#wanted[@]} runs failed: repeat the command to retry them"
}

interrupted() { # after Ctrl-C mpirun returns an ordinary code, so bash would continue
    ((${#jobs[@]} == 0)) || say "the submitted jobs stay in the queue. Repeat the command to wait for them, or cancel" \
        "them: scancel ${jobs[*]}"
    exit 130
}

jobs=()
trap interrupted INT
parse "$@"
require_python "$here/scaling.py"
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
