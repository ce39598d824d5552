#!/usr/bin/env bash
# Runs the long forms of the tests, the sanitizers and the fuzzers, which take hours. Prints a summary at the end.
set -uo pipefail

usage() {
    cat <<'END'
usage: tests/long.sh [FORM ...]

  kills     kill 100 ranks, half of them while a checkpoint is written
  ranks     bitwise identical results on any number of ranks and nodes: all combinations
  resume    interrupt runs repeatedly and resume on other numbers of ranks
  limits    20 memory limits for one rank, in runs of every kind
  asan      unit and MPI tests under AddressSanitizer and UndefinedBehaviorSanitizer
  tsan      tests of code with threads under ThreadSanitizer
  fuzz      each fuzz target for 20 minutes, or DTRAIN_FUZZ_SECONDS
  portable  build and test with other compilers, MPI libraries and versions of Debian; see tests/portability.sh
  package   install, use and remove the Debian package in a bare root of Debian 12: needs root and debootstrap
  image     build the image of slurm/containers and use it: needs Podman; see tests/containers.sh

Runs the named forms, or all forms in this order. The output goes to build/long/FORM.log. The exit code is 1 if a form
failed. Needs the packages of `./quickstart.sh test` and an idle machine.

  DTRAIN_MNIST          folder of MNIST (default: data/mnist)
  DTRAIN_FUZZ_SECONDS   seconds for each fuzz target (default: 1200)
  DTRAIN_PYTHON         Python of the system tests (default: /usr/bin/python3)
END
}

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
readonly all=(kills ranks resume limits asan tsan fuzz package image portable)
readonly logs=build/long

for form in "$@"; do
    case " ${all[*]} " in
    *" $form "*) ;;
    *)
        [[ $form == -h || $form == --help ]] && usage && exit 0
        printf 'tests/long.sh: unknown form %s: expected some of %s\n' "$form" "${all[*]}" >&2
        exit 2
        ;;
    esac
done

preset() { # NAME [CMAKE-OPTION ...]: builds and tests a preset
    cmake --preset "$@" && cmake --build --preset "$1" && ctest --preset "$1"
}

system_test() { # NAME [ARGUMENT ...]: runs the long form of a test with the release build
    local name=$1
    shift
    cmake --preset release && cmake --build --preset release &&
        DTRAIN_LONG=1 DTRAIN_MNIST=${DTRAIN_MNIST:-$PWD/data/mnist} OPENBLAS_NUM_THREADS=1 \
            "${DTRAIN_PYTHON:-/usr/bin/python3}" "tests/system/test_$name.py" -v "$@"
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
    package) tests/package.sh ;;
    image) tests/containers.sh ;;
    portable) tests/portability.sh ;;
    esac
}

# The tests may run as root.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mkdir -p -- "$logs"
summary=()
failed=0
(($# > 0)) || set -- "${all[@]}"
for form in "$@"; do
    began=$SECONDS
    if run "$form" >"$logs/$form.log" 2>&1 </dev/null; then
        result=passed
        grep -qiE 'skipped[=:]? *[1-9]|\*\*\*Skipped' "$logs/$form.log" && result='passed (some tests skipped)'
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
