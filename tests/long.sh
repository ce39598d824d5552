#!/usr/bin/env bash
# What takes hours: the long forms of tests, sanitizers and fuzzing, unattended, with a line for each form in the end.
set -uo pipefail

usage() {
    cat <<'END'
usage: tests/long.sh [FORM ...]

  kills     100 ranks are killed, half of them while a checkpoint is written
  ranks     the same bits on any number of ranks and nodes: the full matrix
  resume    interrupted again and again, going on with other numbers of ranks
  limits    20 limits of memory for one rank, in runs of every kind
  asan      unit and MPI tests under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan      what has threads under ThreadSanitizer
  fuzz      each fuzz target for 20 minutes, or DTRAIN_FUZZ_SECONDS

All of them unless some are named, in this order. What they print goes to build/long/FORM.log. Wants what
`./quickstart.sh test` installs, MNIST in data/mnist or DTRAIN_MNIST, and an idle machine. The code is 1 if any failed.
END
}

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly all=(kills ranks resume limits asan tsan fuzz)
readonly logs=build/long

for form in "$@"; do
    case " ${all[*]} " in
    *" $form "*) ;;
    *)
        [[ $form == -h || $form == --help ]] && usage && exit 0
        printf 'tests/long.sh: there is no %s; these are: %s\n' "$form" "${all[*]}" >&2
        exit 2
        ;;
    esac
done

preset() { # NAME [CMAKE-OPTION ...]: builds and tests it
    cmake --preset "$@" && cmake --build --preset "$1" && ctest --preset "$1"
}

system_test() { # NAME [ARGUMENT ...]: the long form, of the release build
    local name=$1
    shift
    cmake --preset release && cmake --build --preset release &&
        DTRAIN_LONG=1 DTRAIN_MNIST=${DTRAIN_MNIST:-$PWD/data/mnist} OPENBLAS_NUM_THREADS=1 \
            /usr/bin/python3 "tests/system/test_$name.py" -v "$@"
}

run() { # FORM
    case $1 in
    kills) system_test kill ;;
    ranks) system_test ranks ;;
    resume) system_test resume ChainTest ;;
    limits) system_test limits ;;
    asan) preset asan ;;
    tsan) preset tsan ;;
    fuzz) preset fuzz -D DTRAIN_FUZZ_SECONDS="${DTRAIN_FUZZ_SECONDS:-1200}" ;;
    esac
}

# As root, and for more ranks than cores, as tests do.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mkdir -p -- "$logs"
summary=()
failed=0
(($# > 0)) || set -- "${all[@]}"
for form in "$@"; do
    began=$SECONDS
    if run "$form" >"$logs/$form.log" 2>&1 </dev/null; then
        result=passed
        grep -qiE 'skipped[=:]? *[1-9]|\*\*\*Skipped' "$logs/$form.log" && result='passed, but skipped some,'
    else
        result=FAILED
        failed=1
    fi
    summary+=("$(printf '%-8s %s in %4d min' "$form" "$result" $(((SECONDS - began + 30) / 60)))")
    printf '%s, see %s\n' "${summary[-1]}" "$logs/$form.log"
done
printf '\n%s, %s\n' "$(git rev-parse --short HEAD 2>/dev/null || echo 'no commit')" "$(date +%F)"
printf '%s\n' "${summary[@]}"
exit $failed
