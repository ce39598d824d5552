#!/usr/bin/env bash
# Predicts strong and weak scaling on clusters that are not there: dtrain-bench on SimGrid's SMPI, ranks one after
# another on this machine, time from a model of the network and from what each piece of computation takes here.
set -euo pipefail

usage() {
    put <<'END'
usage: slurm/simulate.sh CONFIG [--section.key=value ...] [options]

Simulates descent steps of CONFIG on more and more ranks, and prints speed-ups and efficiencies. The config's
batch_size is the batch of all ranks in strong scaling and that of each rank in weak scaling; there are as many logical
shards as ranks.

  --ranks "1 2 4"     numbers of ranks ("1 2 4 8 16 32 64 128 256 512 1024")
  --mode MODE         strong | weak | both (both)
  --platform NAME     fat-tree | ethernet | both (both), or an XML file for SimGrid whose hosts are node-0 to node-31,
                      with 32 cores each
  --steps N           steps per block (1)
  --blocks N          blocks, of which the median counts (3)
  --repeats N         simulations of each kind (1)
  --output FILE       where the figures go (runs/scaling-CONFIG.h5, as those of scaling.sh do); of the same platforms,
                      they replace what it holds; the runs' own files are kept in the folder FILE.runs
  --help

Both builds are wanted: cmake --preset release && cmake --build --preset release, and the same with simulate. A core of
the cluster is taken to be as fast as one of this machine, which should be idle; the simulation is calibrated by a real
run, and set beside real runs on one and two ranks of up to 256 samples each, before it begins.
END
}

program=simulate.sh
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/slurm/common.sh"
real=${DTRAIN_BIN:-$root/build/release/bin}/dtrain-bench
simulated=$root/build/simulate/bin/dtrain-bench
config=
overrides=()
ranks="1 2 4 8 16 32 64 128 256 512 1024"
mode=both
platform=both
steps=1
blocks=3
repeats=1
output=

while (($# > 0)); do
    case $1 in
    --help | -h)
        usage
        exit 0
        ;;
    --ranks | --mode | --platform | --steps | --blocks | --repeats | --output)
        (($# > 1)) || die 2 "$1 needs a value"
        declare "${1#--}=$2"
        shift
        ;;
    --*.*=*) overrides+=("$1") ;;
    -*) die 2 "unknown option $1; see --help" ;;
    *)
        [[ -z $config ]] || die 2 "two configs: $config and $1"
        config=$1
        ;;
    esac
    shift
done
[[ -n $config ]] || die 2 "no config given; see --help"
scaling_files "$config"
scaling_modes "$mode"
case $platform in
both) platforms=("$root"/slurm/platforms/{fat-tree,ethernet}.xml) ;;
*.xml) platforms=("$platform") ;;
fat-tree | ethernet) platforms=("$root/slurm/platforms/$platform.xml") ;;
*) die 2 "--platform $platform: expected fat-tree, ethernet, both, or a file that ends in .xml" ;;
esac
for file in "$config" "${platforms[@]}" "$real" "$simulated"; do
    [[ -f $file ]] || die 2 "there is no $file; see --help"
done
[[ $ranks =~ [0-9] ]] || die 2 "--ranks: expected numbers"
for word in $ranks "$steps" "$blocks" "$repeats"; do
    [[ $word =~ ^[1-9][0-9]{0,2}$|^10[01][0-9]$|^102[0-4]$ ]] || die 2 "$word: expected a number from 1 to 1024"
done
smpimain=$(pkg-config --variable=libdir simgrid)/simgrid/smpimain
[[ -x $smpimain ]] || die 2 "there is no SimGrid (Debian: libsimgrid-dev)"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT
for node in {0..31}; do
    for _ in {1..32}; do echo "node-$node"; done
done >"$work/hosts"
export OPENBLAS_NUM_THREADS=1

figure() { # FILE KEY...: prints that number of a JSON file
    /usr/bin/python3 -c 'import functools, json, sys
print(functools.reduce(lambda tree, key: tree[key], sys.argv[2:], json.load(open(sys.argv[1]))))' "$@"
}

# Time is that of the thread alone, whatever else this machine does; the program's global variables are such that ranks
# may share them; a test of a message takes no time, as what waits sleeps between tests. Events that are less than a
# tenth of a microsecond apart are one, which saves time with many ranks.
simulate() { # SPEED PLATFORM RANKS JSON ARGUMENT...
    rm -f -- "$4" # without which it has failed, whatever it returns: SimGrid forgets the code of MPI_Abort
    if ! ("$smpimain" "$simulated" --cfg=smpi/privatization:no --cfg="smpi/np:$3" --cfg="smpi/hostfile:$work/hosts" \
        --cfg=network/model:SMPI --cfg=surf/precision:1e-7 --cfg="smpi/host-speed:${1}Gf" \
        --cfg=smpi/coll-selector:ompi --cfg=smpi/wtime:0 --cfg=smpi/test:0 --cfg=smpi/grow-injected-times:no \
        --log=root.thresh:warning "$2" "$config" "${overrides[@]}" --parallel.logical_shards="$3" --steps-only \
        --json="$4" "${@:5}" || exit) >"$work/log" 2>&1 || [[ ! -f $4 ]]; then
        cat "$work/log" >&2
        die 1 "the simulation of $3 ranks on $2 failed"
    fi
}

measure() { # RANKS JSON ARGUMENT...: the same for real
    mpirun --oversubscribe -np "$1" "$real" "$config" "${overrides[@]}" --parallel.logical_shards="$1" --steps-only \
        --json="$2" "${@:3}" >"$work/log" 2>&1 || {
        cat "$work/log" >&2
        die 1 "dtrain-bench failed on $1 ranks"
    }
}

"${real%-bench}" "$config" "${overrides[@]}" --print-config >"$work/config.ini" || exit 2

# What disturbs makes blocks slower: the fastest ones are compared, of many so short that other work fits in between.
measure 1 "$work/real.json" --steps 1 --blocks 1
batch=$(figure "$work/real.json" batch_size)
samples=$(training_samples "${real%-bench}" "$config" "${overrides[@]}")
# shellcheck disable=SC2086 # words
[[ $mode == strong ]] || require_samples "$batch" "$samples" $ranks
rows=$((batch < 256 ? batch : 256))
short=(--training.batch_size="$rows" --steps 3 --blocks 60)
speed=1
measure 1 "$work/real.json" "${short[@]}"
simulate 1 "${platforms[0]}" 1 "$work/simulated.json" "${short[@]}"
speed=$(/usr/bin/python3 -c 'import sys; print(float(sys.argv[2]) / float(sys.argv[1]))' \
    "$(figure "$work/real.json" samples_per_second max)" "$(figure "$work/simulated.json" samples_per_second max)")
put <<<"calibration: computation takes $(printf %.3f "$speed") times as long as in an uncalibrated simulation"$'\n'
beside=("| ranks | measured, samples/s | simulated | difference |" "|---|---|---|---|")
printf '%s\n' "${beside[@]}" | put
for n in 1 2; do
    ((n <= $(nproc))) || continue
    short[0]=--training.batch_size=$((n * rows))
    measure $n "$work/real.json" "${short[@]}"
    simulate "$speed" "${platforms[0]}" $n "$work/simulated.json" "${short[@]}"
    fastest=("$(figure "$work/real.json" samples_per_second max)"
        "$(figure "$work/simulated.json" samples_per_second max)")
    beside+=("$(/usr/bin/python3 -c 'import sys
ranks, measured, simulated = map(float, sys.argv[1:])
difference = simulated / measured - 1
note = "" if abs(difference) <= 0.15 else ": more than 15 %, do not trust these simulations"
print(f"| {ranks:.0f} | {measured:.0f} | {simulated:.0f} | {100 * difference:+.1f} %{note} |")' $n "${fastest[@]}")")
    put <<<"${beside[-1]}"
done
put <<<""
check=$(printf '%s\n' "${beside[@]}")

for file in "${platforms[@]}"; do
    name=$(basename "$file" .xml)
    runs=$folder/$name
    rm -rf -- "$runs"
    mkdir -p -- "$runs"
    # Repeats are outermost, so that what changes on this machine meanwhile shows as spread.
    for ((repeat = 1; repeat <= repeats; ++repeat)); do
        for each in "${modes[@]}"; do
            for n in $ranks; do
                size=$batch
                [[ $each == strong ]] || size=$((n * batch))
                json=$runs/$(run_name "$each" "$n" "$repeat").json
                begin=$SECONDS
                simulate "$speed" "$file" "$n" "$json" --training.batch_size="$size" --steps "$steps" --blocks "$blocks"
                say "$name, $each scaling: $n rank$( ((n == 1)) || echo s) took $((SECONDS - begin)) s"
                "$root/slurm/scaling.py" collect --output "$output" --simulated --platform "$name" \
                    --config "$work/config.ini" --check "$check" "$runs"/*.json
            done
        done
    done
done
"$root/slurm/scaling.py" table "$output"
say "the figures are in $output, of which dtrain-report makes charts"
