#!/usr/bin/env bash
# Builds and tests dtrain with other versions of Debian, other compilers, MPI libraries, HDF5 libraries and CPUs.
set -uo pipefail

usage() {
    cat <<'END'
usage: tests/portability.sh [OPTION ...] [ROW ...]

For each row of the matrix: makes a root folder with Debian, copies the tracked files of this repository into it, builds
the preset dev, runs unit, MPI and most system tests, and trains a short run. Prints a table at the end. Exit code 1
means that a row failed, or that the trained weights differ between rows. Takes about half an hour per row on two cores.
Needs root, debootstrap (Debian: apt-get install debootstrap) and 2 GB of disk per row.

  --list           print the rows
  --keep           use roots that exist, and keep all roots; without it, each root is made anew and removed at the end
  --prepare        make the roots only; implies --keep
  --root DIR       folder of the roots (default: ${TMPDIR:-/tmp}/dtrain-roots)
  --mirror URL     mirror of Debian (default: that of this machine's apt, or else debootstrap's)
  --tests REGEX    run only tests whose names match

  CCACHE_DIR       if set, the builds share this cache of compiled files

The output of a row goes to build/portability/ROW.log.
END
}

# name | Debian | compiler | packages, in addition to those that every row needs
readonly matrix='
bookworm-gcc-openmpi   | bookworm | c++        | libopenmpi-dev openmpi-bin libhdf5-dev
bookworm-clang-openmpi | bookworm | clang++-14 | libopenmpi-dev openmpi-bin libhdf5-dev clang-14 libomp-14-dev
bookworm-gcc-mpich     | bookworm | c++        | libmpich-dev mpich libhdf5-dev
bookworm-clang-mpich   | bookworm | clang++-14 | libmpich-dev mpich libhdf5-dev clang-14 libomp-14-dev
bookworm-parallel-hdf5 | bookworm | c++        | libopenmpi-dev openmpi-bin libhdf5-openmpi-dev
trixie-gcc-openmpi     | trixie   | c++        | libopenmpi-dev openmpi-bin libhdf5-dev
trixie-clang-mpich     | trixie   | clang++-19 | libmpich-dev mpich libhdf5-dev clang-19 libomp-19-dev
bookworm-aarch64       | bookworm | aarch64-linux-gnu-g++ | g++-aarch64-linux-gnu qemu-user-static
'

# For every row. The packages of the aarch64 row come from the architecture arm64, except for programs.
readonly programs=(cmake ninja-build pkgconf g++ nlohmann-json3-dev ccache git gzip hostname iproute2 procps hdf5-tools
    python3-h5py python3-matplotlib python3-jinja2 python3-onnx python3-xxhash python3-numpy python3-pandas)
readonly libraries=(libopenblas-dev libboost-program-options-dev libfmt-dev zlib1g-dev libxxhash-dev libgtest-dev)

# Tests that need more than such a root has (MNIST, SimGrid, Slurm, network namespaces), that search for limits of
# memory for one version of Open MPI, or that read sources and documents only.
readonly left_out='system_(hosts|slurm|simulate|published|pytorch|spoken_digits|limits|memory|documents|includes)'

keep=
prepare=
tests=
mirror=
root=${TMPDIR:-/tmp}/dtrain-roots

die() {
    printf 'tests/portability.sh: %s\n' "$*" >&2
    exit 2
}

row() { # NAME: sets $suite, $compiler and $packages
    local name
    while IFS='|' read -r name suite compiler packages; do
        [[ ${name// /} != "$1" ]] || break
    done <<<"$matrix"
    suite=${suite// /} compiler=${compiler// /}
    read -ra packages <<<"$packages"
}

names() { awk '{ print $1 }' <<<"$matrix" | grep .; }

# Runs a command in a root, with its own /proc, /dev/shm and process ids: no process outlives it.
in_root() { # ROOT COMMAND ARGUMENT...
    # shellcheck disable=SC2016 # the inner shell expands it
    unshare --mount --pid --fork --kill-child bash -euc '
        mount --rbind /dev "$1/dev"
        mount -t tmpfs tmpfs "$1/dev/shm"
        mount -t proc proc "$1/proc"
        mount --rbind /sys "$1/sys"
        [[ ! ${CCACHE_DIR:-} ]] || mount --bind "$CCACHE_DIR" "$1/ccache"
        exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
            DEBIAN_FRONTEND=noninteractive ${CCACHE_DIR:+CCACHE_DIR=/ccache CCACHE_BASEDIR=/source-of-dtrain \
            CCACHE_NOHASHDIR=1 CMAKE_CXX_COMPILER_LAUNCHER=ccache} "${@:2}"
    ' bash "$@"
}

install_in() { # ROOT PACKAGE...
    in_root "$1" apt-get --quiet --yes --option Dpkg::Options::=--force-unsafe-io install --no-install-recommends \
        "${@:2}" && in_root "$1" apt-get clean
}

# A root with what all rows of this Debian need. Rows copy it.
make_base() { # SUITE
    local base=$roots/base-$1
    [[ ! -e $base.complete ]] || return 0
    rm -rf -- "$base"
    debootstrap --variant=minbase "$1" "$base" ${mirror:+"$mirror"} && mkdir "$base/ccache" &&
        cp /etc/resolv.conf /etc/hosts "$base/etc/" && in_root "$base" apt-get --quiet update &&
        install_in "$base" "${programs[@]}" "${libraries[@]}" && touch "$base.complete"
}

make_root() { # NAME
    local root=$roots/$1
    [[ ! -e $root.complete || ! $keep ]] || return 0
    rm -rf -- "$root" "$root.complete"
    row "$1"
    make_base "$suite" && cp -a -- "$roots/base-$suite" "$root" && install_in "$root" "${packages[@]}" || return
    if [[ $compiler == aarch64-* ]]; then
        in_root "$root" dpkg --add-architecture arm64 && in_root "$root" apt-get --quiet update &&
            install_in "$root" "${libraries[@]/%/:arm64}" libopenmpi-dev:arm64 libhdf5-dev:arm64 || return
    fi
    touch "$root.complete"
}

copy_sources() { # ROOT: the tracked files. Files keep their times, so that unchanged ones are not built again.
    mkdir -p -- "$1/source-of-dtrain" &&
        find "$1/source-of-dtrain" -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf -- {} + &&
        git ls-files -z | tar --create --null --files-from=- | tar --extract --directory="$1/source-of-dtrain"
}

# Runs in the root. Its last line is: result CODE PASSED FAILED FINGERPRINT
build_and_test() { # COMPILER TESTS LEFT-OUT
    local c=${1/++/} # clang++-14: clang-14
    [[ $1 != c++ ]] || c=cc
    [[ $1 != *-g++ ]] || c=${1%g++}gcc
    local options=(-D CMAKE_CXX_COMPILER="$1" -D CMAKE_C_COMPILER="$c")
    local train=(mpirun -np 2) select=() log all failed fingerprint
    if [[ $1 == aarch64-* ]]; then
        local folder=/usr/lib/aarch64-linux-gnu
        export PKG_CONFIG_LIBDIR=$folder/pkgconfig:/usr/share/pkgconfig
        options+=(-D CMAKE_SYSTEM_NAME=Linux -D CMAKE_SYSTEM_PROCESSOR=aarch64
            -D CMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64-static)
        # Open MPI would start its daemon for a single rank, which is an aarch64 program too.
        train=(env OMPI_MCA_ess_singleton_isolated=1 qemu-aarch64-static)
        select=(--label-regex '^unit$')
    fi
    cd /source-of-dtrain && cmake --preset dev "${options[@]}" && cmake --build --preset dev || return
    # shellcheck disable=SC2046 # words
    export $(grep '^[A-Z]' tests/support/mpi-environment)
    log=$(ctest --preset dev ${2:+--tests-regex "$2"} --exclude-regex "$3" "${select[@]}" 2>&1 | tee >(cat >&2))
    read -r failed all < <(sed -nE 's/.* tests passed, ([0-9]+) tests failed out of ([0-9]+).*/\1 \2/p' <<<"$log")
    fingerprint=$("${train[@]}" build/dev/bin/dtrain configs/synthetic.ini --output.directory=/tmp/run \
        --output.resume=never --training.epochs=2 | tee >(cat >&2) |
        sed -nE 's/.* weights ([0-9a-f]{16})$/\1/p' | tail -n 1)
    printf 'result %d %d %s\n' $((${all:-0} - ${failed:-0})) "${failed:-0}" "${fingerprint:-none}"
    [[ ${all:-0} -gt 0 && $failed == 0 && $fingerprint ]]
}

run_row() { # NAME
    local root=$roots/$1
    make_root "$1" || return
    [[ ! $prepare ]] || return 0
    row "$1"
    # MPICH 4.0 never gives a core away while it waits: with more ranks than cores, tests take minutes.
    local without=$left_out
    [[ $1 != bookworm-*-mpich ]] ||
        without+='|_np[4-9]$|system_(ranks|resume|kill|faults|stopping|slow_starts|reference)'
    copy_sources "$root" && in_root "$root" bash -uc "$(declare -f build_and_test); build_and_test \"\$@\"" bash \
        "$compiler" "$tests" "$without"
}

rows=()
while (($# > 0)); do
    case $1 in
    -h | --help)
        usage
        exit 0
        ;;
    --list)
        names
        exit 0
        ;;
    --keep) keep=yes ;;
    --prepare) keep=yes prepare=yes ;;
    --root | --mirror | --tests)
        (($# > 1)) || die "$1 needs a value"
        declare "${1#--}=$2"
        shift
        ;;
    -*) die "unknown option $1: see tests/portability.sh --help" ;;
    *)
        names | grep -qxF -- "$1" || die "unknown row $1: expected some of" $(names)
        rows+=("$1")
        ;;
    esac
    shift
done
((EUID == 0)) || die "needs to be root, to make root folders"
command -v debootstrap >/dev/null || die "needs debootstrap (Debian: apt-get install debootstrap)"
((${#rows[@]} > 0)) || mapfile -t rows < <(names)
roots=$(realpath -m -- "$root")
[[ $mirror ]] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    'Component: main' 2>/dev/null | head -n 1)
[[ ! ${CCACHE_DIR:-} ]] || export CCACHE_DIR
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly logs=$PWD/build/portability
mkdir -p -- "$roots" "$logs"
failed=0
fingerprints=()
table=()
for name in "${rows[@]}"; do
    began=$SECONDS
    if run_row "$name" >"$logs/$name.log" 2>&1 </dev/null; then
        verdict=passed
    else
        verdict=FAILED
        failed=1
    fi
    read -r _ passed not_passed fingerprint < <(grep '^result ' "$logs/$name.log" || echo result - - -)
    [[ $fingerprint == - ]] || fingerprints+=("$fingerprint")
    table+=("$(printf '| %-22s | %-6s | %6s | %6s | %7d | %-16s |' \
        "$name" "$verdict" "$passed" "$not_passed" $((SECONDS - began)) "$fingerprint")")
    printf '%s: %s in %d s, see %s\n' "$name" "$verdict" $((SECONDS - began)) "$logs/$name.log"
    [[ $keep ]] || rm -rf -- "$roots/$name" "$roots/$name.complete"
done
[[ ! $prepare ]] || exit $failed
printf '\n| row                    | result | passed | failed | seconds | weights          |\n'
printf '|---|---|---|---|---|---|\n'
printf '%s\n' "${table[@]}"
different=$(printf '%s\n' "${fingerprints[@]}" | sort -u | wc -l)
if ((different > 1)); then
    printf 'The weights differ between rows.\n'
    failed=1
fi
exit $failed
