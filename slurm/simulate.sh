#!/usr/bin/env bash
# Predicts strong and weak scaling with dtrain-bench on SimGrid's SMPI; see usage(). The ranks run one after another on
# this machine. Computation takes its measured time, and messages take the time of a network model.
set -euo pipefail

usage() {
    put <<'END'
usage: slurm/simulate.sh CONFIG [--section.key=value ...] [option ...]

Predicts strong and weak scaling of CONFIG on a larger cluster with SimGrid, and prints a table of speed-ups.

  strong scaling  all runs have the same global batch: the config's batch_size
  weak scaling    all ranks have the same batch: the config's batch_size, or --weak-batch, for each rank

Each simulation has as many logical shards as ranks.

  --ranks "1 2 4"     numbers of ranks, up to 1024 (default: powers of two from 1 to 1024)
  --mode MODE         strong, weak or both (default: both)
  --weak-batch N      batch of each rank in weak scaling (default: the config's batch_size)
  --platform NAME     fat-tree, ethernet or both (default: both), or a SimGrid XML file with hosts node-0, node-1, ...
  --ranks-per-node N  ranks on each node (default: 32); a file needs ranks / N hosts with at least N cores each
  --steps N           training steps per block (default: 1)
  --blocks N          blocks; the median counts (default: 3)
  --repeats N         simulations of each kind (default: 1)
  --output FILE.h5    result (default: runs/scaling-CONFIG.h5, as for scaling.sh); earlier simulations of the same
                      platform are replaced; the folder FILE.runs keeps the output of each run
  --help              print this text

Build both presets first: cmake --preset release && cmake --build --preset release, and the same with simulate. The
simulation assumes that a core of the cluster is as fast as a core of this machine, which should be idle. It is
calibrated with a real run, then compared with real runs on one and two ranks of up to 256 samples each.

  DTRAIN_BIN      folder of the release build (default: build/release/bin of this repository)
  DTRAIN_PYTHON   Python with h5py (default: the Python of dtrain-report, or /usr/bin/python3)
END
}

program=simulate.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
root=${here%/*}
real=$bin/dtrain-bench
simulated=$root/build/simulate/bin/dtrain-bench
config=
overrides=()
ranks="1 2 4 8 16 32 64 128 256 512 1024"
mode=both
weak_batch=
platform=both
steps=1
blocks=3
repeats=1
ranks_per_node=32
output=

while (($# > 0)); do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --ranks | --mode | --weak-batch | --platform | --ranks-per-node | --steps | --blocks | --repeats | --output)
        (($# > 1)) || die 2 "$1 needs a value"
        name=${1#--}
        declare "${name//-/_}=$2"
        shift
        ;;
    --*.*=*) overrides+=("$1") ;;
    -*) die 2 "unknown option $1: see slurm/simulate.sh --help" ;;
    *)
        [[ -z $config ]] || die 2 "expected one config, got two: $config and $1"
        config=$1
        ;;
    esac
    shift
done
[[ -n $config ]] || die 2 "no config given: see slurm/simulate.sh --help"
scaling_files "$config"
scaling_modes "$mode"
case $platform in
both) platforms=("$root"/slurm/platforms/{fat-tree,ethernet}.xml) ;;
*.xml) platforms=("$platform") ;;
fat-tree | ethernet) platforms=("$root/slurm/platforms/$platform.xml") ;;
*) die 2 "--platform $platform: expected fat-tree, ethernet, both, or a file that ends in .xml" ;;
esac
for file in "$config" "${platforms[@]}" "$real" "$simulated"; do
    [[ -f $file ]] || die 2 "no file $file: see slurm/simulate.sh --help"
done
[[ $ranks =~ [0-9] ]] || die 2 "--ranks: expected numbers from 1 to 1024"
[[ ! $weak_batch || $weak_batch =~ ^[1-9][0-9]*$ ]] || die 2 "--weak-batch $weak_batch: expected a number, at least 1"
for word in $ranks "$ranks_per_node" "$steps" "$blocks" "$repeats"; do
    [[ $word =~ ^[1-9][0-9]{0,2}$|^10[01][0-9]$|^102[0-4]$ ]] || die 2 "$word: expected a number from 1 to 1024"
done
((ranks_per_node <= 32)) || [[ $platform == *.xml ]] ||
    die 2 "--ranks-per-node $ranks_per_node: nodes of fat-tree and ethernet have 32 cores. slurm/README.md explains" \
        "how to write a platform with larger nodes"
smpimain=$(pkg-config --variable=libdir simgrid)/simgrid/smpimain
[[ -x $smpimain ]] || die 2 "SimGrid is missing (Debian: apt-get install libsimgrid-dev)"
require_python "$root/slurm/scaling.py"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
# One line for each rank. SimGrid refuses hosts that the platform does not have. The comparison needs two ranks.
max_ranks=2
for n in $ranks; do ((n <= max_ranks)) || max_ranks=$n; done
for ((n = 0; n < max_ranks; ++n)); do echo "node-$((n / ranks_per_node))"; done >"$work/hosts"

number() { # FILE KEY...: prints a number of a JSON file
    "$python" -c 'import functools, json, sys
print(functools.reduce(lambda tree, key: tree[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"
}

# The options of SimGrid: time is the CPU time of the thread, so that other work on this machine does not count. Ranks
# share the global variables of the program. Testing for a message takes no time, since dtrain sleeps between tests.
# Events less than 0.1 us apart count as one, which saves time with many ranks.
simulate() { # SPEED PLATFORM RANKS JSON ARGUMENT...
    rm -f -- "$4" # a missing file means failure: SimGrid does not return the code of MPI_Abort
    if ! ("$smpimain" "$simulated" --cfg=smpi/privatization:no --cfg="smpi/np:$3" --cfg="smpi/hostfile:$work/hosts" \
        --cfg=network/model:SMPI --cfg=surf/precision:1e-7 --cfg="smpi/host-speed:${1}Gf" \
        --cfg=smpi/coll-selector:ompi --cfg=smpi/wtime:0 --cfg=smpi/test:0 --cfg=smpi/grow-injected-times:no \
        --log=root.thresh:warning "$2" "$config" "${overrides[@]}" --parallel.logical_shards="$3" --steps-only \
        --json="$4" "${@:5}" || exit) >"$work/log" 2>&1 || [[ ! -f $4 ]]; then
        cat "$work/log" >&2
        die 1 "the simulation of $3 ranks on $2 failed"
    fi
}

measure() { # RANKS JSON ARGUMENT...: the same with real ranks
    local_ranks "$1" "$real" "$config" "${overrides[@]}" --parallel.logical_shards="$1" --steps-only \
        --json="$2" "${@:3}" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die 1 "dtrain-bench failed on $1 ranks"
    }
}

"${real%-bench}" "$config" "${overrides[@]}" --print-config >"$work/config.ini" || exit 2

# Other work on this machine only makes blocks slower, so compare the fastest of many short blocks.
measure 1 "$work/real.json" --steps 1 --blocks 1
batch=$(number "$work/real.json" batch_size)
samples=$(training_samples "${real%-bench}" "$config" "${overrides[@]}")
# shellcheck disable=SC2086 # words
[[ $mode == strong ]] || require_samples "${weak_batch:-$batch}" "$samples" $ranks
rows=$((batch < 256 ? batch : 256))
short=(--training.batch_size="$rows" --steps 3 --blocks 60)
speed=1
measure 1 "$work/real.json" "${short[@]}"
simulate 1 "${platforms[0]}" 1 "$work/simulated.json" "${short[@]}"
speed=$("$python" -c 'import sys; print(float(sys.argv[2]) / float(sys.argv[1]))' \
    "$(number "$work/real.json" samples_per_second max)" "$(number "$work/simulated.json" samples_per_second max)")
put <<<"calibration: the simulation multiplies computation times by $(printf %.3f "$speed")"$'\n'
comparison=("| ranks | measured, samples/s | simulated | difference |" "|---|---|---|---|")
printf '%s\n' "${comparison[@]}" | put
for n in 1 2; do
    ((n <= $(nproc))) || continue
    short[0]=--training.batch_size=$((n * rows))
    measure $n "$work/real.json" "${short[@]}"
    simulate "$speed" "${platforms[0]}" $n "$work/simulated.json" "${short[@]}"
    fastest=("$(number "$work/real.json" samples_per_second max)"
        "$(number "$work/simulated.json" samples_per_second max)")
    comparison+=("$("$python" -c 'import sys
ranks, measured, simulated = map(float, sys.argv[1:])
difference = simulated / measured - 1
note = "" if abs(difference) <= 0.15 else \
    ": more than 15 %, so the predictions are unreliable. Repeat on an idle machine"
print(f"| {ranks:.0f} | {measured:.0f} | {simulated:.0f} | {100 * difference:+.1f} %{note} |")' $n "${fastest[@]}")")
    put <<<"${comparison[-1]}"
done
put <<<""
check=$(printf '%s\n' "${comparison[@]}")

for file in "${platforms[@]}"; do
    name=$(basename "$file" .xml)
    runs=$folder/$name
    rm -rf -- "$runs"
    mkdir -p -- "$runs"
    # Repeats are the outermost loop, so that slow changes of this machine appear as spread between repeats.
    for ((repeat = 1; repeat <= repeats; ++repeat)); do
        for each in "${modes[@]}"; do
            for n in $ranks; do
                size=$batch
                [[ $each == strong ]] || size=$((n * ${weak_batch:-$batch}))
                json=$runs/$(run_name "$each" "$n" "$repeat").json
                begin=$SECONDS
                simulate "$speed" "$file" "$n" "$json" --training.batch_size="$size" --steps "$steps" --blocks "$blocks"
                say "$name, $each scaling: $n rank$( ((n == 1)) || echo s) took $((SECONDS - begin)) s"
                "$python" -E "$root/slurm/scaling.py" collect --output "$output" --simulated --platform "$name" \
                    --config "$work/config.ini" --check "$check" "$runs"/*.json
            done
        done
    done
done
"$python" -E "$root/slurm/scaling.py" table "$output"
announce_results "$output" "${real%/*}"
