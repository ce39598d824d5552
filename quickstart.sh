#!/usr/bin/env bash
# Installs packages, builds dtrain and downloads MNIST on Debian 12. Then trains a network or runs the tests.
set -euo pipefail

usage() {
    put <<'END'
usage: ./quickstart.sh run     build dtrain, download MNIST, train 784-16-16-10 on 2 ranks, show the results
       ./quickstart.sh test    build dtrain, download MNIST, run all tests
       ./quickstart.sh data    put MNIST into data/mnist
       ./quickstart.sh package build the Debian package build/release/dtrain_VERSION_ARCHITECTURE.deb
       ./quickstart.sh help    print this text

`run` trains configs/mnist-sigmoid.ini into runs/mnist-sigmoid and writes runs/mnist-sigmoid/report.html. The build
takes about two minutes and the training about ten seconds. You can repeat every command: installed packages, built
files, data and finished training are kept. `test` runs all tests each time: 20 to 30 minutes on two cores.

On Debian, apt-get installs missing packages, as root or with sudo. On other systems, install them first.

  DTRAIN_MNIST_DIR   copy the four MNIST files, plain or .gz, from this folder instead of downloading them
  DTRAIN_MNIST_URL   try this mirror first
  DTRAIN_PYTHON      Python for dtrain-report, dtrain-export and the tests (default: /usr/bin/python3, which finds
                     Debian's modules)
END
}

build_packages=(cmake ninja-build pkgconf g++ libopenmpi-dev openmpi-bin libopenblas-dev libhdf5-dev
    libboost-program-options-dev libfmt-dev nlohmann-json3-dev zlib1g-dev libxxhash-dev ca-certificates curl gzip)
packaging_packages=(dpkg-dev file git)
python_packages=(python3-h5py python3-matplotlib python3-jinja2 python3-onnx python3-xxhash)
test_packages=(python3-numpy python3-pandas chromium espeak-ng hdf5-tools libgtest-dev clang clang-format
    libclang-rt-dev binutils qemu-user slurm-wlm munge iproute2 util-linux hostname libsimgrid-dev)

mirrors=(https://storage.googleapis.com/cvdf-datasets/mnist https://ossci-datasets.s3.amazonaws.com/mnist)

# Small files first, so that a bad mirror is detected before the long download.
idx_files=(t10k-labels-idx1-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte train-images-idx3-ubyte)

# SHA-256 of the uncompressed bytes, since compressed files differ between mirrors.
declare -A sha256=(
    [mnist/train-images-idx3-ubyte]=ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
    [mnist/train-labels-idx1-ubyte]=65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
    [mnist/t10k-images-idx3-ubyte]=0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
    [mnist/t10k-labels-idx1-ubyte]=ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
    [fashion-mnist/train-images-idx3-ubyte]=c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
    [fashion-mnist/train-labels-idx1-ubyte]=bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
    [fashion-mnist/t10k-images-idx3-ubyte]=5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
    [fashion-mnist/t10k-labels-idx1-ubyte]=0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
)

data_dir=data/mnist
staging= # temporary folder in data_dir that holds the files until all four are verified
trap '[[ -z $staging ]] || rm -rf -- "$staging"' EXIT

exit_failure=1
exit_usage=2
exit_data=3
exit_output=6
exit_stopped=75

say() { printf '%s\n' "$@" 2>/dev/null || die $exit_output "cannot write to standard output"; }

put() { # prints standard input
    local text
    text=$(cat && echo .) # the dot keeps empty lines at the end
    say "${text%$'\n'.}"
}

warn() { printf 'quickstart: %s\n' "$*" >&2; }

die() { # CODE MESSAGE...
    warn "${*:2}" || true # standard error may be a file on a full disk
    exit "$1"
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    else
        sudo "$@"
    fi
}

install_packages() { # PACKAGE...
    local installed package missing=()
    command -v dpkg-query >/dev/null || {
        warn "this is not Debian, so nothing is installed. The equivalents of these Debian packages are needed: $*"
        return
    }
    installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        grep -qx "$package installed" <<<"$installed" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0

    say "Installing: ${missing[*]}"
    ((EUID == 0)) || command -v sudo >/dev/null ||
        die $exit_failure "cannot install packages: sudo is missing. As root, run:" \
            "apt-get update && apt-get install ${missing[*]}"
    as_root apt-get -qq update || warn "apt-get update failed; the present package lists are used"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
        die $exit_failure "apt-get cannot install: ${missing[*]}. Its messages are above."
}

idx_path() { # DIR NAME: prints the path of an IDX file, under any of the names that dtrain accepts
    local dotted=${2/-idx/.idx} path
    for path in "$1"{,/MNIST/raw,/raw}/{"$2","$2/$2","$dotted","$dotted/$dotted"}{,.gz}; do
        if [[ -f $path ]]; then
            say "$path"
            return
        fi
    done
    return 1
}

is_genuine() { # SET NAME PATH
    local sum
    if [[ $3 == *.gz ]]; then
        sum=$(gzip -dc -- "$3" 2>/dev/null | sha256sum) || return
    else
        sum=$(sha256sum <"$3") || return
    fi
    [[ ${sum%% *} == "${sha256[$1/$2]}" ]]
}

holds() { # SET DIR
    local name path
    for name in "${idx_files[@]}"; do
        path=$(idx_path "$2" "$name") && is_genuine "$1" "$name" "$path" || return
    done
}

open_staging() {
    mkdir -p -- "$data_dir"
    staging=$(mktemp -d "$data_dir/.incoming.XXXXXX")
}

publish_staging() {
    local name
    for name in "${idx_files[@]}"; do
        rm -f -- "$data_dir/$name" "$data_dir/$name.gz"
        mv -- "$(idx_path "$staging" "$name")" "$data_dir/"
    done
    rmdir "$staging"
    staging=
}

copy_data() { # SET DIR
    local copy name path
    for name in "${idx_files[@]}"; do
        path=$(idx_path "$2" "$name") || die $exit_data "$2 contains neither $name nor $name.gz"
        copy=$staging/$name
        [[ $path != *.gz ]] || copy+=.gz
        cp --no-preserve=mode -- "$path" "$copy"
        is_genuine "$1" "$name" "$copy" ||
            die $exit_data "$path is not the genuine file: the SHA-256 of its uncompressed bytes is not" \
                "${sha256[$1/$name]}. Nothing was copied."
    done
}

download_from() { # MIRROR: returns exit_data if a file has a wrong hash
    local name
    for name in "${idx_files[@]}"; do
        curl --fail --silent --show-error --location --connect-timeout 4 --speed-limit 1000 --speed-time 8 \
            --output "$staging/$name.gz" "$1/$name.gz" || return $exit_failure
        is_genuine mnist "$name" "$staging/$name.gz" || {
            warn "$1/$name.gz is not the genuine file: the SHA-256 of its uncompressed bytes is not" \
                "${sha256[mnist/$name]}"
            return $exit_data
        }
    done
}

download_mnist() { # fails if no mirror answers; ends the program if mirrors answer but none sends the genuine files
    local mirror refused=
    for mirror in ${DTRAIN_MNIST_URL:+"${DTRAIN_MNIST_URL%/}"} "${mirrors[@]}"; do
        say "Downloading MNIST from $mirror"
        if download_from "$mirror"; then
            return
        elif (($? == exit_data)); then
            refused+=" $mirror"
        fi
    done
    [[ -z $refused ]] || die $exit_data "no mirror sent the genuine MNIST files. These sent other files:$refused." \
        "Set DTRAIN_MNIST_DIR or DTRAIN_MNIST_URL."
    return 1
}

announce_fashion() {
    put <<END

  *************************************************************************
  *  NOT MNIST: no mirror of MNIST answered, so this uses Fashion-MNIST,  *
  *  pictures of clothes. The task is harder: expect lower accuracies.    *
  *************************************************************************
  To use MNIST from a folder: DTRAIN_MNIST_DIR=FOLDER ./quickstart.sh data
  To try the mirrors again:   rm -r $data_dir && ./quickstart.sh data

END
}

data() {
    if holds mnist "$data_dir"; then
        say "MNIST is in $data_dir."
        return
    fi

    local had_fashion=
    ! holds fashion-mnist "$data_dir" || had_fashion=yes
    if [[ $had_fashion && -z ${DTRAIN_MNIST_DIR:-}${DTRAIN_MNIST_URL:-} ]]; then
        announce_fashion
        return
    fi

    open_staging
    if [[ -n ${DTRAIN_MNIST_DIR:-} ]]; then
        copy_data mnist "$DTRAIN_MNIST_DIR"
    else
        install_packages ca-certificates curl gzip
        if ! download_mnist; then
            say "No mirror of MNIST answered."
            install_packages dataset-fashion-mnist
            copy_data fashion-mnist /usr/share/datasets/fashion-mnist
            publish_staging
            announce_fashion
            return
        fi
    fi
    publish_staging

    say "MNIST is in $data_dir."
    [[ -z $had_fashion ]] ||
        say "It replaces Fashion-MNIST. Runs that began with Fashion-MNIST cannot resume:" \
            "move or remove their folders in runs/."
}

build() { # PRESET
    say "Building the $1 preset"
    cmake --preset "$1" -D DTRAIN_PYTHON="$python"
    cmake --build --preset "$1"
}

package() {
    install_packages "${build_packages[@]}" "${packaging_packages[@]}" python3
    python=/usr/bin/python3 # the package depends on Debian's modules
    build release
    (cd build/release && cpack -G DEB)
}

run() {
    install_packages "${build_packages[@]}" "${python_packages[@]}"
    data
    build release

    # Two ranks on a machine with one core, in Open MPI 4 and 5. MPICH always allows this.
    export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    local bin=build/release/bin run=runs/mnist-sigmoid status=0
    local train=(mpirun -np 2 "$bin/dtrain" configs/mnist-sigmoid.ini)
    say "" "\$ ${train[*]}"
    "${train[@]}" || status=$?
    case $status in
    0) ;;
    "$exit_stopped")
        say "" "The training was stopped and wrote a checkpoint. To resume, type: ./quickstart.sh run"
        return $status
        ;;
    *)
        # mpirun returns 1 after Ctrl-C and for its own failures. dtrain never returns 1.
        ((status != 1)) || warn "after Ctrl-C, ./quickstart.sh run resumes from the newest checkpoint"
        warn "the training ended with code $status"
        return $status
        ;;
    esac

    say "" "\$ $bin/dtrain-eval $run --show 2"
    "$bin/dtrain-eval" "$run" --show 2
    say "" "\$ $bin/dtrain-report $run -o $run/report.html"
    "$bin/dtrain-report" "$run" -o "$run/report.html" ||
        warn "no report was written; the training is complete, and everything but dtrain-report works"

    put <<END

The log is $run/log.h5, and the checkpoints are in $run/checkpoints.

What to type next:
  xdg-open $run/report.html
      opens the report, or open this file in any browser
  $bin/dtrain-eval $run --show 4 --wrong
      draws the 4 worst mistakes
  ${train[*]::3} $bin/dtrain configs/mnist-relu.ini --output.directory=runs/relu
      trains another network; configs/TUTORIAL.md explains both, step by step
  ${train[*]} --output.resume=never
      trains from scratch instead of resuming
END
    ((EUID != 0)) || put <<'END'
As root, Open MPI needs these variables first:
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
END
}

run_tests() {
    install_packages "${build_packages[@]}" "${python_packages[@]}" "${test_packages[@]}"
    data
    build dev
    build fuzz
    build simulate
    # Some tests need the genuine MNIST and skip without it.
    ! holds mnist "$data_dir" || export DTRAIN_MNIST=$PWD/$data_dir
    ctest --preset fuzz
    ctest --preset dev
}

main() {
    local command=${1:-help}
    (($# <= 1)) || {
        usage >&2
        exit $exit_usage
    }

    # The path is relative to the caller's folder, so resolve it before cd.
    [[ -z ${DTRAIN_MNIST_DIR:-} ]] || DTRAIN_MNIST_DIR=$(realpath -m -- "$DTRAIN_MNIST_DIR")
    python=/usr/bin/python3
    [[ -z ${DTRAIN_PYTHON:-} ]] || python=$(realpath -s -- "$(command -v -- "$DTRAIN_PYTHON")") ||
        die $exit_usage "DTRAIN_PYTHON=$DTRAIN_PYTHON: no such program"
    cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
    if ((EUID == 0)); then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi

    case $command in
    run) run ;;
    test) run_tests ;;
    data) data ;;
    package) package ;;
    help | -h | --help) usage ;;
    *)
        warn "unknown command: $command"
        usage >&2
        exit $exit_usage
        ;;
    esac
}

main "$@"
