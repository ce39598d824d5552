#!/usr/bin/env bash
# From a bare Debian 12 to a trained network: packages, build, data, then the main job or the tests.
set -euo pipefail

usage() {
    put <<'END'
usage: ./quickstart.sh run     build dtrain, fetch MNIST and train the default network on 2 ranks
       ./quickstart.sh test    build and run every test
       ./quickstart.sh data    put MNIST into data/mnist
       ./quickstart.sh help    print this text

Missing Debian packages are installed with apt-get, as root or with sudo. Each command may be repeated.

  DTRAIN_MNIST_DIR   take the four MNIST files, plain or .gz, from this folder instead of the network
  DTRAIN_MNIST_URL   try this mirror first
END
}

build_packages=(cmake ninja-build pkgconf g++ libopenmpi-dev openmpi-bin libopenblas-dev libhdf5-dev
    libboost-program-options-dev libfmt-dev nlohmann-json3-dev zlib1g-dev libxxhash-dev ca-certificates curl gzip)
test_packages=(python3-h5py python3-numpy python3-matplotlib python3-jinja2 python3-pandas chromium espeak-ng hdf5-tools
    libgtest-dev clang clang-format clang-tidy libclang-rt-14-dev slurm-wlm munge iproute2
    util-linux hostname libsimgrid-dev)

mirrors=(https://storage.googleapis.com/cvdf-datasets/mnist https://ossci-datasets.s3.amazonaws.com/mnist)

# Small files first: a wrong mirror shows before the long download.
idx_files=(t10k-labels-idx1-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte train-images-idx3-ubyte)

# Of the uncompressed bytes: the same file may be compressed in many ways.
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
staging= # files wait here, inside data_dir, until all four are verified
trap '[[ -z $staging ]] || rm -rf -- "$staging"' EXIT

exit_failure=1
exit_usage=2
exit_data=3
exit_output=6
exit_stopped=75

say() { printf '%s\n' "$@" 2>/dev/null || die $exit_output "cannot write to standard output"; }

put() { # what standard input says
    local text
    text=$(cat && echo .) # which keeps empty lines at the end
    say "${text%$'\n'.}"
}

warn() { printf 'quickstart: %s\n' "$*" >&2; }

die() { # CODE MESSAGE
    warn "$2" || true # which may find a full disk
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
        warn "this is not Debian; what Debian calls the following is taken to be installed: $*"
        return
    }
    installed=$(dpkg-query --show --showformat='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        grep -qx "$package installed" <<<"$installed" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0

    say "Installing: ${missing[*]}"
    ((EUID == 0)) || command -v sudo >/dev/null ||
        die $exit_failure "this needs sudo; or run once as root: apt-get update && apt-get install ${missing[*]}"
    as_root apt-get -qq update || warn "going on with the package lists at hand"
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
        die $exit_failure "apt-get could not install: ${missing[*]}"
}

idx_path() { # DIR NAME: prints the path of that IDX file, in the spellings that dtrain takes
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
        path=$(idx_path "$2" "$name") || die $exit_data "$2 has no $name and no $name.gz"
        copy=$staging/$name
        [[ $path != *.gz ]] || copy+=.gz
        cp --no-preserve=mode -- "$path" "$copy"
        is_genuine "$1" "$name" "$copy" ||
            die $exit_data "refused $path: the SHA-256 of its uncompressed bytes is not ${sha256[$1/$name]}; nothing was taken"
    done
}

download_from() { # MIRROR: returns exit_data for a file with the wrong hash
    local name
    for name in "${idx_files[@]}"; do
        curl --fail --silent --show-error --location --connect-timeout 4 --speed-limit 1000 --speed-time 8 \
            --output "$staging/$name.gz" "$1/$name.gz" || return $exit_failure
        is_genuine mnist "$name" "$staging/$name.gz" || {
            warn "refused $1/$name.gz: the SHA-256 of its uncompressed bytes is not ${sha256[mnist/$name]}"
            return $exit_data
        }
    done
}

download_mnist() { # fails when no mirror answers; wrong bytes, and no better mirror, end the program
    local mirror refused=
    for mirror in ${DTRAIN_MNIST_URL:+"${DTRAIN_MNIST_URL%/}"} "${mirrors[@]}"; do
        say "Fetching MNIST from $mirror"
        if download_from "$mirror"; then
            return
        elif (($? == exit_data)); then
            refused+=" $mirror"
        fi
    done
    [[ -z $refused ]] || die $exit_data "no mirror has sent the genuine MNIST; refused:$refused"
    return 1
}

say_fashion() {
    put <<END

  ***********************************************************************
  *  NOT MNIST: this trains on Fashion-MNIST, pictures of clothes.      *
  *  The format is the same, the task harder, the accuracies are lower. *
  ***********************************************************************
  For MNIST: DTRAIN_MNIST_DIR=<folder with the four files> ./quickstart.sh data
  To ask the mirrors again: rm -r $data_dir && ./quickstart.sh data

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
        say_fashion
        return
    fi

    open_staging
    if [[ -n ${DTRAIN_MNIST_DIR:-} ]]; then
        copy_data mnist "$DTRAIN_MNIST_DIR"
    else
        install_packages ca-certificates curl gzip
        if ! download_mnist; then
            say "No mirror of MNIST answers."
            install_packages dataset-fashion-mnist
            copy_data fashion-mnist /usr/share/datasets/fashion-mnist
            publish_staging
            say_fashion
            return
        fi
    fi
    publish_staging

    say "MNIST is in $data_dir."
    [[ -z $had_fashion ]] ||
        say "It replaces Fashion-MNIST. Runs begun with that cannot go on with MNIST: move or remove their folders in runs/."
}

build() { # PRESET
    say "Building the $1 preset"
    cmake --preset "$1"
    cmake --build --preset "$1"
}

newest_checkpoint() { # prints nothing when there is none
    local checkpoints
    shopt -s nullglob
    checkpoints=(runs/quickstart/checkpoints/step-*.h5)
    ((${#checkpoints[@]} == 0)) || say "${checkpoints[-1]}"
}

run() {
    install_packages "${build_packages[@]}"
    data
    build release

    # --oversubscribe makes no difference where there are two cores, and two ranks possible where there is one.
    local train=(mpirun --oversubscribe -np 2 build/release/bin/dtrain)
    local before after status=0
    before=$(newest_checkpoint)
    say "" "${train[*]} configs/quickstart.ini"
    "${train[@]}" configs/quickstart.ini || status=$?
    after=$(newest_checkpoint)

    case $status in
    0) ;;
    "$exit_stopped")
        say "" "Stopped on request, after a checkpoint. To go on: ./quickstart.sh run"
        return $status
        ;;
    *)
        # mpirun returns 1 after Ctrl-C and for failures of its own; dtrain never does.
        ((status != 1)) || warn "after Ctrl-C, ./quickstart.sh run goes on from the newest checkpoint"
        warn "the training ended with code $status"
        return $status
        ;;
    esac

    say ""
    [[ $before != "$after" ]] || say "This run was complete already: nothing was left to do."
    put <<END
cost log      runs/quickstart/log.h5
checkpoints   runs/quickstart/checkpoints/

What to type next:
  build/release/bin/dtrain-eval $after
      accuracy and confusion matrix of the newest checkpoint
  ${train[*]} configs/mnist-softmax.ini
      another network; configs/ has more
  ./quickstart.sh run
      goes on from the newest checkpoint, if epochs are left
  rm -r runs/quickstart && ./quickstart.sh run
      starts afresh
END
    ((EUID != 0)) || put <<'END'
As root, Open MPI wants this first:
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
END
}

run_tests() {
    install_packages "${build_packages[@]}" "${test_packages[@]}"
    data
    build dev
    build fuzz
    build simulate
    # Tests on the genuine MNIST are skipped without it.
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

    # Relative to the caller's folder, so before the cd.
    [[ -z ${DTRAIN_MNIST_DIR:-} ]] || DTRAIN_MNIST_DIR=$(realpath -m -- "$DTRAIN_MNIST_DIR")
    cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
    if ((EUID == 0)); then
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi

    case $command in
    run) run ;;
    test) run_tests ;;
    data) data ;;
    help | -h | --help) usage ;;
    *)
        warn "unknown command '$command'"
        usage >&2
        exit $exit_usage
        ;;
    esac
}

main "$@"
